"""An embedding (or lm_head) read in the order of another vocabulary: one row a token of the output."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from owm_compute.tensors.operand import Operand
from owm_compute.tensors.torch_io import TORCH_DTYPES

Rows = npt.NDArray[np.int64]
_ROWS_A_READ = 1024


class MappedRows:
    """Rows of one model in the order of the output's vocabulary; where it has none, the mean of others' rows.

    `own[t]` is the model's row of token t, or −1. Such a token's row is the mean of row `others[k][t]` over those
    operands k where that is ≥ 0, or zeros when there is none. Rows behind the vocabulary, up to `shape`, are padding:
    the mean of all rows before them. Values are float32, or float64 where the operand's are.
    """

    def __init__(
        self, operand: Operand, own: Rows, others: Sequence[tuple[Operand, Rows]], padded: int | None = None
    ) -> None:
        self._operand = operand
        self._own = own
        self._others = list(others)
        self._count = len(own)
        self._width = operand.shape[1]
        self._padding: torch.Tensor | None = None
        self._lock = threading.Lock()
        self.label = operand.label
        self.dtype = "F64" if operand.dtype == "F64" else "F32"
        self.stored = operand.stored
        self.shape = (padded or self._count, self._width)
        digest = hashlib.sha256(own.tobytes())
        for other, rows in self._others:
            digest.update(other.identity.encode())
            digest.update(rows.tobytes())
        self.identity = f"{operand.identity}|rows:{digest.hexdigest()}:{self.shape[0]}"

    def read(self, start: int, out: torch.Tensor) -> None:
        """See `Operand.read`."""
        done = 0
        while done < len(out):
            row, column = divmod(start + done, self._width)
            last = min(row + _ROWS_A_READ, -(-(start + len(out)) // self._width))
            values = self._rows(row, last).view(-1)[column:]
            step = min(len(values), len(out) - done)
            out[done : done + step] = values[:step]
            done += step

    def _rows(self, first: int, last: int) -> torch.Tensor:
        known = min(last, self._count)
        values = torch.zeros(last - first, self._width, dtype=TORCH_DTYPES[self.dtype])
        if first < known:
            own = self._own[first:known]
            _gather(self._operand, own, values)
            self._fill(first, np.flatnonzero(own < 0), values)
        if last > self._count:
            values[max(0, self._count - first) :] = self._mean_row()
        return values

    def _fill(self, first: int, missing: npt.NDArray[np.int64], values: torch.Tensor) -> None:
        if not len(missing):
            return
        total = torch.zeros(len(missing), self._width, dtype=values.dtype)
        owners = np.zeros(len(missing), dtype=np.int64)
        for operand, rows in self._others:
            wanted = rows[first + missing]
            part = torch.zeros_like(total)
            _gather(operand, wanted, part)
            total += part
            owners += wanted >= 0
        values[torch.from_numpy(missing)] = total / torch.from_numpy(np.maximum(owners, 1)).unsqueeze(1)

    def _mean_row(self) -> torch.Tensor:
        with self._lock:
            if self._padding is None:
                total = torch.zeros(self._width, dtype=torch.float64)
                # Row after row: the order of a vectorised sum differs between machines.
                for first in range(0, self._count, _ROWS_A_READ):
                    for row in self._rows(first, min(first + _ROWS_A_READ, self._count)):
                        total += row
                self._padding = (total / max(self._count, 1)).to(TORCH_DTYPES[self.dtype])
            return self._padding


def _gather(operand: Operand, rows: Rows, out: torch.Tensor) -> None:
    """Copies row `rows[i]` of the operand to row i of `out` where it is ≥ 0; consecutive rows are one read."""
    width = operand.shape[1]
    present = np.flatnonzero(rows >= 0)
    wanted = rows[present]
    # A run ends where the next row, or its place in the output, is not the one that follows.
    ends = np.flatnonzero((np.diff(wanted) != 1) | (np.diff(present) != 1)) + 1
    for low, high in zip([0, *ends.tolist()], [*ends.tolist(), len(present)], strict=True):
        if low < high:
            raw = torch.empty((high - low) * width, dtype=TORCH_DTYPES[operand.dtype])
            operand.read(int(wanted[low]) * width, raw)
            out[int(present[low]) : int(present[low]) + high - low] = raw.view(-1, width)
