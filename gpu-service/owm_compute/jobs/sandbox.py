"""Takes from a child what its job does not need: memory, cores, descendants, the network and other processes."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

from owm_compute.jobs.seccomp import forbid_dangerous_calls

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when `parent` dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent died before the kernel was told.
        os._exit(1)


def hide_memory() -> None:
    """Keeps other processes of the same user from reading this one's memory and environment, and forbids cores."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(memory_bytes: int, file_bytes: int, *, limit_address_space: bool) -> bool:
    """Applies every limit to this process; whether dangerous system calls are refused too.

    `memory_bytes` counts above what the warm interpreter has already mapped. CUDA reserves address space far beyond
    what it uses, so jobs on a GPU are not held to it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    if limit_address_space:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        ceiling = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return forbid_dangerous_calls()
