"""DELLA: random elements of each delta are dropped, the smaller ones of a row with a higher probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Bounds, Chunk, Each, Operands, merge_method
from owm_compute.merge.methods.sparsify import Sparsifier, keep_where
from owm_compute.merge.methods.task_arithmetic import Density, Lambda, Weight, merge_deltas
from owm_compute.merge.random import Mask, random_words, stream_key

Floats = npt.NDArray[np.floating]
# Elements that are ranked at once, if a row isn't longer.
_GROUP = 1 << 17
_LONGEST = 1 << 23
_PAPER = "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617"
Epsilon = Annotated[Each, Bounds(0, 1, "how far the probability strays from the density at the ends", default=0.15)]


def _require_ranks(tensor: str, shape: tuple[int, ...], parameters: Mapping[str, Any]) -> None:
    for d, e in zip(parameters["density"], parameters["epsilon"], strict=True):
        if 0 < d < 1 and not (d - e > 0 and d + e < 1):
            raise ComputeError(
                "invalid_spec",
                f"a density of {d:g} ± {e:g} leaves the probabilities between 0 and 1",
                field="epsilon",
                fix="use an epsilon below both density and 1 − density",
            )
    if shape and shape[-1] > _LONGEST:
        raise ComputeError(
            "row_too_long",
            f"tensor {tensor!r} has rows of {shape[-1]} elements, and DELLA ranks whole rows of up to {_LONGEST}",
            field=tensor,
            fix="use ties or dare_ties for this tensor",
        )


@merge_method("della", reference=_PAPER, base="required", deltas=True, check=_require_ranks)
def della(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    epsilon: Epsilon,
    normalize: bool = True,
    rescale: bool = True,
    lambda_: Lambda = 1.0,
) -> Apply:
    """Randomly kept elements, larger ones likelier, where the sign is that of the weighted sum."""
    return merge_deltas(
        operands,
        by_rank(operands, density, epsilon),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=True,
    )


@merge_method("della_linear", reference=_PAPER, base="required", deltas=True, check=_require_ranks)
def della_linear(
    operands: Operands,
    *,
    weight: Weight,
    density: Density,
    epsilon: Epsilon,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Lambda = 1.0,
) -> Apply:
    """Weighted sum of randomly kept elements of the deltas, larger ones likelier."""
    return merge_deltas(
        operands,
        by_rank(operands, density, epsilon),
        weight=weight,
        normalize=normalize,
        rescale=rescale,
        lambda_=lambda_,
        consensus=False,
    )


def by_rank(operands: Operands, density: Sequence[float], epsilon: Sequence[float]) -> Sparsifier:
    """Keeps an element with probability density − ε + 2ε·rank, its rank by magnitude in its row going from 0 to 1.

    A 1-D tensor is one row; a density of 1 keeps all, 0 nothing. Which elements are kept is found here, with whole rows
    in sight, and remembered in a bit each: n/8 bytes a model for as long as the tensor is worked on.
    """
    sparse = [i for i, value in enumerate(density) if value < 1 and operands.count]
    masks = {i: _RankMask(operands, i, density[i], epsilon[i]) for i in sparse}
    for chunk in operands.sweep() if masks else ():
        for i, mask in masks.items():
            mask.add(chunk.models[i])

    def drop(chunk: Chunk) -> None:
        for i, mask in masks.items():
            keep_where(chunk.models[i], mask.part(chunk.start, chunk.length))

    return Sparsifier(f"ranks {list(density)} ± {list(epsilon)} {operands.seed} {operands.name}", drop)


class _RankMask:
    """The kept elements of one model's tensor, a bit each; `add` takes the tensor in pieces, in order."""

    def __init__(self, operands: Operands, model: int, density: float, epsilon: float) -> None:
        self._row = operands.shape[-1] if operands.shape else 1
        self._key = stream_key(operands.seed, operands.name, model)
        ranks = np.arange(self._row) / max(self._row - 1, 1)
        limits = np.round((density - epsilon + 2 * epsilon * ranks) * 2**32).clip(0, 2**32 - 1) * (density > 0)
        self._limits = torch.from_numpy(limits.astype(np.uint32).view(np.int32))
        self._bits = np.zeros((operands.count + 7) // 8, dtype=np.uint8)
        # Elements of a row that isn't whole yet, and kept elements that don't fill a byte yet.
        self._begun: list[Floats] = []
        self._loose = np.zeros(0, dtype=np.bool_)
        self._done = 0

    def add(self, piece: torch.Tensor) -> None:
        """Takes the next elements."""
        waiting = sum(map(len, self._begun))
        whole = (waiting + len(piece)) // self._row * self._row
        if whole == 0:
            self._begun.append(piece.numpy().copy())
            return
        head, tail = piece[: whole - waiting].numpy(), piece[whole - waiting :].numpy()
        values = np.concatenate([*self._begun, head]) if self._begun else head
        self._begun = [tail.copy()] if len(tail) else []
        step = max(_GROUP // self._row, 1) * self._row
        for low in range(0, whole, step):
            self._store(self._choose(values[low : low + step]))

    def part(self, start: int, length: int) -> Mask:
        """Whether each of the elements [start, start + length) is kept."""
        first = start // 8
        bits = np.unpackbits(self._bits[first : (start + length + 7) // 8], bitorder="little")
        return bits[start - 8 * first :][:length].view(np.bool_)

    def _choose(self, values: Floats) -> Mask:
        rows = values.reshape(-1, self._row)
        limits = torch.empty(rows.shape, dtype=torch.int32)
        limits.scatter_(1, _ascending(rows), self._limits.expand(rows.shape))
        words = random_words(self._key, self._done, len(values))
        self._done += len(values)
        return words < limits.numpy().view(np.uint32).ravel()

    def _store(self, kept: Mask) -> None:
        before = self._done - len(kept) - len(self._loose)
        joined = np.concatenate([self._loose, kept])
        packed = np.packbits(joined, bitorder="little")
        self._bits[before // 8 : before // 8 + len(packed)] = packed
        self._loose = joined[len(joined) // 8 * 8 :]


def _ascending(rows: Floats) -> torch.Tensor:
    """Columns from the smallest magnitude to the largest, row by row; among equals the lower column is the larger.

    A radix sort by 16 bits at a time, from the lowest on: NumPy's stable sort of such integers takes linear time.
    """
    digits = rows[:, ::-1].copy().view(np.uint16).reshape(*rows.shape, -1)
    digits[..., -1] &= 0x7FFF
    order = torch.from_numpy(np.argsort(digits[..., 0], axis=1, kind="stable"))
    for digit in range(1, digits.shape[-1]):
        column = torch.from_numpy(digits[..., digit].copy().view(np.int16)).gather(1, order)
        order = order.gather(1, torch.from_numpy(np.argsort(column.numpy().view(np.uint16), axis=1, kind="stable")))
    return order.neg_().add_(rows.shape[1] - 1)
