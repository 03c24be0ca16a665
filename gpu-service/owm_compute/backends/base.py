"""The seam between the runner and whatever computes: this machine today, a cluster behind the same call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from owm_compute.errors import ComputeError
from owm_compute.jobs.work import Message, ResultMessage, WorkRequest


class Abandoned(Exception):
    """The work was stopped because nobody wants its outcome: the service stops, or the edge has ended the job."""


@dataclass
class Control:
    """How work is stopped: politely by `cancel`, at once by `abandon`, or by a failure of what goes on beside it.

    `deadline` is on the monotonic clock.
    """

    deadline: float
    cancel: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)
    failure: ComputeError | None = None

    def fail(self, error: ComputeError) -> None:
        """Stops the work with this error, unless another one came first."""
        self.failure = self.failure or error

    def check(self) -> None:
        """Raises `Abandoned`, what `fail` was given, or `deadline_exceeded` when the time is up."""
        if self.abandon.is_set():
            raise Abandoned
        if self.failure is not None:
            raise self.failure
        if time.monotonic() > self.deadline:
            raise ComputeError(
                "deadline_exceeded",
                "the job ran longer than limits.timeout_s",
                field="limits.timeout_s",
                fix="raise limits.timeout_s",
            )


class Backend(Protocol):
    """Runs requests."""

    def run(self, request: WorkRequest, control: Control, on_message: Callable[[Message], None]) -> ResultMessage:
        """Blocks until the work is done.

        Raises `ComputeError` (the job's own code, `deadline_exceeded`, `worker_died`, `resource_exhausted`),
        `JobCancelled`, or `Abandoned` when the runner has no more use for the outcome.
        """
