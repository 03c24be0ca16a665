"""DARE: random elements of each delta are dropped, and what is kept is scaled up to make up for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Operands, merge_method
from owm_compute.merge.methods.combination import Combination, Vote
from owm_compute.merge.methods.sparsify import at_random
from owm_compute.merge.methods.task_arithmetic import Density, Lambda, Weight, merge_deltas

_PAPER = "Yu et al. 2024, Language models are super mario (DARE), arXiv:2311.03099"


@merge_method("dare_linear", reference=_PAPER, base="required", deltas=True)
def dare_linear(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Lambda = 1.0,
) -> Apply:
    """Weighted sum of random parts of the deltas, each scaled back to its L1 norm; as mergekit does it."""
    return merge_deltas(
        operands,
        at_random(operands, density),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=False,
    )


@merge_method("dare_ties", reference=_PAPER, base="required", deltas=True)
def dare_ties(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Lambda = 1.0,
) -> Apply:
    """Random parts of the deltas, each scaled back to its L1 norm, where their sign is the majority's; as mergekit."""
    return merge_deltas(
        operands,
        at_random(operands, density),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=True,
    )


def _require_positive(tensor: str, _shape: tuple[int, ...], parameters: Mapping[str, Any]) -> None:
    least = min(parameters["density"])
    if least <= 0:
        raise ComputeError(
            "density_too_small",
            f"a density of {least:g} keeps nothing of tensor {tensor!r} to scale up",
            field="density",
            fix="use a density above 0, or leave the model out",
        )


@merge_method("dare_paper_linear", reference=_PAPER, base="required", deltas=True, check=_require_positive)
def dare_paper_linear(operands: Operands, *, weight: Weight, density: Density, lambda_: Lambda = 1.0) -> Apply:
    """Weighted sum of random parts of the deltas, each times 1/density, as published."""
    factors = [w / d for w, d in zip(weight, density, strict=True)]
    return Combination(factors, at_random(operands, density), onto=lambda_)


@merge_method("dare_paper_ties", reference=_PAPER, base="required", deltas=True, check=_require_positive)
def dare_paper_ties(operands: Operands, *, weight: Weight, density: Density, lambda_: Lambda = 1.0) -> Apply:
    """Random parts of the deltas, each times 1/density, then signs and mean as TIES was published."""
    vote = Vote(weight, [1 / d for d in density], normalize=True, weighted=False)
    return Combination(vote, at_random(operands, density), onto=lambda_)
