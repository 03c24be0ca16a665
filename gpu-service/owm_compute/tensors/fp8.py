"""Weights in 8-bit floats with their scales: dequantised while they are read, and the scales gone from the names.

A weight `X` may have its scale in `X_scale_inv` (DeepSeek) or `X_scale` (compressed-tensors, FBGEMM, ModelOpt): despite
the names, the value is stored · scale in both. A scale is one number for the tensor, one a row, or one a block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.operand import Operand, Overlay, Source, derived
from owm_compute.tensors.pieces import Rectangle, read_wide, rectangles
from owm_compute.tensors.torch_io import FLOAT8_DTYPES

# F8_E8M0 holds powers of two: it is a dtype of scales, not of weights.
WEIGHTS = frozenset(FLOAT8_DTYPES) - {"F8_E8M0"}
SCALE_SUFFIXES = ("_scale_inv", "_scale")
BLOCK = (128, 128)
# Of `quantization_config`: whose weights are floats with scales, and not integers packed in a way of their own.
FLOAT_QUANTIZATIONS = frozenset({"fp8", "fbgemm_fp8", "compressed-tensors", "modelopt"})


class Grid(NamedTuple):
    """How scales lie on a weight seen as `rows` × `columns`, in groups of `group` rows that start new blocks."""

    columns: int
    group: int
    block_rows: int
    block_columns: int
    grid_rows: int
    grid_columns: int

    def row(self, row: int) -> int:
        """The row of the scales for a row of the weight."""
        return row // self.group * self.grid_rows + row % self.group // self.block_rows


class ScaledOperand:
    """An 8-bit float tensor as F32: the exact value of each code, times its scale in one multiplication."""

    def __init__(self, weight: Operand, scale: Operand | None, block: tuple[int, int]) -> None:
        self._weight = weight
        self._scale = scale
        self._grid = _grid(weight, scale, block)
        self._values = _values(weight.dtype)
        self.label = weight.label
        self.dtype = "F32"
        self.stored = "BF16"
        self.shape = weight.shape
        self.identity = derived("fp8", weight.identity, scale and scale.identity, block)

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` (F32) with the dequantised elements from `start` on."""
        for piece in rectangles(start, len(out), self._grid.columns):
            count = piece.rows * piece.columns
            target = out[piece.at : piece.at + count]
            codes = torch.empty(count, dtype=torch.uint8)
            self._weight.read(start + piece.at, codes.view(FLOAT8_DTYPES[self._weight.dtype]))
            torch.index_select(self._values, 0, codes.to(torch.int32), out=target)
            if self._scale is not None:
                target.view(piece.rows, piece.columns).mul_(self._scales(self._scale, piece))

    def _scales(self, scale: Operand, piece: Rectangle) -> torch.Tensor:
        """Scales of a rectangle, to be broadcast to its shape."""
        grid = self._grid
        left = piece.column // grid.block_columns
        width = (piece.column + piece.columns - 1) // grid.block_columns + 1 - left
        rows = [grid.row(row) for row in range(piece.row, piece.row + piece.rows)]
        # A rectangle of several rows has them whole, so its scales stand in one run.
        scales = torch.empty((rows[-1] + 1 - rows[0]) * width)
        read_wide(scale, rows[0] * grid.grid_columns + left, scales)
        scales = scales.view(-1, width)
        if width > 1:
            skipped = piece.column - left * grid.block_columns
            scales = scales.repeat_interleave(grid.block_columns, 1)[:, skipped : skipped + piece.columns]
        if len(scales) > 1:
            scales = scales[torch.tensor([row - rows[0] for row in rows])]
        return scales


def dequantised(source: Source, block: tuple[int, int] = BLOCK) -> Source:
    """The source with its 8-bit floats as F32 operands; their scales, weight and activation, are no tensors of it.

    `block`: rows and columns that share a scale. Raises `tensor_shape_mismatch` for scales that do not fit.
    """
    replaced: dict[str, Operand] = {}
    hidden: set[str] = set()
    for name, weight in source.items():
        if weight.dtype not in WEIGHTS:
            continue
        scales = [name + suffix for suffix in SCALE_SUFFIXES if name + suffix in source]
        if len(scales) > 1:
            raise ComputeError("tensor_dtype_mismatch", f"{weight.label} has two scales: {' and '.join(scales)}")
        replaced[name] = ScaledOperand(weight, source[scales[0]] if scales else None, block)
        # The scale of activations has no meaning once the weight is not multiplied in 8 bits.
        hidden.update(scales, [name.removesuffix("weight") + "input_scale"])
    return Overlay(source, replaced, hidden) if replaced else source


def block_size(config: Mapping[str, object]) -> tuple[int, int]:
    """`quantization_config.weight_block_size` of a config.json, by default 128 × 128."""
    quantization = config.get("quantization_config")
    size = quantization.get("weight_block_size") if isinstance(quantization, dict) else None
    if size is None:
        return BLOCK
    match size:
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return rows, columns
    raise ComputeError(
        "config_invalid",
        f"weight_block_size is {size!r}, not two positive numbers",
        field="quantization_config.weight_block_size",
    )


@cache
def _values(dtype: str) -> torch.Tensor:
    """The value of each of the 256 codes: looking them up is several times faster than converting."""
    return torch.arange(256).to(torch.uint8).view(FLOAT8_DTYPES[dtype]).to(torch.float32)


def _grid(weight: Operand, scale: Operand | None, block: tuple[int, int]) -> Grid:
    *lead, rows, columns = (1, 1, *weight.shape)[-max(2, len(weight.shape)) :]
    if scale is None or math.prod(scale.shape) == 1:
        return Grid(columns, max(1, math.prod(lead) * rows), max(1, math.prod(lead) * rows), columns, 1, 1)
    shape = scale.shape if len(scale.shape) == len(weight.shape) else (*scale.shape, 1)
    if len(shape) == len(weight.shape) >= 2 and list(shape[:-2]) == lead and 0 not in weight.shape:
        block_rows = _block(rows, shape[-2], block[0])
        block_columns = _block(columns, shape[-1], block[1])
        if block_rows and block_columns:
            return Grid(columns, rows, block_rows, block_columns, shape[-2], shape[-1])
    raise ComputeError(
        "tensor_shape_mismatch",
        f"{scale.label} has shape {list(scale.shape)}, which is no scale for {list(weight.shape)} "
        f"in blocks of {block[0]} × {block[1]}",
        field="quantization_config.weight_block_size",
    )


def _block(size: int, scales: int, block: int) -> int:
    """How many of `size` rows or columns share one of `scales`; 0 if they do not fit."""
    if scales == 1:
        return size
    if scales == size:
        return 1
    return block if scales == -(-size // block) else 0
