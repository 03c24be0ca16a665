"""HDF5 weights (Keras `.h5` and `.keras`, or any file of plain arrays) as a source of operands, executing nothing.

The HDF5 library only reads the structure of the file. The data are read by position, and compressed chunks are
unpacked here, within the size that they declare. Kernels keep the orientation in which Keras stores them ([in, out]).
A Keras configuration is not looked at.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from owm_compute.errors import ComputeError
from owm_compute.tensors.archive import Archive
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.extents import (
    Extent,
    ImportedSource,
    PlainOperand,
    Scratch,
    ShiftedExtent,
    StoredExtent,
    UnpackedExtent,
    import_invalid,
    unsupported,
)
from owm_compute.tensors.header import MAX_INT, MAX_RANK, HeaderError, check_name
from owm_compute.tensors.keras_names import variable_names
from owm_compute.tensors.operand import Operand, Source

# Groups, arrays and chunks of one file.
MAX_OBJECTS = 500_000
MAX_DEPTH = 64
MAX_CHUNK_BYTES = 64 << 20
KERAS_WEIGHTS = "model.weights.h5"
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_FLETCHER32_BYTES = 4
_DTYPES = {
    "b1": "BOOL",
    "u1": "U8",
    "i1": "I8",
    "i2": "I16",
    "u2": "U16",
    "f2": "F16",
    "i4": "I32",
    "u4": "U32",
    "f4": "F32",
    "f8": "F64",
    "i8": "I64",
    "u8": "U64",
}


class Chunk(NamedTuple):
    """A stored piece of a dataset: the index of its first element, where it lies, and the filters it skipped."""

    start: tuple[int, ...]
    begin: int
    packed: int
    skipped: int


@dataclass(frozen=True)
class Dataset:
    """What a file says of one array: plain bytes from `begin` on, a few bytes in the header, or chunks."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    begin: int = 0
    inline: bytes | None = None
    chunk_shape: tuple[int, ...] | None = None
    chunks: tuple[Chunk, ...] = ()
    filters: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * (BITS[self.dtype] // 8)


def open_hdf5(files: Iterable[tuple[str, Path, str]], *, label: str) -> Source:
    """The variables of HDF5 files, given as (label, path, SHA-256), named as `variable_names` says.

    Raises `ComputeError`: `import_invalid` for a bad file, and for links, external and virtual data;
    `tensor_dtype_mismatch` for what is no array of little-endian numbers, naming it.
    """
    with ExitStack() as stack:
        operands: dict[str, Operand] = {}
        for name, path, sha256 in files:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            extent = StoredExtent(fd, 0, name)
            _add(operands, extent, os.fstat(fd).st_size, name, label, sha256, stack)
        return ImportedSource(label, operands, stack.pop_all().close)


def open_keras(files: Iterable[tuple[str, Path, str]], *, label: str) -> Source:
    """The variables of `.keras` archives, whose weights are an HDF5 file within; see `open_hdf5`."""
    with ExitStack() as stack:
        operands: dict[str, Operand] = {}
        for name, path, sha256 in files:
            archive = Archive(path, label=name)
            stack.callback(archive.close)
            member = archive.members.get(KERAS_WEIGHTS)
            if member is None:
                raise import_invalid(name, f"the archive has no {KERAS_WEIGHTS}")
            _add(operands, archive.extent(member), member.size, name, label, sha256, stack)
        return ImportedSource(label, operands, stack.pop_all().close)


def _add(
    operands: dict[str, Operand], extent: Extent, size: int, file: str, model: str, sha256: str, stack: ExitStack
) -> None:
    datasets = _read_structure(extent, size, file)
    scratch = Scratch(file)
    stack.callback(scratch.close)
    names = variable_names([dataset.path for dataset in datasets])
    for dataset in datasets:
        name = names.get(dataset.path)
        if name is None:
            continue
        try:
            check_name(name)
        except HeaderError as error:
            raise import_invalid(file, error.message) from None
        if name in operands:
            raise import_invalid(file, f"two variables are called {name!r}")
        operands[name] = PlainOperand(
            _data(dataset, extent, scratch, file),
            dataset.dtype,
            dataset.shape,
            label=f"{model}: {name}",
            identity=f"{sha256}:{dataset.path}",
        )


def _data(dataset: Dataset, file: Extent, scratch: Scratch, label: str) -> Extent:
    if dataset.inline is not None:
        return _Inline(dataset.inline)
    if dataset.chunk_shape is None:
        return ShiftedExtent(file, dataset.begin)
    return UnpackedExtent(scratch, dataset.size, _Unpacking(dataset, dataset.chunk_shape, file, label), label)


class _Inline:
    """Bytes that stood in the header of a dataset."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, position: int, target: memoryview) -> None:
        target[:] = self._data[position : position + len(target)]


class _Unpacking:
    """Writes the chunks of a dataset in row-major order to a file; each is at most `MAX_CHUNK_BYTES` in memory."""

    def __init__(self, dataset: Dataset, chunk_shape: tuple[int, ...], file: Extent, label: str) -> None:
        self._dataset = dataset
        self._chunk_shape = chunk_shape
        self._file = file
        self._label = label

    def __call__(self, fd: int, begin: int) -> None:
        shape = self._dataset.shape
        width = BITS[self._dataset.dtype] // 8
        for chunk in self._dataset.chunks:
            data = np.frombuffer(self._unpacked(chunk, width), np.uint8).reshape(*self._chunk_shape, width)
            # The chunks at the far edges reach beyond the array.
            kept = [min(size, dim - at) for size, dim, at in zip(self._chunk_shape, shape, chunk.start, strict=True)]
            data = data[tuple(slice(length) for length in kept)]
            for index in product(*(range(length) for length in kept[:-1])):
                first = [at + offset for at, offset in zip(chunk.start, (*index, 0), strict=True)]
                position = 0
                for offset, dim in zip(first, shape, strict=True):
                    position = position * dim + offset
                os.pwrite(fd, data[index].tobytes(), begin + position * width)

    def _unpacked(self, chunk: Chunk, width: int) -> bytes:
        size = math.prod(self._chunk_shape) * width
        raw = bytearray(chunk.packed)
        self._file.read(chunk.begin, memoryview(raw))
        data = bytes(raw)
        for index in reversed(range(len(self._dataset.filters))):
            kind = self._dataset.filters[index]
            if chunk.skipped >> index & 1:
                continue
            if kind == _FLETCHER32:
                data = data[:-_FLETCHER32_BYTES]
            elif kind == _DEFLATE:
                data = self._inflated(data, size + _FLETCHER32_BYTES)
            elif len(data) == size:
                data = np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes()
        if len(data) != size:
            raise import_invalid(self._label, f"a chunk of {self._dataset.path!r} has {len(data)} bytes, not {size}")
        return data

    def _inflated(self, data: bytes, most: int) -> bytes:
        stream = zlib.decompressobj()
        try:
            unpacked = stream.decompress(data, most)
        except zlib.error as error:
            raise import_invalid(self._label, f"{self._dataset.path!r} can't be unpacked: {error}") from None
        if not stream.eof:
            raise import_invalid(self._label, f"a chunk of {self._dataset.path!r} unpacks to more than it says")
        return unpacked


class _View(io.RawIOBase):
    """An extent as a file, for the HDF5 library."""

    def __init__(self, extent: Extent, size: int) -> None:
        self._extent = extent
        self._size = size
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        target = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._extent.read(self._at, target)
        self._at += len(target)
        return len(target)


def _read_structure(extent: Extent, size: int, label: str) -> list[Dataset]:
    try:
        with closing(h5py.File(_View(extent, size), "r")) as file:
            if file.userblock_size:
                raise import_invalid(label, "the file has a user block")
            return list(_Walk(label, size).group(file, "", 0))
    except ComputeError:
        raise
    # The library reports damage as whatever the damaged part was taken for.
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise import_invalid(label, f"it is no sound HDF5 file: {str(error)[:200]}") from None


class _Walk:
    """Visits the datasets of a file once, in the order of their names, and refuses what leads out of it."""

    def __init__(self, label: str, size: int) -> None:
        self._label = label
        self._size = size
        self._groups: set[int] = set()
        self._objects = 0

    def group(self, group: h5py.Group, path: str, depth: int) -> Iterator[Dataset]:
        address = h5py.h5o.get_info(group.id).addr
        if address in self._groups or depth > MAX_DEPTH:
            raise import_invalid(self._label, f"group {path[:200]!r} contains itself, or is nested too deep")
        self._groups.add(address)
        for name in sorted(group):
            self._count(1)
            inner = f"{path}/{name}" if path else name
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise import_invalid(self._label, f"{inner[:200]!r} is a link")
            kind = group.get(name, getclass=True)
            if kind is h5py.Group:
                yield from self.group(group[name], inner, depth + 1)
            elif kind is h5py.Dataset:
                yield self._dataset(group[name], inner)
            else:
                raise unsupported(self._label, inner, "is no array")

    def _count(self, objects: int) -> None:
        self._objects += objects
        if self._objects > MAX_OBJECTS:
            raise import_invalid(self._label, f"it has more than {MAX_OBJECTS} objects")

    def _dataset(self, dataset: h5py.Dataset, path: str) -> Dataset:
        dtype = self._dtype(dataset, path)
        shape = dataset.shape
        if shape is None or len(shape) > MAX_RANK or math.prod(dim for dim in shape if dim) > MAX_INT:
            raise unsupported(self._label, path, f"has the shape {str(shape)[:100]}")
        layout = dataset.id.get_create_plist()
        kind = layout.get_layout()
        size = math.prod(shape) * (BITS[dtype] // 8)
        if kind == h5py.h5d.VIRTUAL or (kind == h5py.h5d.CONTIGUOUS and layout.get_external_count()):
            raise unsupported(self._label, path, "has its data in other files")
        if size == 0:
            return Dataset(path, dtype, shape, inline=b"")
        if kind == h5py.h5d.CHUNKED:
            return self._chunked(dataset, layout, Dataset(path, dtype, shape))
        if kind == h5py.h5d.COMPACT:
            if dataset.id.get_storage_size() != size:
                raise import_invalid(self._label, f"{path[:200]!r} has not the bytes of its shape")
            return Dataset(path, dtype, shape, inline=np.ascontiguousarray(dataset[()]).tobytes())
        begin = dataset.id.get_offset()
        if begin is None or dataset.id.get_storage_size() != size or begin + size > self._size:
            raise import_invalid(self._label, f"{path[:200]!r} has not the bytes of its shape")
        return Dataset(path, dtype, shape, begin=begin)

    def _chunked(self, dataset: h5py.Dataset, layout: h5py.h5p.PropDCID, found: Dataset) -> Dataset:
        filters = tuple(layout.get_filter(index)[0] for index in range(layout.get_nfilters()))
        if not set(filters) <= {_DEFLATE, _SHUFFLE, _FLETCHER32}:
            raise unsupported(self._label, found.path, "is packed by a filter other than gzip")
        chunk_shape = tuple(layout.get_chunk())
        chunk_bytes = math.prod(chunk_shape) * (BITS[found.dtype] // 8)
        if not 0 < chunk_bytes <= MAX_CHUNK_BYTES:
            raise import_invalid(self._label, f"{found.path[:200]!r} has chunks of {chunk_bytes} bytes")
        wanted = math.prod(-(-dim // size) for dim, size in zip(found.shape, chunk_shape, strict=True))
        if dataset.id.get_num_chunks() != wanted:
            raise import_invalid(self._label, f"{found.path[:200]!r} has parts that were never written")
        self._count(wanted)
        chunks: dict[tuple[int, ...], Chunk] = {}

        def visit(info: h5py.h5d.StoreInfo) -> None:
            start = tuple(int(at) for at in info.chunk_offset)
            chunks[start] = Chunk(start, info.byte_offset, info.size, info.filter_mask)

        dataset.id.chunk_iter(visit)
        # Incompressible data grow, but never by more than this.
        most = chunk_bytes + chunk_bytes // 100 + 1024
        for chunk in chunks.values():
            on_grid = all(
                at % size == 0 and at < dim for at, size, dim in zip(chunk.start, chunk_shape, found.shape, strict=True)
            )
            if not on_grid or chunk.packed > most or chunk.begin + chunk.packed > self._size:
                raise import_invalid(self._label, f"{found.path[:200]!r} has a chunk that can't be")
        if len(chunks) != wanted:
            raise import_invalid(self._label, f"{found.path[:200]!r} has parts that were never written")
        return Dataset(
            found.path,
            found.dtype,
            found.shape,
            chunk_shape=chunk_shape,
            chunks=tuple(chunks.values()),
            filters=filters,
        )

    def _dtype(self, dataset: h5py.Dataset, path: str) -> str:
        try:
            dtype = dataset.dtype
        except TypeError:
            raise unsupported(self._label, path, "is of a type that NumPy does not have") from None
        found = _DTYPES.get(dtype.str[1:]) if dtype.kind in "biuf" and dtype.str[0] in "<|" else None
        # Keras stores bfloat16 as bytes and says so beside them.
        if (
            dtype.kind == "V"
            and dtype.names is None
            and dtype.itemsize == 2
            and dataset.attrs.get("dtype") == "bfloat16"
        ):
            found = "BF16"
        if found is None:
            raise unsupported(self._label, path, f"is of type {str(dtype)[:60]}")
        return found
