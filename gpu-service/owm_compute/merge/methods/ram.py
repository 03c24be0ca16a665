"""RAM: what one model changed is taken over, what several changed is averaged."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch

from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, elementwise, merge_method
from owm_compute.merge.methods.consensus import count_nonzero, on_base

_PAPER = "Yuan et al. 2026, Behavior knowledge merge in reinforced agentic models (RAM), arXiv:2601.13572"
Epsilon = Annotated[float, Bounds(0, note="a delta is active where it is larger in magnitude")]


@merge_method("ram", reference=_PAPER, base="required", deltas=True)
@elementwise
def ram(chunk: Chunk, *, epsilon: Epsilon = 1e-5) -> torch.Tensor:
    """The mean of the active deltas at each position."""
    count = _activate(chunk, epsilon)
    total = chunk.models[0]
    for delta in chunk.models[1:]:
        total.add_(delta)
    return on_base(chunk, total.div_(count.clamp_min_(1)), 1.0)


@merge_method("ramplus_tl", reference=_PAPER, base="required", deltas=True)
def ramplus_tl(
    operands: Operands,
    *,
    r: Annotated[float, Bounds(note="how much unique deltas are amplified")] = 0.1,
    alpha: Annotated[float, Bounds(0, note="limit of shared over unique positions")] = 0.2,
    epsilon: Epsilon = 1e-5,
) -> Apply:
    """The mean of the active deltas, those that are alone at a position times 1 + r·clip(shared/unique, 0, alpha).

    Shared and unique are the model's numbers of active positions in the tensor with and without company.
    """

    def companies() -> list[float]:
        counts = [0] * (2 * operands.models)
        for chunk in operands.sweep():
            count = _activate(chunk, epsilon)
            for i, delta in enumerate(chunk.models):
                active = np.not_equal(delta.numpy(), 0)
                alone = active & np.equal(count.numpy(), 1)
                counts[2 * i] += int(np.count_nonzero(active)) - int(np.count_nonzero(alone))
                counts[2 * i + 1] += int(np.count_nonzero(alone))
        return [float(number) for number in counts]

    numbers = operands.statistic(f"shared and unique above {epsilon!r}", companies)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    # An epsilon of 0 leaves 0 / 0 where a model changed nothing: that amplifies nothing.
    ratios = [shared / max(unique, epsilon) if shared else 0.0 for shared, unique in pairs]
    factors = [1 + r * min(ratio, alpha) for ratio in ratios]

    def apply(chunk: Chunk) -> torch.Tensor:
        count = _activate(chunk, epsilon)
        shared, unique, term = chunk.scratch(2).zero_(), chunk.scratch(3).zero_(), chunk.scratch(1)
        for delta, factor in zip(chunk.models, factors, strict=True):
            shared.add_(delta)
            unique.add_(torch.mul(delta, factor, out=term))
        # Products with 0 and 1 choose exactly.
        shared.mul_(torch.ne(count, 1, out=term))
        unique.mul_(torch.eq(count, 1, out=term))
        return on_base(chunk, shared.div_(count.clamp_min_(1)).add_(unique), 1.0)

    return apply


def _activate(chunk: Chunk, epsilon: float) -> torch.Tensor:
    """Zeroes what isn't active; returns how many models are active at each position, in scratch 0."""
    count, active = chunk.scratch(0).zero_(), chunk.scratch(1)
    for delta in chunk.models:
        torch.abs(delta, out=active).gt_(epsilon)
        delta.mul_(active)
        count.add_(active)
    chunk.tally["kept"] = sum(count_nonzero(delta, chunk) for delta in chunk.models)
    return count
