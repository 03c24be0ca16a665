"""Runs each request in one confined child of this machine's fork server."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from owm_compute.backends.base import Control
from owm_compute.errors import ComputeError, JobCancelled
from owm_compute.jobs.spawner import Child, Spawner
from owm_compute.jobs.wire import WireError
from owm_compute.jobs.work import MESSAGE, Message, ResultMessage, WorkRequest, ended

_log = logging.getLogger("owm_compute.local")
_TICK_S = 0.05
_EXIT_WAIT_S = 10.0
_LOG_TAIL = 4000


class LocalBackend:
    """The embedded default. `cancel_grace_s` is how long a child may take to stop by itself."""

    def __init__(self, spawner: Spawner, cancel_grace_s: float) -> None:
        self._spawner = spawner
        self._grace = cancel_grace_s

    def run(self, request: WorkRequest, control: Control, on_message: Callable[[Message], None]) -> ResultMessage:
        """See `Backend.run`."""
        path = Path(request.directory) / "output.log"
        # An earlier child of the job may have put a link there.
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "rb") as log:
            return self._run(request, control, on_message, log)

    def _run(
        self, request: WorkRequest, control: Control, on_message: Callable[[Message], None], log: BinaryIO
    ) -> ResultMessage:
        child = self._spawner.spawn(log.fileno())
        try:
            child.channel.send(request.model_dump())
            return self._follow(child, control, on_message)
        except (EOFError, OSError):
            child.ended.wait(_EXIT_WAIT_S)
            raise self._died(child, log) from None
        except (WireError, ValidationError) as error:
            _log.error("a worker broke the protocol", extra={"data": {"error": str(error)[:500]}})
            raise ComputeError("worker_died", "the worker sent an invalid message", retryable=True) from None
        finally:
            self._spawner.kill(child)
            child.channel.close()
            child.ended.wait(_EXIT_WAIT_S)

    def _follow(self, child: Child, control: Control, on_message: Callable[[Message], None]) -> ResultMessage:
        asked_at: float | None = None
        while True:
            control.check()
            now = time.monotonic()
            if control.cancel.is_set():
                if asked_at is None:
                    asked_at = now
                    child.channel.send({"type": "cancel"})
                elif now - asked_at > self._grace:
                    raise JobCancelled
            raw = child.channel.receive(_TICK_S)
            if raw is None:
                continue
            message = MESSAGE.validate_python(raw)
            result = ended(message)
            if result is not None:
                return result
            on_message(message)

    def _died(self, child: Child, log: BinaryIO) -> ComputeError:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL))
        tail = log.read(_LOG_TAIL).decode("utf-8", "replace")
        _log.error("a worker died", extra={"data": {"status": child.status, "output": tail}})
        if child.status is None:
            how = "with the fork server"
        elif child.status < 0:
            how = f"by {signal.Signals(-child.status).name}"
        else:
            how = f"with exit status {child.status}"
        return ComputeError("worker_died", f"the worker ended {how} before it gave a result", retryable=True)
