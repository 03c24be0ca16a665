"""What the methods over whole weight matrices share: when they apply, singular vectors, and the way back to chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.dots import non_finite
from owm_compute.merge.method import Apply, Chunk, Operands
from owm_compute.merge.methods.consensus import combine, on_base

Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""U (m, k), S (k,), Vᵀ (k, n)."""


def merge_matrices(
    operands: Operands,
    merge: Callable[[list[torch.Tensor]], torch.Tensor],
    *,
    scale: float = 1.0,
    shares: Sequence[float] | None = None,
) -> Apply:
    """base + scale·merge(differences from the base) for matrices, base + scale·Σ sharesᵢ·δᵢ for all other shapes.

    `merge` takes the differences, each (m, n), which it may overwrite, and returns one (m, n). Without `shares` other
    shapes get the mean: norms and biases have no singular vectors.
    """
    if len(operands.shape) != 2:
        factors = shares or [1 / operands.models] * operands.models

        def apply_sum(chunk: Chunk) -> torch.Tensor:
            return on_base(chunk, combine(list(zip(chunk.models, factors, strict=True)), chunk), scale)

        return apply_sum
    merged = merge(differences(operands)).contiguous().view(-1)

    def apply(chunk: Chunk) -> torch.Tensor:
        part = chunk.scratch(0).copy_(merged[chunk.start : chunk.start + chunk.length])
        return on_base(chunk, part, scale)

    return apply


def differences(operands: Operands) -> list[torch.Tensor]:
    """The models' differences from the base in full; raises `ComputeError` (`non_finite`) with tensor and index."""
    deltas, _ = operands.whole()
    # A decomposition of a matrix that holds NaN fails, or never ends.
    if not all(bool(torch.isfinite(delta).all()) for delta in deltas):
        raise non_finite(operands)
    return deltas


def weighted_sum(matrices: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Σ weight·matrix in memory of its own."""
    total = torch.zeros_like(matrices[0])
    for matrix, weight in zip(matrices, weights, strict=True):
        total.add_(matrix, alpha=weight)
    return total


def decompose(matrix: torch.Tensor) -> Factors:
    """The singular value decomposition of an (m, n) matrix with k = min(m, n), largest value first.

    The sign of a pair of vectors, which is free, is set so that the left one's largest element is positive.
    """
    try:
        if matrix.shape[0] >= matrix.shape[1]:
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        else:
            # Three times as fast for four times as many columns as rows.
            v, s, ut = torch.linalg.svd(matrix.T, full_matrices=False)
            u, vt = ut.T, v.T
    except RuntimeError as error:
        raise ComputeError("decomposition_failed", f"a singular value decomposition failed: {error}") from None
    at = u.abs().argmax(dim=0)
    signs = torch.where(u[at, torch.arange(len(s), device=u.device)] < 0, -1.0, 1.0).to(u.dtype)
    return u.mul_(signs), s, vt.mul_(signs[:, None])


def strongest(matrix: torch.Tensor, count: int) -> Factors:
    """The first `count` singular vectors and values, without the memory of the others."""
    u, s, vt = decompose(matrix)
    return u[:, :count].clone(), s[:count].clone(), vt[:count].clone()


def nearest_orthogonal(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(P·Qᵀ, S) of the decomposition P·S·Qᵀ.

    Directions in which `matrix` has nothing but rounding are left out of P·Qᵀ: their singular vectors are arbitrary.
    """
    p, s, qt = decompose(matrix)
    rank = int((s > max(matrix.shape) * torch.finfo(s.dtype).eps * s[0]).sum()) if len(s) else 0
    return p[:, :rank] @ qt[:rank], s
