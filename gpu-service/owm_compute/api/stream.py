"""A job's events as server-sent events, resumable by number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from owm_compute.api.changes import Changes
from owm_compute.jobs.journal import Journal
from owm_compute.jobs.records import TERMINAL

_KEEP_ALIVE_S = 15.0


async def event_stream(journal: Journal, changes: Changes, job_id: str, attempt: int, after: int) -> AsyncIterator[str]:
    """The events with a number above `after`, live, until the terminal one has been sent."""
    with changes.watch(job_id) as changed:
        while not changes.stopping:
            changed.clear()
            # The state is read first: a job that had ended by then has all its events in the journal.
            job = journal.get(job_id)
            events = journal.events(job_id, attempt, after)
            for event in events:
                after = event.seq
                data = json.dumps({"ts": event.ts, **event.data}, allow_nan=False)
                yield f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"
            if not events and (job.attempt != attempt or job.state in TERMINAL):
                return
            if not events:
                try:
                    await asyncio.wait_for(changed.wait(), _KEEP_ALIVE_S)
                except TimeoutError:
                    yield ": keep-alive\n\n"
