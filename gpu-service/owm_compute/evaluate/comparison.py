"""Compares two runs of the same task sample by sample, which is far sharper than comparing two intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from owm_compute.errors import ComputeError
from owm_compute.evaluate.metrics import RESAMPLES, percentile_interval


@dataclass(frozen=True)
class Comparison:
    """`difference` = accuracy of A − accuracy of B, its paired-bootstrap 95 % interval, and McNemar's exact p."""

    n: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    lo: float
    hi: float
    only_a_correct: int
    only_b_correct: int
    p_value: float


def compare(a: Mapping[str, bool], b: Mapping[str, bool], *, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Compares two runs given as sample id → correct. Raises `ComputeError` (`samples_differ`) for other ids."""
    if a.keys() != b.keys():
        missing = sorted(a.keys() ^ b.keys())[0]
        raise ComputeError("samples_differ", f"sample {missing!r} is in only one of the runs")
    if not a:
        raise ComputeError("samples_differ", "the runs have no samples")
    n = len(a)
    only_a = sum(1 for name, right in a.items() if right and not b[name])
    only_b = sum(1 for name, right in b.items() if right and not a[name])
    # A resample of pairs only changes how many of each of the three kinds of pair it holds.
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    lo, hi = percentile_interval((draws[:, 0] - draws[:, 1]) / n)
    return Comparison(
        n=n,
        accuracy_a=sum(a.values()) / n,
        accuracy_b=sum(b.values()) / n,
        difference=(only_a - only_b) / n,
        lo=lo,
        hi=hi,
        only_a_correct=only_a,
        only_b_correct=only_b,
        p_value=mcnemar_exact(only_a, only_b),
    )


def read_correct(samples: Path) -> dict[str, bool]:
    """Sample id → correct, from the `samples.jsonl` of an evaluation."""
    with samples.open(encoding="utf-8") as stream:
        rows = (json.loads(line) for line in stream)
        return {row["id"]: row["correct"] for row in rows}


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p of the discordant pairs under a fair coin; 1 when there are none."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(only_a, only_b) + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value - n * math.log(2)) for value in logs))
