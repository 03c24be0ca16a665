"""SCE: select the positions in which the models differ most, calculate weights by energy, erase minority signs."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch

from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method
from owm_compute.merge.methods.consensus import agree, count_nonzero, on_base
from owm_compute.merge.methods.selection import Boundary, keep_largest, largest
from owm_compute.merge.methods.sparsify import Sparsifier, keep_where
from owm_compute.merge.reduce import Gram

# Total energies below this give equal weights; smaller divisors are raised to it.
_LEAST = 1e-6


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
    sparsifier = _by_variance(operands, select_topk)

    def energies() -> list[float]:
        sums = [Gram(1) for _ in range(operands.models)]
        for chunk in operands.sweep():
            sparsifier.drop(chunk)
            for one, delta in zip(sums, chunk.models, strict=True):
                one.add(chunk.start, [delta])
        return [one.matrix()[0][0] for one in sums]

    means = [
        energy / max(operands.count, 1) for energy in operands.statistic(f"energies of {sparsifier.key}", energies)
    ]
    total = math.fsum(means)
    shares = [mean / total if total >= _LEAST else 1 / len(means) for mean in means]
    scales = [1.0] * operands.models

    def apply(chunk: Chunk) -> torch.Tensor:
        sparsifier(chunk)
        merged = agree(chunk, shares, scales, normalize=True, weighted=False, least_divisor=_LEAST)
        return on_base(chunk, merged, 1.0)

    return apply


def _by_variance(operands: Operands, fraction: float) -> Sparsifier:
    """Keeps the positions of largest variance over the models."""
    boundary: Boundary | None = None
    if fraction < 1:

        def varying() -> list[float]:
            return [sum(count_nonzero(_variance(chunk), chunk) for chunk in operands.sweep())]

        rank = int(operands.statistic("positions of variance", varying)[0] * fraction)
        if rank:
            [boundary] = largest(operands, "variance", lambda chunk: [_variance(chunk)], [rank])

    def drop(chunk: Chunk) -> None:
        if fraction >= 1:
            return
        variance = _variance(chunk)
        if boundary is None:
            variance.zero_()
        else:
            keep_largest(variance, chunk.start, boundary, variance)
        mask = np.not_equal(variance.numpy(), 0)
        for delta in chunk.models:
            keep_where(delta, mask)

    return Sparsifier(f"{fraction!r} of the variance", drop)


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
