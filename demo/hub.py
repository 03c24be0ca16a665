"""The hub's own API, as much of it as the demo needs; files go through the stock client."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

ENDED = {"succeeded", "failed", "cancelled"}


class DemoError(Exception):
    """Something the hub refused or could not do."""


@dataclass
class Hub:
    """One caller of the hub's API."""

    endpoint: str
    token: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=f"{self.endpoint}/api/v1", headers=headers, timeout=60)

    def call(self, method: str, path: str, body: object = None, *, ok: tuple[int, ...] = (), key: str = "") -> Any:
        """The JSON answer. Statuses in `ok` count as success too; `key` makes the request repeatable."""
        headers = {"idempotency-key": key} if key else {}
        response = self.http.request(method, path, json=body, headers=headers)
        if response.is_error and response.status_code not in ok:
            raise DemoError(f"{method} {path} → {response.status_code}: {response.text[:500]}")
        return response.json() if response.content else None

    def account(self, kind: str, name: str, fullname: str) -> None:
        """Creates a user or an organization, if it isn't there yet."""
        self.call("POST", f"/{kind}", {"name": name, "fullname": fullname}, ok=(409,))

    def token_for(self, user: str) -> str:
        """A fresh token that may publish."""
        answer = self.call("POST", f"/users/{user}/tokens", {"name": "demo", "scope": "write", "days": 1})
        return str(answer["token"])

    def run(self, what: str, requests: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Submits jobs (idempotency key → request), waits for all, and returns them by key.

        The same key and request always name the same job, so a second run of the demo does none of the work again.
        """
        started = time.monotonic()
        jobs = {key: self.call("POST", "/jobs", request, key=key) for key, request in requests.items()}
        while waiting := [key for key, job in jobs.items() if job["state"] not in ENDED]:
            _progress(f"  {what}: {len(jobs) - len(waiting)} of {len(jobs)} done, {time.monotonic() - started:.0f} s")
            time.sleep(0.3)
            for key in waiting:
                jobs[key] = self.call("GET", f"/jobs/{jobs[key]['id']}")
        for job in jobs.values():
            if job["state"] != "succeeded":
                raise DemoError(f"{job['kind']} job {job['id']} {job['state']}: {job.get('error')}")
        _progress(f"  {what}: {len(jobs)} of {len(jobs)} done in {time.monotonic() - started:.1f} s", last=True)
        return jobs


def _progress(line: str, *, last: bool = False) -> None:
    if sys.stdout.isatty():
        print(f"\r\x1b[2K{line}", end="\n" if last else "", flush=True)
    elif last:
        print(line, flush=True)
