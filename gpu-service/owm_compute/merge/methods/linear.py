"""The weighted sum of models, a copy of one, and the weighted sum with weights found from the models' norms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Bounds, Each, Operands, merge_method
from owm_compute.merge.methods.combination import Combination
from owm_compute.merge.reduce import Gram

# What weights of opposite signs leave by rounding is no sum to divide by.
_LEAST_SUM = 1e-8


def _require_sum(tensor: str, _shape: tuple[int, ...], parameters: Mapping[str, Any]) -> None:
    scale_weights(parameters["weight"], parameters["normalize"], tensor)


@merge_method("linear", reference="Wortsman et al. 2022, Model soups, arXiv:2203.05482", check=_require_sum)
def linear(operands: Operands, *, weight: Each, normalize: bool = True) -> Apply:
    """Weighted sum of the models, divided by the sum of the weights.

    One model of weight 1 keeps its bytes. Raises `weights_sum_zero` where there is nothing to divide by.
    """
    return Combination(scale_weights(weight, normalize, operands.name))


def scale_weights(weights: Each, normalize: bool, tensor: str) -> list[float]:
    """The factors that the models are multiplied with; raises `weights_sum_zero` when they can't be normalised."""
    total = math.fsum(weights)
    if not normalize:
        return list(weights)
    if abs(total) < _LEAST_SUM:
        raise ComputeError(
            "weights_sum_zero",
            f"the weights of tensor {tensor!r} sum to zero, so they can't be normalised",
            field="weight",
            fix="change a weight or switch normalisation off",
        )
    return [weight / total for weight in weights]


@merge_method("passthrough", reference="mergekit passthrough", most=1)
def passthrough(
    _operands: Operands, *, scale: Annotated[Each, Bounds(default=1.0, note="factor of the tensor")]
) -> Apply:
    """A copy of the one model's tensor, or a multiple of it."""
    return Combination(scale)


@merge_method("nan", reference="Si et al. 2025, NAN, arXiv:2505.16148", base="optional", least=2)
def nan(
    operands: Operands,
    *,
    lambda_: Annotated[float, Bounds(note="how far from the base, where there is one")] = 1.0,
) -> Apply:
    """Weights in proportion to 1/‖x‖ of each model's tensor: base + λ·Σ w·(x − base), without a base Σ w·x.

    A tensor that is all zeros in a model gets equal weights.
    """

    def squares() -> list[float]:
        sums = [Gram(1) for _ in range(operands.models)]
        for chunk in operands.sweep():
            for one, values in zip(sums, chunk.models, strict=True):
                one.add(chunk.start, [values])
        return [one.matrix()[0][0] for one in sums]

    found = operands.statistic("squared norms", squares)
    inverse = [1 / math.sqrt(square) for square in found] if all(found) else [1.0] * operands.models
    total = math.fsum(inverse)
    scale = lambda_ if operands.has_base else 1.0
    return Combination([scale * one / total for one in inverse], base=1 - lambda_ if operands.has_base else 0.0)
