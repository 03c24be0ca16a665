"""Computes one output tensor chunk by chunk: prepare and apply steps of the method, checks, statistics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Chunk, Shared
from owm_compute.merge.resolve import Task, count_of
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.workspace import Workspace, wide_dtype
from owm_compute.tensors.torch_io import TORCH_DTYPES

_FEW = 256


@dataclass(frozen=True)
class ChunkFigures:
    """What a chunk contributes to the record: dots of every pair of models, the square of the result, counts."""

    dots: list[float]
    square: float
    tally: dict[str, float]


class TensorRun:
    """The `Operands` of one task, and the computation of its chunks. Chunks may be computed in any order."""

    def __init__(self, task: Task, store: StatisticStore, new_workspace: Callable[[], Workspace]) -> None:
        self.task = task
        self._store = store
        self._workspace = new_workspace

    @property
    def name(self) -> str:
        """See `Operands`."""
        return self.task.name

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Operands`."""
        return self.task.shape

    @property
    def count(self) -> int:
        """See `Operands`."""
        return count_of(self.task.shape)

    @property
    def models(self) -> int:
        """See `Operands`."""
        return len(self.task.models)

    @property
    def has_base(self) -> bool:
        """See `Operands`."""
        return self.task.base is not None

    @property
    def seed(self) -> int:
        """See `Operands`."""
        return self.task.seed

    def sweep(self) -> Iterator[Chunk]:
        """See `Operands`."""
        workspace = self._workspace()
        for start in range(0, self.count, workspace.chunk):
            yield workspace.load(self.task, start, min(workspace.chunk, self.count - start))

    def statistic(self, key: str, compute: Callable[[], Sequence[float]]) -> list[float]:
        """See `Operands`."""
        return self._store.get(key, self.task, compute)

    def share(self, key: str, compute: Callable[[], Shared]) -> Shared:
        """See `Operands`."""
        return self._store.share(key, self.task, compute)

    def whole(self) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """See `Operands`."""
        wide = wide_dtype(self.task)
        full = [torch.empty(self.count, dtype=wide) for _ in self.task.operands]
        for chunk in self.sweep():
            parts = chunk.models if chunk.base is None else [*chunk.models, chunk.base]
            for target, part in zip(full, parts, strict=True):
                target[chunk.start : chunk.start + chunk.length] = part
        shaped = [tensor.view(self.shape) for tensor in full]
        return (shaped, None) if self.task.base is None else (shaped[:-1], shaped[-1])

    def prepare(self) -> Apply:
        """Runs the method's prepare step, but for tensors without elements, which have no norms or rows."""
        if self.count == 0:
            return lambda chunk: chunk.models[0]
        apply: Apply = self.task.method.prepare(self, **self.task.bound)
        return apply

    def compute(self, apply: Apply, start: int, out: torch.Tensor) -> ChunkFigures:
        """Fills `out` (1-D, the output's dtype) with the elements from `start` on.

        Raises `non_finite` with tensor and index, for an input as for a result.
        """
        if self.task.method.output_shape is not None:
            result = apply(Chunk(start, len(out), [], None, lambda _: torch.empty(0)))
            out.copy_(result)
            square = float((result.double() ** 2).sum())
            self.require_finite(square, out, start)
            return ChunkFigures([], square, {})
        workspace = self._workspace()
        chunk = workspace.load(self.task, start, len(out))
        product = workspace.view("product", wide_dtype(self.task), len(out))
        pairs = itertools.combinations_with_replacement(chunk.models, 2)
        dots = [_dot(a, b, product) for a, b in pairs]
        if not math.isfinite(sum(dots)):
            self.find_non_finite(start, len(out))
        result = apply(chunk)
        square = _dot(result, result, product)
        out.copy_(result)
        self.require_finite(square, out, start)
        return ChunkFigures(dots, square, chunk.tally)

    def copy_equal(self, start: int, out: torch.Tensor) -> ChunkFigures:
        """Fills `out` with integers or bools (as bytes), which all models must agree on; `tensor_value_mismatch`."""
        first, *others = self.task.operands
        first.read(start, out)
        for operand in others:
            values = torch.empty_like(out)
            operand.read(start, values)
            if not torch.equal(values, out):
                index = start + int((values != out).nonzero()[0])
                raise ComputeError(
                    "tensor_value_mismatch",
                    f"tensor {self.name!r} holds integers that differ between the models at index {index}",
                    field=self.name,
                    fix="merge models whose integer tensors are equal",
                )
        return ChunkFigures([], 0.0, {})

    def require_finite(self, square: float, out: torch.Tensor, start: int) -> None:
        """Raises `non_finite` for the first element of the result that isn't; `square` is the sum of squares."""
        # A finite square rules out overflow except in float16, whose range is that small.
        if math.isfinite(square) and out.dtype is not torch.float16:
            return
        bad = ~torch.isfinite(out)
        if bool(bad.any()):
            index = start + int(bad.nonzero()[0])
            raise ComputeError(
                "non_finite",
                f"the merged tensor {self.name!r} is not finite at index {index}",
                field=self.name,
                fix="use smaller weights, or a wider out_dtype",
            )

    def find_non_finite(self, start: int, length: int) -> None:
        """Raises `non_finite` for the first element of an operand that isn't, if there is one."""
        for operand in self.task.operands:
            values = torch.empty(length, dtype=TORCH_DTYPES[operand.dtype])
            operand.read(start, values)
            bad = ~torch.isfinite(values)
            if bool(bad.any()):
                index = start + int(bad.nonzero()[0])
                raise ComputeError(
                    "non_finite",
                    f"tensor {self.name!r} is not finite at index {index} in {operand.label}",
                    field=self.name,
                    fix="publish a model without NaN and infinity",
                )


def _dot(a: torch.Tensor, b: torch.Tensor, product: torch.Tensor) -> float:
    """A dot product for the record: halved elementwise down to a few values, so that it is the same on any machine."""
    torch.mul(a, b, out=product)
    n = len(product)
    while n > _FEW:
        half = (n + 1) // 2
        product[: n - half] += product[half:n]
        n = half
    return math.fsum(product[:n].tolist())
