"""The service as a real process, and the edge's half of its HTTP interface."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jwt

SECRET = "a secret of the tests, long enough for HS256 and for the HS512 it must refuse"
ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")


def eventually(look: Callable[[], T | None], seconds: float = 60) -> T:
    """The first truthy answer of `look`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def sign(body: bytes, *, secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """A token for a body, with claims changed or (None) left out."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": "owm-hub",
        "aud": "owm-compute",
        "iat": now,
        "exp": now + 60,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


class ServiceProcess:
    """`python -m owm_compute` on a port of its own."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.state = state
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._arguments = arguments
        self.log = state.with_suffix(".log")
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.start()

    def start(self) -> None:
        """Starts the process and waits until it is ready."""
        command = [sys.executable, "-m", "owm_compute", "--port", str(self.port), "--state", str(self.state)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu", *self._arguments],
                cwd=ROOT,
                env={**os.environ, "OWM_COMPUTE_SECRET": SECRET},
                stdout=log,
                stderr=log,
            )
        eventually(self._ready)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def descendants(self) -> list[int]:
        """Process ids of everything the service started."""
        found: list[int] = []
        pending = [self.process.pid]
        while pending:
            children = Path(f"/proc/{pending.pop()}/task").glob("*/children")
            pids = [int(pid) for file in children for pid in file.read_text().split()]
            found += pids
            pending += pids
        return found

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A signed GET."""
        return self.http.get(path, headers={"Authorization": f"Bearer {sign(b'')}", **headers})

    def post(self, path: str, payload: Any = None, key: str | None = None) -> httpx.Response:
        """A signed POST."""
        body = b"" if payload is None else json.dumps(payload).encode()
        headers = {"Authorization": f"Bearer {sign(body)}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.post(path, content=body, headers=headers)

    def submit(self, job: dict[str, Any]) -> httpx.Response:
        """Submits a job as the edge does."""
        return self.post("/v1/jobs", job, f"{job['id']}.{job['attempt']}")

    def job(self, job_id: str) -> dict[str, Any]:
        """The job resource."""
        found: dict[str, Any] = self.get(f"/v1/jobs/{job_id}").json()
        return found

    def wait_for(self, job_id: str, *states: str) -> dict[str, Any]:
        """The job once it is in one of the states (by default: has ended)."""
        wanted = states or ("succeeded", "failed", "cancelled")

        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in wanted else None

        return eventually(look)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
