"""What a confined process can no longer do."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from owm_compute.jobs.spawner import Spawner
from owm_compute.jobs.wire import Channel, WireError, encode
from tests.process import ROOT

CONFINE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from owm_compute.jobs.sandbox import confine; "
    "from pathlib import Path; inputs = Path.cwd().parent / 'inputs'; "
    "confine(Path.cwd(), inputs, 1 << 28, 1 << 20, gpu=False)\n"
)
ATTEMPTS = {
    "open a socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "open an IPv6 socket": "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "run a program": "import os; os.execv('/bin/true', ['true'])",
    "signal another process": "import os; os.kill(os.getppid(), 0)",
    "write a large file": "open('big', 'wb').write(bytes(2 << 20))",
    "read a file of someone else": "open('/etc/passwd').read()",
    "write elsewhere": "open('/tmp/elsewhere', 'w')",
    "change an input": "open('../inputs/0', 'r+')",
    "take much memory": "bytearray(1 << 30)",
}


def test_a_confined_process_can_still_use_its_own_directory(tmp_path: Path) -> None:
    code = f"{CONFINE}open('own', 'w').write('x')\nassert open('own').read() == 'x'\nimport fractions"
    assert subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine")
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_a_confined_process_is_refused(tmp_path: Path, attempt: str) -> None:
    code = f"{CONFINE}try:\n  {attempt}\nexcept (OSError, MemoryError): sys.exit(7)"
    ended = subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, check=False)
    assert ended.returncode == 7


def test_workers_inherit_nothing_of_the_services_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    spawner = Spawner()
    spawner.start()
    try:
        assert spawner.warm.wait(60)
        environment = Path(f"/proc/{_child_of_this_process()}/environ").read_bytes()
        assert b"SECRET" not in environment
        assert b"HOME=" not in environment
    finally:
        spawner.stop()


def _child_of_this_process() -> int:
    pids = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    return next(int(pid) for pid in pids if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'{"a":NaN}', b"\xff", b"[" * 100_000])
def test_rubbish_on_the_wire_is_refused(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(len(raw).to_bytes(4, "little") + raw)
        with pytest.raises(WireError):
            Channel(ours).receive(10)


def test_a_message_with_nan_is_never_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"value": float("nan")})
