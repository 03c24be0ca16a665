"""TIES: trim the deltas, elect a sign for each position, merge what agrees with it."""

from __future__ import annotations

from owm_compute.merge.method import Apply, Operands, merge_method
from owm_compute.merge.methods.combination import Combination, Vote
from owm_compute.merge.methods.sparsify import by_magnitude, require_survivors
from owm_compute.merge.methods.task_arithmetic import Density, Lambda, Weight, merge_deltas

_PAPER = "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708"


@merge_method("ties", reference=_PAPER, base="required", deltas=True, check=require_survivors)
def ties(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    normalize: bool = True,
    rescale: bool = False,
    lambda_: Lambda = 1.0,
) -> Apply:
    """The largest of each delta, where its sign is that of the weighted sum; as mergekit does it.

    Divided by the weights of those that agree if `normalize`; with negative weights that hardly makes sense.
    """
    return merge_deltas(
        operands,
        by_magnitude(operands, density),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=True,
    )


@merge_method("ties_paper", reference=_PAPER, base="required", deltas=True, check=require_survivors)
def ties_paper(operands: Operands, *, weight: Weight, density: Density, lambda_: Lambda = 1.0) -> Apply:
    """The weighted mean of the largest of each delta, where its sign is that of the unweighted sum; as published."""
    vote = Vote(weight, [1.0] * operands.models, normalize=True, weighted=False)
    return Combination(vote, by_magnitude(operands, density), onto=lambda_)
