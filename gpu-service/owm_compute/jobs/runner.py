"""Runs what the journal has queued, as many jobs at a time as there are slots."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from owm_compute.backends.base import Backend, Control
from owm_compute.hub.client import new_http
from owm_compute.jobs.delivery import Deliverer
from owm_compute.jobs.execution import Execution
from owm_compute.jobs.journal import Claim, Journal
from owm_compute.jobs.records import Job
from owm_compute.jobs.statistics_shelf import StatisticsShelf
from owm_compute.telemetry import Telemetry

_log = logging.getLogger("owm_compute.runner")
# The edge hands a job that failed for now over again at once; what nobody came back for is not kept longer.
_KEEP_FAILED = timedelta(minutes=10)


class Runner:
    """One thread per slot; each takes the oldest queued job and runs it to its end."""

    def __init__(
        self,
        journal: Journal,
        backend: Backend,
        deliverer: Deliverer,
        telemetry: Telemetry,
        root: Path,
        *,
        slots: int,
        device: str,
        ready: threading.Event,
    ) -> None:
        self._journal = journal
        self._backend = backend
        self._deliverer = deliverer
        self._telemetry = telemetry
        self._root = root
        self._shelf = StatisticsShelf(root.parent / "statistics")
        self._device = device
        self._ready = ready
        self._http = new_http()
        self._wake = threading.Condition()
        self._stopping = False
        self._active: dict[tuple[str, int], Control] = {}
        self._threads = [
            threading.Thread(target=self._slot, name=f"slot {index}", daemon=True) for index in range(slots)
        ]
        telemetry.slots.set(slots)

    def start(self) -> None:
        """Puts the jobs of an earlier process back into the queue, clears what no job will go on from, and begins."""
        self._root.mkdir(parents=True, mode=0o700, exist_ok=True)
        queued = self._journal.recover()
        self._tidy()
        self._telemetry.queue_depth.set(queued)
        if queued:
            _log.info("jobs wait from before", extra={"data": {"queued": queued}})
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends every run at once; the journal keeps the jobs for the next start."""
        with self._wake:
            self._stopping = True
            for control in self._active.values():
                control.abandon.set()
            self._wake.notify_all()
        for thread in self._threads:
            # A thread that hangs in a call to the edge is left behind; what it would still do, the journal refuses.
            thread.join(3)
        self._http.close()

    def submitted(self, job: Job) -> None:
        """A job was queued; lower attempts of it that still run are of no use any more."""
        with self._wake:
            for (job_id, attempt), control in self._active.items():
                if job_id == job.id and attempt < job.attempt:
                    control.abandon.set()
            self._wake.notify()
        self._telemetry.queue_depth.set(self._journal.counts().get("queued", 0))

    def cancel(self, job_id: str) -> Job:
        """Asks the newest attempt to stop; its resource afterwards. `job_not_found` (404)."""
        job, attempt = self._journal.request_cancel(job_id)
        with self._wake:
            control = self._active.get((job_id, attempt))
            if control is not None:
                control.cancel.set()
        self._deliverer.kick()
        return job

    def _slot(self) -> None:
        while not self._stopping:
            if not self._ready.wait(0.2):
                continue
            try:
                with self._wake:
                    claim = None if self._stopping else self._journal.claim()
                    if claim is None:
                        # A cancellation by another path may empty the queue, so look again now and then.
                        self._wake.wait(5)
                        self._tidy()
                        continue
                    control = Control(time.monotonic() + claim.submission.limits.timeout_s)
                    self._active[claim.key] = control
                    # The attempt before was told to stop; both would use the job's directory.
                    while any(key[0] == claim.id and key != claim.key for key in self._active):
                        self._wake.wait(1)
                self._run(claim, control)
            except Exception:
                _log.exception("a slot failed")
                time.sleep(1)

    def _tidy(self) -> None:
        """Removes the directories that no run uses or may go on from. Called where no job can be claimed meanwhile."""
        if self._stopping:
            return
        for directory in self._root.iterdir():
            if not self._journal.may_go_on(directory.name, _KEEP_FAILED):
                shutil.rmtree(directory, ignore_errors=True)

    def _run(self, claim: Claim, control: Control) -> None:
        telemetry = self._telemetry
        waited = datetime.now(UTC) - datetime.fromisoformat(claim.created_at)
        telemetry.queue_depth.set(self._journal.counts().get("queued", 0))
        telemetry.queue_seconds.labels(claim.submission.kind).observe(max(0.0, waited.total_seconds()))
        data = {"job": claim.id, "attempt": claim.attempt, "kind": claim.submission.kind, "run": claim.run}
        _log.info("job started", extra={"data": data})
        started = time.monotonic()
        try:
            with telemetry.slots_busy.track_inprogress():
                outcome = Execution(
                    claim,
                    control,
                    journal=self._journal,
                    backend=self._backend,
                    http=self._http,
                    telemetry=telemetry,
                    directory=self._root / claim.id,
                    shelf=self._shelf,
                    device=self._device,
                ).run()
            if outcome == "abandoned" and not self._stopping:
                # The edge has ended the job; there is nobody to tell, and the token has no further use.
                error = {"code": "revoked", "message": "the edge ended the job", "retryable": False}
                self._journal.finish(claim, "cancelled", error=error, deliver=False)
        finally:
            with self._wake:
                self._active.pop(claim.key, None)
                self._tidy()
                self._wake.notify_all()
        seconds = time.monotonic() - started
        telemetry.run_seconds.labels(claim.submission.kind).observe(seconds)
        telemetry.jobs.labels(claim.submission.kind, outcome).inc()
        _log.info("job ended", extra={"data": {**data, "outcome": outcome, "seconds": round(seconds, 3)}})
        self._deliverer.kick()
