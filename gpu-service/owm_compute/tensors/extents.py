"""Where the bytes of an imported tensor lie: in its file as they are, or unpacked into an unnamed temporary file."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Protocol

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.operand import Collection, Operand
from owm_compute.tensors.pieces import rectangles
from owm_compute.tensors.reader import read_exactly
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of

# What one archive may unpack to, whatever it declares.
MAX_UNPACKED_BYTES = 64 << 30
_MOST_AT_ONCE = 1 << 20


class Extent(Protocol):
    """Bytes that can be read by position, from several threads at once."""

    def read(self, position: int, target: memoryview) -> None:
        """Fills `target` with the bytes from `position` on."""


class StoredExtent:
    """Bytes of a file from `begin` on."""

    def __init__(self, fd: int, begin: int, label: str) -> None:
        self._fd = fd
        self._begin = begin
        self._label = label

    def read(self, position: int, target: memoryview) -> None:
        """Fills `target`; `import_invalid` when the file has shrunk."""
        read_exactly(self._fd, self._begin + position, target, "import_invalid", self._label)


class ShiftedExtent:
    """The bytes of another extent from `begin` on."""

    def __init__(self, extent: Extent, begin: int) -> None:
        self._extent = extent
        self._begin = begin

    def read(self, position: int, target: memoryview) -> None:
        """Fills `target` with the bytes from `position` on."""
        self._extent.read(self._begin + position, target)


class Scratch:
    """An unnamed temporary file for what must be unpacked, made when it is first needed."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._fd: int | None = None
        self._lock = Lock()
        self._reserved = 0

    def reserve(self, size: int) -> int:
        """Where the next `size` bytes go. Raises `import_too_large` before any byte of them is written."""
        begin = self._reserved
        self._reserved += size
        if self._reserved > MAX_UNPACKED_BYTES:
            raise _too_large(self._label)
        return begin

    @property
    def fd(self) -> int:
        """The file."""
        with self._lock:
            if self._fd is None:
                # The default of tempfile is remembered from before a job had its own directory.
                self._fd, path = tempfile.mkstemp(dir=os.environ.get("TMPDIR"))
                os.unlink(path)
            return self._fd

    def close(self) -> None:
        """Gives its space back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class UnpackedExtent:
    """`size` bytes that `unpack(fd, begin)` writes when they are first read."""

    def __init__(self, scratch: Scratch, size: int, unpack: Callable[[int, int], None], label: str) -> None:
        self._scratch = scratch
        self._begin = scratch.reserve(size)
        self._unpack: Callable[[int, int], None] | None = unpack
        self._label = label
        self._lock = Lock()

    def read(self, position: int, target: memoryview) -> None:
        """Fills `target`, after unpacking what is not yet unpacked."""
        with self._lock:
            if self._unpack is not None:
                try:
                    self._unpack(self._scratch.fd, self._begin)
                except OSError as error:
                    if error.errno != errno.EFBIG:
                        raise
                    raise _too_large(self._label) from None
                self._unpack = None
        read_exactly(self._scratch.fd, self._begin + position, target, "import_invalid", self._label)


class PlainOperand:
    """A tensor stored in row-major order as plain elements."""

    def __init__(self, extent: Extent, dtype: str, shape: tuple[int, ...], *, label: str, identity: str) -> None:
        self._extent = extent
        self._width = BITS[dtype] // 8
        self.label = label
        self.dtype = dtype
        self.stored = dtype
        self.shape = shape
        self.identity = identity

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from `start` on."""
        if len(out):
            self._extent.read(start * self._width, bytes_of(out))


class ColumnMajorOperand:
    """A tensor stored in column-major order ("Fortran"), delivered in row-major order."""

    def __init__(self, stored: Operand) -> None:
        self._elements = stored
        self.label = stored.label
        self.dtype = stored.dtype
        self.stored = stored.stored
        self.shape = stored.shape
        self.identity = f"{stored.identity}|column-major"

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from `start` on."""
        rows = self.shape[0]
        for piece in rectangles(start, len(out), math.prod(self.shape[1:]), _MOST_AT_ONCE):
            columns = torch.empty(piece.columns, piece.rows, dtype=TORCH_DTYPES[self.dtype])
            for index in range(piece.columns):
                self._elements.read(self._stored_column(piece.column + index) * rows + piece.row, columns[index])
            out[piece.at : piece.at + columns.numel()].view(piece.rows, piece.columns).copy_(columns.t())

    def _stored_column(self, column: int) -> int:
        """Where the column of that row-major number over the axes behind the first stands in the file."""
        position = 0
        for axis in range(len(self.shape) - 1, 0, -1):
            column, index = divmod(column, self.shape[axis])
            position += index * math.prod(self.shape[1:axis])
        return position


class ImportedSource(Collection):
    """Tensors of imported files, and what is to be closed with them."""

    def __init__(self, label: str, operands: Mapping[str, Operand], close: Callable[[], None]) -> None:
        super().__init__(label, operands)
        self._close = close

    def close(self) -> None:
        """Releases the files."""
        self._close()


def _too_large(label: str) -> ComputeError:
    return ComputeError(
        "import_too_large",
        f"{label} unpacks to more bytes than this job may write",
        field=label,
        fix="save the weights without compression",
    )


def import_invalid(label: str, problem: str) -> ComputeError:
    """The error for a file that breaks a rule of its format."""
    return ComputeError("import_invalid", f"{label}: {problem}", field=label, fix="save the weights again")


def unsupported(label: str, name: str, problem: str) -> ComputeError:
    """The error for a tensor that is no plain array of numbers."""
    return ComputeError(
        "tensor_dtype_mismatch",
        f"{label}: tensor {name[:200]!r} {problem}",
        field=name[:200],
        fix="save the weights as float32, float16 or integers in little-endian order",
    )
