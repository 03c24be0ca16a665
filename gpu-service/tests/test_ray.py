"""Jobs on a Ray cluster of this machine: the same bytes as here, the same errors, and they can be stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from owm_compute.backends.base import Control
from owm_compute.backends.ray import RayBackend
from owm_compute.errors import ComputeError, JobCancelled
from owm_compute.jobs.work import Message, ProgressMessage, WorkInput, WorkRequest
from owm_compute.merge.engine import run_program
from owm_compute.merge.program import Program
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.spool import block_count
from owm_compute.tensors.torch_io import save_tensors


@pytest.fixture(scope="module")
def backend() -> Iterator[RayBackend]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield RayBackend("local", workers=2, cancel_grace_s=5)
    ray.shutdown()


def program() -> dict[str, Any]:
    """TIES of two models on a base, in bf16."""
    return {
        "schema": "owm.merge-program/1",
        "seed": 3,
        "sources": [{"label": name, "weights": [f"{name}.safetensors"]} for name in ("a", "b", "base")],
        "settings": [
            {
                "values": {"normalize": 1, "rescale": 0, "lambda": 1},
                "each": {"weight": [0.5, 0.7], "density": [0.5, 0.5]},
            }
        ],
        "operations": [{"method": "dare_ties", "models": [0, 1], "base": 2}],
        "files": [{"path": "model.safetensors", "every": 0}],
    }


def request(directory: Path, damage: bool = False) -> WorkRequest:
    """A merge job whose inputs have all arrived."""
    inputs, work = directory / "inputs", directory / "work"
    inputs.mkdir()
    (work / "out").mkdir(parents=True)
    (work / "tmp").mkdir()
    items = []
    for seed, name in enumerate(("a", "b", "base")):
        generator = torch.Generator().manual_seed(seed)
        tensors = {f"{i}.weight": torch.randn(64 + i, 33, generator=generator).bfloat16() for i in range(6)}
        if damage and name == "b":
            tensors["5.weight"][0, 1] = float("inf")
        save_tensors(inputs / f"{name}.safetensors", tensors)
    (inputs / "program.json").write_text(json.dumps(program()))
    for path in sorted(inputs.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        items.append(WorkInput(name=path.name, path=str(path), sha256=digest, size=path.stat().st_size))
    (directory / "present").write_bytes(b"\1" * sum(block_count(item.size) for item in items))
    (work / "wanted").write_bytes(b"")
    return WorkRequest(
        kind="merge",
        spec={"program": "program.json"},
        inputs=items,
        inputs_directory=str(inputs),
        present=str(directory / "present"),
        wanted=str(work / "wanted"),
        directory=str(work),
        device="cpu",
        memory_bytes=2**30,
        file_bytes=2**30,
    )


def control() -> Control:
    return Control(deadline=time.monotonic() + 120)


def test_workers_of_a_cluster_give_the_bytes_that_this_process_gives(backend: RayBackend, tmp_path: Path) -> None:
    work = request(tmp_path)
    told: list[Message] = []
    result = backend.run(work, control(), told.append)
    sources = []
    for name in ("a", "b", "base"):
        path = tmp_path / "inputs" / f"{name}.safetensors"
        sources.append(
            SafetensorsSource([(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest())], label=name)
        )
    (tmp_path / "here").mkdir()
    # The record of a job names the program's file, where it has one.
    facts = {"program_sha256": hashlib.sha256((tmp_path / "inputs/program.json").read_bytes()).hexdigest()}
    here = run_program(Program.model_validate(program()), sources, tmp_path / "here", facts=facts)
    assert {file.path: file.sha256 for file in result.files} == {file.path: file.sha256 for file in here.files}
    assert any(isinstance(message, ProgressMessage) for message in told)


def test_an_error_on_a_worker_is_the_jobs_error(backend: RayBackend, tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match="not finite at index 1 in b") as failure:
        backend.run(request(tmp_path, damage=True), control(), lambda _: None)
    assert (failure.value.code, failure.value.field) == ("non_finite", "5.weight")


def test_a_job_on_the_cluster_can_be_cancelled(backend: RayBackend, tmp_path: Path) -> None:
    stop = control()
    stop.cancel.set()
    with pytest.raises(JobCancelled):
        backend.run(request(tmp_path), stop, lambda _: None)
