"""Model breadcrumbs: the outliers of each delta are dropped with its smallest elements."""

from __future__ import annotations

from typing import Annotated

from owm_compute.merge.method import Apply, Bounds, Each, Operands, merge_method
from owm_compute.merge.methods.sparsify import by_magnitude, require_survivors
from owm_compute.merge.methods.task_arithmetic import Density, Lambda, Weight, merge_deltas

_PAPER = "Davari and Belilovsky 2023, Model breadcrumbs, arXiv:2312.06795"
Gamma = Annotated[Each, Bounds(0, 1, "fraction of each delta that is dropped as outliers", default=0.01)]


@merge_method("breadcrumbs", reference=_PAPER, base="required", deltas=True, check=require_survivors)
def breadcrumbs(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    gamma: Gamma,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Lambda = 1.0,
) -> Apply:
    """Weighted sum of the middle magnitudes of the deltas."""
    return merge_deltas(
        operands,
        by_magnitude(operands, density, gamma),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=False,
    )


@merge_method("breadcrumbs_ties", reference=_PAPER, base="required", deltas=True, check=require_survivors)
def breadcrumbs_ties(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    gamma: Gamma,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Lambda = 1.0,
) -> Apply:
    """The middle magnitudes of the deltas, where the sign is that of the weighted sum."""
    return merge_deltas(
        operands,
        by_magnitude(operands, density, gamma),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=True,
    )
