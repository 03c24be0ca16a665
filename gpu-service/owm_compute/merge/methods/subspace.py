"""Merges of weight matrices through their singular vectors: TSV-M, Iso-C and Iso-CTS."""

from __future__ import annotations

from typing import Annotated

import torch

from owm_compute.merge.method import Apply, Bounds, Operands, merge_method
from owm_compute.merge.methods.matrices import merge_matrices, nearest_orthogonal, strongest, weighted_sum

Scale = Annotated[float, Bounds(note="factor of the merged difference from the base")]


@merge_method("tsvm", reference="arXiv:2412.00081", base="required", deltas=True, determinism="tolerance", matrix=True)
def tsvm(operands: Operands, *, lambda_: Scale = 1.0) -> Apply:
    """Task singular vectors: each model keeps its strongest directions, made orthogonal to those of the others.

    Of each difference ΔWᵢ the ⌊r/N⌋ largest singular values stay (r = min(m, n)); all left vectors together are
    replaced by the nearest orthogonal matrix U⊥, the right ones by V⊥: base + λ·U⊥·S·V⊥ᵀ. Other shapes than matrices
    are averaged. Memory: (N + 11)·m·n numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        keep = max(1, min(deltas[0].shape) // len(deltas))
        parts = []
        while deltas:
            parts.append(strongest(deltas.pop(0), keep))
        left, _ = nearest_orthogonal(torch.cat([u for u, _, _ in parts], dim=1))
        right, _ = nearest_orthogonal(torch.cat([vt for _, _, vt in parts], dim=0))
        return (left * torch.cat([s for _, s, _ in parts])) @ right

    return merge_matrices(operands, merge, scale=lambda_)


@merge_method("iso_c", reference="arXiv:2502.04959", base="required", deltas=True, determinism="tolerance", matrix=True)
def iso_c(operands: Operands, *, lambda_: Scale = 1.0) -> Apply:
    """Isotropic merging: the summed difference with all its singular values made equal to their mean.

    Σ ΔWᵢ = U·S·Vᵀ gives base + λ·mean(S)·U·Vᵀ; directions in which no model moved stay out. Other shapes than matrices
    are averaged. Memory: (N + 9)·m·n numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        directions, values = nearest_orthogonal(weighted_sum(deltas, [1.0] * len(deltas)))
        return directions.mul_(values.mean())

    return merge_matrices(operands, merge, scale=lambda_)


@merge_method(
    "iso_cts", reference="arXiv:2502.04959", base="required", deltas=True, determinism="tolerance", matrix=True
)
def iso_cts(
    operands: Operands,
    *,
    common_space_fraction: Annotated[float, Bounds(0, 1, "share of the directions that come from the sum")] = 0.8,
    lambda_: Scale = 1.0,
) -> Apply:
    """Isotropic merging in a common subspace and, beside it, one for each model.

    The weakest directions of Σ ΔWᵢ give way to the strongest of what each ΔWᵢ has outside the common left subspace;
    left and right vectors are replaced by the nearest orthogonal matrices, and all get the mean of the singular values.
    Other shapes than matrices are averaged. Memory: (N + 11)·m·n numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        rank = min(deltas[0].shape)
        own = round(rank * (1 - common_space_fraction) / len(deltas))
        common = max(rank - own * len(deltas), 0)
        parts = [strongest(weighted_sum(deltas, [1.0] * len(deltas)), common)]
        shared = parts[0][0]
        while own and deltas:
            delta = deltas.pop(0)
            parts.append(strongest(delta.sub_(shared @ (shared.T @ delta)), own))
        left, _ = nearest_orthogonal(torch.cat([u for u, _, _ in parts], dim=1))
        right, _ = nearest_orthogonal(torch.cat([vt for _, _, vt in parts], dim=0))
        return (left @ right).mul_(torch.cat([s for _, s, _ in parts]).mean())

    return merge_matrices(operands, merge, scale=lambda_)
