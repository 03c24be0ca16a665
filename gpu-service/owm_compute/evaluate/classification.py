"""Runs a classifier over a split and writes what any metric can be recomputed from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from owm_compute.data.table import Table
from owm_compute.errors import ComputeError
from owm_compute.evaluate.metrics import Floats, classification_metrics, confusion_matrix
from owm_compute.models.load import Model
from owm_compute.progress import Progress, Silent


@dataclass(frozen=True)
class Evaluation:
    """The outcome on a table: `logits` (n, k) float64 in the table's order, and `metrics` as the record has them."""

    table: Table
    logits: Floats
    metrics: list[dict[str, Any]]
    seed: int

    def record(self) -> dict[str, Any]:
        """The part of the record that follows from data and outputs alone."""
        classes = self.table.task.classes
        confusion = confusion_matrix(self.table.labels, self.logits.argmax(axis=1), len(classes))
        return {
            "n": len(self.table.ids),
            "metrics": self.metrics,
            "confusion": confusion.tolist(),
            "classes": list(classes),
            "task": self.table.task.identity(),
            "sample_ids_sha256": self.table.ids_sha256,
            "seed": self.seed,
        }

    def correct(self) -> dict[str, bool]:
        """Sample id → correct, for `owm_compute.evaluate.compare`."""
        right = self.logits.argmax(axis=1) == self.table.labels
        return dict(zip(self.table.ids, (bool(value) for value in right), strict=True))

    def write_samples(self, path: Path) -> tuple[str, int]:
        """Writes `samples.jsonl`, one line a sample; its SHA-256 (hex) and size."""
        classes = self.table.task.classes
        digest = hashlib.sha256()
        size = 0
        with path.open("wb") as stream:
            for name, label, row in zip(self.table.ids, self.table.labels, self.logits, strict=True):
                predicted = int(row.argmax())
                line = {
                    "id": name,
                    "target": classes[label],
                    "pred": classes[predicted],
                    "correct": predicted == int(label),
                    "logits": [_shortest(value) for value in row],
                }
                raw = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
                digest.update(raw)
                size += len(raw)
                stream.write(raw)
        return digest.hexdigest(), size


def evaluate_classifier(
    model: Model, table: Table, *, seed: int = 0, batch_size: int = 256, progress: Progress | None = None
) -> Evaluation:
    """Runs `model` over every row of `table`.

    Raises `ComputeError`: `dataset_mismatch` when they don't fit, `non_finite` when an output is NaN or infinite.
    """
    table.require_model(model.config)
    report = progress or Silent()
    n = len(table.ids)
    parts = []
    for start in range(0, n, batch_size):
        report.step(start, n, "samples")
        batch = model.logits(table.features[start : start + batch_size])
        if not np.isfinite(batch).all():
            row = start + int(np.argwhere(~np.isfinite(batch))[0][0])
            raise ComputeError("non_finite", f"the model's output for sample {table.ids[row]!r} is not finite")
        parts.append(batch)
    logits = np.concatenate(parts)
    report.step(n, n, "samples")
    return Evaluation(table, logits, classification_metrics(table.labels, logits, seed), seed)


def _shortest(value: float) -> float:
    # A float32 output is written with the digits that identify it; a wider one keeps all of its own.
    narrow = np.float32(value)
    return float(str(narrow)) if float(narrow) == value else float(value)
