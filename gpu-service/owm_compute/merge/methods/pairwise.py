"""Methods between a base model and one other: nearswap, arcee_fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch

from owm_compute.merge.dots import non_finite, scale_rows, whole_rows
from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, elementwise, merge_method
from owm_compute.merge.random import random_bits, stream_key

_SAMPLE = 1_000_000


@merge_method(
    "nearswap", reference="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001", base="required", most=1
)
@elementwise
def nearswap(
    chunk: Chunk, *, t: Annotated[float, Bounds(0, note="distance within which the other model is taken")]
) -> torch.Tensor:
    """Takes the other model where it is near the base model, and less of it the farther it is.

    w·x + (1−w)·base with w = t/|base − x|, at most 1.
    """
    (model,) = chunk.models
    if t == 0:
        return chunk.origin
    share = torch.sub(chunk.origin, model, out=chunk.scratch(0)).abs_().clamp_(min=1e-6)
    torch.div(share.new_tensor(t), share, out=share).clamp_(max=1)
    model.mul_(share)
    return model.add_(share.neg_().add_(1).mul_(chunk.origin))


@merge_method(
    "arcee_fusion",
    reference="https://github.com/arcee-ai/mergekit",
    base="required",
    most=1,
    determinism="tolerance",
)
def arcee_fusion(operands: Operands) -> Apply:
    """Takes over the changes that matter: large ones in rows whose distribution moved.

    Importance is |x − base| times the Kullback-Leibler divergence between the softmax of the row in both models; what
    reaches median + 1.5·(Q₃ − Q₁) of the tensor's importances is kept. Quartiles are exact up to a million elements and
    from a seeded sample of a million beyond. `tolerance`, because exp and log differ from machine to machine.
    """
    columns = operands.shape[-1] if operands.shape else 1
    positions = _sample_positions(operands)
    found, samples = [], []
    row = 0
    for model, base in whole_rows(operands, columns):
        divergence = _divergence(model.double(), base.double())
        if not bool(torch.isfinite(divergence).all()):
            raise non_finite(operands)
        importance = _importance(model.view(-1), base.view(-1), divergence, columns, 0)
        samples.append(importance[positions(row * columns, importance.numel())])
        found.append(divergence)
        row += len(divergence)
    divergences = torch.cat(found)
    quartiles = torch.quantile(torch.cat(samples).double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    low, median, high = (float(value) for value in quartiles)
    threshold = median + 1.5 * (high - low)

    def apply(chunk: Chunk) -> torch.Tensor:
        (model,) = chunk.models
        importance = _importance(model, chunk.origin, divergences, columns, chunk.start)
        kept = importance >= threshold
        chunk.tally["kept"] = float(kept.sum())
        return torch.where(kept, model, chunk.origin)

    return apply


def _importance(
    model: torch.Tensor, base: torch.Tensor, divergence: torch.Tensor, columns: int, start: int
) -> torch.Tensor:
    return scale_rows(torch.sub(model, base).abs_(), divergence, columns, start)


def _divergence(model: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    p, q = (torch.softmax(rows, dim=-1).add_(1e-8) for rows in (model, base))
    return (p * torch.log(p / q)).sum(dim=-1)


def _sample_positions(operands: Operands) -> Callable[[int, int], torch.Tensor]:
    """Which of the elements [start, start + length) are sampled, as offsets: one of each of a million equal strata."""
    count = operands.count
    if count <= _SAMPLE:
        return lambda _start, length: torch.arange(length)
    bits = random_bits(stream_key(operands.seed, operands.name, 0), 0, _SAMPLE)
    strata = (torch.arange(_SAMPLE, dtype=torch.float64) + bits.double() / 2**32) * (count / _SAMPLE)
    chosen = strata.long().clamp_(max=count - 1)

    def positions(start: int, length: int) -> torch.Tensor:
        ends = torch.searchsorted(chosen, torch.tensor([start, start + length]))
        return chosen[int(ends[0]) : int(ends[1])] - start

    return positions
