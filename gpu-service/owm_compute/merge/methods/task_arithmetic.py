"""Task arithmetic: deltas of models from their base, sparsified or not, are weighted, added up and put on the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch

from owm_compute.merge.method import Apply, Bounds, Chunk, Each, Operands, elementwise, merge_method
from owm_compute.merge.methods.combination import Combination, Vote
from owm_compute.merge.methods.consensus import count_nonzero, on_base
from owm_compute.merge.methods.sparsify import Sparsifier, l1_scales

Weight = Annotated[Each, Bounds(note="factor of the model's delta")]
Density = Annotated[Each, Bounds(0, 1, "fraction of each delta that is kept", default=1.0)]
Lambda = Annotated[float, Bounds(note="factor of the merged delta")]


def merge_deltas(
    operands: Operands,
    sparsifier: Sparsifier | None,
    *,
    weight: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
    consensus: bool,
) -> Apply:
    """The pipeline that the family shares: base + λ·Σ w·s·sparse(δ), over Σ w if `normalize`.

    With `consensus` both sums only run over what agrees with the sign of the weighted sum. With `rescale`, s brings
    each sparse delta back to its L1 norm. λ = 0 gives the base's bytes.
    """
    scales = l1_scales(operands, sparsifier) if rescale and sparsifier else [1.0] * operands.models
    if consensus:
        return Combination(Vote(weight, scales, normalize), sparsifier, onto=lambda_)
    total = math.fsum(weight)
    divisor = total if normalize and abs(total) >= 1e-8 else 1.0
    factors = [w * s / divisor for w, s in zip(weight, scales, strict=True)]
    return Combination(factors, sparsifier, onto=lambda_)


@merge_method(
    "task_arithmetic",
    reference="Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089",
    base="required",
    deltas=True,
)
def task_arithmetic(operands: Operands, *, weight: Weight, normalize: bool = False, lambda_: Lambda = 1.0) -> Apply:
    """Base plus λ times the weighted sum of the deltas."""
    return merge_deltas(
        operands, None, weight=weight, normalize=normalize, rescale=False, lambda_=lambda_, consensus=False
    )


@merge_method(
    "consensus_ta",
    reference="Wang et al. 2024, Localizing task information (TALL masks), arXiv:2405.07813",
    base="required",
    deltas=True,
)
@elementwise
def consensus_ta(
    chunk: Chunk,
    *,
    weight: Annotated[Each, Bounds(default=1.0, note="factor of the model's delta")],
    mask_lambda: Annotated[float, Bounds(0, note="how strict each model's mask is")] = 0.5,
    agreement: Annotated[int, Bounds(1, note="how many masks must hold a position")] = 2,
    lambda_: Lambda = 1.0,
) -> torch.Tensor:
    """Task arithmetic at the positions that matter to several models, the base elsewhere.

    τ = Σ w·δ; a model's mask holds where |δ| ≥ mask_lambda·|τ − δ|; positions in fewer than `agreement` masks keep the
    base.
    """
    total, votes, other = chunk.scratch(0).zero_(), chunk.scratch(1).zero_(), chunk.scratch(2)
    for delta, w in zip(chunk.models, weight, strict=True):
        total.add_(torch.mul(delta, w, out=other))
    for delta in chunk.models:
        torch.sub(total, delta, out=other).abs_().mul_(mask_lambda)
        votes.add_(torch.ge(delta.abs_(), other, out=delta))
    chunk.tally["kept"] = count_nonzero(votes.ge_(agreement), chunk)
    return on_base(chunk, total.mul_(votes), lambda_)
