"""The journal: every job and event on disk before anyone is told of it, so that a crash forgets nothing."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from owm_compute.errors import ComputeError
from owm_compute.jobs.records import TERMINAL, Event, Job
from owm_compute.jobs.schema import SCHEMA
from owm_compute.specs import SUBMISSION, Submission

MAX_RUNS = 3
MAX_EVENTS = 10_000
# Not among them: damaged inputs, which must be fetched anew, and a full disk, which needs the room.
_RESUMABLE = frozenset({"worker_died", "input_unavailable", "upload_failed"})
_ENDED = "('succeeded','failed','cancelled')"


@dataclass(frozen=True)
class Claim:
    """A job that is this caller's to run: nobody else holds the same `run` of it."""

    id: str
    attempt: int
    run: int
    submission: Submission
    created_at: str

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the attempt."""
        return self.id, self.attempt


@dataclass(frozen=True)
class Delivery:
    """An ended job whose result the edge does not have yet."""

    id: str
    attempt: int
    token: str
    result_url: str
    ended_at: str
    body: dict[str, Any]


class Journal:
    """SQLite in WAL mode; every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # FULL: a 202 must outlive a power cut. secure_delete: a forgotten token must be gone from the file too.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=5000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        self._listeners: list[Callable[[str], None]] = []

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Calls `listener` with a job's id after each change of it."""
        self._listeners.append(listener)

    def submit(self, job: Submission, key: str, body_sha256: str, max_queue: int) -> tuple[Job, bool]:
        """Accepts a job; the resource and whether it is new.

        Raises `ComputeError`: `idempotency_key_reused`, `attempt_superseded`, `attempt_exists`, `queue_full`.
        """
        with self._write() as db:
            row = db.execute("SELECT * FROM jobs WHERE idempotency_key=?", (key,)).fetchone()
            if row is not None:
                if row["body_sha256"] != body_sha256:
                    raise ComputeError(
                        "idempotency_key_reused",
                        "the key was used with another body",
                        field="Idempotency-Key",
                        fix="use a new key for a new submission",
                    )
                return _job(row), False
            newest = db.execute("SELECT max(attempt) AS attempt FROM jobs WHERE id=?", (job.id,)).fetchone()["attempt"]
            if newest is not None and newest >= job.attempt:
                code = "attempt_exists" if newest == job.attempt else "attempt_superseded"
                raise ComputeError(code, f"attempt {newest} of this job is known", field="attempt", status=409)
            queued = db.execute("SELECT count(*) AS n FROM jobs WHERE state='queued'").fetchone()["n"]
            if queued >= max_queue:
                raise ComputeError(
                    "queue_full",
                    f"{queued} jobs are waiting",
                    fix="try again later",
                    retryable=True,
                    status=429,
                )
            self._supersede(db, job.id)
            db.execute(
                "INSERT INTO jobs (id,attempt,kind,submission,token,idempotency_key,body_sha256,state,created_at)"
                " VALUES (?,?,?,?,?,?,?,'queued',?)",
                (
                    job.id,
                    job.attempt,
                    job.kind,
                    job.model_copy(update={"token": "-"}).model_dump_json(),
                    job.token,
                    key,
                    body_sha256,
                    now(),
                ),
            )
            self._event(db, job.id, job.attempt, "state", {"state": "queued"})
            accepted = _job(self._row(db, job.id, job.attempt))
        self._changed(job.id)
        return accepted, True

    def _supersede(self, db: sqlite3.Connection, job_id: str) -> None:
        error = {
            "code": "superseded",
            "message": "a higher attempt of this job was submitted",
            "retryable": False,
        }
        db.execute(
            f"UPDATE jobs SET state='cancelled', error=?, ended_at=?, delivered=1, token=NULL"  # noqa: S608
            f" WHERE id=? AND state NOT IN {_ENDED}",
            (json.dumps(error), now(), job_id),
        )
        db.execute("UPDATE jobs SET delivered=1, token=NULL WHERE id=?", (job_id,))

    def claim(self) -> Claim | None:
        """The oldest queued job, now running; None when none waits."""
        with self._write() as db:
            row = db.execute("SELECT * FROM jobs WHERE state='queued' ORDER BY created_at, rowid LIMIT 1").fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET state='running', run=run+1, started_at=coalesce(started_at,?)"
                " WHERE id=? AND attempt=?",
                (now(), row["id"], row["attempt"]),
            )
            self._event(db, row["id"], row["attempt"], "state", {"state": "running"})
        self._changed(row["id"])
        submission = _submission(row)
        return Claim(row["id"], row["attempt"], row["run"] + 1, submission, row["created_at"])

    def record(self, claim: Claim, kind: str, data: dict[str, Any]) -> None:
        """Adds an event of a running job; silently nothing when the run was given up or has too many events."""
        with self._write() as db:
            row = self._row(db, claim.id, claim.attempt)
            if row["run"] != claim.run or row["state"] in TERMINAL:
                return
            if kind == "progress":
                db.execute(
                    "UPDATE jobs SET progress=? WHERE id=? AND attempt=?",
                    (json.dumps(data, allow_nan=False), claim.id, claim.attempt),
                )
                # Only the last value matters, so an older progress event makes room.
                db.execute(
                    "DELETE FROM events WHERE id=? AND attempt=? AND type='progress'",
                    (claim.id, claim.attempt),
                )
            elif row["seq"] >= MAX_EVENTS:
                return
            self._event(db, claim.id, claim.attempt, kind, data)
        self._changed(claim.id)

    def finish(
        self,
        claim: Claim,
        state: str,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        deliver: bool = True,
    ) -> bool:
        """Ends a run; False when it was no longer this caller's to end. The commit point of a job."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE jobs SET state=?, result=?, error=?, ended_at=?, delivered=?, token=iif(?,token,NULL)"
                " WHERE id=? AND attempt=? AND run=? AND state IN ('running','cancelling')",
                (
                    state,
                    None if result is None else json.dumps(result, allow_nan=False),
                    None if error is None else json.dumps(error, allow_nan=False),
                    now(),
                    0 if deliver else 1,
                    deliver,
                    claim.id,
                    claim.attempt,
                    claim.run,
                ),
            ).rowcount
            if changed:
                self._event(db, claim.id, claim.attempt, "state", {"state": state})
        self._changed(claim.id)
        return changed == 1

    def request_cancel(self, job_id: str) -> tuple[Job, int]:
        """Marks the newest attempt as cancelling, or cancels it when it was waiting; the resource and the attempt."""
        with self._write() as db:
            row = self._newest(db, job_id)
            if row["state"] == "queued":
                db.execute(
                    "UPDATE jobs SET state='cancelled', error=?, ended_at=? WHERE id=? AND attempt=?",
                    (json.dumps(cancelled_error()), now(), job_id, row["attempt"]),
                )
                self._event(db, job_id, row["attempt"], "state", {"state": "cancelled"})
            elif row["state"] == "running":
                db.execute("UPDATE jobs SET state='cancelling' WHERE id=? AND attempt=?", (job_id, row["attempt"]))
                self._event(db, job_id, row["attempt"], "state", {"state": "cancelling"})
            after = _job(self._row(db, job_id, row["attempt"]))
        self._changed(job_id)
        return after, after.attempt

    def recover(self) -> int:
        """After a start: puts interrupted jobs back into the queue; how many.

        A job that was being cancelled is cancelled, and one that was interrupted `MAX_RUNS` times fails, since it may
        be what kills the service.
        """
        died = ComputeError("worker_died", f"the service ended {MAX_RUNS} times while the job ran").as_json()
        with self._write() as db:
            for row in db.execute("SELECT * FROM jobs WHERE state IN ('running','cancelling')").fetchall():
                if row["state"] == "cancelling":
                    state, error = "cancelled", cancelled_error()
                elif row["run"] >= MAX_RUNS:
                    state, error = "failed", died
                else:
                    state, error = "queued", None
                db.execute(
                    "UPDATE jobs SET state=?, error=?, ended_at=?, progress=NULL WHERE id=? AND attempt=?",
                    (
                        state,
                        None if error is None else json.dumps(error),
                        None if error is None else now(),
                        row["id"],
                        row["attempt"],
                    ),
                )
                self._event(db, row["id"], row["attempt"], "state", {"state": state})
            return int(db.execute("SELECT count(*) AS n FROM jobs WHERE state='queued'").fetchone()["n"])

    def get(self, job_id: str) -> Job:
        """The newest attempt; `job_not_found` (404)."""
        with self._lock:
            return _job(self._newest(self._db, job_id))

    def may_go_on(self, job_id: str, within: timedelta) -> bool:
        """Whether a run of the job may use what an earlier one left.

        The newest attempt waits or runs, or ended less than `within` ago by something that damages no file.
        """
        limit = (datetime.now(UTC) - within).isoformat(timespec="milliseconds")
        with self._lock:
            row = self._db.execute(
                "SELECT state, ended_at, error FROM jobs WHERE id=? ORDER BY attempt DESC LIMIT 1", (job_id,)
            ).fetchone()
        if row is None:
            return False
        if row["state"] not in TERMINAL:
            return True
        error = _parsed(row["error"]) or {}
        return bool(error.get("retryable")) and error["code"] in _RESUMABLE and row["ended_at"] > limit

    def jobs(self, state: str | None, kind: str | None, before: int | None, limit: int) -> tuple[list[Job], int | None]:
        """Jobs from the newest on, and the cursor that `before` takes for the next page."""
        with self._lock:
            rows = self._db.execute(
                "SELECT rowid AS cursor, * FROM jobs WHERE (? IS NULL OR state=?) AND (? IS NULL OR kind=?)"
                " AND (? IS NULL OR rowid<?) ORDER BY rowid DESC LIMIT ?",
                (state, state, kind, kind, before, before, limit + 1),
            ).fetchall()
        following = rows[limit - 1]["cursor"] if len(rows) > limit else None
        return [_job(row) for row in rows[:limit]], following

    def events(self, job_id: str, attempt: int, after: int, limit: int = 1000) -> list[Event]:
        """Events with a number above `after`, in order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM events WHERE id=? AND attempt=? AND seq>? ORDER BY seq LIMIT ?",
                (job_id, attempt, after, limit),
            ).fetchall()
        return [Event(seq=row["seq"], ts=row["ts"], type=row["type"], data=json.loads(row["data"])) for row in rows]

    def is_current(self, claim: Claim) -> bool:
        """Whether the run is still wanted: not superseded, not ended."""
        with self._lock:
            row = self._row(self._db, claim.id, claim.attempt)
        return row["run"] == claim.run and row["state"] in ("running", "cancelling")

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self._lock:
            rows = self._db.execute("SELECT state, count(*) AS n FROM jobs GROUP BY state").fetchall()
        return {row["state"]: row["n"] for row in rows}

    def reported(self, claim: Claim) -> int:
        """Number of the last event the edge has."""
        with self._lock:
            return int(self._row(self._db, claim.id, claim.attempt)["reported_seq"])

    def mark_reported(self, claim: Claim, seq: int) -> None:
        """Notes that the edge has the events up to `seq`."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET reported_seq=max(reported_seq,?) WHERE id=? AND attempt=?",
                (seq, claim.id, claim.attempt),
            )

    def token(self, claim: Claim) -> str | None:
        """The job's token while the job needs one."""
        with self._lock:
            return self._row(self._db, claim.id, claim.attempt)["token"]  # type: ignore[no-any-return]

    def undelivered(self) -> list[Delivery]:
        """Ended jobs that the edge has not been told of, oldest first."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT * FROM jobs WHERE delivered=0 AND state IN {_ENDED} ORDER BY ended_at"  # noqa: S608
            ).fetchall()
        return [_delivery(row) for row in rows]

    def mark_delivered(self, job_id: str, attempt: int) -> None:
        """Forgets the token for good, from the log file too."""
        with self._write() as db:
            db.execute("UPDATE jobs SET delivered=1, token=NULL WHERE id=? AND attempt=?", (job_id, attempt))
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._changed(job_id)

    def prune(self, older_than: timedelta) -> int:
        """Deletes delivered jobs that ended longer ago; how many."""
        limit = (datetime.now(UTC) - older_than).isoformat(timespec="milliseconds")
        with self._write() as db:
            old = db.execute("SELECT id, attempt FROM jobs WHERE delivered=1 AND ended_at<?", (limit,)).fetchall()
            for row in old:
                db.execute("DELETE FROM events WHERE id=? AND attempt=?", (row["id"], row["attempt"]))
                db.execute("DELETE FROM jobs WHERE id=? AND attempt=?", (row["id"], row["attempt"]))
        return len(old)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _changed(self, job_id: str) -> None:
        for listener in self._listeners:
            listener(job_id)

    def _event(self, db: sqlite3.Connection, job_id: str, attempt: int, kind: str, data: dict[str, Any]) -> None:
        db.execute("UPDATE jobs SET seq=seq+1 WHERE id=? AND attempt=?", (job_id, attempt))
        db.execute(
            "INSERT INTO events (id,attempt,seq,ts,type,data) SELECT id,attempt,seq,?,?,? FROM jobs"
            " WHERE id=? AND attempt=?",
            (now(), kind, json.dumps(data, allow_nan=False), job_id, attempt),
        )

    def _row(self, db: sqlite3.Connection, job_id: str, attempt: int) -> sqlite3.Row:
        return _found(db.execute("SELECT * FROM jobs WHERE id=? AND attempt=?", (job_id, attempt)).fetchone())

    def _newest(self, db: sqlite3.Connection, job_id: str) -> sqlite3.Row:
        return _found(db.execute("SELECT * FROM jobs WHERE id=? ORDER BY attempt DESC LIMIT 1", (job_id,)).fetchone())


def now() -> str:
    """The time as every record writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cancelled_error() -> dict[str, Any]:
    """The error of a job that somebody cancelled."""
    return ComputeError("cancelled", "the job was cancelled").as_json()


def _found(row: sqlite3.Row | None) -> sqlite3.Row:
    if row is None:
        raise ComputeError("job_not_found", "no such job", status=404)
    return row


def _submission(row: sqlite3.Row) -> Submission:
    return SUBMISSION.validate_json(row["submission"]).model_copy(update={"token": row["token"]})


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        attempt=row["attempt"],
        kind=row["kind"],
        state=row["state"],
        seq=row["seq"],
        progress=_parsed(row["progress"]),
        result=_parsed(row["result"]),
        error=_parsed(row["error"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _delivery(row: sqlite3.Row) -> Delivery:
    body: dict[str, Any] = {"attempt": row["attempt"], "state": row["state"]}
    if row["state"] == "succeeded":
        body["result"] = _parsed(row["result"])
    else:
        body["error"] = _parsed(row["error"])
    return Delivery(
        row["id"], row["attempt"], row["token"] or "", _submission(row).hub.result_url, row["ended_at"], body
    )


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
