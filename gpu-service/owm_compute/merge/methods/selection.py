"""The k elements of largest magnitude: found in sweeps, exactly, by integer counts, in bounded memory.

Magnitudes are compared by their bit patterns, which order non-negative floats. Among equals the lower index is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from owm_compute.merge.method import Chunk, Operands

View = Callable[[Chunk], Sequence[torch.Tensor]]
# Candidates that are gathered at once, over all selections of a tensor: 16 MiB.
_MOST = 1 << 20
_DIGIT = 16


@dataclass(frozen=True)
class Boundary:
    """Where the k largest elements end: they are larger than `magnitude`, or equal and not after flat index `index`."""

    magnitude: float
    index: int


def keep_largest(values: torch.Tensor, start: int, boundary: Boundary, out: torch.Tensor) -> torch.Tensor:
    """`out`: the values (elements from flat index `start` on) with zeros beyond the boundary; it may be `values`."""
    cut = min(max(boundary.index + 1 - start, 0), len(values))
    # `hardshrink` keeps what is larger than its limit; the next float below makes that "larger or equal".
    limit = torch.tensor(boundary.magnitude, dtype=values.dtype)
    below = float(torch.nextafter(limit, torch.zeros_like(limit)))
    torch.ops.aten.hardshrink.out(values[:cut], below, out=out[:cut])
    torch.ops.aten.hardshrink.out(values[cut:], boundary.magnitude, out=out[cut:])
    return out


def largest(operands: Operands, what: str, view: View, ranks: Sequence[int]) -> list[Boundary]:
    """Where the ranks[i] largest of the i-th tensor of `view` end, with 1 ≤ rank ≤ count.

    `what` names the view. The view may overwrite the chunk's operands and use its scratch from 3 on.
    """

    def search() -> list[float]:
        searches = [_Search(rank, operands.count, _MOST // len(ranks)) for rank in ranks]
        while any(one.boundary is None for one in searches):
            for chunk in operands.sweep():
                for one, values in zip(searches, view(chunk), strict=True):
                    if one.boundary is None:
                        one.look(chunk, values)
            for one in searches:
                if one.boundary is None:
                    one.narrow()
        found = [one.boundary for one in searches if one.boundary is not None]
        return [number for boundary in found for number in (boundary.magnitude, boundary.index)]

    numbers = operands.statistic(f"largest of {what}: {list(ranks)}", search)
    return [Boundary(numbers[i], int(numbers[i + 1])) for i in range(0, len(numbers), 2)]


class _Search:
    """A radix selection: the boundary is among the candidates, the elements whose upper bits are `prefix`.

    A sweep counts the candidates by their next bits. Once they are few, a sweep gathers them instead.
    """

    def __init__(self, rank: int, count: int, most: int) -> None:
        self._rank, self._size, self._most, self._last = rank, count, most, count - 1
        self._prefix = 0
        self._shift = -1
        self._dtype: np.dtype[np.signedinteger] = np.dtype(np.int32)
        self._counts: torch.Tensor | None = None
        self._bits: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._seen = 0
        # Of all elements nothing is left out, whatever their magnitudes.
        self.boundary = Boundary(0.0, self._last) if rank == count else None

    def look(self, chunk: Chunk, values: torch.Tensor) -> None:
        """Counts or gathers the candidates of a chunk."""
        if self._shift < 0:
            self._dtype = np.dtype(np.int32) if values.dtype is torch.float32 else np.dtype(np.int64)
            self._shift = 8 * self._dtype.itemsize - 1
        kind = torch.int32 if self._dtype == np.int32 else torch.int64
        bits, upper = chunk.scratch(0).view(kind), chunk.scratch(1).view(kind)
        torch.bitwise_and(values.view(kind), int(np.iinfo(self._dtype).max), out=bits)
        every = self._prefix == 0 and self._shift == 8 * self._dtype.itemsize - 1
        if every and self._size > self._most:
            self._count(torch.bitwise_right_shift(bits, self._shift - _DIGIT, out=upper), _DIGIT)
            return
        mask = chunk.scratch(2).view(torch.bool)[: chunk.length].numpy()
        np.equal(torch.bitwise_right_shift(bits, self._shift, out=upper).numpy(), self._prefix, out=mask)
        places = np.flatnonzero(mask)
        if self._size > self._most and self._shift > 0:
            digit = min(_DIGIT, self._shift)
            chosen = torch.from_numpy(bits.numpy()[places])
            self._count((chosen >> (self._shift - digit)) & ((1 << digit) - 1), digit)
        elif self._shift > 0:
            self._bits.append(bits.numpy()[places])
            self._places.append(places + chunk.start)
        else:
            # All candidates are equal: the one of the wanted rank is met on the way.
            if self._rank <= self._seen + len(places):
                self.boundary = self._at(self._prefix, chunk.start + int(places[self._rank - self._seen - 1]))
            self._seen += len(places)

    def narrow(self) -> None:
        """Draws the conclusion of a sweep."""
        if self._counts is not None:
            digit = min(_DIGIT, self._shift)
            at_least = self._counts.flip(0).cumsum(0)
            place = int(torch.searchsorted(at_least, self._rank))
            bucket = len(at_least) - 1 - place
            self._size = int(self._counts[bucket])
            self._rank -= int(at_least[place]) - self._size
            self._prefix = self._prefix << digit | bucket
            self._shift -= digit
            self._counts = None
            if self._rank == self._size or self._prefix == self._shift == 0:
                self.boundary = self._at(self._prefix << self._shift, self._last)
        else:
            bits, places = np.concatenate(self._bits), np.concatenate(self._places)
            limit = np.partition(bits, len(bits) - self._rank)[len(bits) - self._rank]
            equal = places[bits == limit]
            self.boundary = self._at(int(limit), int(equal[self._rank - np.count_nonzero(bits > limit) - 1]))

    def _count(self, digits: torch.Tensor, width: int) -> None:
        counts = torch.bincount(digits, minlength=1 << width)
        self._counts = counts if self._counts is None else self._counts + counts

    def _at(self, bits: int, index: int) -> Boundary:
        kind = np.float32 if self._dtype == np.int32 else np.float64
        return Boundary(float(np.array(bits, dtype=self._dtype).view(kind)), index)
