"""One run of one job: fetch, compute in a child, upload, commit. Whatever happens, its private directory goes."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from pathlib import Path
from typing import BinaryIO

import httpx

from owm_compute.backends.base import Abandoned, Backend, Control
from owm_compute.errors import ComputeError, JobCancelled
from owm_compute.hub.client import HubClient
from owm_compute.hub.download import download
from owm_compute.hub.upload import upload
from owm_compute.jobs.journal import Claim, Journal, cancelled_error
from owm_compute.jobs.reporter import Reporter
from owm_compute.jobs.work import Message, OutputFile, ProgressMessage, ResultMessage, WorkInput, WorkRequest
from owm_compute.telemetry import Telemetry

_log = logging.getLogger("owm_compute.execution")
_PROGRESS_EVERY_S = 0.1
# Room for records and samples beside tensors, which at most double when F16 becomes F32.
_OUTPUT_SLACK = 2**30
_DISK_RESERVE = 2**28


class Execution:
    """The run of a claim, in the thread of its slot."""

    def __init__(
        self,
        claim: Claim,
        control: Control,
        *,
        journal: Journal,
        backend: Backend,
        http: httpx.Client,
        telemetry: Telemetry,
        root: Path,
        device: str,
    ) -> None:
        self._claim = claim
        self._job = claim.submission
        self._control = control
        self._journal = journal
        self._backend = backend
        self._telemetry = telemetry
        self._device = device
        self._directory = root / f"{claim.id}.{claim.attempt}.{claim.run}"
        self._hub = HubClient(http, self._job.token, control)
        self._progress_at = 0.0

    def run(self) -> str:
        """Runs to the end and commits it; the outcome for the metrics.

        `abandoned` leaves the journal alone: the job is either ended by someone else or run again after a restart.
        """
        reporter = Reporter(self._journal, self._claim, self._hub, self._control)
        reporter.start()
        state = "failed"
        result: dict[str, object] | None = None
        error: dict[str, object] | None = None
        try:
            result = self._steps()
            state = "succeeded"
        except JobCancelled:
            state, error = "cancelled", cancelled_error()
        except Abandoned:
            return "abandoned"
        except ComputeError as failure:
            error = failure.as_json()
        except Exception:
            _log.exception("a job failed unexpectedly", extra={"data": {"job": self._claim.id}})
            error = ComputeError("internal_error", "the service failed; its log says why", retryable=True).as_json()
        finally:
            reporter.close()
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._control.abandon.is_set():
            return "abandoned"
        return state if self._journal.finish(self._claim, state, result=result, error=error) else "abandoned"

    def _steps(self) -> dict[str, object]:
        shutil.rmtree(self._directory, ignore_errors=True)
        for part in ("in", "out", "tmp"):
            (self._directory / part).mkdir(parents=True, mode=0o700)
        inputs = self._fetch()
        size = sum(item.size for item in self._job.inputs)
        request = WorkRequest(
            kind=self._job.kind,
            spec=self._job.spec.model_dump(),
            inputs=inputs,
            directory=str(self._directory),
            device=self._device,
            memory_bytes=self._job.limits.memory_bytes,
            file_bytes=2 * size + _OUTPUT_SLACK,
        )
        outcome = self._backend.run(request, self._control, self._on_message)
        return self._hand_over(outcome)

    def _fetch(self) -> list[WorkInput]:
        total = sum(item.size for item in self._job.inputs)
        free = shutil.disk_usage(self._directory).free
        if 3 * total + _DISK_RESERVE > free:
            raise ComputeError(
                "resource_exhausted", f"the inputs of {total} bytes do not fit on the disk", retryable=True
            )
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            self._telemetry.bytes_read.inc(max(0, count))
            self._progress(done, total)

        files = []
        for index, item in enumerate(self._job.inputs):
            target = self._directory / "in" / str(index)
            download(self._hub, item, target, on_bytes)
            files.append(WorkInput(name=item.name, path=str(target), sha256=item.sha256))
        return files

    def _progress(self, done: int, total: int) -> None:
        if time.monotonic() - self._progress_at >= _PROGRESS_EVERY_S:
            self._progress_at = time.monotonic()
            self._journal.record(self._claim, "progress", {"done": done, "total": total, "unit": "bytes fetched"})

    def _on_message(self, message: Message) -> None:
        data = message.model_dump(exclude={"type"})
        self._journal.record(self._claim, "progress" if isinstance(message, ProgressMessage) else "metric", data)

    def _hand_over(self, outcome: ResultMessage) -> dict[str, object]:
        for file in outcome.files:
            with _open_output(self._directory / "out" / file.path, file) as stream:
                sent = upload(self._hub, self._job.hub.uploads_url, stream, file.sha256, file.size)
                self._telemetry.bytes_written.inc(sent)
        return {
            "files": [file.model_dump() for file in outcome.files],
            "record": outcome.record,
            "engine": outcome.engine,
        }


def _open_output(path: Path, file: OutputFile) -> BinaryIO:
    # The child chose what lies here: a link could point at the journal.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    stream = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != file.size:
        stream.close()
        raise ComputeError("worker_died", f"the worker's output {file.path} is not what it announced")
    return stream
