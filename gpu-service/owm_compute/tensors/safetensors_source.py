"""A model in safetensors files, single or sharded, as a source of operands in their stored dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.header import TensorInfo
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.reader import SafetensorsFile, TensorSet
from owm_compute.tensors.torch_io import bytes_of


class SafetensorsOperand:
    """A stored tensor: each read is one positional read into the given buffer."""

    __slots__ = ("_file", "_tensor", "_width", "dtype", "identity", "label", "shape", "stored")

    def __init__(self, file: SafetensorsFile, tensor: TensorInfo, sha256: str, model: str) -> None:
        self._file = file
        self._tensor = tensor
        self._width = BITS[tensor.dtype] // 8
        self.label = f"{model}: {tensor.name}"
        self.dtype = tensor.dtype
        self.stored = tensor.dtype
        self.shape = tensor.shape
        self.identity = f"{sha256}:{tensor.name}"

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the stored elements from `start` on; `safetensors_invalid` when the file has shrunk."""
        self._file.read_into(self._tensor, start * self._width, bytes_of(out))


class SafetensorsSource(Source):
    """The tensors of a model's shards, given as (label, path, SHA-256 of the file).

    Raises `ComputeError`: `safetensors_invalid` for a bad file and for a name in two shards, `tensor_dtype_mismatch`
    for elements that are no whole bytes (F4, F6).
    """

    def __init__(self, shards: Iterable[tuple[str, Path, str]], *, label: str) -> None:
        files = list(shards)
        self.label = label
        self._digests = {path: sha256 for _, path, sha256 in files}
        self._tensors = TensorSet((name, path) for name, path, _ in files)
        for name, tensor in self._tensors.items():
            if BITS[tensor.dtype] % 8:
                self.close()
                raise ComputeError(
                    "tensor_dtype_mismatch",
                    f"{label}: tensor {name!r} of {tensor.dtype} can't be merged",
                    field=name,
                    fix="give the model in BF16, F16, F32, F64 or F8",
                )

    def __getitem__(self, name: str) -> Operand:
        file = self._tensors.file(name)
        return SafetensorsOperand(file, self._tensors[name], self._digests[file.path], self.label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def close(self) -> None:
        """Releases every shard."""
        self._tensors.close()
