"""Runs each request on a Ray cluster: a driver actor does the job, workers share the pieces of a merge.

The job's directory must lie on a file system that every host of the cluster sees. Ray's own processes are not confined
as the children of the local backend are: the cluster has to be one that may read what its jobs read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from owm_compute.backends.base import Control
from owm_compute.errors import ComputeError, JobCancelled
from owm_compute.jobs.work import MESSAGE, Message, ResultMessage, WorkRequest, ended

_TICK_S = 0.05


class RayBackend:
    """The cluster at `address` (`local` starts one on this machine), with `workers` processes for each merge."""

    def __init__(self, address: str, workers: int, cancel_grace_s: float) -> None:
        self._address = address
        self._workers = workers
        self._grace = cancel_grace_s
        self._lock = threading.Lock()

    def run(self, request: WorkRequest, control: Control, on_message: Callable[[Message], None]) -> ResultMessage:
        """See `Backend.run`."""
        self._connect()
        kind: Any = ray.remote(_Driver)
        driver = kind.options(num_cpus=0, max_concurrency=2).remote()
        try:
            return self._follow(driver, driver.run.remote(request.model_dump(), self._workers), control, on_message)
        except ray.exceptions.RayError as error:
            raise ComputeError("worker_died", f"the cluster lost the job: {error}"[:2000], retryable=True) from None
        finally:
            ray.kill(driver)

    def _connect(self) -> None:
        with self._lock:
            if not ray.is_initialized():
                local = self._address == "local"
                options: dict[str, Any] = {"include_dashboard": False} if local else {"address": self._address}
                ray.init(log_to_driver=False, **options)

    def _follow(
        self, driver: Any, outcome: Any, control: Control, on_message: Callable[[Message], None]
    ) -> ResultMessage:
        asked_at: float | None = None
        is_over = False
        while not is_over:
            control.check()
            if control.cancel.is_set():
                if asked_at is None:
                    asked_at = time.monotonic()
                    driver.cancel.remote()
                elif time.monotonic() - asked_at > self._grace:
                    raise JobCancelled
            is_over = bool(ray.wait([outcome], timeout=_TICK_S)[0])
            for raw in ray.get(driver.messages.remote()):
                on_message(MESSAGE.validate_python(raw))
        result = ended(MESSAGE.validate_python(ray.get(outcome)))
        if result is None:
            raise ComputeError("worker_died", "the driver ended without a result", retryable=True)
        return result


class _Driver:
    """One job on the cluster. Two calls at a time: `run`, and whatever is asked meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[dict[str, Any]] = []
        self._cancelled = threading.Event()

    def run(self, request: dict[str, Any], workers: int) -> dict[str, Any]:
        """The job's last message."""
        # Imported where it runs: the service's own process never loads torch.
        from owm_compute.backends.ray_workers import RayWorkers
        from owm_compute.jobs.perform import JobProgress, perform

        work = WorkRequest.model_validate(request)
        progress = JobProgress(self._send, self._cancelled.is_set)
        return perform(work, progress, lambda program: RayWorkers(program, work, workers))

    def messages(self) -> list[dict[str, Any]]:
        """What was told since the last call."""
        with self._lock:
            told, self._messages = self._messages, []
        return told

    def cancel(self) -> None:
        """Asks the job to stop."""
        self._cancelled.set()

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._messages.append(message)
