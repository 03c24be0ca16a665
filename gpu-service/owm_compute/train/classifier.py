"""Trains a classifier on a table, the same way every time for the same seed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from owm_compute.data.table import Table
from owm_compute.errors import ComputeError
from owm_compute.models.architectures import empty_model
from owm_compute.models.config import ModelConfig
from owm_compute.models.load import Model, require_finite
from owm_compute.progress import Progress, Silent
from owm_compute.tensors.torch_io import save_tensors
from owm_compute.train.initialization import InitScheme, initialize, named_seed
from owm_compute.train.optimizers import Optimizer, build_optimizer


@dataclass(frozen=True)
class Hyperparameters:
    """How to train; `init` only counts when training does not start from a model."""

    optimizer: Optimizer = field(default_factory=lambda: Optimizer(name="adam", lr=0.001))
    epochs: int = 10
    batch_size: int = 64
    seed: int = 0
    init: InitScheme = "he_normal"

    def as_json(self) -> dict[str, Any]:
        """The record's hyperparameters."""
        return {"epochs": self.epochs, "batch_size": self.batch_size}


@dataclass(frozen=True)
class TrainedModel:
    """A model and its loss curve (mean cross-entropy per epoch) and final accuracy on the training rows."""

    model: Model
    loss_curve: list[float]
    accuracy: float

    def save(self, directory: Path) -> dict[str, tuple[str, int]]:
        """Writes `model.safetensors` and `config.json`; file name → (SHA-256 hex, size)."""
        tensors = {name: parameter.detach() for name, parameter in self.model.module.named_parameters()}
        weights = save_tensors(directory / "model.safetensors", tensors)
        return {"model.safetensors": weights, "config.json": save_config(directory, self.model.config)}


def save_config(directory: Path, config: ModelConfig) -> tuple[str, int]:
    """Writes `config.json`; its SHA-256 (hex) and size."""
    raw = (json.dumps(config.model_dump(), indent=2) + "\n").encode()
    (directory / "config.json").write_bytes(raw)
    return hashlib.sha256(raw).hexdigest(), len(raw)


def train_classifier(
    config: ModelConfig,
    table: Table,
    plan: Hyperparameters,
    *,
    initial: Model | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TrainedModel:
    """Trains `config` on `table` by cross-entropy, from `initial` (changed in place) or from `plan.init`.

    Raises `ComputeError`: `dataset_mismatch` when table and model don't fit, `diverged` when the loss is not finite.
    """
    table.require_model(config)
    report = progress or Silent()
    torch.use_deterministic_algorithms(True)
    module = initial.module if initial is not None else empty_model(config)
    if initial is None:
        initialize(module, plan.init, plan.seed)
    module.to(device).train()
    optimizer = build_optimizer(module, plan.optimizer)
    features = torch.from_numpy(table.features).to(device)
    labels = torch.from_numpy(table.labels).to(device)
    order = torch.Generator().manual_seed(named_seed(plan.seed, "order of samples"))
    batches = math.ceil(len(labels) / plan.batch_size)
    curve: list[float] = []
    for epoch in range(plan.epochs):
        total = 0.0
        permutation = torch.randperm(len(labels), generator=order).to(device)
        for step, rows in enumerate(torch.split(permutation, plan.batch_size)):
            report.step(epoch * batches + step, plan.epochs * batches, "steps")
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(module(features[rows]), labels[rows])
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _diverged(epoch, step)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value * len(rows)
        curve.append(total / len(labels))
        report.metric("loss", epoch + 1, curve[-1])
    report.step(plan.epochs * batches, plan.epochs * batches, "steps")
    model = Model(config, module.eval())
    try:
        for name, parameter in module.named_parameters():
            require_finite(name, parameter.detach())
        predicted = model.predict(table.features).argmax(axis=1)
    except ComputeError:
        raise _diverged(plan.epochs - 1, batches - 1) from None
    return TrainedModel(model, curve, float(np.mean(predicted == table.labels)))


def _diverged(epoch: int, step: int) -> ComputeError:
    return ComputeError(
        "diverged",
        f"the loss or a weight is not finite in epoch {epoch + 1}, step {step + 1}",
        field="spec.optimizer.lr",
        fix="use a smaller learning rate or another initialisation",
    )
