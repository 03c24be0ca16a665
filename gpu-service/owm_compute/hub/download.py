"""Fetches an input into a file, resuming where a connection broke, and believes it only after its digest fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from owm_compute.errors import ComputeError
from owm_compute.hub.client import HubClient, Unavailable, require_success
from owm_compute.specs import InputFile


def download(client: HubClient, item: InputFile, target: Path, on_bytes: Callable[[int], None]) -> None:
    """Writes the input to `target`; `on_bytes` hears of every piece.

    Raises `ComputeError`: `input_unavailable`, `input_size_mismatch` or `input_digest_mismatch`, with the input's name.
    """
    with target.open("xb") as stream:
        transfer = _Transfer(client, item, stream, on_bytes)
        client.repeat(f"fetching {item.name}", "input_unavailable", transfer.go_on)
    if transfer.digest.hexdigest() != item.sha256:
        raise ComputeError("input_digest_mismatch", f"{item.name} has another SHA-256 than announced", field=item.name)


class _Transfer:
    """A download that remembers how far it has come."""

    def __init__(self, client: HubClient, item: InputFile, stream: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stream = stream
        self._client = client
        self._item = item
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()
        self._have = 0

    def go_on(self) -> None:
        """Fetches what is missing; `Unavailable` when the connection ended early."""
        size = self._item.size
        headers = {**self._client.authorization, "Accept-Encoding": "identity"}
        if self._have:
            if self._have == size:
                return
            headers["Range"] = f"bytes={self._have}-"
        with self._client.http.stream("GET", self._item.url, headers=headers) as response:
            require_success(response, "input_unavailable")
            if response.status_code == 206:
                if not response.headers.get("content-range", "").startswith(f"bytes {self._have}-"):
                    raise Unavailable("the edge answered another range")
            elif self._have:
                self._restart()
            for chunk in response.iter_raw():
                self._client.check()
                if self._have + len(chunk) > size:
                    raise self._wrong_size("more than")
                self._stream.write(chunk)
                self.digest.update(chunk)
                self._have += len(chunk)
                self._on_bytes(len(chunk))
            if self._have < size:
                announced = response.headers.get("content-length")
                if response.status_code == 200 and announced == str(self._have):
                    raise self._wrong_size("fewer than")
                raise Unavailable(f"the connection ended after {self._have} of {size} bytes")

    def _restart(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()
        self.digest = hashlib.sha256()
        self._on_bytes(-self._have)
        self._have = 0

    def _wrong_size(self, how: str) -> ComputeError:
        name = self._item.name
        return ComputeError(
            "input_size_mismatch", f"{name} has {how} the announced {self._item.size} bytes", field=name
        )
