"""SCE: select the positions in which the models differ most, calculate weights by energy, erase minority signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch

from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method
from owm_compute.merge.methods.consensus import count_nonzero, on_base
from owm_compute.merge.methods.selection import Boundary, keep_largest, largest
from owm_compute.merge.methods.sparsify import keep
from owm_compute.merge.reduce import Gram

_LEAST_DIVISOR = 1e-6


@merge_method("sce", reference="Wan et al. 2024, FuseChat, arXiv:2408.07990", base="required", deltas=True)
def sce(
    operands: Operands,
    *,
    select_topk: Annotated[float, Bounds(0, 1, "fraction of the positions that vary between the models")] = 1.0,
) -> Apply:
    """Deltas at the positions of largest variance, where their sign is the majority's, weighted by their energy.

    With select_topk below 1, int(select_topk·v) of the v positions whose variance over the models isn't 0 are merged.
    A model's weight is its mean squared delta over them.
    """
    select = _Selection(operands, select_topk)

    def energies() -> list[float]:
        sums = [Gram(1) for _ in range(operands.models)]
        for chunk in operands.sweep():
            select(chunk)
            for one, delta in zip(sums, chunk.models, strict=True):
                one.add(chunk.start, [delta])
        return [one.matrix()[0][0] for one in sums]

    found = operands.statistic(f"energies at {select_topk!r} of the variance", energies)
    means = [energy / max(operands.count, 1) for energy in found]
    total = sum(means)
    shares = [mean / total if total >= _LEAST_DIVISOR else 1 / len(means) for mean in means]

    def apply(chunk: Chunk) -> torch.Tensor:
        select(chunk)
        return on_base(chunk, _elected(chunk, shares), 1.0)

    return apply


def _elected(chunk: Chunk, shares: Sequence[float]) -> torch.Tensor:
    """Σ c·δ / Σ c over the deltas of the majority's sign, with shares c."""
    sign, divisor, merged = chunk.scratch(0).zero_(), chunk.scratch(1).zero_(), chunk.scratch(2).zero_()
    for delta in chunk.models:
        sign.add_(delta)
    sign.ge_(0).mul_(2).sub_(1)
    for delta, share in zip(chunk.models, shares, strict=True):
        term = delta.mul_(sign).clamp_min_(0)
        merged.add_(torch.mul(term, share, out=chunk.scratch(3)))
        divisor.add_(term.gt_(0).mul_(share))
    return merged.mul_(sign).div_(divisor.clamp_min_(_LEAST_DIVISOR))


class _Selection:
    """Zeroes the positions of a chunk that aren't selected, in place."""

    def __init__(self, operands: Operands, fraction: float) -> None:
        self._boundary: Boundary | None = None
        self._all = fraction >= 1
        if self._all or not operands.count:
            return

        def varying() -> list[float]:
            return [sum(count_nonzero(_variance(chunk), chunk) for chunk in operands.sweep())]

        rank = int(operands.statistic("positions of variance", varying)[0] * fraction)
        if rank:
            [self._boundary] = largest(operands, "variance", lambda chunk: [_variance(chunk)], [rank])

    def __call__(self, chunk: Chunk) -> None:
        if self._all:
            return
        variance = _variance(chunk)
        if self._boundary is None:
            variance.zero_()
        else:
            keep_largest(variance, chunk.start, self._boundary, variance)
        mask = np.not_equal(variance.numpy(), 0)
        for delta in chunk.models:
            keep(delta, mask)


def _variance(chunk: Chunk) -> torch.Tensor:
    """Population variance over the models at each position, in scratch 6; 3 and 4 are overwritten."""
    mean, term, total = chunk.scratch(3).zero_(), chunk.scratch(4), chunk.scratch(6).zero_()
    for delta in chunk.models:
        mean.add_(delta)
    mean.div_(len(chunk.models))
    for delta in chunk.models:
        torch.sub(delta, mean, out=term)
        total.add_(term.mul_(term))
    return total.div_(len(chunk.models))
