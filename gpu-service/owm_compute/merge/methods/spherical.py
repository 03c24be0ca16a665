"""Means on the sphere: of two models (slerp, nuslerp) or of many (multislerp, karcher).

All stay in the span of the operands, so each comes down to one factor an operand, found from their dot products alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.dots import Matrix, column_dots, dots, row_dots, scale_columns, scale_rows
from owm_compute.merge.method import Apply, Bounds, Chunk, Each, Operands, merge_method
from owm_compute.merge.methods.combination import Combination
from owm_compute.merge.methods.consensus import on_base
from owm_compute.merge.methods.linear import scale_weights

_MERGEKIT = "https://github.com/arcee-ai/mergekit"
_SHOEMAKE = "Shoemake 1985, Animating rotation with quaternion curves"


@merge_method("slerp", reference=_SHOEMAKE, base="endpoint", most=1)
def slerp(
    operands: Operands,
    *,
    t: Annotated[float, Bounds(0, 1, "0 is the base model, 1 the other one")],
) -> Apply:
    """Interpolates on the great circle between the base model and another one, each tensor as one vector.

    sin((1−t)θ)/sin θ·base + sin(tθ)/sin θ·model with θ the angle between them; the straight line where they are
    nearly collinear (|cos θ| > 0.9995).
    """
    found = dots(operands, base=True)
    norms = [norm if norm > 1e-8 else 1.0 for norm in (math.sqrt(found[0][0]), math.sqrt(found[1][1]))]
    cosine = found[0][1] / (norms[0] * norms[1])
    first, second = (1 - t, t) if abs(cosine) > 0.9995 else _arc(math.acos(cosine), t)
    return Combination([second], base=first)


@merge_method("nuslerp", reference=_MERGEKIT, base="optional", least=2, most=2, deltas=True)
def nuslerp(
    operands: Operands,
    *,
    weight: Annotated[Each, Bounds(note="the second model's share is its weight over the sum of both")],
    nuslerp_flatten: Annotated[bool, Bounds(note="the tensor is one vector; else every row is one")] = True,
    nuslerp_row_wise: Annotated[
        bool, Bounds(note="without flatten: columns (along the first axis) are vectors")
    ] = False,
) -> Apply:
    """Interpolates on the great circle between two models, or between their differences from a base model.

    The share is t = w₁/(w₀+w₁), a half where the weights cancel. There is no collinear rule but for sin θ ≈ 0.
    """
    total = weight[0] + weight[1]
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    if nuslerp_flatten or len(operands.shape) < 2:
        factors = _nuslerp_factors(dots(operands), t)
        return _mix(operands, factors)
    if nuslerp_row_wise:
        columns = math.prod(operands.shape[1:])
        batches = iter([column_dots(operands, columns)])
    else:
        columns = operands.shape[-1]
        batches = row_dots(operands, columns)
    factors_of = [_nuslerp_factors(found, t) for batch in batches for found in batch.tolist()]
    first, second = torch.tensor(factors_of, dtype=torch.float64).T.contiguous()

    def apply(chunk: Chunk) -> torch.Tensor:
        for model, factor in zip(chunk.models, (first, second), strict=True):
            if nuslerp_row_wise:
                scale_columns(model, factor, chunk.start)
            else:
                scale_rows(model, factor, columns, chunk.start)
        total = chunk.models[0].add_(chunk.models[1])
        return total if chunk.base is None else on_base(chunk, total, 1)

    return apply


def _require_sum(tensor: str, _shape: tuple[int, ...], parameters: Mapping[str, Any]) -> None:
    scale_weights(parameters["weight"], parameters["normalize_weights"], tensor)


@merge_method("multislerp", reference=_MERGEKIT, base="optional", least=2, deltas=True, check=_require_sum)
def multislerp(
    operands: Operands,
    *,
    weight: Annotated[Each, Bounds(note="share of each model")],
    normalize_weights: Annotated[bool, Bounds(note="divide the weights by their sum")] = True,
    eps: Annotated[float, Bounds(0, note="what counts as a norm of zero")] = 1e-8,
) -> Apply:
    """Mean direction of the models (or of their differences from a base model) with their mean norm.

    The direction is that of m = Σ wᵢ·xᵢ/‖xᵢ‖. The method's further step in the tangent space at m is the zero vector:
    Σ wᵢ·(uᵢ − (uᵢ·m̂)m̂) is m without its own direction.
    """
    weights = scale_weights(weight, normalize_weights, operands.name)
    found = dots(operands)
    norms = [math.sqrt(found[i][i]) for i in range(operands.models)]
    mean = [w / (norm + eps) for w, norm in zip(weights, norms, strict=True)]
    size = _norm(mean, found)
    if not any(norms):
        factors = [0.0] * operands.models
    elif size >= eps and size > 0:
        radius = math.fsum(w * norm for w, norm in zip(weights, norms, strict=True))
        factors = [factor * radius / size for factor in mean]
    elif operands.models == 2:
        factors = weights
    else:
        raise ComputeError(
            "no_direction",
            f"the models' directions cancel in tensor {operands.name!r}, so they have no mean",
            field=operands.name,
            fix="change the weights",
        )
    return _mix(operands, factors)


@merge_method("karcher", reference="Karcher 1977; https://github.com/arcee-ai/mergekit", least=2)
def karcher(
    operands: Operands,
    *,
    max_iter: Annotated[int, Bounds(1, 1000, "steps of the iteration at most")] = 10,
    tol: Annotated[float, Bounds(0, 1, "a norm or step below this counts as zero")] = 1e-5,
) -> Apply:
    """Karcher mean of the directions of the models, each tensor as one vector, with their mean norm.

    The point of the sphere with the least sum of squared angles to all models. Norms of at most `tol` have none.
    """
    found = dots(operands)
    n = operands.models
    norms = [math.sqrt(found[i][i]) for i in range(n)]
    alive = [i for i in range(n) if norms[i] > tol]
    factors = [0.0] * n
    if alive:
        units = [[found[i][j] / (norms[i] * norms[j]) for j in alive] for i in alive]
        radius = math.fsum(norms) / n
        for i, coordinate in zip(alive, _karcher_mean(units, max_iter, tol), strict=True):
            factors[i] = coordinate * radius / norms[i]
    return _mix(operands, factors)


def _mix(operands: Operands, factors: Sequence[float]) -> Apply:
    """Σ factor·model, onto the base where there is one."""
    return Combination(factors, onto=1.0 if operands.has_base else None)


def _arc(theta: float, t: float) -> tuple[float, float]:
    sine = math.sin(theta)
    return math.sin((1 - t) * theta) / sine, math.sin(t * theta) / sine


def _nuslerp_factors(found: Matrix, t: float) -> tuple[float, float]:
    norms = [max(math.sqrt(found[i][i]), 1e-7) for i in range(2)]
    theta = math.acos(max(-1.0, min(1.0, found[0][1] / (norms[0] * norms[1]))))
    return (1 - t, t) if abs(math.sin(theta)) < 1e-8 else _arc(theta, t)


def _karcher_mean(units: Matrix, max_iter: int, tol: float) -> list[float]:
    """The mean of unit vectors in coordinates over them; `units` holds their dots."""
    n = len(units)
    mean = [1 / n] * n
    size = _norm(mean, units)
    mean = [1.0] + [0.0] * (n - 1) if size < tol else [value / size for value in mean]
    for _ in range(max_iter):
        tangent = [0.0] * n
        for i in range(n):
            cosine = max(-1.0, min(1.0, math.fsum(m * dot for m, dot in zip(mean, units[i], strict=True))))
            theta = math.acos(cosine)
            # From a point to itself there is no way to go, to its antipode no shortest one.
            if theta < tol or math.sin(theta) < tol:
                continue
            pull = theta / math.sin(theta) / n
            tangent = [value - pull * cosine * m for value, m in zip(tangent, mean, strict=True)]
            tangent[i] += pull
        step = _norm(tangent, units)
        if step < tol or step == 0:
            break
        mean = [math.cos(step) * m + math.sin(step) / step * v for m, v in zip(mean, tangent, strict=True)]
        size = _norm(mean, units)
        mean = [value / size for value in mean]
    return mean


def _norm(coordinates: list[float], found: Matrix) -> float:
    n = range(len(coordinates))
    square = math.fsum(coordinates[i] * coordinates[j] * found[i][j] for i in n for j in n)
    return math.sqrt(max(square, 0.0))
