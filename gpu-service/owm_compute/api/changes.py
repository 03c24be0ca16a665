"""Lets requests wait for changes of a job that threads make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Wakes every waiter of a job; `notify` may be called from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self.stopping = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop the waiters live in."""
        self._loop = loop

    def notify(self, job_id: str) -> None:
        """The job has changed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, job_id)

    def stop(self) -> None:
        """Wakes everybody for the last time."""
        self.stopping = True
        for job_id in list(self._waiters):
            self._wake(job_id)

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change; clear it before looking at the job."""
        event = asyncio.Event()
        waiters = self._waiters.setdefault(job_id, set())
        waiters.add(event)
        try:
            yield event
        finally:
            waiters.discard(event)
            if not waiters:
                self._waiters.pop(job_id, None)

    def _wake(self, job_id: str) -> None:
        for event in self._waiters.get(job_id, ()):
            event.set()
