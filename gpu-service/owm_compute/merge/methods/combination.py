"""The apply step that most methods come down to, said in numbers, so that a GPU can run it as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from owm_compute.merge.method import Chunk
from owm_compute.merge.methods.consensus import agree, combine, on_base
from owm_compute.merge.methods.sparsify import Sparsifier


@dataclass(frozen=True)
class Vote:
    """Has only those deltas count that agree with the majority's sign: the arguments of `agree`."""

    weights: Sequence[float]
    scales: Sequence[float]
    normalize: bool
    weighted: bool = True


@dataclass(frozen=True)
class Combination:
    """The sum of the models (or deltas), sparsified or not, with factors or by a vote; then on the base. An `Apply`.

    Calling it is what it means; other ways to run it must give the same bits.
    """

    by: Sequence[float] | Vote
    """Factors of the models, or how they vote."""
    sparsifier: Sparsifier | None = None
    base: float = 0.0
    """Factor of the base, as one more term of a sum."""
    onto: float | None = None
    """Factor of the sum where it is added to the base."""

    def __call__(self, chunk: Chunk) -> torch.Tensor:
        """One chunk of the result."""
        if self.sparsifier:
            self.sparsifier(chunk)
        if isinstance(self.by, Vote):
            vote = self.by
            total = agree(chunk, vote.weights, vote.scales, normalize=vote.normalize, weighted=vote.weighted)
        else:
            terms = list(zip(chunk.models, self.by, strict=True))
            total = combine([*terms, (chunk.origin, self.base)] if self.base else terms, chunk)
        return total if self.onto is None else on_base(chunk, total, self.onto)
