"""One run of one job: fetch, compute and upload at once, then commit. What an earlier run left is gone on from."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path

import httpx

from owm_compute.backends.base import Abandoned, Backend, Control
from owm_compute.errors import ComputeError, JobCancelled, disk_full, internal_error, is_disk_full
from owm_compute.hub.client import HubClient
from owm_compute.hub.fetch import Fetch
from owm_compute.jobs.journal import Claim, Journal, cancelled_error
from owm_compute.jobs.outputs import Outputs
from owm_compute.jobs.reporter import Reporter
from owm_compute.jobs.statistics_shelf import STATISTICS, StatisticsShelf
from owm_compute.jobs.work import (
    FinishedMessage,
    Message,
    OutputFile,
    ProgressMessage,
    WorkInput,
    WorkRequest,
    WrittenMessage,
)
from owm_compute.telemetry import Telemetry

_log = logging.getLogger("owm_compute.execution")
_PROGRESS_EVERY_S = 0.1
# Room for records and samples beside tensors, which mostly double at most, when F16 becomes F32.
_OUTPUT_SLACK = 2**30
_DISK_RESERVE = 2**28


class Execution:
    """The run of a claim, in the thread of its slot. `directory` is the job's alone, and no other run uses it now."""

    def __init__(
        self,
        claim: Claim,
        control: Control,
        *,
        journal: Journal,
        backend: Backend,
        http: httpx.Client,
        telemetry: Telemetry,
        directory: Path,
        shelf: StatisticsShelf,
        device: str,
    ) -> None:
        self._claim = claim
        self._job = claim.submission
        self._control = control
        self._journal = journal
        self._backend = backend
        self._telemetry = telemetry
        self._device = device
        self._directory = directory
        self._shelf = shelf
        self._hub = HubClient(http, self._job.token, control)
        self._progress_at = 0.0
        self._fetched = 0
        self._fetched_lock = threading.Lock()
        self._computing = False

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
        except Exception as failure:
            if isinstance(failure, OSError) and is_disk_full(failure):
                error = disk_full().as_json()
            else:
                _log.exception("a job failed unexpectedly", extra={"data": {"job": self._claim.id}})
                error = internal_error().as_json()
        finally:
            reporter.close()
        if self._control.abandon.is_set():
            return "abandoned"
        return state if self._journal.finish(self._claim, state, result=result, error=error) else "abandoned"

    def _steps(self) -> dict[str, object]:
        inputs, work = self._directory / "inputs", self._directory / "work"
        for part in (work / "tmp", self._directory / "xet", *([] if self._job.kind == "merge" else [work / "out"])):
            shutil.rmtree(part, ignore_errors=True)
        for part in (inputs, work / "out", work / "tmp"):
            part.mkdir(parents=True, mode=0o700, exist_ok=True)
        (work / "wanted").unlink(missing_ok=True)
        with (
            Fetch(self._hub, self._control, self._job.inputs, inputs, work / "wanted", self._on_bytes) as fetch,
            Outputs(self._hub, self._control, self._job.hub, work / "out", self._directory / "xet") as outputs,
        ):
            self._require_room(fetch)
            if self._job.kind != "merge":
                # What reads its inputs whole has nothing to begin with.
                fetch.finish()
            request = WorkRequest(
                kind=self._job.kind,
                spec=self._job.spec.model_dump(),
                inputs=[
                    WorkInput(name=item.name, path=str(path), sha256=item.sha256, size=item.size)
                    for item, path in zip(self._job.inputs, fetch.paths, strict=True)
                ],
                inputs_directory=str(inputs),
                present=str(fetch.present),
                wanted=str(work / "wanted"),
                directory=str(work),
                device=self._device,
                memory_bytes=self._job.limits.memory_bytes,
                file_bytes=2 * max(self._input_bytes, self._job.planned_bytes()) + _OUTPUT_SLACK,
            )
            if self._job.kind == "merge":
                self._shelf.lend(self._job.weights, work / STATISTICS)
            try:
                outcome = self._backend.run(request, self._control, lambda message: self._on_message(message, outputs))
            except ComputeError as error:
                if not error.retryable:
                    # What the child read was not checked yet: damage on the way would be the true reason.
                    fetch.finish()
                raise
            fetch.finish()
            if self._job.kind == "merge":
                self._shelf.keep(self._job.weights, work / STATISTICS)
            if not self._job.is_dry_run:
                outputs.deliver(outcome.files)
        self._telemetry.bytes_written.inc(outputs.bytes_sent)
        record = (
            {**outcome.record, "bytes_uploaded": outputs.bytes_sent} if self._job.kind == "merge" else outcome.record
        )
        return {"files": [file.model_dump() for file in outcome.files], "record": record, "engine": outcome.engine}

    @property
    def _input_bytes(self) -> int:
        return sum(item.size for item in self._job.inputs)

    def _require_room(self, fetch: Fetch) -> None:
        left = sum(file.lstat().st_blocks * 512 for file in (self._directory / "work" / "out").iterdir())
        needed = fetch.missing_bytes + max(0, self._job.planned_bytes() - left) + _DISK_RESERVE
        if needed > shutil.disk_usage(self._directory).free:
            raise ComputeError(
                "resource_exhausted", f"the job's files of {needed} bytes do not fit on the disk", retryable=True
            )

    def _on_bytes(self, count: int) -> None:
        self._telemetry.bytes_read.inc(count)
        with self._fetched_lock:
            self._fetched += count
            due = not self._computing and time.monotonic() - self._progress_at >= _PROGRESS_EVERY_S
            if due:
                self._progress_at = time.monotonic()
        if due:
            progress = {"done": self._fetched, "total": self._input_bytes, "unit": "bytes fetched"}
            self._journal.record(self._claim, "progress", progress)

    def _on_message(self, message: Message, outputs: Outputs) -> None:
        if isinstance(message, WrittenMessage | FinishedMessage):
            if self._job.is_dry_run:
                return
            if isinstance(message, WrittenMessage):
                outputs.written(message.path, message.size)
            else:
                outputs.finished(OutputFile(path=message.path, sha256=message.sha256, size=message.size))
            return
        # The work itself says more of how far the job is than what has arrived.
        self._computing = True
        data = message.model_dump(exclude={"type"})
        self._journal.record(self._claim, "progress" if isinstance(message, ProgressMessage) else "metric", data)
