"""The job resource and its events, as callers see them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from owm_compute.specs import Kind

State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
EventType = Literal["state", "progress", "metric", "log"]


class JobProgress(BaseModel):
    """How far a job is."""

    done: int
    total: int
    unit: str


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    retryable: bool
    field: str | None = None
    fix: str | None = None


class ResultFile(BaseModel):
    """One output file, already at the edge."""

    path: str
    sha256: str
    size: int


class JobResult(BaseModel):
    """What a job made."""

    files: list[ResultFile]
    record: dict[str, Any] = Field(description="depends on the kind of job")
    engine: dict[str, str]


class Job(BaseModel):
    """The job resource."""

    id: str
    attempt: int
    kind: Kind
    state: State
    seq: int = Field(description="number of the last event")
    progress: JobProgress | None
    result: JobResult | None
    error: JobError | None
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobList(BaseModel):
    """A page of jobs, newest first; `next` is the cursor of the following page."""

    jobs: list[Job]
    next: str | None


class Event(BaseModel):
    """One event of a job."""

    seq: int
    ts: str
    type: EventType
    data: dict[str, Any]
