"""Merges of low-rank updates in a basis that all of them share: KnOTS and Core Space."""

from __future__ import annotations

from typing import Annotated

import torch

from owm_compute.merge.method import Apply, Bounds, Each, Operands, merge_method
from owm_compute.merge.methods.matrices import Factors, decompose, merge_matrices, nearest_orthogonal, weighted_sum
from owm_compute.merge.methods.sparsify import require_survivors

Scale = Annotated[float, Bounds(note="factor of the merged difference from the base")]
Floor = Annotated[
    float, Bounds(1e-6, 1, "singular values below this share of the largest are rounding, not part of an update")
]


@merge_method(
    "knots_ties",
    reference="arXiv:2410.19735",
    base="required",
    deltas=True,
    determinism="tolerance",
    matrix=True,
    check=require_survivors,
)
def knots_ties(
    operands: Operands,
    *,
    weight: Annotated[Each, Bounds(note="factor of each model's update", default=1.0)],
    density: Annotated[Each, Bounds(0, 1, "fraction of each model's coordinates that is kept", default=1.0)],
    lambda_: Scale = 1.0,
    floor: Floor = 1e-4,
) -> Apply:
    """TIES in the basis of all updates side by side, in which models trained apart agree more than in their weights.

    [ΔW₁ … ΔW_N] = U·S·[V₁ᵀ … V_Nᵀ]; the Vᵢᵀ are trimmed, signs elected and the agreeing ones averaged into Vᵀ:
    base + λ·U·S·Vᵀ. For LoRA fine-tunes of one base. Other shapes than matrices are averaged by weight.
    Memory: (N + 4)·m·n numbers while ranks are low.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        parts = [_low_rank(delta, floor) for delta in deltas]
        # The rows of each Vᵢᵀ are orthonormal: what is beside each other has the singular values of the left factors.
        u, s, mixed = _low_rank(torch.cat([left * values for left, values, _ in parts], dim=1), floor)
        coordinates = torch.split(mixed, [len(values) for _, values, _ in parts], dim=1)
        rights = [block @ vt for block, (_, _, vt) in zip(coordinates, parts, strict=True)]
        return (u * s) @ _ties(rights, weight, density)

    total = sum(weight)
    shares = [w / total for w in weight] if abs(total) > 1e-8 else list(weight)
    return merge_matrices(operands, merge, scale=lambda_, shares=shares)


@merge_method(
    "core_iso_c", reference="arXiv:2509.17786", base="required", deltas=True, determinism="tolerance", matrix=True
)
def core_iso_c(operands: Operands, *, lambda_: Scale = 1.0, floor: Floor = 1e-4) -> Apply:
    """Iso-C in Core Space: the summed update, isotropic within the directions that low-rank updates use at all.

    U spans the columns of all ΔWᵢ and V their rows; the core Uᵀ·Σ ΔWᵢ·V = P·S·Qᵀ gives base + λ·U·mean(S)·P·Qᵀ·Vᵀ.
    Unlike Iso-C the mean is over the core's singular values, not over those of the whole matrix, most of them zero.
    For LoRA fine-tunes of one base. Other shapes than matrices are averaged. Memory: (N + 4)·m·n numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        parts = [_low_rank(delta, floor) for delta in deltas]
        if not any(len(values) for _, values, _ in parts):
            return torch.zeros_like(deltas[0])
        left, _, _ = _low_rank(torch.cat([u * s for u, s, _ in parts], dim=1), floor)
        _, _, right = _low_rank(torch.cat([s[:, None] * vt for _, s, vt in parts]), floor)
        cores = [(left.T @ u * s) @ (vt @ right.T) for u, s, vt in parts]
        directions, values = nearest_orthogonal(weighted_sum(cores, [1.0] * len(cores)))
        return left @ directions.mul_(values.mean()) @ right

    return merge_matrices(operands, merge, scale=lambda_)


def _low_rank(matrix: torch.Tensor, floor: float) -> Factors:
    """The singular vectors of values above `floor` of the largest."""
    u, s, vt = decompose(matrix)
    rank = int((s > floor * s[0]).sum()) if len(s) else 0
    return u[:, :rank].clone(), s[:rank], vt[:rank].clone()


def _ties(parts: list[torch.Tensor], weights: Each, densities: Each) -> torch.Tensor:
    """Trims each matrix to its largest elements, elects signs by the weighted sum, averages what agrees."""
    trimmed = [_largest(part, share) for part, share in zip(parts, densities, strict=True)]
    terms = [part * weight for part, weight in zip(trimmed, weights, strict=True)]
    total = torch.stack(terms).sum(dim=0)
    sign = torch.where(total >= 0, 1.0, -1.0)
    merged, divisor = torch.zeros_like(total), torch.zeros_like(total)
    for term, weight in zip(terms, weights, strict=True):
        agrees = term.sign() == sign
        merged += torch.where(agrees, term, 0.0)
        divisor += agrees * weight
    return merged / torch.where(divisor == 0, 1.0, divisor)


def _largest(part: torch.Tensor, density: float) -> torch.Tensor:
    if density >= 1:
        return part
    flat = part.reshape(-1)
    # A stable order: among equal magnitudes the lower index wins.
    chosen = flat.abs().argsort(descending=True, stable=True)[: int(density * flat.numel())]
    kept = torch.zeros_like(flat)
    kept[chosen] = flat[chosen]
    return kept.view_as(part)
