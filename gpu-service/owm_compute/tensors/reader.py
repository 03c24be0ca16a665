"""Reads tensors of one or several safetensors files by name, in pieces, without mapping a file into memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from owm_compute.errors import ComputeError
from owm_compute.tensors.header import Header, HeaderError, TensorInfo, header_length, parse_header
from owm_compute.tensors.spool import await_bytes


def read_exactly(fd: int, position: int, target: memoryview, code: str, label: str) -> None:
    """Fills `target` (bytes) from byte `position` of a file; raises `ComputeError` of that code when it has shrunk."""
    done = 0
    while done < len(target):
        got = os.preadv(fd, [target[done:]], position + done)
        if got == 0:
            raise ComputeError(code, f"{label}: truncated while it was read", field=label)
        done += got


class SafetensorsFile:
    """One open file with its checked header. Raises `ComputeError` (`safetensors_invalid`) for a bad file."""

    def __init__(self, path: Path, *, label: str | None = None) -> None:
        self.path = path
        self.label = label or path.name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(self._fd).st_size
            await_bytes(path, 0, 8)
            length = header_length(os.pread(self._fd, 8, 0), size)
            await_bytes(path, 8, length)
            self.header: Header = parse_header(os.pread(self._fd, length, 8), size)
        except HeaderError as error:
            os.close(self._fd)
            raise ComputeError(
                "safetensors_invalid",
                f"{self.label}: {error}",
                field=self.label,
                fix="write the file again with the safetensors library",
            ) from None

    def read_into(self, tensor: TensorInfo, offset: int, target: memoryview) -> None:
        """Fills `target` (bytes) from byte `offset` of the tensor; the header has proved that the bytes exist."""
        position = self.header.data_start + tensor.begin + offset
        await_bytes(self.path, position, len(target))
        read_exactly(self._fd, position, target, "safetensors_invalid", self.label)

    def close(self) -> None:
        """Releases the file."""
        os.close(self._fd)


class TensorSet(Mapping[str, TensorInfo]):
    """The tensors of a model's shards by name; a name in two shards is refused (`safetensors_invalid`)."""

    def __init__(self, shards: Iterable[tuple[str, Path]]) -> None:
        self._files: list[SafetensorsFile] = []
        self._where: dict[str, tuple[SafetensorsFile, TensorInfo]] = {}
        try:
            for label, path in shards:
                shard = SafetensorsFile(path, label=label)
                self._files.append(shard)
                for tensor in shard.header.tensors:
                    if tensor.name in self._where:
                        raise ComputeError(
                            "safetensors_invalid",
                            f"tensor {tensor.name!r} stands in {self._where[tensor.name][0].label} and in {label}",
                            field=label,
                        )
                    self._where[tensor.name] = (shard, tensor)
        except ComputeError:
            self.close()
            raise

    def __getitem__(self, name: str) -> TensorInfo:
        return self._where[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    @property
    def label(self) -> str:
        """The names of the shards, for messages."""
        return ", ".join(shard.label for shard in self._files)

    def file(self, name: str) -> SafetensorsFile:
        """The shard that holds the tensor."""
        return self._where[name][0]

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Fills `target` with the tensor's bytes from `offset`."""
        shard, tensor = self._where[name]
        shard.read_into(tensor, offset, target)

    def close(self) -> None:
        """Releases every shard."""
        while self._files:
            self._files.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
