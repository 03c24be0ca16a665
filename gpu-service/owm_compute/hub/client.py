"""Calls to the edge with a job's token: what an answer means, and when a call is worth repeating."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import httpx

from owm_compute import __version__
from owm_compute.backends.base import Abandoned, Control
from owm_compute.errors import ComputeError, JobCancelled

MAX_TRIES = 6
T = TypeVar("T")


class Unavailable(Exception):
    """The edge could not be reached or answered that it can't serve now; worth another try."""


def new_http() -> httpx.Client:
    """A client that follows no redirect, so that a token only ever goes where it was meant to go."""
    timeout = httpx.Timeout(15.0, connect=10.0)
    # trust_env: a proxy variable of the host must not see private inputs.
    return httpx.Client(
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"owm-compute/{__version__}"},
    )


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait before try `attempt` + 1: full jitter below 1 s, 2 s, 4 s … 60 s."""
    return rng.uniform(0, min(60.0, 2.0**attempt))


class HubClient:
    """The edge as one job sees it. `control` ends any waiting at once."""

    def __init__(self, http: httpx.Client, token: str, control: Control) -> None:
        self.http = http
        self.token = token
        self._control = control
        self._rng = random.Random()  # noqa: S311 - spreads retries, hides nothing

    def check(self) -> None:
        """Raises `JobCancelled`, `Abandoned` or `deadline_exceeded` when the job should stop."""
        self._control.check()
        if self._control.cancel.is_set():
            raise JobCancelled

    def repeat(self, what: str, code: str, call: Callable[[], T]) -> T:
        """Calls until it works; after `MAX_TRIES` failures raises `ComputeError` with `code`, retryable."""
        for attempt in range(MAX_TRIES):
            self.check()
            try:
                return call()
            except (Unavailable, httpx.TransportError) as error:
                last = f"{type(error).__name__}: {error}"
            self._pause(backoff(attempt, self._rng) if attempt < MAX_TRIES - 1 else 0)
        raise ComputeError(code, f"{what} failed {MAX_TRIES} times, last with {last}", retryable=True)

    def _pause(self, seconds: float) -> None:
        step = 0.1
        while seconds > 0:
            self.check()
            self._control.abandon.wait(min(step, seconds))
            seconds -= step

    @property
    def authorization(self) -> dict[str, str]:
        """The header that opens this job at the edge."""
        return {"Authorization": f"Bearer {self.token}"}


def require_success(response: httpx.Response, code: str) -> None:
    """Maps an answer: 401 and 409 mean the job has ended (`Abandoned`), 408, 429 and 5xx are worth another try."""
    if response.is_success:
        return
    if response.status_code in (401, 409):
        raise Abandoned
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        raise Unavailable(f"status {response.status_code}")
    raise ComputeError(code, f"the edge answered {response.status_code} to {response.request.method}")
