"""Fixtures: tables of the digits, an edge, a running service, and submissions between them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from owm_compute.data.table import Table, read_table
from owm_compute.data.task import parse_task
from owm_compute.tensors.spool import BLOCK
from owm_compute.tensors.torch_io import save_tensors
from tests.digits import MLP, csv_rows, mlp, task_json
from tests.edge import Edge
from tests.process import ServiceProcess

torch.set_num_threads(1)
# Kernels run on the CPU; read when Triton is imported, which some library may do early.
os.environ.setdefault("TRITON_INTERPRET", "1")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def train_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The first 1200 digits."""
    path = tmp_path_factory.mktemp("digits") / "train.csv"
    path.write_bytes(csv_rows(0, 1200))
    return read_table(path, parse_task(task_json()))


@pytest.fixture(scope="session")
def validation_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The other 597 digits."""
    path = tmp_path_factory.mktemp("digits") / "validation.csv"
    path.write_bytes(csv_rows(1200, 1797))
    return read_table(path, parse_task(task_json()))


@pytest.fixture
def edge() -> Iterator[Edge]:
    """A fresh edge."""
    made = Edge()
    yield made
    made.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service for the tests that don't stop it."""
    process = ServiceProcess(tmp_path_factory.mktemp("service") / "state", "--slots", "2", "--cancel-grace", "0.5")
    yield process
    process.stop()


class Jobs:
    """Submissions to a service whose edge is `edge`."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge

    def submission(self, kind: str, spec: dict[str, Any], files: dict[str, bytes], **changes: Any) -> dict[str, Any]:
        """A submission with a new id and token."""
        job_id = f"job_{next(_numbers)}"
        token = f"token-of-{job_id}-3f9a"
        self.edge.tokens.add(token)
        home = f"{self.edge.url}/{job_id}"
        return {
            "id": job_id,
            "attempt": 1,
            "kind": kind,
            "spec": spec,
            "inputs": [self.edge.add_input(name, data) for name, data in files.items()],
            "hub": {"uploads_url": f"{home}/uploads", "events_url": f"{home}/progress", "result_url": f"{home}/result"},
            "token": token,
            "limits": {"timeout_s": 120, "memory_bytes": 2**31},
            **changes,
        }

    def train(self, *, data: bytes | None = None, limits: dict[str, int] | None = None, **spec: Any) -> dict[str, Any]:
        """A training of the small perceptron."""
        full = {
            "config": MLP,
            "task": "data/task.json",
            "data": "data/train.csv",
            "split": "train",
            "optimizer": {"name": "adam", "lr": 0.01},
            "epochs": 5,
            "batch_size": 64,
            **spec,
        }
        files = {"data/task.json": task_json(), "data/train.csv": data or csv_rows(0, 1200)}
        job = self.submission("train", full, files)
        job["limits"].update(limits or {})
        return job

    def endless(self) -> dict[str, Any]:
        """A training that lasts longer than any test."""
        return self.train(epochs=10_000)

    def merge(
        self, parents: list[bytes], weights: list[float], *, method: str = "linear", **spec: Any
    ) -> dict[str, Any]:
        """A linear merge, or one by another method that takes no base and, but for linear, no weights."""
        names = [f"models/{i}/model.safetensors" for i in range(len(parents))]
        program = {
            "schema": "owm.merge-program/1",
            "sources": [{"label": name, "weights": [name]} for name in names],
            "settings": [{"each": {"weight": weights}} if method == "linear" else {}],
            "operations": [{"method": method, "models": list(range(len(parents)))}],
            "files": [{"path": "model.safetensors", "every": 0}],
        }
        files = {**dict(zip(names, parents, strict=True)), "program.json": json.dumps(program).encode()}
        return self.submission("merge", {"program": "program.json", **spec}, files)

    def program(self, parents: list[bytes], shards: dict[str, list[str]], **spec: Any) -> dict[str, Any]:
        """The mean of models, by a program; `shards`: tensors of each output file."""
        names = [f"models/{i}/model.safetensors" for i in range(len(parents))]
        program = {
            "schema": "owm.merge-program/1",
            "sources": [{"label": name, "weights": [name]} for name in names],
            "settings": [{"each": {"weight": [1.0] * len(parents)}}],
            "operations": [{"method": "linear", "models": list(range(len(parents)))}],
            "files": [
                {"path": path, "tensors": [{"name": name, "operation": 0} for name in tensors]}
                for path, tensors in shards.items()
            ],
        }
        files = {"program.json": json.dumps(program).encode(), **dict(zip(names, parents, strict=True))}
        return self.submission("merge", {"program": "program.json", **spec}, files)

    def evaluate(self, weights: bytes, config: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """An evaluation on the validation split."""
        full = {
            "config": "model/config.json",
            "weights": ["model/model.safetensors"],
            "task": "data/task.json",
            "data": "data/validation.csv",
            "split": "validation",
            **spec,
        }
        files = {
            "model/config.json": json.dumps(config or MLP).encode(),
            "model/model.safetensors": weights,
            "data/task.json": task_json(),
            "data/validation.csv": csv_rows(1200, 1797),
        }
        return self.submission("evaluate", full, files)


@pytest.fixture
def jobs(edge: Edge) -> Jobs:
    """Submissions whose inputs and results are at `edge`."""
    return Jobs(edge)


def wide_model(directory: Path, seed: int) -> bytes:
    """A model file of a little more than two blocks: `first.weight` lies in the first two, `second.weight` behind."""
    generator = torch.Generator().manual_seed(seed)
    rows = BLOCK // 4 // 1024
    tensors = {f"{name}.weight": torch.randn(rows, 1024, generator=generator) for name in ("first", "second")}
    path = directory / f"wide-{seed}-{next(_numbers)}.safetensors"
    save_tensors(path, tensors)
    return path.read_bytes()


def model_bytes(directory: Path, seed: int = 0) -> bytes:
    """A model file of the small perceptron with random weights."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in mlp().tensor_shapes().items()}
    path = directory / f"model-{seed}-{next(_numbers)}.safetensors"
    save_tensors(path, tensors)
    return path.read_bytes()
