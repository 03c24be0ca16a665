"""A tensor read with the units along some of its axes in another order; the values are exact copies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from owm_compute.tensors.operand import Operand

Permutation = npt.NDArray[np.int64]
# Elements gathered at a time. A larger stretch is copied run by run instead, without a buffer.
_GATHER = 1 << 20
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class PermutedOperand:
    """`axes`: axis → (permutation, block). Unit i of the result is unit permutation[i] of the operand's axis."""

    def __init__(self, operand: Operand, axes: Mapping[int, tuple[Permutation, int]]) -> None:
        self._operand = operand
        self.label, self.dtype, self.stored, self.shape = operand.label, operand.dtype, operand.stored, operand.shape
        digest = hashlib.sha256()
        factors: list[tuple[int, Permutation | None]] = []
        for axis, length in enumerate(self.shape):
            if axis in axes:
                permutation, block = axes[axis]
                factors += [(len(permutation), permutation), (block, None)]
                digest.update(f"{axis} {block} {len(permutation)} ".encode() + permutation.astype("<i8").tobytes())
            else:
                factors.append((length, None))
        self.identity = f"{operand.identity}|permuted {digest.hexdigest()}"
        last = max((place for place, (_, permutation) in enumerate(factors) if permutation is not None), default=-1)
        self._inner = math.prod(size for size, _ in factors[last + 1 :])
        self._gather: torch.Tensor | None = None
        self._stretch = self._inner
        if last >= 0:
            size, order = factors[last]
            if order is not None and size * self._inner <= _GATHER:
                self._gather = torch.from_numpy(order)
                self._stretch *= size
                last -= 1
        self._outer = factors[: last + 1]

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from flat index `start` on.

        The tensor is a row of stretches: what lies inside one is contiguous in the operand, up to a gather.
        """
        end = start + out.numel()
        if start == end:
            return
        first = start // self._stretch
        origins = self._origins(first, -(-end // self._stretch))
        breaks = np.flatnonzero(np.diff(origins) != 1) + 1
        most = max(1, _GATHER // self._stretch) if self._gather is not None else len(origins)
        for begin, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(origins)], strict=True):
            for at in range(begin, stop, most):
                count = min(most, stop - at)
                position = (first + at) * self._stretch
                low, high = max(start, position), min(end, position + count * self._stretch)
                target = out[low - start : high - start]
                origin = int(origins[at]) * self._stretch
                if self._gather is None:
                    self._operand.read(origin + low - position, target)
                else:
                    raw = torch.empty(count * self._stretch, dtype=out.dtype)
                    self._operand.read(origin, raw)
                    # Integers of the same width: every dtype can be moved as such.
                    units = raw.view(_INTEGERS[out.dtype.itemsize]).view(count, -1, self._inner)
                    moved = units.index_select(1, self._gather).view(-1).view(out.dtype)
                    target.copy_(moved[low - position : high - position])

    def _origins(self, first: int, stop: int) -> Permutation:
        """The operand's stretch for each of the stretches [first, stop) of the result."""
        index = np.arange(first, stop, dtype=np.int64)
        origins = np.zeros_like(index)
        stride = 1
        for size, permutation in reversed(self._outer):
            index, place = np.divmod(index, size)
            origins += (place if permutation is None else permutation[place]) * stride
            stride *= size
        return origins
