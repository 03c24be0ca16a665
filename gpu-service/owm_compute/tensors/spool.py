"""Inputs that are still arriving: whoever reads one waits here until the bytes it is about to read are on disk.

The service keeps one byte a block in the file `present`, 1 once the block lies in its input's file; a reader says in
the file `wanted`, of the same layout, what it waits for, and that comes next. Both are read and written by position:
shared memory would kill whoever touches it after the other side has shortened the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

BLOCK = 8 << 20
"""Bytes of a block; the last one of a file may be shorter."""
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.02


def block_count(size: int) -> int:
    """Blocks of a file of `size` bytes."""
    return -(-size // BLOCK)


class Spool:
    """The inputs of a job as a reader sees them. `files`: path and size of each, in the order of their blocks."""

    def __init__(self, present: Path, wanted: Path, files: Sequence[tuple[Path, int]]) -> None:
        self._present = os.open(present, os.O_RDONLY | os.O_CLOEXEC)
        self._wanted = os.open(wanted, os.O_WRONLY | os.O_CLOEXEC)
        self._places: dict[str, tuple[int, int]] = {}
        total = 0
        for path, size in files:
            self._places.setdefault(str(path), (total, size))
            total += block_count(size)
        self._seen = bytearray(total)

    def require(self, path: Path, offset: int, length: int) -> None:
        """Returns when bytes [offset, offset + length) of the file are there; bytes behind its end count as there."""
        place = self._places.get(str(path))
        if place is None:
            return
        first, size = place
        blocks = range(first + offset // BLOCK, first + block_count(min(offset + length, size)))
        missing = [block for block in blocks if not self._arrived(block)]
        for block in missing:
            os.pwrite(self._wanted, b"\1", block)
        pause = _FIRST_PAUSE_S
        for block in missing:
            while not self._arrived(block):
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _arrived(self, block: int) -> bool:
        if not self._seen[block]:
            self._seen[block] = os.pread(self._present, 1, block) == b"\1"
        return bool(self._seen[block])


_active: list[Spool] = []


def use_spool(spool: Spool) -> None:
    """From now on `await_bytes` waits for the files of this spool, in every thread of this process."""
    _active[:] = [spool]


def await_bytes(path: Path, offset: int, length: int) -> None:
    """Call it before reading a range of an input; a look-up where the bytes are there, else it waits."""
    for spool in _active:
        spool.require(path, offset, length)
