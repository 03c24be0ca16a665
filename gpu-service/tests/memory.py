"""Models whose tensors are in memory, as sources of a merge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from owm_compute.tensors.operand import Collection

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.bool: "BOOL"}


class Held:
    """An operand over a tensor in memory that counts the elements read."""

    def __init__(self, label: str, tensor: torch.Tensor) -> None:
        self._flat = tensor.contiguous().view(-1)
        self.label = label
        self.identity = hashlib.sha256(self._flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        self.dtype = self.stored = _NAMES[tensor.dtype]
        self.shape = tuple(tensor.shape)
        self.elements = 0

    def read(self, start: int, out: torch.Tensor) -> None:
        assert 0 <= start <= start + out.numel() <= self._flat.numel()
        self.elements += out.numel()
        out.copy_(self._flat[start : start + out.numel()])


class Memory(Collection):
    """A model in memory."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], label: str = "model") -> None:
        super().__init__(label, {name: Held(f"{label}: {name}", tensor) for name, tensor in tensors.items()})
