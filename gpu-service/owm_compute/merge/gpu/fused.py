"""From a method's apply step to launches of the kernel, where the step is one that the kernel computes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from owm_compute.merge.gpu.kernels import (
    KEEP_ALL,
    KEEP_LARGEST,
    KEEP_RANDOM,
    NO_BASE,
    ONLY,
    ONTO,
    TERM,
    combine_kernel,
)
from owm_compute.merge.method import Apply
from owm_compute.merge.methods.combination import Combination, Vote
from owm_compute.merge.methods.selection import Boundary
from owm_compute.merge.methods.sparsify import Chance
from owm_compute.merge.random import keep_limit
from owm_compute.merge.resolve import Task

BLOCK = 1024
# Sums of more terms are float64 on the CPU.
MOST_MODELS = 8
_DTYPES = {"F32", "F16", "BF16"}


def fits(task: Task) -> bool:
    """Whether the kernel takes the dtypes and the number of the operands."""
    dtypes = {task.spec.dtype, *(operand.dtype for operand in task.operands)}
    return dtypes <= _DTYPES and len(task.models) + (task.base is not None) <= MOST_MODELS


@dataclass(frozen=True)
class Fused:
    """One task as the kernel computes it; `floats` and `ints` as it wants them."""

    floats: list[float]
    ints: list[int]
    flags: dict[str, object]
    tallies: tuple[str, ...]
    """Which counts are meant, of those that the kernel makes."""
    models: int

    @property
    def sums(self) -> int:
        """Rows of sums: pairs of models, then the result's square."""
        return self.models * (self.models + 1) // 2 + 1

    def tables(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers on a device."""
        floats = torch.tensor(self.floats, dtype=torch.float32, device=device)
        return floats, torch.tensor(self.ints, dtype=torch.int64, device=device)

    def launch(
        self,
        tables: tuple[torch.Tensor, torch.Tensor],
        operands: list[torch.Tensor],
        start: int,
        out: torch.Tensor,
        sums: torch.Tensor,
        counts: torch.Tensor,
    ) -> None:
        """Fills `out` (elements from `start` on), `sums` (rows, blocks) and `counts` (2, blocks), all on one device."""
        models = tuple(operands[: self.models])
        base = operands[-1]
        grid = (blocks_of(len(out)),)
        combine_kernel[grid](
            models,
            base,
            out,
            sums,
            counts,
            *tables,
            start,
            len(out),
            **self.flags,
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )


def blocks_of(length: int) -> int:
    """How many blocks compute so many elements."""
    return -(-length // BLOCK)


def fuse(task: Task, apply: Apply) -> Fused | None:
    """The kernel's form of an apply step, or None where it has none and runs on the CPU."""
    if not isinstance(apply, Combination) or not fits(task):
        return None
    rules = apply.sparsifier.rules if apply.sparsifier else {}
    if rules is None:
        return None
    vote = apply.by if isinstance(apply.by, Vote) else None
    if vote:
        weights = list(vote.weights)
        factors = [s * (w if vote.weighted else 1.0) for s, w in zip(vote.scales, weights, strict=True)]
        active = [weight != 0 for weight in weights]
    else:
        factors = list(apply.by)  # type: ignore[arg-type]
        weights = [0.0] * len(factors)
        active = [factor != 0 for factor in factors]
    floats: list[float] = []
    ints: list[int] = []
    keep = []
    for i, (factor, weight) in enumerate(zip(factors, weights, strict=True)):
        kind, numbers, integers = _rule(rules.get(i))
        keep.append(kind)
        floats += [factor, weight, *numbers]
        ints += integers
    base, number = _base(apply)
    flags = {
        "MODELS": len(factors),
        "ACTIVE": tuple(active),
        "FIRST": active.index(True) if any(active) else -1,
        "KEEP": tuple(keep),
        "DELTAS": task.method.deltas and task.base is not None,
        "BASE": base,
        "VOTE": vote is not None and any(active),
        "NORMALIZE": vote is not None and vote.normalize,
        "WEIGHTED": vote is None or vote.weighted,
    }
    tallies = (*(("kept",) if apply.sparsifier else ()), *(("sign_conflicts",) if vote else ()))
    return Fused([*floats, number], ints, flags, tallies, len(factors))


def _rule(rule: Boundary | Chance | None) -> tuple[int, list[float], list[int]]:
    if isinstance(rule, Boundary):
        limit = torch.tensor(rule.magnitude, dtype=torch.float32)
        below = float(torch.nextafter(limit, torch.zeros_like(limit)))
        return KEEP_LARGEST, [rule.magnitude, below], [rule.index, 0, 0, 0]
    if isinstance(rule, Chance) and keep_limit(rule.probability) < 2**32:
        return KEEP_RANDOM, [0.0, 0.0], [0, *rule.key, keep_limit(rule.probability)]
    return KEEP_ALL, [0.0, 0.0], [0, 0, 0, 0]


def _base(apply: Combination) -> tuple[int, float]:
    if apply.onto is not None:
        return (ONTO, apply.onto) if apply.onto else (ONLY, 0.0)
    return (TERM, apply.base) if apply.base else (NO_BASE, 0.0)


def fold(sums: torch.Tensor) -> list[float]:
    """The sums over all blocks: (rows, blocks) in float32, on the CPU."""
    return [math.fsum(row) for row in sums.tolist()]
