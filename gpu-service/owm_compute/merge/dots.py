"""Dot products between the operands of a tensor: of whole tensors, of rows, of columns; all that angles are made of.

Whatever a method does in the span of its operands (means on a sphere, projections, norms) follows from their dot
products, so one sweep is enough however many iterations the method takes. Every sum has a fixed order: see `reduce`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Chunk, Operands
from owm_compute.merge.reduce import LANES, Gram, blocks

Matrix = list[list[float]]


def tensors_of(chunk: Chunk) -> list[torch.Tensor]:
    """The models and, last, the base where there is one."""
    return chunk.models if chunk.base is None else [*chunk.models, chunk.base]


def dots(operands: Operands, *, base: bool = False) -> Matrix:
    """The n × n matrix of dots of the models (deltas where the method takes deltas), with `base` of the base as well.

    Raises `ComputeError` (`non_finite`) with tensor and index. Kept for later merges of the same operands.
    """
    n = operands.models + int(base)

    def compute() -> Sequence[float]:
        gram = Gram(n)
        for chunk in operands.sweep():
            gram.add(chunk.start, tensors_of(chunk)[:n])
        numbers = [value for row in gram.matrix() for value in row]
        if not math.isfinite(sum(numbers)):
            raise non_finite(operands)
        return numbers

    numbers = operands.statistic(f"dots of {n}", compute)
    return [numbers[i * n : (i + 1) * n] for i in range(n)]


def row_dots(operands: Operands, columns: int) -> Iterator[torch.Tensor]:
    """The dots of the models within each row of `columns` elements: (k, n, n) in float64 for some rows at a time."""
    n = operands.models
    scratch = torch.empty(n + 1, _rows_at_a_time(columns), columns, dtype=torch.float64)
    for rows in whole_rows(operands, columns):
        *wide, product = scratch[:, : len(rows[0])]
        for target, tensor in zip(wide, rows[:n], strict=True):
            target.copy_(tensor)
        pairs = combinations_with_replacement(wide, 2)
        yield _symmetric([_fold(torch.mul(a, b, out=product)).clone() for a, b in pairs], operands)


def column_dots(operands: Operands, columns: int) -> torch.Tensor:
    """The dots of the models within each column, (columns, n, n) in float64; element i is in column i mod `columns`."""
    n = operands.models
    pairs = list(combinations_with_replacement(range(n), 2))
    # Several lanes a column where columns are few: an addition costs the same for 1 as for a thousand.
    lanes = columns * max(1, LANES // columns)
    sums = torch.zeros(len(pairs), lanes, dtype=torch.float64)
    for chunk in operands.sweep():
        for lane, low, high in blocks(chunk.start, chunk.length, lanes):
            wide = [model[low:high].double() for model in chunk.models]
            for total, (i, j) in zip(sums, pairs, strict=True):
                total[lane : lane + high - low] += wide[i] * wide[j]
    return _symmetric([_fold(total.view(-1, columns).T) for total in sums], operands)


def whole_rows(operands: Operands, columns: int) -> Iterator[list[torch.Tensor]]:
    """Sweeps over whole rows of `columns` elements, some at a time and in order: each operand (rows, columns).

    Rows may begin in one chunk and end in another, so that no result depends on how the tensor is cut. Beside a chunk,
    memory holds one row of each operand.
    """
    most = _rows_at_a_time(columns)
    begun: list[list[torch.Tensor]] = []
    held = 0
    for chunk in operands.sweep():
        tensors = tensors_of(chunk)
        head = min((columns - held) % columns, chunk.length)
        begun = begun or [[] for _ in tensors]
        for pieces, tensor in zip(begun, tensors, strict=True):
            pieces.append(tensor[:head].clone())
        held += head
        if held == columns:
            yield [torch.cat(pieces).view(1, columns) for pieces in begun]
            held = 0
        if held == 0:
            rows = (chunk.length - head) // columns
            body = [tensor[head : head + rows * columns].view(rows, columns) for tensor in tensors]
            for low in range(0, rows, most):
                yield [tensor[low : low + most] for tensor in body]
            begun = [[tensor[head + rows * columns :].clone()] for tensor in tensors]
            held = chunk.length - head - rows * columns


def scale_rows(values: torch.Tensor, factors: torch.Tensor, columns: int, start: int) -> torch.Tensor:
    """Multiplies the elements [start, start + len(values)) in place by the factor of their row of `columns`."""
    factors = factors.to(values)
    row, head = start // columns, min(-start % columns, len(values))
    if head:
        values[:head].mul_(factors[row])
        row += 1
    rows, rest = divmod(len(values) - head, columns)
    values[head : head + rows * columns].view(rows, columns).mul_(factors[row : row + rows, None])
    if rest:
        values[-rest:].mul_(factors[row + rows])
    return values


def scale_columns(values: torch.Tensor, factors: torch.Tensor, start: int) -> torch.Tensor:
    """Multiplies the elements [start, start + len(values)) in place by the factor of their column."""
    factors = factors.to(values)
    columns = len(factors)
    head = min(-start % columns, len(values))
    first = start % columns
    values[:head].mul_(factors[first : first + head])
    rows, rest = divmod(len(values) - head, columns)
    values[head : head + rows * columns].view(rows, columns).mul_(factors)
    if rest:
        values[-rest:].mul_(factors[:rest])
    return values


def non_finite(operands: Operands) -> ComputeError:
    """The error that names the first element of the operands that is NaN or infinite."""
    for chunk in operands.sweep():
        for tensor in tensors_of(chunk):
            bad = ~torch.isfinite(tensor)
            if bool(bad.any()):
                where = f"at index {chunk.start + int(bad.nonzero()[0])}"
                return ComputeError(
                    "non_finite", f"tensor {operands.name!r} is not finite {where}", field=operands.name
                )
    return ComputeError("non_finite", f"the norm of tensor {operands.name!r} is not finite", field=operands.name)


def _rows_at_a_time(columns: int) -> int:
    """As many as stay in a core's cache."""
    return max(1, LANES // columns)


def _fold(values: torch.Tensor) -> torch.Tensor:
    """Sums along the last axis by halving, elementwise, in the memory of `values`: (k, m) → (k,)."""
    n = values.shape[-1]
    while n > 1:
        half = (n + 1) // 2
        values[:, : n - half] += values[:, half:n]
        n = half
    return values[:, 0]


def _symmetric(upper: list[torch.Tensor], operands: Operands) -> torch.Tensor:
    """The matrices (k, n, n) of which `upper` has the upper triangles, row by row, each (k,)."""
    n = operands.models
    found = torch.empty(len(upper[0]), n, n, dtype=torch.float64)
    for pair, values in zip(combinations_with_replacement(range(n), 2), upper, strict=True):
        found[:, pair[0], pair[1]] = found[:, pair[1], pair[0]] = values
    if not bool(torch.isfinite(found).all()):
        raise non_finite(operands)
    return found
