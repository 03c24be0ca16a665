"""Model Stock: how far to go from the base model towards the average, told by the angles between the models."""

from __future__ import annotations

import math
from typing import Annotated

import torch

from owm_compute.merge.dots import Matrix, combine, dots, row_dots, scale_rows
from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method


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
        share = _ratio(dots(operands)) / n

        def apply(chunk: Chunk) -> torch.Tensor:
            return chunk.origin if share == 0 else combine(chunk.models, [share] * n).add_(chunk.origin)

        return apply
    columns = math.prod(operands.shape[1:])
    shares = torch.tensor([_ratio(found) / n for found in row_dots(operands, columns)], dtype=torch.float64)

    def apply_rows(chunk: Chunk) -> torch.Tensor:
        total = combine(chunk.models, [1.0] * n)
        return scale_rows(total, shares, columns, chunk.start).add_(chunk.origin)

    return apply_rows


def _ratio(found: Matrix) -> float:
    n = len(found)
    norms = [math.sqrt(found[i][i]) for i in range(n)]
    cosines = [
        max(-1.0, min(1.0, found[i][j] / max(norms[i] * norms[j], 1e-6))) for i in range(n) for j in range(i + 1, n)
    ]
    mean = math.fsum(cosines) / len(cosines)
    below = 1 + (n - 1) * mean
    # Differences that cancel leave no direction to go in: the ratio has a pole there.
    return 0.0 if below < 1e-9 else n * mean / below
