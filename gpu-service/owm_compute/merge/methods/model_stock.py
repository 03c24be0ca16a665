"""Model Stock: how far to go from the base model towards the average, told by the angles between the models."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Annotated

import torch

from owm_compute.merge.dots import dots, row_dots, scale_rows
from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method
from owm_compute.merge.methods.combination import Combination
from owm_compute.merge.methods.consensus import combine, on_base


@merge_method("model_stock", reference="arXiv:2403.19522", base="required", least=2, deltas=True)
def model_stock(
    operands: Operands,
    *,
    filter_wise: Annotated[bool, Bounds(note="an angle for each row (output filter) instead of each tensor")] = False,
) -> Apply:
    """Goes from the base model towards the average of the models by a ratio that follows from their mean angle.

    base + t·mean(δᵢ) with t = N·c/(1 + (N−1)·c) and c the mean cosine between pairs of δᵢ = xᵢ − base.
    """
    n = operands.models
    if not filter_wise or len(operands.shape) < 2:
        found = torch.tensor([dots(operands)], dtype=torch.float64)
        return Combination([1.0] * n, onto=float(_ratios(found)) / n)
    columns = math.prod(operands.shape[1:])
    shares = torch.cat([_ratios(found) for found in row_dots(operands, columns)]) / n

    def apply_rows(chunk: Chunk) -> torch.Tensor:
        total = combine([(delta, 1.0) for delta in chunk.models], chunk)
        return on_base(chunk, scale_rows(total, shares, columns, chunk.start), 1)

    return apply_rows


def _ratios(found: torch.Tensor) -> torch.Tensor:
    """t (k,) from the dots (k, n, n); elementwise operations, which round alike on any machine."""
    n = found.shape[1]
    norms = found.diagonal(dim1=1, dim2=2).sqrt()
    mean = torch.zeros_like(found[:, 0, 0])
    for i, j in combinations(range(n), 2):
        cosine = found[:, i, j] / (norms[:, i] * norms[:, j]).clamp_(min=1e-6)
        mean += cosine.clamp_(-1, 1)
    mean /= n * (n - 1) / 2
    below = 1 + (n - 1) * mean
    # Differences that cancel leave no direction to go in: the ratio has a pole there.
    return torch.where(below < 1e-9, 0.0, n * mean / below)
