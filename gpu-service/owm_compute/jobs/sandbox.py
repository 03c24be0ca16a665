"""Takes from a child what its job does not need: memory, other files, programs, the network."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

from owm_compute.jobs.landlock import fence, landlock_version
from owm_compute.jobs.seccomp import forbid_dangerous_calls, has_filter

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


def confine(directory: Path, inputs: Path, memory_bytes: int, file_bytes: int, *, gpu: bool) -> None:
    """Applies every limit the machine knows to this process, for good. Of `inputs` it may read only.

    `memory_bytes` counts above what the warm interpreter has already mapped. CUDA reserves address space far beyond
    what it uses, so jobs on a GPU are not held to it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    if not gpu:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        ceiling = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    fence(directory, inputs, gpu=gpu)
    forbid_dangerous_calls()


def protections() -> list[str]:
    """What `confine` can apply on this machine, for an operator to see."""
    found = ["rlimits", "no_new_privs"]
    if landlock_version():
        found.append("landlock")
    if has_filter():
        found.append("seccomp")
    return found
