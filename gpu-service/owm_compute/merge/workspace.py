"""The buffers of one thread of a merge: allocated once, reused for every chunk.

A fresh temporary for each operation costs thirty times more in page faults than the arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import torch

from owm_compute.merge.method import Chunk
from owm_compute.merge.resolve import Task
from owm_compute.tensors.torch_io import TORCH_DTYPES

CHUNK = 1 << 18
"""Elements a chunk: few enough that several operations find them in the cache."""


class Workspace:
    """Scratch for chunks of at most `chunk` elements."""

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk
        self._buffers: dict[Hashable, torch.Tensor] = {}

    def view(self, key: Hashable, dtype: torch.dtype, length: int) -> torch.Tensor:
        """The buffer of that key as `length` elements of `dtype`; its contents are whatever they were."""
        need = self.chunk * dtype.itemsize
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < need:
            buffer = self._buffers[key] = torch.empty(need, dtype=torch.uint8)
        return buffer[: length * dtype.itemsize].view(dtype)

    def load(self, task: Task, start: int, length: int) -> Chunk:
        """Reads the elements [start, start + length) of every operand, as differences where the method takes them."""
        wide = wide_dtype(task)
        values = []
        for index, operand in enumerate(task.operands):
            target = self.view(("operand", index), wide, length)
            stored = TORCH_DTYPES[operand.dtype]
            if stored is wide:
                operand.read(start, target)
            else:
                raw = self.view("raw", stored, length)
                operand.read(start, raw)
                target.copy_(raw)
            values.append(target)
        models, base = (values, None) if task.base is None else (values[:-1], values[-1])
        if task.method.deltas and base is not None:
            for model in models:
                model.sub_(base)
        return Chunk(start, length, models, base, lambda i: self.view(("scratch", i), wide, length))


def output_dtype(task: Task) -> torch.dtype:
    """What a piece of the output is held in. Bools are bytes: a stored 2 is no valid bool and must not become 1."""
    return torch.uint8 if task.spec.dtype == "BOOL" else TORCH_DTYPES[task.spec.dtype]


def wide_dtype(task: Task) -> torch.dtype:
    """What a task computes in: float32, or float64 where an operand is."""
    return torch.float64 if any(operand.dtype == "F64" for operand in task.operands) else torch.float32


def chunk_length(operands: int, most: int) -> int:
    """Elements a chunk: fewer when many models are read, so that memory stays a constant."""
    length = most
    while length > 1024 and length * operands > 8 * most:
        length //= 2
    return length


def thread_workspaces(chunk: int) -> Callable[[], Workspace]:
    """Gives each thread that asks a workspace of its own, always the same one."""
    local = threading.local()

    def workspace() -> Workspace:
        found: Workspace | None = getattr(local, "workspace", None)
        if found is None:
            found = local.workspace = Workspace(chunk)
        return found

    return workspace
