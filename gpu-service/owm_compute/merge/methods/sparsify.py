"""What of a delta is kept: the largest, a band of magnitudes or random elements, and how to make up for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Chunk, Operands
from owm_compute.merge.methods.consensus import count_nonzero
from owm_compute.merge.methods.selection import Boundary, keep_largest, largest
from owm_compute.merge.random import Mask, keep_mask, stream_key
from owm_compute.merge.reduce import LaneSum

# Norms below this are too near zero to divide by.
_TINY = 1e-7


@dataclass(frozen=True)
class Chance:
    """Keeps each element with a probability, by the random bits of a stream."""

    key: tuple[int, int]
    probability: float


@dataclass(frozen=True)
class Sparsifier:
    """Zeroes what is dropped of the models of a chunk, in place. `key` is all that decides it besides the operands."""

    key: str
    drop: Callable[[Chunk], None]
    rules: Mapping[int, Boundary | Chance] | None = None
    """All that `drop` does, by model, where it can be said so."""

    def __call__(self, chunk: Chunk) -> None:
        """Drops, and tallies what is `kept`: elements of all models that aren't zero."""
        self.drop(chunk)
        chunk.tally["kept"] = sum(count_nonzero(model, chunk) for model in chunk.models)


def require_survivors(tensor: str, shape: tuple[int, ...], parameters: Mapping[str, Any]) -> None:
    """Refuses (`density_too_small`) a density that keeps no element of a tensor."""
    n, least = math.prod(shape), min(parameters["density"])
    if n and int(least * n) < 1:
        raise ComputeError(
            "density_too_small",
            f"a density of {least:g} keeps none of the {n} elements of tensor {tensor!r}",
            field="density",
            fix=f"use a density of at least {1 / n:.3g} for this tensor, or leave the model out",
        )


def by_magnitude(operands: Operands, density: Sequence[float], gamma: Sequence[float] | None = None) -> Sparsifier:
    """Keeps int(density·n) elements: the largest, after the int(gamma·n) largest of all are dropped as outliers.

    Where fewer than int(gamma·n) elements would be left over, fewer outliers are dropped. A density of 1 keeps all.
    (mergekit drops the whole delta when int(gamma·n) is 0; that is not reproduced.)
    """
    n = operands.count
    sparse = [i for i, value in enumerate(density) if value < 1 and n > 0]
    sizes = [int(density[i] * n) for i in sparse]
    top = [min(int(gamma[i] * n), n - k) if gamma else 0 for i, k in zip(sparse, sizes, strict=True)]
    outliers = [place for place, t in enumerate(top) if t > 0]

    def view(chunk: Chunk) -> list[torch.Tensor]:
        kept = [chunk.models[i] for i in sparse]
        return [*kept, *(kept[place] for place in outliers)]

    ranks = [*(k + t for k, t in zip(sizes, top, strict=True)), *(top[place] for place in outliers)]
    found = largest(operands, f"models {sparse}, then {outliers} of them", view, ranks) if ranks else []

    def drop(chunk: Chunk) -> None:
        for i, boundary in zip(sparse, found, strict=False):
            keep_largest(chunk.models[i], chunk.start, boundary, chunk.models[i])
        for place, boundary in zip(outliers, found[len(sparse) :], strict=True):
            values = chunk.models[sparse[place]]
            values.sub_(keep_largest(values, chunk.start, boundary, chunk.scratch(0)))

    rules = None if outliers else dict(zip(sparse, found, strict=True))
    return Sparsifier(f"magnitude {list(density)} without {top}", drop, rules)


def at_random(operands: Operands, density: Sequence[float]) -> Sparsifier:
    """Keeps each element with probability `density`."""
    chances = {
        i: Chance(stream_key(operands.seed, operands.name, i), probability)
        for i, probability in enumerate(density)
        if probability < 1
    }

    def drop(chunk: Chunk) -> None:
        for i, chance in chances.items():
            keep_where(chunk.models[i], keep_mask(chance.key, chunk.start, chunk.length, chance.probability))

    return Sparsifier(f"random {list(density)} {operands.seed} {operands.name}", drop, chances)


def keep_where(values: torch.Tensor, mask: Mask) -> None:
    """Zeroes what the mask doesn't hold, in place."""
    array = values.numpy()
    np.multiply(array, mask, out=array)


def l1_scales(operands: Operands, sparsifier: Sparsifier) -> list[float]:
    """For each model what brings its kept elements back to the L1 norm of all: ‖δ‖₁/‖kept‖₁, or 1 near zero."""

    def norms() -> list[float]:
        before, after = ([LaneSum() for _ in range(operands.models)] for _ in range(2))
        for chunk in operands.sweep():
            for sums in (before, after):
                for one, model in zip(sums, chunk.models, strict=True):
                    one.add(chunk.start, torch.abs(model, out=chunk.scratch(0)))
                if sums is before:
                    sparsifier.drop(chunk)
        return [one.total() for one in (*before, *after)]

    numbers = operands.statistic(f"l1 of {sparsifier.key}", norms)
    pairs = zip(numbers[: operands.models], numbers[operands.models :], strict=True)
    return [1.0 if all_ < _TINY or kept < _TINY else all_ / kept for all_, kept in pairs]
