"""Writes a safetensors file front to back, hashing as it goes; all shapes are known before the first byte."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from owm_compute.tensors.dtypes import BITS, RANK

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor of the new file will be."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


def layout(specs: Mapping[str, TensorSpec]) -> list[str]:
    """The order of the tensors in the file: higher dtypes first, then by name, as the format's reference writes.

    Each tensor is thereby aligned to its own element size, and equal tensors give equal bytes everywhere.
    """
    return sorted(specs, key=lambda name: (-RANK[specs[name].dtype], name))


def header_bytes(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Length prefix and header, padded with spaces to a multiple of eight."""
    document: dict[str, object] = {}
    if metadata:
        document["__metadata__"] = dict(sorted(metadata.items()))
    position = 0
    for name in layout(specs):
        end = position + specs[name].nbytes
        entry = {
            "dtype": specs[name].dtype,
            "shape": list(specs[name].shape),
            "data_offsets": [position, end],
        }
        document[name] = entry
        position = end
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class SafetensorsWriter:
    """A file being written. Call `write` with the bytes of the tensors in `layout` order, then `finish`.

    `keep` goes on with a file that was left: so many bytes of it are known to be right; they are hashed again.
    """

    def __init__(
        self, path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str], *, keep: int = 0
    ) -> None:
        head = header_bytes(specs, metadata)
        self._expected = len(head) + sum(spec.nbytes for spec in specs.values())
        self._digest = hashlib.sha256()
        self.size = 0
        if keep:
            self._file = path.open("r+b", buffering=0)
            self._go_on(keep)
        else:
            self._file = path.open("wb", buffering=0)
            # A disk that is too small fails here, before any work; and blocks that are there cost less to fill.
            os.posix_fallocate(self._file.fileno(), 0, self._expected)
            self.write(memoryview(head))

    def _go_on(self, keep: int) -> None:
        while self.size < keep:
            piece = self._file.read(min(_PIECE, keep - self.size))
            if not piece:
                raise ValueError(f"the file has {self.size} bytes, not the {keep} to keep")
            self._digest.update(piece)
            self.size += len(piece)

    def write(self, data: memoryview) -> None:
        """Appends bytes."""
        self._digest.update(data)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])
        self.size += len(data)

    def prefix_sha256(self) -> str:
        """SHA-256 (hex) of everything written so far, from the beginning of the file."""
        return self._digest.copy().hexdigest()

    def finish(self) -> tuple[str, int]:
        """Closes the file; its SHA-256 (hex) and size. Raises `ValueError` when bytes are missing or too many."""
        self._file.close()
        if self.size != self._expected:
            raise ValueError(f"wrote {self.size} of {self._expected} bytes")
        return self._digest.hexdigest(), self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
