"""An operand cut to a smaller shape from the front of each axis, as embeddings of unequal vocabularies are merged."""

from __future__ import annotations

import math

import torch

from owm_compute.tensors.operand import Operand


class CroppedOperand:
    """The elements of `operand` whose index lies within `shape` on every axis; no axis may grow."""

    def __init__(self, operand: Operand, shape: tuple[int, ...]) -> None:
        if len(shape) != len(operand.shape) or any(new > old for new, old in zip(shape, operand.shape, strict=True)):
            raise ValueError(f"{operand.label} of {list(operand.shape)} can't be cropped to {list(shape)}")
        self._operand = operand
        self.shape = shape
        self.label = operand.label
        self.dtype = operand.dtype
        self.stored = operand.stored
        self.identity = f"{operand.identity}|crop{list(shape)}"
        # Trailing axes that are whole are contiguous: one read covers as many as possible.
        axis = len(shape) - 1
        while axis > 0 and shape[axis] == operand.shape[axis]:
            axis -= 1
        self._axis = axis
        self._run = math.prod(shape[axis:])

    def read(self, start: int, out: torch.Tensor) -> None:
        """See `Operand.read`."""
        done = 0
        while done < len(out):
            run, within = divmod(start + done, self._run)
            step = min(self._run - within, len(out) - done)
            self._operand.read(self._begin(run) + within, out[done : done + step])
            done += step

    def _begin(self, run: int) -> int:
        """Flat index in the whole operand of the first element of a run."""
        position = 0
        for axis in range(self._axis):
            inner = math.prod(self.shape[axis + 1 : self._axis])
            index, run = divmod(run, inner)
            position += index * math.prod(self._operand.shape[axis + 1 :])
        return position
