"""Putting weighted deltas together: all of them, or only those that agree with the majority's sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from owm_compute.merge.method import Chunk

_WIDE_BLOCK = 1 << 16
# From more models than this on, the rounding of a float32 sum would show.
_NARROW = 8


def combine(terms: Sequence[tuple[torch.Tensor, float]], chunk: Chunk) -> torch.Tensor:
    """Σ factor·tensor in the order given; the tensors are overwritten. A factor of 0 contributes nothing."""
    # Multiply and add are two operations on purpose: a fused one rounds differently from machine to machine.
    active = [(tensor, factor) for tensor, factor in terms if factor != 0]
    if not active:
        return chunk.scratch(0).zero_()
    if len(active) > _NARROW:
        return _combine_wide(active)
    total, factor = active[0]
    if factor != 1:
        total.mul_(factor)
    for tensor, factor in active[1:]:
        if factor != 1:
            tensor.mul_(factor)
        total.add_(tensor)
    return total


def _combine_wide(active: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    result = active[0][0]
    sums = torch.empty(_WIDE_BLOCK, dtype=torch.float64)
    terms = torch.empty_like(sums)
    for low in range(0, len(result), _WIDE_BLOCK):
        width = min(_WIDE_BLOCK, len(result) - low)
        total, term = sums[:width].zero_(), terms[:width]
        for tensor, factor in active:
            total.add_(term.copy_(tensor[low : low + width]).mul_(factor))
        result[low : low + width] = total
    return result


def agree(
    chunk: Chunk,
    weights: Sequence[float],
    scales: Sequence[float],
    *,
    normalize: bool,
    weighted: bool = True,
    least_divisor: float = 0.0,
) -> torch.Tensor:
    """Σ w·s·δ over the deltas whose sign is the majority's, divided by the Σ w of those if `normalize`.

    The majority is + where Σ w·s·δ ≥ 0, or where Σ s·δ ≥ 0 unless `weighted`. A zero agrees with nobody. A divisor
    below a positive `least_divisor` is raised to it, without one a divisor of 0 counts as 1. Overwrites the models.
    Tallies `sign_conflicts`: positions where somebody is outvoted.
    """
    active = [i for i, weight in enumerate(weights) if weight != 0]
    if not active:
        return chunk.scratch(0).zero_()
    total = chunk.scratch(0)
    for place, i in enumerate(active):
        factor = scales[i] * (weights[i] if weighted else 1.0)
        term = chunk.models[i] if factor == 1 else chunk.models[i].mul_(factor)
        if place:
            total.add_(term)
        else:
            total.copy_(term)
    # The sign's bit alone: flipping it in every term makes the majority's terms the positive ones.
    kind = torch.int32 if total.dtype is torch.float32 else torch.int64
    sign = total.view(kind).bitwise_and_(torch.iinfo(kind).min)
    merged, divisor, least, votes = chunk.models[active[0]], chunk.scratch(1), chunk.scratch(2), chunk.scratch(3)
    for place, i in enumerate(active):
        term = chunk.models[i]
        term.view(kind).bitwise_xor_(sign)
        if place:
            torch.minimum(least, term, out=least)
        else:
            least.copy_(term)
        term.clamp_min_(0)
        if normalize:
            voter = torch.gt(term, 0, out=votes if place else divisor)
            if weights[i] != 1:
                voter.mul_(weights[i])
            if place:
                divisor.add_(voter)
        if not weighted and weights[i] != 1:
            term.mul_(weights[i])
        if place:
            merged.add_(term)
    chunk.tally["sign_conflicts"] = count_nonzero(least.clamp_max_(0), chunk)
    merged.view(kind).bitwise_xor_(sign)
    if normalize:
        merged.div_(
            divisor.clamp_min_(least_divisor) if least_divisor else divisor.add_(torch.eq(divisor, 0, out=votes))
        )
    return merged


def count_nonzero(values: torch.Tensor, chunk: Chunk) -> int:
    """How many values aren't zero; overwrites scratch 5."""
    mask = chunk.scratch(5).view(torch.bool)[: len(values)].numpy()
    return int(np.count_nonzero(np.not_equal(values.numpy(), 0, out=mask)))


def on_base(chunk: Chunk, delta: torch.Tensor, factor: float) -> torch.Tensor:
    """The base plus factor·delta; a factor of 0 leaves the base's bytes as they are."""
    if factor == 0:
        return chunk.origin
    return chunk.origin.add_(delta if factor == 1 else delta.mul_(factor))
