"""The weighted sum of models, streamed tensor by tensor in fixed-size chunks with one rounding at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from owm_compute.errors import ComputeError
from owm_compute.progress import Progress, Silent
from owm_compute.tensors.dtypes import BITS, EXACT, FLOATS
from owm_compute.tensors.reader import TensorSet
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of
from owm_compute.tensors.writer import SafetensorsWriter, TensorSpec, layout

# Scratch of this size stays in cache and is never returned to the system: a fresh temporary per operation costs
# thirty times more in page faults than the arithmetic.
CHUNK = 1 << 20


@dataclass(frozen=True)
class MergeReport:
    """What was written: digest and size of the file, and what it took."""

    sha256: str
    size: int
    tensors: int
    parameters: int
    bytes_read: int
    bytes_written: int


def merge_linear(
    parents: Sequence[TensorSet],
    weights: Sequence[float],
    output: Path,
    *,
    normalize: bool = True,
    out_dtype: str | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Writes Σ wᵢ·xᵢ (÷ Σ wᵢ if `normalize`) to `output`, a new safetensors file.

    Float tensors are summed in float32 (in float64 where a parent holds F64) and rounded once to `out_dtype`, or to
    the first parent's dtype. Integer and bool tensors must be equal in all parents. A parent of weight 0 contributes
    nothing: its floats are not even read, and a lone parent of weight 1 is copied byte for byte.

    Raises `ComputeError`: `weights_sum_zero`, `tensor_missing`, `tensor_shape_mismatch`, `tensor_dtype_mismatch`,
    `tensor_value_mismatch` (integers differ) or `non_finite` (names the tensor and the flat index).
    """
    factors = scale_weights(weights, normalize)
    specs = _plan(parents, out_dtype)
    total = sum(spec.nbytes for spec in specs.values())
    kernel = _Kernel(parents, factors)
    report = progress or Silent()
    written = 0
    with SafetensorsWriter(output, specs, {"format": "pt"}) as writer:
        for name in layout(specs):
            count = math.prod(specs[name].shape)
            for start in range(0, count, CHUNK):
                report.step(written, total, "bytes")
                length = min(CHUNK, count - start)
                chunk = kernel.chunk(name, specs[name].dtype, start, length)
                writer.write(chunk)
                written += len(chunk)
        sha256, size = writer.finish()
    report.step(total, total, "bytes")
    return MergeReport(
        sha256=sha256,
        size=size,
        tensors=len(specs),
        parameters=sum(math.prod(spec.shape) for spec in specs.values()),
        bytes_read=kernel.bytes_read,
        bytes_written=size,
    )


def scale_weights(weights: Sequence[float], normalize: bool) -> list[float]:
    """The factors that the tensors are multiplied with; raises `weights_sum_zero` when they can't be normalised."""
    if not normalize:
        return [float(weight) for weight in weights]
    total = math.fsum(weights)
    if total == 0 or not math.isfinite(total):
        raise ComputeError(
            "weights_sum_zero",
            "the weights sum to zero, so they can't be normalised",
            field="spec.models",
            fix="change a weight or set normalize to false",
        )
    return [weight / total for weight in weights]


def _plan(parents: Sequence[TensorSet], out_dtype: str | None) -> dict[str, TensorSpec]:
    names = {name for parent in parents for name in parent}
    specs: dict[str, TensorSpec] = {}
    for name in sorted(names):
        for parent in parents:
            if name not in parent:
                raise ComputeError("tensor_missing", f"{parent.label} lacks tensor {name!r}", field=name)
        first = parents[0][name]
        if first.dtype not in FLOATS and first.dtype not in EXACT:
            raise ComputeError("tensor_dtype_mismatch", f"tensor {name!r} of {first.dtype} can't be merged", field=name)
        for parent in parents[1:]:
            other = parent[name]
            if other.shape != first.shape:
                raise ComputeError(
                    "tensor_shape_mismatch",
                    f"tensor {name!r} has shape {list(first.shape)} in {parents[0].label} "
                    f"and {list(other.shape)} in {parent.label}",
                    field=name,
                )
            both_float = first.dtype in FLOATS and other.dtype in FLOATS
            if other.dtype != first.dtype and not both_float:
                raise ComputeError(
                    "tensor_dtype_mismatch",
                    f"tensor {name!r} is {first.dtype} in {parents[0].label} and {other.dtype} in {parent.label}",
                    field=name,
                )
        dtype = out_dtype if out_dtype and first.dtype in FLOATS else first.dtype
        specs[name] = TensorSpec(dtype, first.shape)
    return specs


class _Kernel:
    """The arithmetic of one merge over buffers that are allocated once."""

    def __init__(self, parents: Sequence[TensorSet], factors: Sequence[float]) -> None:
        self._parents = parents
        self._active = [(parent, factor) for parent, factor in zip(parents, factors, strict=True) if factor != 0]
        self._raw = torch.empty(CHUNK * 8, dtype=torch.uint8)
        self._other = torch.empty(CHUNK * 8, dtype=torch.uint8)
        self._scaled = torch.empty(CHUNK * 8, dtype=torch.uint8)
        self._sum = torch.empty(CHUNK * 8, dtype=torch.uint8)
        self.bytes_read = 0

    def chunk(self, name: str, dtype: str, start: int, length: int) -> memoryview:
        """The bytes of elements [start, start + length) of the result, valid until the next call."""
        if dtype in EXACT:
            return self._equal(name, start, length)
        stored = {parent[name].dtype for parent, _ in self._active}
        if len(self._active) == 1 and self._active[0][1] == 1:
            values = self._read(self._active[0][0], name, start, length, self._raw)
            _require_finite(name, values, start)
            if stored == {dtype}:
                return bytes_of(values)
            return self._rounded(name, dtype, start, values)
        wide = torch.float64 if "F64" in stored else torch.float32
        total = _view(self._sum, wide, length).zero_()
        term = _view(self._scaled, wide, length)
        for index, (parent, factor) in enumerate(self._active):
            values = self._read(parent, name, start, length, self._raw)
            _require_finite(name, values, start)
            # Multiply and add are two operations on purpose: a fused one rounds differently from machine to machine.
            target = total if index == 0 else term
            target.copy_(values).mul_(factor)
            if index:
                total.add_(term)
        return self._rounded(name, dtype, start, total)

    def _rounded(self, name: str, dtype: str, start: int, values: torch.Tensor) -> memoryview:
        rounded = _view(self._other, TORCH_DTYPES[dtype], len(values)).copy_(values)
        _require_finite(name, rounded, start)
        return bytes_of(rounded)

    def _equal(self, name: str, start: int, length: int) -> memoryview:
        first = self._read(self._parents[0], name, start, length, self._raw)
        for parent in self._parents[1:]:
            other = self._read(parent, name, start, length, self._other)
            if not torch.equal(first, other):
                index = start + int((first != other).nonzero()[0])
                raise ComputeError(
                    "tensor_value_mismatch",
                    f"tensor {name!r} holds integers that differ between the models at index {index}",
                    field=name,
                    fix="merge models whose integer tensors are equal",
                )
        return bytes_of(first)

    def _read(self, parent: TensorSet, name: str, start: int, length: int, scratch: torch.Tensor) -> torch.Tensor:
        info = parent[name]
        width = BITS[info.dtype] // 8
        # Bools are compared as bytes: a stored 2 is no valid bool and must not be folded into 1.
        dtype = torch.uint8 if info.dtype == "BOOL" else TORCH_DTYPES[info.dtype]
        values = _view(scratch, dtype, length)
        parent.read_into(name, start * width, bytes_of(values))
        self.bytes_read += length * width
        return values


def _view(scratch: torch.Tensor, dtype: torch.dtype, length: int) -> torch.Tensor:
    return scratch[: length * dtype.itemsize].view(dtype)


def _require_finite(name: str, values: torch.Tensor, start: int) -> None:
    # The extremes carry any NaN or infinity and need no temporary as large as the chunk.
    low, high = torch.aminmax(values)
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        index = start + int((~torch.isfinite(values)).nonzero()[0])
        raise ComputeError("non_finite", f"tensor {name!r} is not finite at index {index}", field=name)
