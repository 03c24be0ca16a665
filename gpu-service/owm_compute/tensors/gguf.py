"""GGUF files, version 2 and 3, as a source of operands: read under strict rules, dequantised block by block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.gguf_blocks import TYPES, UNREAD, BlockType
from owm_compute.tensors.header import MAX_INT, HeaderError, check_name
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.pieces import PIECE
from owm_compute.tensors.reader import read_exactly
from owm_compute.tensors.spool import await_bytes
from owm_compute.tensors.torch_io import bytes_of

MAX_ENTRIES = 100_000
MAX_TENSORS = 1_000_000
MAX_KEY_BYTES = 65_535
MAX_KEPT_BYTES = 1 << 20
MAX_DIMENSIONS = 4
MAX_TENSOR_NAME_BYTES = 63
MAX_ARRAY_DEPTH = 4
MAX_HEADER_BYTES = 64 << 20
MAX_ALIGNMENT = 1 << 20
_WINDOW = 1 << 20
_STRING, _ARRAY, _U32 = 8, 9, 4
# Bytes of the values of each type; of these, the integers that may be kept are unsigned 4, 10 and signed 5, 11.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_INTEGERS = {4: False, 5: True, 10: False, 11: True}
_KEPT_TEXT = "general.architecture"
_ALIGNMENT = "general.alignment"
_KEPT_SUFFIXES = (".attention.head_count", ".attention.head_count_kv")


class GgufTensor(NamedTuple):
    """A tensor of the file; `begin` is the byte of the file where its blocks start, `shape` is row-major."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    begin: int


@dataclass
class GgufHeader:
    """What the header says of the model, as far as it is needed here, and its tensors in file order."""

    architecture: str | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    tensors: list[GgufTensor] = field(default_factory=list)


class GgufError(Exception):
    """The file breaks a rule; `code` is one of the `gguf.*` codes that the edge's reader shares."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"gguf.{code}: {message}")


class GgufFile:
    """One open file with its checked header. Raises `ComputeError`: `gguf_invalid`, `tensor_dtype_mismatch`."""

    def __init__(self, path: Path, *, label: str) -> None:
        self.label = label
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header = _Parser(path, self._fd).parse()
        except GgufError as error:
            self.close()
            raise ComputeError(
                "gguf_invalid", f"{label}: {error}", field=label, fix="convert the model to GGUF again"
            ) from None
        except ComputeError as error:
            self.close()
            raise ComputeError(error.code, f"{label}: {error.message}", field=error.field, fix=error.fix) from None

    def read(self, position: int, target: memoryview) -> None:
        """Fills `target` with the bytes of the file from `position` on."""
        await_bytes(self._path, position, len(target))
        read_exactly(self._fd, position, target, "gguf_invalid", self.label)

    def close(self) -> None:
        """Releases the file."""
        os.close(self._fd)


class GgufOperand:
    """A tensor of a GGUF file: plain types as they are stored, quantised ones as F32, stored again as F16.

    `heads`: the rows are those of a llama query or key projection of so many heads, which GGUF keeps with the two
    halves of each head interleaved; they are delivered in the order of Hugging Face.
    """

    def __init__(
        self, file: GgufFile, tensor: GgufTensor, sha256: str, model: str, *, name: str, heads: int = 0
    ) -> None:
        self._file = file
        self._tensor = tensor
        self._half_head = tensor.shape[0] // heads // 2 if heads else 0
        self._row_blocks = math.prod(tensor.shape[1:]) // tensor.type.elements if heads else 0
        self.label = f"{model}: {name}"
        self.dtype = tensor.type.dtype or "F32"
        self.stored = tensor.type.dtype or "F16"
        self.shape = tensor.shape
        self.identity = f"{sha256}:{tensor.name}" + (f"|heads{heads}" if heads else "")

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from `start` on."""
        kind = self._tensor.type
        if kind.dequantise is None:
            self._blocks(start, bytes_of(out))
            return
        raw = torch.empty(PIECE // kind.elements + 1, kind.size, dtype=torch.uint8)
        done = 0
        while done < len(out):
            first, skipped = divmod(start + done, kind.elements)
            count = min(PIECE, len(out) - done)
            blocks = raw[: -(-(skipped + count) // kind.elements)]
            self._blocks(first, bytes_of(blocks))
            target = out[done : done + count]
            if skipped or count % kind.elements:
                whole = torch.empty(len(blocks), kind.elements)
                kind.dequantise(blocks, whole)
                target.copy_(whole.view(-1)[skipped : skipped + count])
            else:
                kind.dequantise(blocks, target.view(-1, kind.elements))
            done += count

    def _blocks(self, first: int, target: memoryview) -> None:
        """Fills `target` with blocks from the one of number `first` on, in the order of delivery."""
        size = self._tensor.type.size
        if not self._half_head:
            self._file.read(self._tensor.begin + first * size, target)
            return
        done = 0
        while done < len(target):
            row, block = divmod(first + done // size, self._row_blocks)
            head, within = divmod(row, 2 * self._half_head)
            half, pair = divmod(within, self._half_head)
            stored = (head * self._half_head + pair) * 2 + half
            step = min((self._row_blocks - block) * size, len(target) - done)
            position = self._tensor.begin + (stored * self._row_blocks + block) * size
            self._file.read(position, target[done : done + step])
            done += step


class GgufSource(Source):
    """The tensors of a GGUF model, whole or split, given as (label, path, SHA-256), by the names in the files.

    Raises `ComputeError`: `gguf_invalid` for a bad file and for a name in two files, `tensor_dtype_mismatch` for a
    quantisation that is not read, naming tensor and type.
    """

    def __init__(self, files: Iterable[tuple[str, Path, str]], *, label: str) -> None:
        self.label = label
        self.architecture: str | None = None
        self.numbers: dict[str, int] = {}
        self._files: list[GgufFile] = []
        self._where: dict[str, tuple[GgufFile, GgufTensor, str]] = {}
        try:
            for name, path, sha256 in files:
                file = GgufFile(path, label=name)
                self._files.append(file)
                self.architecture = self.architecture or file.header.architecture
                self.numbers = {**file.header.numbers, **self.numbers}
                for tensor in file.header.tensors:
                    if tensor.name in self._where:
                        raise ComputeError(
                            "gguf_invalid",
                            f"tensor {tensor.name!r} stands in {self._where[tensor.name][0].label} and in {name}",
                            field=name,
                        )
                    self._where[tensor.name] = (file, tensor, sha256)
        except ComputeError:
            self.close()
            raise

    def __getitem__(self, name: str) -> Operand:
        return self.operand(name, name)

    def operand(self, name: str, alias: str, *, heads: int = 0) -> Operand:
        """The tensor `name`, called `alias` in messages; for `heads` see `GgufOperand`."""
        file, tensor, sha256 = self._where[name]
        return GgufOperand(file, tensor, sha256, self.label, name=alias, heads=heads)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def close(self) -> None:
        """Releases the files."""
        while self._files:
            self._files.pop().close()


class _Parser:
    """Reads a header through windows of fixed size, so that a vocabulary of megabytes needs no memory."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._window = b""
        self._start = 0
        self._fetched = 0
        self.at = 0

    def parse(self) -> GgufHeader:
        if self._bytes(4) != b"GGUF":
            raise GgufError("magic", "the file does not start with GGUF")
        version = self._u32()
        if version not in (2, 3):
            raise GgufError("version", f"version {version}; 2 and 3, little-endian, are read")
        tensors, entries = self._u64("the number of tensors"), self._u64("the number of entries")
        if tensors > MAX_TENSORS:
            raise GgufError("tensors", f"{tensors} tensors; at most {MAX_TENSORS} are read")
        if entries > MAX_ENTRIES:
            raise GgufError("entries", f"{entries} entries; at most {MAX_ENTRIES} are read")
        header = GgufHeader()
        self._entries(entries, header)
        self._tensors(tensors, header)
        return header

    def _entries(self, count: int, header: GgufHeader) -> None:
        seen: set[str] = set()
        for _ in range(count):
            key = self._text("a key", MAX_KEY_BYTES)
            if not key or key in seen:
                raise GgufError("duplicate" if key else "text", f"the key {key[:80]!r} is empty or stands twice")
            seen.add(key)
            kind = self._u32()
            if key == _ALIGNMENT and kind != _U32:
                raise GgufError("alignment", f"{_ALIGNMENT} is no 32-bit number")
            if key == _KEPT_TEXT and kind == _STRING:
                header.architecture = self._text(key, MAX_KEPT_BYTES)
            elif kind in _INTEGERS and (key == _ALIGNMENT or key.endswith(_KEPT_SUFFIXES)):
                raw = self._bytes(_SIZES[kind])
                header.numbers[key] = int.from_bytes(raw, "little", signed=_INTEGERS[kind])
            else:
                self._skip_value(kind, key, 0)

    def _skip_value(self, kind: int, key: str, depth: int) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind])
        elif kind == _STRING:
            self._skip(self._u64(f"the length of {key[:80]!r}"))
        elif kind != _ARRAY:
            raise GgufError("type", f"{key[:80]!r} has the unknown type {kind}")
        elif depth == MAX_ARRAY_DEPTH:
            raise GgufError("array", f"{key[:80]!r} nests arrays more than {MAX_ARRAY_DEPTH} deep")
        else:
            element, count = self._u32(), self._u64("the length of an array")
            if element in _SIZES:
                self._skip(count * _SIZES[element])
            else:
                # Each further value takes bytes of the file, so a count that lies ends with the file.
                for _ in range(count):
                    self._skip_value(element, key, depth + 1)

    def _tensors(self, count: int, header: GgufHeader) -> None:
        listed: list[tuple[str, BlockType, tuple[int, ...], int]] = []
        seen: set[str] = set()
        for _ in range(count):
            name = self._text("the name of a tensor", MAX_TENSOR_NAME_BYTES)
            try:
                check_name(name)
            except HeaderError as error:
                raise GgufError("text", error.message) from None
            if name in seen:
                raise GgufError("duplicate", f"the tensor {name!r} stands twice")
            seen.add(name)
            dimensions = self._u32()
            if dimensions > MAX_DIMENSIONS:
                raise GgufError("shape", f"tensor {name!r} has {dimensions} dimensions")
            shape = tuple(self._u64(f"a dimension of {name!r}") for _ in range(dimensions))
            number = self._u32()
            kind = TYPES.get(number)
            if kind is None:
                raise ComputeError(
                    "tensor_dtype_mismatch",
                    f"tensor {name!r} is quantised as {UNREAD.get(number, f'type {number}')}, which is not read",
                    field=name,
                    fix=f"give the model as one of {', '.join(known.name for known in TYPES.values())}",
                )
            if math.prod(dim for dim in shape if dim) > MAX_INT or (shape[:1] or (1,))[0] % kind.elements:
                raise GgufError("shape", f"tensor {name!r} of {kind.name} can't have the shape {list(shape)}")
            listed.append((name, kind, shape, self._u64(f"the offset of {name!r}")))
        alignment = header.numbers.get(_ALIGNMENT, 32)
        if not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise GgufError("alignment", f"an alignment of {alignment} is no power of two of at most {MAX_ALIGNMENT}")
        start = _padded(self.at, alignment)
        position = 0
        for name, kind, shape, offset in listed:
            if offset != position:
                raise GgufError("offsets", f"tensor {name!r} begins at {offset}, not {position}")
            end = position + math.prod(shape) // kind.elements * kind.size
            if start + end > self._size:
                raise GgufError("truncated", f"tensor {name!r} ends after the file")
            header.tensors.append(GgufTensor(name, kind, shape[::-1], start + position))
            position = _padded(end, alignment)

    def _bytes(self, count: int) -> bytes:
        """The next bytes, at most `MAX_KEPT_BYTES` of them."""
        if self.at + count > self._size:
            raise GgufError("truncated", f"the file ends at byte {self._size}, inside its header")
        offset = self.at - self._start
        if not 0 <= offset <= len(self._window) - count:
            wanted = min(max(count, _WINDOW), self._size - self.at)
            self._fetched += wanted
            if self._fetched > MAX_HEADER_BYTES:
                raise GgufError("header_too_large", f"the header has more than {MAX_HEADER_BYTES} bytes")
            await_bytes(self._path, self.at, wanted)
            self._window = os.pread(self._fd, wanted, self.at)
            self._start = self.at
            offset = 0
            if len(self._window) < count:
                raise GgufError("truncated", "the file has shrunk")
        self.at += count
        return self._window[offset : offset + count]

    def _skip(self, count: int) -> None:
        if self.at + count > self._size:
            raise GgufError("truncated", f"the file ends at byte {self._size}, inside its header")
        self.at += count

    def _u32(self) -> int:
        return int.from_bytes(self._bytes(4), "little")

    def _u64(self, what: str) -> int:
        value = int.from_bytes(self._bytes(8), "little")
        if value > MAX_INT:
            raise GgufError("number", f"{what} is {value}, more than {MAX_INT}")
        return value

    def _text(self, what: str, most: int) -> str:
        length = self._u64(f"the length of {what}")
        if length > most:
            raise GgufError("text", f"{what} has {length} bytes; at most {most} are read")
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise GgufError("utf8", f"{what} is not UTF-8") from None


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
