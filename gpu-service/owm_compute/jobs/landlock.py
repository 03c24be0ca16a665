"""A file-system fence: a job reads its interpreter, its inputs and its own directory, and writes only there."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# How many kinds of access each version of the interface can forbid; a later version keeps the latest.
_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NO_TCP = 0b11
_NO_FOREIGN_SOCKETS_OR_SIGNALS = 0b11
_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """The version of the interface in this kernel; 0 when it has none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(0, version)


def fence(directory: Path, inputs: Path, *, gpu: bool) -> bool:
    """Confines this process to `directory`, and to reading `inputs`, for good; False where the kernel can't.

    Needs no_new_privs to be set. A job on a GPU also gets the driver's files, which lie in /dev, /proc and /sys.
    """
    version = landlock_version()
    if version == 0:
        return False
    everything = (1 << _ACCESS_BITS[min(version, 5)]) - 1
    # Older kernels know a shorter structure: first files, then TCP, then sockets and signals of others.
    fields = 3 if version >= 6 else 2 if version >= 4 else 1
    attributes = struct.pack("QQQ", everything, _NO_TCP, _NO_FOREIGN_SOCKETS_OR_SIGNALS)[: 8 * fields]
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        package = Path(__file__).resolve().parents[1]
        libraries = {Path(sys.prefix), Path(sys.base_prefix), package, Path("/usr"), Path("/lib"), Path("/lib64")}
        _allow(ruleset, libraries, _EXECUTE | _READ_FILE | _READ_DIR)
        _allow(ruleset, [inputs], _READ_FILE | _READ_DIR)
        _allow(ruleset, [directory], everything)
        if gpu:
            _allow(ruleset, [Path("/dev"), Path("/proc"), Path("/sys")], everything)
        return bool(_libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, directories: Iterable[Path], access: int) -> None:
    for directory in directories:
        try:
            descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, descriptor), 0)
        finally:
            os.close(descriptor)
