"""The digits data set of scikit-learn as a task with CSV files, and models for it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sklearn.datasets import load_digits

from owm_compute.models.config import ModelConfig, parse_config

FEATURES = [f"p{i:02}" for i in range(64)]
TASK: dict[str, Any] = {
    "task": "digits",
    "version": "1.0",
    "kind": "classification",
    "modality": "image",
    "target": "label",
    "id": "id",
    "features": FEATURES,
    "classes": [str(i) for i in range(10)],
    "scale": 0.0625,
    "image_size": [8, 8],
    "splits": {"train": "data/train.csv", "validation": "data/validation.csv"},
}
MLP: dict[str, Any] = {
    "architectures": ["OwmMLP"],
    "model_type": "owm_mlp",
    "input_size": 64,
    "hidden_sizes": [32],
    "num_labels": 10,
    "activation": "relu",
}
CNN: dict[str, Any] = {
    "architectures": ["OwmCNN"],
    "model_type": "owm_cnn",
    "image_size": [8, 8],
    "in_channels": 1,
    "channels": [8, 16],
    "hidden_size": 32,
    "num_labels": 10,
    "activation": "relu",
}


@cache
def csv_rows(begin: int, end: int) -> bytes:
    """Rows [begin, end) of the data set as a CSV file."""
    digits = load_digits()
    lines = [",".join(["id", *FEATURES, "label"])]
    for i in range(begin, end):
        lines.append(",".join([f"d{i}", *(f"{value:g}" for value in digits.data[i]), str(digits.target[i])]))
    return ("\r\n".join(lines) + "\r\n").encode()


def task_json(**changes: Any) -> bytes:
    """`task.json`, with fields changed."""
    return json.dumps({**TASK, **changes}).encode()


def mlp(**changes: Any) -> ModelConfig:
    """A small perceptron for the digits."""
    return parse_config({**MLP, **changes})


def cnn(**changes: Any) -> ModelConfig:
    """A small convolutional network for the digits."""
    return parse_config({**CNN, **changes})
