"""Reads a CSV file (RFC 4180) into arrays, naming line and column of the first cell that does not fit the task."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from owm_compute.data.task import Task
from owm_compute.errors import ComputeError
from owm_compute.models.config import CnnConfig, ModelConfig

MAX_ROWS = 5_000_000
MAX_CELL = 100_000


class _Rows(Protocol):
    """What `csv.reader` gives: rows, and the line the last one ended on."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


@dataclass(frozen=True)
class Table:
    """The rows of a split: `ids` in file order, and what belongs to them.

    `features` (n, f) float32, already scaled; `labels` (n,) int64, indices into `task.classes`.
    """

    task: Task
    ids: list[str]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def ids_sha256(self) -> str:
        """SHA-256 (hex) of every id followed by a line feed, in order."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.ids).encode()).hexdigest()

    def require_model(self, config: ModelConfig) -> None:
        """Raises `dataset_mismatch` when the model has other inputs or classes than the task."""
        require_model(self.task, config)


def require_model(task: Task, config: ModelConfig) -> None:
    """Raises `dataset_mismatch` when the model has other inputs or classes than the task."""
    if config.feature_count != len(task.features):
        raise ComputeError(
            "dataset_mismatch",
            f"the model takes {config.feature_count} numbers, the task has {len(task.features)} features",
        )
    if config.num_labels != len(task.classes):
        raise ComputeError(
            "dataset_mismatch",
            f"the model knows {config.num_labels} classes, the task has {len(task.classes)}",
        )
    if isinstance(config, CnnConfig) and task.image_size is not None and config.image_size != task.image_size:
        raise ComputeError(
            "dataset_mismatch",
            f"the model takes images of {config.image_size}, the task has {task.image_size}",
        )


def read_table(path: Path, task: Task, *, label: str = "data") -> Table:
    """The rows of a split. Raises `ComputeError` (`dataset_mismatch`, `field` = `label`) with line and column."""
    csv.field_size_limit(MAX_CELL)
    try:
        with path.open("r", encoding="utf-8-sig", newline="") as stream:
            return _read(csv.reader(stream, strict=True), task, label)
    except UnicodeDecodeError as error:
        raise ComputeError("dataset_mismatch", f"the file is not UTF-8: {error}", field=label) from None


def _read(rows: _Rows, task: Task, label: str) -> Table:
    def refuse(message: str) -> ComputeError:
        return ComputeError("dataset_mismatch", message, field=label)

    lines = _lines(rows, label)
    header = next(lines, None)
    if header is None:
        raise refuse("line 1: the file is empty")
    position: dict[str, int] = {}
    for index, name in enumerate(header):
        if name in position:
            raise refuse(f"line 1: column {name!r} stands twice")
        position[name] = index
    for name in (task.id, task.target, *task.features):
        if name not in position:
            raise refuse(f"line 1: column {name!r} is missing")
    columns = [(position[name], name) for name in task.features]
    classes = {name: index for index, name in enumerate(task.classes)}
    ids: dict[str, None] = {}
    labels: list[int] = []
    batches: list[npt.NDArray[np.float32]] = []
    pending: list[list[float]] = []
    for row in lines:
        line = rows.line_num
        if len(row) != len(header):
            raise refuse(f"line {line}: {len(row)} cells, the header has {len(header)}")
        name = row[position[task.id]]
        if not name or name in ids:
            raise refuse(f"line {line}, column {task.id!r}: the id {name[:80]!r} is empty or stands twice")
        target = row[position[task.target]]
        if target not in classes:
            raise refuse(f"line {line}, column {task.target!r}: {target[:80]!r} is not one of the classes")
        numbers = [_number(row[index]) for index, _ in columns]
        if None in numbers:
            index, column = columns[numbers.index(None)]
            raise refuse(f"line {line}, column {column!r}: {row[index][:80]!r} is no finite number")
        if len(ids) >= MAX_ROWS:
            raise refuse(f"line {line}: more than {MAX_ROWS} rows")
        ids[name] = None
        labels.append(classes[target])
        pending.append([value for value in numbers if value is not None])
        if len(pending) == 4096:
            batches.append(_scaled(pending, task.scale))
            pending = []
    if not ids:
        raise refuse("line 2: the file has no rows")
    if pending:
        batches.append(_scaled(pending, task.scale))
    features = np.concatenate(batches)
    if not np.isfinite(features).all():
        row_index, column_index = np.argwhere(~np.isfinite(features))[0]
        raise refuse(f"row {row_index + 1}, column {task.features[column_index]!r}: not finite in float32")
    return Table(task, list(ids), features, np.array(labels, dtype=np.int64))


def _lines(rows: _Rows, label: str) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise ComputeError("dataset_mismatch", f"line {rows.line_num}: {error}", field=label) from None


def _scaled(rows: list[list[float]], scale: float) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return (np.array(rows, dtype=np.float64) * scale).astype(np.float32)


def _number(cell: str) -> float | None:
    # float() also reads "1_000", "nan" and digits of other scripts, none of which a CSV file should mean.
    if "_" in cell or not cell.isascii():
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
