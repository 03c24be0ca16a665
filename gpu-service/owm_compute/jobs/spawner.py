"""Keeps one fork server alive and asks it for children; the service's side of `forkserver`."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from owm_compute.errors import ComputeError
from owm_compute.jobs.wire import Channel

_log = logging.getLogger("owm_compute.spawner")
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# What a GPU runtime needs to find its driver; everything else stays behind.
_KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)


@dataclass
class Child:
    """A running child: its channel, and its exit status once `ended` is set."""

    name: str
    channel: Channel
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None


class Spawner:
    """Starts the fork server, restarts it when it dies, and hands out children."""

    def __init__(self) -> None:
        self.warm = threading.Event()
        self.torch_version = ""
        self.protections: list[str] = []
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._children: dict[str, Child] = {}
        self._counter = 0
        self._stopping = threading.Event()
        # The kernel ties the fork server's life to the thread that started it, so one thread does it for good.
        self._thread = threading.Thread(target=self._supervise, name="spawner", daemon=True)

    def start(self) -> None:
        """Begins to warm up; `warm` is set when children can be had."""
        self._thread.start()

    def stop(self) -> None:
        """Kills the fork server and with it every child."""
        self._stopping.set()
        with self._lock:
            if self._control is not None:
                self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def spawn(self, output_fd: int) -> Child:
        """A new confined child whose native output goes to `output_fd`; `worker_died` when none can be had."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            self._counter += 1
            child = Child(str(self._counter), Channel(ours))
            request = json.dumps({"op": "fork", "id": child.name}).encode()
            try:
                if self._control is None or not self.warm.is_set():
                    raise OSError("the fork server is not running")
                socket.send_fds(self._control, [request], [theirs.fileno(), output_fd])
            except OSError as error:
                ours.close()
                raise ComputeError("worker_died", f"no worker could be started: {error}", retryable=True) from None
            self._children[child.name] = child
        return child

    def kill(self, child: Child) -> None:
        """Kills the child and its process group; a no-op when it has ended."""
        with self._lock:
            if self._control is not None and not child.ended.is_set():
                try:
                    self._control.send(json.dumps({"op": "kill", "id": child.name}).encode())
                except OSError:
                    _log.warning("the fork server is gone before a kill")

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve_once()
            except OSError as error:
                _log.error("the fork server could not be used", extra={"data": {"error": str(error)}})
            self.warm.clear()
            with self._lock:
                orphans, self._children = self._children, {}
                self._control = None
            for child in orphans.values():
                child.ended.set()
            if not self._stopping.wait(0.5):
                _log.warning("starting the fork server again")

    def _serve_once(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [
            sys.executable,
            "-m",
            "owm_compute.jobs.forkserver",
            str(theirs.fileno()),
            str(os.getpid()),
        ]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "PYTHONPATH": str(_PACKAGE_ROOT),
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
        }
        process = subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        with ours:
            with self._lock:
                self._control = ours
            try:
                while not self._stopping.is_set():
                    raw = ours.recv(65536)
                    if not raw:
                        break
                    self._take(json.loads(raw))
            finally:
                process.kill()
                process.wait()

    def _take(self, message: dict[str, Any]) -> None:
        if message["op"] == "warm":
            self.torch_version = message["torch"]
            self.protections = message["sandbox"]
            self.warm.set()
            _log.info(
                "the fork server is warm", extra={"data": {"torch": self.torch_version, "sandbox": self.protections}}
            )
        elif message["op"] == "exited":
            with self._lock:
                child = self._children.pop(message["id"], None)
            if child is not None:
                child.status = message["status"]
                child.ended.set()
