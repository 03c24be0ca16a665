"""Uploads output files by chunks while they are written: bytes that the edge stores already are not sent again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from owm_compute.hub.client import HubClient

_log = logging.getLogger("owm_compute.xet")
# Each upload under way holds an object of 64 MB in memory.
_UPLOADS_AT_ONCE = 2


class XetFailed(Exception):
    """The store could not be used; the files can still be sent whole."""


class XetUpload:
    """The files of one job, registered at the edge together by `commit`. `scratch` holds what the client remembers.

    The client's own cache is the job's alone: what it learns from one job's answers must not show in another's.
    """

    def __init__(self, client: HubClient, token_url: str, scratch: Path) -> None:
        try:
            # Read by the client when it is loaded, which is with the first upload, since that starts threads.
            os.environ.update(HF_XET_CACHE=str(scratch), HF_XET_LOG_DEST=os.devnull)
            import hf_xet

            settings = {
                "shard.cache_subdir": str(scratch / "shards"),
                "data.staging_subdir": str(scratch / "staging"),
                "client.ac_max_upload_concurrency": _UPLOADS_AT_ONCE,
                "telemetry.enabled": False,
            }
            session = hf_xet.XetSession(hf_xet.XetConfig().with_config(settings))
            self._commit = session.new_upload_commit(
                token_refresh_url=token_url, token_refresh_headers=client.authorization
            )
        except Exception as error:
            raise _failed("opened", error) from None

    def send(self, name: str, pieces: Iterable[bytes]) -> tuple[str, int]:
        """Uploads a file as its pieces come; its SHA-256 (hex) and size. What `pieces` raises is passed on."""
        try:
            stream = self._commit.start_upload_stream(name=name)
        except Exception as error:
            raise _failed("begun", error) from None
        for piece in pieces:
            try:
                stream.write(piece)
            except Exception as error:
                raise _failed("written to", error) from None
        try:
            info = stream.finish().xet_info
        except Exception as error:
            raise _failed("finished", error) from None
        return str(info.sha256), int(info.file_size)

    def commit(self) -> int:
        """Registers what was sent; how many bytes went over the wire."""
        try:
            return int(self._commit.wait_to_finish().dedup_metrics.total_bytes_uploaded)
        except Exception as error:
            raise _failed("committed", error) from None

    def abort(self) -> None:
        """Gives up what was not committed."""
        try:
            self._commit.abort()
        except Exception as error:
            _log.info("an upload could not be aborted", extra={"data": {"error": str(error)[:500]}})


def _failed(step: str, error: Exception) -> XetFailed:
    # The extension raises whatever its runtime does, from connection errors to plain RuntimeError.
    message = f"an upload by chunks could not be {step}: {type(error).__name__}: {str(error)[:500]}"
    _log.warning(message)
    return XetFailed(message)
