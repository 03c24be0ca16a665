"""Singular value calibration: directions that several models share are not counted several times."""

from __future__ import annotations

from typing import Annotated

import torch

from owm_compute.merge.method import Apply, Bounds, Each, Operands, merge_method
from owm_compute.merge.methods.matrices import decompose, merge_matrices, weighted_sum


@merge_method("svc", reference="arXiv:2602.05536", base="required", deltas=True, determinism="tolerance", matrix=True)
def svc(
    operands: Operands,
    *,
    weight: Annotated[Each, Bounds(note="factor of each model's difference from the base")],
    alpha: Annotated[float, Bounds(1e-6, 1, "least share that a model is counted with in a direction")] = 0.1,
    lambda_: Annotated[float, Bounds(note="factor of the merged difference from the base")] = 1.0,
) -> Apply:
    """Task arithmetic whose singular values are scaled down where the models' directions overlap.

    For each left singular vector u of M = Σ wᵢ·ΔWᵢ, sᵢ = ⟨uᵀM, uᵀΔWᵢ⟩/‖uᵀΔWᵢ‖² says how far the merge overshoots model
    i there, and the singular value is multiplied by N/Σ max(alpha, sᵢ). Other shapes than matrices are left as task
    arithmetic has them. Memory: (N + 9)·m·n numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        u, s, vt = decompose(weighted_sum(deltas, weight))
        merged = s[:, None] * vt
        shares = torch.zeros_like(s)
        for delta in deltas:
            projected = u.T @ delta
            square = (projected * projected).sum(dim=1)
            # A model that has nothing in a direction overshoots by nothing there.
            share = (merged * projected).sum(dim=1) / torch.where(square > 0, square, 1.0)
            shares += share.clamp_(min=alpha)
        return (u * (len(deltas) / shares)) @ merged

    return merge_matrices(operands, merge, scale=lambda_, shares=weight)
