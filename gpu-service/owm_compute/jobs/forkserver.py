"""A process that has torch loaded and warm, and forks one confined child per job on request.

Run by the service as `python -m owm_compute.jobs.forkserver FD PARENT_PID`. It has its own clean environment, so
children never inherit a secret, and the kernel kills it and its children when the service dies.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from typing import Any

from owm_compute.jobs.sandbox import die_with_parent


def main() -> None:
    """Warms up, says so, then serves requests until the service goes away."""
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent(int(sys.argv[2]))
    # The terminal's Ctrl-C is the service's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from owm_compute.jobs.child import run_child, warm_up

    say(control, {"op": "warm", **warm_up()})
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    os.set_blocking(wakeup_read, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    own_pid = os.getpid()
    children: dict[int, str] = {}
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wakeup_read, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                raw, descriptors, _, _ = socket.recv_fds(control, 65536, 4)
                if not raw:
                    _kill_all(children)
                    return
                request = json.loads(raw)
                if request["op"] == "fork":
                    pid = os.fork()
                    if pid == 0:
                        for fd in (control.fileno(), wakeup_read, wakeup_write):
                            os.close(fd)
                        run_child(own_pid, descriptors[0], descriptors[1])
                    children[pid] = request["id"]
                    say(control, {"op": "started", "id": request["id"], "pid": pid})
                elif request["op"] == "kill":
                    for pid, name in children.items():
                        if name == request["id"]:
                            _kill(pid)
                for descriptor in descriptors:
                    os.close(descriptor)
            else:
                os.read(wakeup_read, 4096)
        for pid, name, status in _reap(children):
            del children[pid]
            say(control, {"op": "exited", "id": name, "status": status})


def say(control: socket.socket, message: dict[str, Any]) -> None:
    """Sends one packet to the service."""
    control.send(json.dumps(message).encode())


def _reap(children: dict[int, str]) -> list[tuple[int, str, int]]:
    ended = []
    for pid, name in children.items():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            # Whatever the child left behind in its group goes with it.
            _kill_group(pid)
            ended.append((pid, name, os.waitstatus_to_exitcode(status)))
    return ended


def _kill(pid: int) -> None:
    # Only unreaped children are listed, so the number can't belong to anyone else.
    os.kill(pid, signal.SIGKILL)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _kill_all(children: dict[int, str]) -> None:
    for pid in children:
        _kill(pid)


if __name__ == "__main__":
    main()
