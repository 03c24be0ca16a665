"""Cuts reads into pieces that stay in cache, so that what transforms a tensor on the way needs little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from owm_compute.tensors.operand import Operand
from owm_compute.tensors.torch_io import FLOAT8_DTYPES, TORCH_DTYPES

# Elements. In float32 a piece and its temporaries fit into a core's second-level cache.
PIECE = 1 << 16


class Rectangle(NamedTuple):
    """Some columns of one row, or whole rows; `at` is where they stand in the range that was cut."""

    at: int
    row: int
    rows: int
    column: int
    columns: int


def rectangles(start: int, count: int, width: int, most: int = PIECE) -> Iterator[Rectangle]:
    """Cuts the flat range [start, start + count) of a row-major matrix into rectangles of at most `most` elements."""
    at = 0
    while at < count:
        row, column = divmod(start + at, width)
        rows = min(count - at, most) // width
        if column or rows == 0:
            piece = Rectangle(at, row, 1, column, min(width - column, count - at, most))
        else:
            piece = Rectangle(at, row, rows, 0, width)
        yield piece
        at += piece.rows * piece.columns


def read_wide(operand: Operand, start: int, out: torch.Tensor) -> None:
    """Fills `out`, of float32 or float64, with elements of an operand of any float dtype, converted."""
    dtype = TORCH_DTYPES.get(operand.dtype) or FLOAT8_DTYPES[operand.dtype]
    if dtype == out.dtype:
        operand.read(start, out)
        return
    raw = torch.empty(min(PIECE, len(out)), dtype=dtype)
    for at in range(0, len(out), PIECE):
        target = out[at : at + PIECE]
        operand.read(start + at, raw[: len(target)])
        target.copy_(raw[: len(target)])
