"""Tells the edge how a running job is doing, at most twice a second, and hears whether it should stop."""

from __future__ import annotations

import logging
import threading

import httpx

from owm_compute.backends.base import Control
from owm_compute.hub.client import HubClient
from owm_compute.jobs.journal import Claim, Journal
from owm_compute.jobs.records import Event

_log = logging.getLogger("owm_compute.reporter")
_PERIOD_S = 0.5
_BATCH = 500


class Reporter:
    """Sends the journal's new events of one job from a thread of its own, so that a slow edge delays no job."""

    def __init__(self, journal: Journal, claim: Claim, hub: HubClient, control: Control) -> None:
        self._journal = journal
        self._claim = claim
        self._hub = hub
        self._control = control
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reporter {claim.id}", daemon=True)

    def start(self) -> None:
        """Begins to report."""
        self._thread.start()

    def close(self) -> None:
        """Sends what is left once, whether or not it arrives, and ends the thread."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_PERIOD_S):
            if not self._report():
                return
        if not self._control.abandon.is_set():
            self._report()

    def _report(self) -> bool:
        after = self._journal.reported(self._claim)
        events = self._journal.events(self._claim.id, self._claim.attempt, after, _BATCH)
        if not events:
            return True
        body = {"attempt": self._claim.attempt, "events": [event.model_dump() for event in _latest(events)]}
        url = self._claim.submission.hub.events_url
        try:
            response = self._hub.http.post(url, json=body, headers=self._hub.authorization, timeout=10)
        except httpx.HTTPError as error:
            _log.info("events were not taken", extra={"data": {"job": self._claim.id, "error": str(error)}})
            return True
        if response.status_code in (401, 409):
            # The edge has ended the job, so nobody waits for its outcome.
            self._control.abandon.set()
            return False
        if response.is_success:
            self._journal.mark_reported(self._claim, events[-1].seq)
            if _asks_to_stop(response):
                self._journal.request_cancel(self._claim.id)
                self._control.cancel.set()
        return True


def _latest(events: list[Event]) -> list[Event]:
    """The events with only the last progress among them."""
    last = max((event.seq for event in events if event.type == "progress"), default=0)
    return [event for event in events if event.type != "progress" or event.seq == last]


def _asks_to_stop(response: httpx.Response) -> bool:
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("cancel") is True
