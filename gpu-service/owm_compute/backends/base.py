"""The seam between the runner and whatever computes: this machine today, a cluster behind the same call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from owm_compute.jobs.work import Message, ResultMessage, WorkRequest


@dataclass
class Control:
    """How the runner stops work: politely by `cancel`, at once by `abandon`; `deadline` is on the monotonic clock."""

    deadline: float
    cancel: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)


class Backend(Protocol):
    """Runs requests."""

    def run(self, request: WorkRequest, control: Control, on_message: Callable[[Message], None]) -> ResultMessage:
        """Blocks until the work is done.

        Raises `ComputeError` (the job's own code, `deadline_exceeded`, `worker_died`, `resource_exhausted`),
        `JobCancelled`, or `Abandoned` when the runner has no more use for the outcome.
        """


class Abandoned(Exception):
    """The work was stopped because nobody wants its outcome: the service stops, or the edge has ended the job."""
