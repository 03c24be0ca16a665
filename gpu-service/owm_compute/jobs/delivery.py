"""Brings results to the edge, again and again until they are taken, across restarts."""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx

from owm_compute.hub.client import backoff, new_http
from owm_compute.jobs.journal import Delivery, Journal
from owm_compute.telemetry import Telemetry

_log = logging.getLogger("owm_compute.delivery")
# The edge polls too; a result nobody took for this long has no taker.
_GIVE_UP_AFTER = timedelta(days=2)
_KEEP_ENDED = timedelta(days=7)
_PRUNE_EVERY_S = 3600.0


class Deliverer:
    """One thread over the journal's undelivered results."""

    def __init__(self, journal: Journal, telemetry: Telemetry) -> None:
        self._journal = journal
        self._telemetry = telemetry
        self._http = new_http()
        self._wake = threading.Event()
        self._stopping = False
        self._tries: dict[tuple[str, int], tuple[int, float]] = {}
        self._rng = random.Random()  # noqa: S311 - spreads retries, hides nothing
        self._pruned_at = 0.0
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Begins with what an earlier process left."""
        self._thread.start()

    def kick(self) -> None:
        """There is something new to deliver."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread; what is undelivered stays in the journal."""
        self._stopping = True
        self._wake.set()
        self._http.close()
        self._thread.join(3)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._round()
            except Exception:
                if not self._stopping:
                    _log.exception("a round of deliveries failed")
            due = [at for _, at in self._tries.values()]
            self._wake.wait(max(0.05, min(due) - time.monotonic()) if due else 60)

    def _round(self) -> None:
        waiting = self._journal.undelivered()
        self._telemetry.undelivered.set(len(waiting))
        for item in waiting:
            key = (item.id, item.attempt)
            tries, due = self._tries.get(key, (0, 0.0))
            if self._stopping or time.monotonic() < due:
                continue
            if self._deliver(item):
                self._tries.pop(key, None)
                self._journal.mark_delivered(item.id, item.attempt)
                self._telemetry.undelivered.dec()
            else:
                self._tries[key] = (tries + 1, time.monotonic() + max(0.1, backoff(tries, self._rng)))
        if time.monotonic() - self._pruned_at > _PRUNE_EVERY_S:
            self._pruned_at = time.monotonic()
            self._journal.prune(_KEEP_ENDED)

    def _deliver(self, item: Delivery) -> bool:
        data = {"job": item.id, "attempt": item.attempt}
        if datetime.now(UTC) - datetime.fromisoformat(item.ended_at) > _GIVE_UP_AFTER:
            _log.error("a result was never taken", extra={"data": data})
            return True
        headers = {"Authorization": f"Bearer {item.token}"}
        try:
            response = self._http.post(item.result_url, json=item.body, headers=headers)
        except httpx.HTTPError as error:
            _log.info("a result was not taken", extra={"data": {**data, "error": str(error)}})
            return False
        if response.is_success:
            return True
        if response.status_code in (401, 404, 409):
            _log.info("the edge has no use for a result", extra={"data": {**data, "status": response.status_code}})
            return True
        _log.warning("a result was refused for now", extra={"data": {**data, "status": response.status_code}})
        return False
