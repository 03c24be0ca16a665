"""The k elements of largest magnitude: found in sweeps, exactly, by integer counts, in bounded memory.

Magnitudes are compared by their bit patterns, which order non-negative floats. Among equals the lower index is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from owm_compute.merge.method import Chunk, Operands

Bits = npt.NDArray[np.signedinteger]
View = Callable[[Chunk], Sequence[torch.Tensor]]
# Candidates that are gathered at once, over all selections of a tensor: 16 MiB.
_MOST = 1 << 20
# The first digit is the upper half of a float32 without its sign, which is cheap to come by.
_TOP = 15
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
        # Bits below the prefix; the sign is no part of it.
        self._shift = self._width = 0
        self._counts: torch.Tensor | None = None
        self._bits: list[Bits] = []
        self._places: list[Bits] = []
        self._seen = 0
        # Of all elements nothing is left out, whatever their magnitudes.
        self.boundary = Boundary(0.0, self._last) if rank == count else None

    def look(self, chunk: Chunk, values: torch.Tensor) -> None:
        """Counts or gathers the candidates of a chunk."""
        halves = values.dtype.itemsize // 2
        if self._width == 0:
            self._shift = self._width = 16 * halves - 1
        top = chunk.scratch(0).view(torch.int16)[: chunk.length]
        torch.bitwise_and(values.view(torch.int16)[halves - 1 :: halves], 0x7FFF, out=top)
        if self._shift == self._width and self._size > self._most:
            self._count(top, _TOP)
            return
        places, bits = self._candidates(chunk, values, top)
        if self._size <= self._most:
            self._places.append(places + chunk.start)
            self._bits.append(bits)
        elif self._shift > 0:
            self._count(torch.from_numpy(self._next_digits(bits)), _DIGIT)
        else:
            # All candidates are equal: the one of the wanted rank is met on the way.
            if self._rank <= self._seen + len(places):
                self.boundary = self._at(chunk.start + int(places[self._rank - self._seen - 1]))
            self._seen += len(places)

    def _candidates(self, chunk: Chunk, values: torch.Tensor, top: torch.Tensor) -> tuple[Bits, Bits]:
        """Places in the chunk and magnitudes, as integers, of what begins with the prefix."""
        kind = torch.int32 if values.dtype is torch.float32 else torch.int64
        everything = values.view(kind).numpy()
        if self._shift == self._width:
            return np.arange(len(values)), everything & np.iinfo(everything.dtype).max
        mask = chunk.scratch(1).view(torch.bool)[: chunk.length].numpy()
        np.equal(top.numpy(), self._prefix >> (self._width - _TOP - self._shift), out=mask)
        places = np.flatnonzero(mask)
        bits = everything[places] & np.iinfo(everything.dtype).max
        chosen = self._begins(bits)
        return places[chosen], bits[chosen]

    def narrow(self) -> None:
        """Draws the conclusion of a sweep."""
        if self._counts is not None:
            self._descend(self._counts)
            self._counts = None
            return
        bits, places = np.concatenate(self._bits), np.concatenate(self._places)
        while self.boundary is None and self._shift > 0:
            digits = self._next_digits(bits)
            self._descend(torch.bincount(torch.from_numpy(digits), minlength=1 << self._digit()))
            chosen = self._begins(bits)
            bits, places = bits[chosen], places[chosen]
        if self.boundary is None:
            self.boundary = self._at(int(places[self._rank - 1]))

    def _digit(self) -> int:
        return _TOP if self._shift == self._width else _DIGIT

    def _next_digits(self, bits: Bits) -> Bits:
        digit = self._digit()
        return (bits >> (self._shift - digit)) & ((1 << digit) - 1)

    def _begins(self, bits: Bits) -> npt.NDArray[np.bool_]:
        chosen: npt.NDArray[np.bool_] = (bits >> self._shift) == self._prefix
        return chosen

    def _count(self, digits: torch.Tensor, width: int) -> None:
        counts = torch.bincount(digits, minlength=1 << width)
        self._counts = counts if self._counts is None else self._counts + counts

    def _descend(self, counts: torch.Tensor) -> None:
        """Makes the digit in which the rank falls part of the prefix."""
        digit = self._digit()
        at_least = counts.flip(0).cumsum(0)
        place = int(torch.searchsorted(at_least, self._rank))
        bucket = len(counts) - 1 - place
        self._size = int(counts[bucket])
        self._rank -= int(at_least[place]) - self._size
        self._prefix = self._prefix << digit | bucket
        self._shift -= digit
        # Where all candidates are wanted, or all are zero, there is nothing left to tell apart.
        if self._rank == self._size or self._prefix == self._shift == 0:
            self.boundary = self._at(self._last)

    def _at(self, index: int) -> Boundary:
        bits = self._prefix << self._shift
        value = np.int32(bits).view(np.float32) if self._width < 32 else np.int64(bits).view(np.float64)
        return Boundary(float(value), index)
