"""A system-call filter: a job can't open sockets, run programs, trace or signal other processes."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_PR_GET_SECCOMP = 21
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_AF_UNIX = 1
_X32_BIT = 0x40000000

# audit architecture, socket(2), and calls that are refused whatever their arguments, by number:
# connect, bind, sendto, execve, execveat, ptrace, process_vm_readv/writev, kill, tkill, rt_sigqueueinfo,
# pidfd_open, pidfd_getfd, pidfd_send_signal, io_uring_setup, unshare, setns, mount, bpf, perf_event_open,
# keyctl, add_key, request_key, userfaultfd.
_TABLES: dict[str, tuple[int, int, str]] = {
    "x86_64": (
        0xC000003E,
        41,
        "42 49 44 59 322 101 310 311 62 200 129 434 438 424 425 272 308 165 321 298 250 248 249 323",
    ),
    "aarch64": (
        0xC00000B7,
        198,
        "203 200 206 221 281 117 270 271 129 130 138 434 438 424 425 97 268 40 280 241 219 217 218 282",
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _program(machine: str) -> bytes:
    architecture, socket_call, refused = _TABLES[machine]

    def step(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, jump_true, jump_false, value)

    # seccomp_data: nr at 0, arch at 4, low half of the first argument at 16.
    lines = [
        step(_LOAD, 4),
        step(_JUMP_EQUAL, architecture, 1, 0),
        step(_RETURN, _KILL_PROCESS),
        step(_LOAD, 0),
        # x86-64 knows every call a second time with this bit set.
        step(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1),
        step(_RETURN, _KILL_PROCESS),
        step(_JUMP_EQUAL, socket_call, 0, 4),
        step(_LOAD, 16),
        step(_JUMP_EQUAL, _AF_UNIX, 0, 1),
        step(_RETURN, _ALLOW),
        step(_RETURN, _REFUSE),
    ]
    for number in refused.split():
        lines += [step(_JUMP_EQUAL, int(number), 0, 1), step(_RETURN, _REFUSE)]
    lines.append(step(_RETURN, _ALLOW))
    return b"".join(lines)


def has_filter() -> bool:
    """Whether there is a filter for this machine and its kernel takes one."""
    return platform.machine() in _TABLES and ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def forbid_dangerous_calls() -> bool:
    """Installs the filter for this process for good; False where the machine or the kernel has no such filter.

    Needs no_new_privs to be set.
    """
    machine = platform.machine()
    if machine not in _TABLES:
        return False
    raw = _program(machine)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    program = _Program(len(raw) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)
