"""Sums that give the same bits on any machine and for any cut into chunks: fixed lanes, a fixed tree at the end.

Vectorised dot products add in an order that depends on the processor, so none is used where a sum decides output bytes.
Element i of a tensor is added to lane i mod `LANES`, in index order, by plain elementwise additions in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

LANES = 1 << 16


def tree_sum(lanes: torch.Tensor) -> float:
    """The sum by halving: the upper half is added to the lower one, elementwise, until one value is left."""
    values, n = lanes.clone(), len(lanes)
    while n > 1:
        half = (n + 1) // 2
        values[: n - half] += values[half:n]
        n = half
    return float(values[0]) if n else 0.0


def blocks(start: int, length: int, lanes: int = LANES) -> Iterator[tuple[int, int, int]]:
    """(lane, from, to): a chunk cut where its lanes wrap round."""
    done = 0
    while done < length:
        lane = (start + done) % lanes
        step = min(lanes - lane, length - done)
        yield lane, done, done + step
        done += step


class LaneSum:
    """The sum of a tensor's elements in float64; chunks must come in index order."""

    def __init__(self) -> None:
        self._lanes = torch.zeros(LANES, dtype=torch.float64)

    def add(self, start: int, values: torch.Tensor) -> None:
        """Adds elements [start, start + len(values)); any float dtype, 1-D."""
        for lane, low, high in blocks(start, len(values)):
            self._lanes[lane : lane + high - low] += values[low:high]

    def total(self) -> float:
        """The sum."""
        return tree_sum(self._lanes)


class Gram:
    """All dot products of n tensors of equal length, in float64."""

    def __init__(self, n: int) -> None:
        # Fewer lanes for more than eight tensors: 64 of them have 2080 pairs.
        self._count = LANES >> max(0, (n - 1).bit_length() - 3)
        self._wide = torch.empty(n, self._count, dtype=torch.float64)
        self._product = torch.empty(self._count, dtype=torch.float64)
        self._pairs = [(i, j) for i in range(n) for j in range(i, n)]
        self._lanes = torch.zeros(len(self._pairs), self._count, dtype=torch.float64)
        self._n = n

    def add(self, start: int, tensors: Sequence[torch.Tensor]) -> None:
        """Adds one chunk of every tensor, from flat index `start`; chunks must come in index order."""
        for lane, low, high in blocks(start, len(tensors[0]), self._count):
            width = high - low
            for row, tensor in zip(self._wide, tensors, strict=True):
                row[:width].copy_(tensor[low:high])
            # A product of float32 values is exact in float64: a fused multiply-add rounds as two operations do.
            exact = tensors[0].dtype is torch.float32
            for lanes, (i, j) in zip(self._lanes, self._pairs, strict=True):
                total, a, b = lanes[lane : lane + width], self._wide[i, :width], self._wide[j, :width]
                if exact:
                    total.addcmul_(a, b)
                else:
                    total += torch.mul(a, b, out=self._product[:width])

    def matrix(self) -> list[list[float]]:
        """The symmetric n × n matrix of dots."""
        sums = {pair: tree_sum(lanes) for pair, lanes in zip(self._pairs, self._lanes, strict=True)}
        return [[sums[min(i, j), max(i, j)] for j in range(self._n)] for i in range(self._n)]
