"""The low-rank factors of what a fine-tune changed: a LoRA adapter from two models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method
from owm_compute.merge.methods.matrices import Factors, differences, strongest

_REFERENCE = "Eckart & Young 1936; https://github.com/arcee-ai/mergekit (mergekit-extract-lora)"
MaxRank = Annotated[int, Bounds(1, 65_536, "rank of the adapter at most; a smaller matrix limits it further")]
Epsilon = Annotated[float, Bounds(0, note="singular values up to this are left out: their factors are zero")]


def _require_matrix(tensor: str, shape: tuple[int, ...], _parameters: Mapping[str, Any]) -> None:
    if len(shape) < 2 or 0 in shape:
        raise ComputeError(
            "tensor_shape_mismatch",
            f"tensor {tensor!r} of shape {list(shape)} has no low-rank factors",
            field=tensor,
            fix="extract a LoRA from matrices and convolution kernels only",
        )


def _a_shape(shape: tuple[int, ...], settings: Mapping[str, Any]) -> tuple[int, ...]:
    return (_rank(shape, settings), *shape[1:])


def _b_shape(shape: tuple[int, ...], settings: Mapping[str, Any]) -> tuple[int, ...]:
    return (shape[0], _rank(shape, settings), *(1 for _ in shape[2:]))


@merge_method(
    "lora_a",
    reference=_REFERENCE,
    base="required",
    most=1,
    deltas=True,
    determinism="tolerance",
    matrix=True,
    output_shape=_a_shape,
    check=_require_matrix,
)
def lora_a(operands: Operands, *, max_rank: MaxRank = 128, sv_epsilon: Epsilon = 0.0) -> Apply:
    """Factor A = √S·Vᵀ (r, in) of the best approximation B·A of rank r to the difference model − base = U·S·Vᵀ.

    r = min(max_rank, out, in), known from the header; rows of singular values up to `sv_epsilon` are zero. The
    kernel of a convolution (out, in, h, w) is a matrix (out, in·h·w) and A is (r, in, h, w). Memory: 6·out·in numbers.
    """
    _, s, vt = _factors(operands, max_rank, sv_epsilon)
    return _pieces(s.sqrt()[:, None] * vt)


@merge_method(
    "lora_b",
    reference=_REFERENCE,
    base="required",
    most=1,
    deltas=True,
    determinism="tolerance",
    matrix=True,
    output_shape=_b_shape,
    check=_require_matrix,
)
def lora_b(operands: Operands, *, max_rank: MaxRank = 128, sv_epsilon: Epsilon = 0.0) -> Apply:
    """Factor B = U·√S (out, r) of the approximation whose other half is `lora_a`; (out, r, 1, 1) for convolutions."""
    u, s, _ = _factors(operands, max_rank, sv_epsilon)
    return _pieces(u * s.sqrt())


def _factors(operands: Operands, max_rank: int, sv_epsilon: float) -> Factors:
    rank = _rank(operands.shape, {"max_rank": max_rank})

    def factorise() -> Factors:
        (delta,) = differences(operands)
        return strongest(delta.view(len(delta), -1), rank)

    # A and B must come from one decomposition: a matrix does not determine the vectors of equal singular values.
    u, s, vt = operands.share(f"factors of rank {rank}", factorise)
    return u, torch.where(s > sv_epsilon, s, 0.0), vt


def _rank(shape: tuple[int, ...], settings: Mapping[str, Any]) -> int:
    rank: int = settings["max_rank"]
    return min(rank, shape[0], math.prod(shape[1:]))


def _pieces(factor: torch.Tensor) -> Apply:
    flat = factor.contiguous().view(-1)

    def apply(chunk: Chunk) -> torch.Tensor:
        return flat[chunk.start : chunk.start + chunk.length]

    return apply
