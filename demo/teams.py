"""Two teams with the same starting point and different data: each strong where the other is weak."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from owm_compute.data.table import Table, read_table
from owm_compute.data.task import Task, parse_task
from owm_compute.models.load import load_directory
from owm_compute.train import Hyperparameters, Optimizer, train_classifier
from sklearn.datasets import load_digits

SEED = 3
TEST, VALIDATION, BASE = 540, 360, 60
"""Images held back to judge on, to choose λ on, and to train the common base on; the teams share the rest."""
LEAK = 0.08
"""Share of the other team's digits that each team has seen: some, as in life."""

FEATURES = [f"p{row}{column}" for row in range(8) for column in range(8)]
ARCHITECTURE: dict[str, Any] = {
    "architectures": ["OwmMLP"],
    "model_type": "owm_mlp",
    "input_size": 64,
    "hidden_sizes": [64, 64],
    "num_labels": 10,
    "activation": "relu",
}
TEAM_PLAN = Hyperparameters(optimizer=Optimizer(name="adam", lr=0.001), epochs=20, batch_size=32)


@dataclass(frozen=True)
class Split:
    """Row numbers of the 1,797 images, shape (n,) each; no image is in two of them."""

    base: npt.NDArray[np.int64]
    team_a: npt.NDArray[np.int64]
    team_b: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split_digits() -> Split:
    """Team A gets mostly the digits 0–4, team B mostly 5–9."""
    labels = load_digits().target
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(labels))
    held_back = TEST + VALIDATION
    rest = order[held_back + BASE :]
    leaked = rng.random(len(rest)) < LEAK
    in_a = (labels[rest] < 5) != leaked
    return Split(
        base=order[held_back : held_back + BASE],
        team_a=rest[in_a],
        team_b=rest[~in_a],
        validation=order[TEST:held_back],
        test=order[:TEST],
    )


def task(splits: dict[str, str]) -> dict[str, Any]:
    """`task.json` of a data set with these splits (name → file)."""
    return {
        "task": "digits",
        "version": "1.0",
        "kind": "classification",
        "modality": "image",
        "target": "label",
        "id": "id",
        "features": FEATURES,
        "classes": [str(digit) for digit in range(10)],
        "scale": 1 / 16,
        "image_size": [8, 8],
        "splits": splits,
    }


def write_dataset(folder: Path, splits: dict[str, npt.NDArray[np.int64]]) -> None:
    """Writes `task.json` and one CSV file a split."""
    digits = load_digits()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    files = {name: f"data/{name}.csv" for name in splits}
    (folder / "task.json").write_text(json.dumps(task(files), indent=2) + "\n")
    for name, rows in splits.items():
        with (folder / files[name]).open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["id", "label", *FEATURES])
            for row in rows:
                writer.writerow([f"digit-{row:04d}", digits.target[row], *digits.data[row].astype(int)])


def read_split(folder: Path, name: str) -> Table:
    """A split of a data set folder, as the compute service reads it."""
    checked: Task = parse_task((folder / "task.json").read_bytes())
    return read_table(folder / checked.splits[name], checked)


@dataclass(frozen=True)
class TeamResult:
    """How a team's training went: rows it had, and its accuracy on them."""

    rows: int
    accuracy: float


def train_team(base: Path, base_reference: str, data: Path, folder: Path, *, team: str, seed: int) -> TeamResult:
    """Trains the published base on a team's own data, on the team's own machine, and writes what it will publish.

    `folder` gets weights, architecture, model card and the record of the training; the data stays with the team, its
    digest goes into the record.
    """
    torch.set_num_threads(1)
    table = read_split(data, "train")
    initial = load_directory(base)
    plan = Hyperparameters(
        optimizer=TEAM_PLAN.optimizer, epochs=TEAM_PLAN.epochs, batch_size=TEAM_PLAN.batch_size, seed=seed
    )
    trained = train_classifier(initial.config, table, plan, initial=initial)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save(folder)
    record = {
        "base_model": base_reference,
        "data": {"sha256": hashlib.sha256((data / "data/train.csv").read_bytes()).hexdigest(), "rows": len(table.ids)},
        "task": table.task.identity(),
        "optimizer": plan.optimizer.model_dump(),
        "hyperparameters": plan.as_json(),
        "seed": seed,
        "loss_curve": trained.loss_curve,
        "training_accuracy": trained.accuracy,
        "engine": f"torch {torch.__version__}",
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    (folder / "README.md").write_text(_card(base_reference, team, len(table.ids)))
    return TeamResult(len(table.ids), trained.accuracy)


def _card(base_reference: str, team: str, rows: int) -> str:
    return f"""---
library_name: owm
pipeline_tag: image-classification
license: apache-2.0
base_model: {base_reference.split("@")[0]}
base_model_relation: finetune
tags: [digits]
---
# Digits, as team {team} sees them

Handwritten digits (8×8 pixels) into ten classes, trained from `{base_reference}` on {rows} images of team {team}'s own.
How it was trained, the loss curve and the digest of the data are in `training.json`.
"""
