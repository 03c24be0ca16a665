"""The function of each kind of job: from checked input files to output files and a record."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from owm_compute.data.table import Table, read_table, require_model
from owm_compute.data.task import parse_task
from owm_compute.errors import ComputeError
from owm_compute.evaluate.classification import evaluate_classifier
from owm_compute.jobs.statistics_shelf import STATISTICS
from owm_compute.jobs.work import OutputFile, WorkInput, WorkRequest
from owm_compute.merge.program import Program
from owm_compute.merge.run import parse_program, run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.workers import Workers
from owm_compute.models.config import ModelConfig, parse_config, parse_config_bytes
from owm_compute.models.load import load_model
from owm_compute.progress import Progress
from owm_compute.specs import EvaluateSpec, MergeSpec, TrainSpec
from owm_compute.tensors.spool import await_bytes
from owm_compute.train.classifier import Hyperparameters, train_classifier

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class JobOutput:
    """What a job made: files in the output directory and its record."""

    files: list[OutputFile]
    record: dict[str, Any]
    bytes_read: int
    device: str


class Inputs:
    """The input files of a request by name."""

    def __init__(self, request: WorkRequest) -> None:
        self._by_name = {item.name: item for item in request.inputs}

    def path(self, name: str) -> Path:
        """Where the input lies, once all of it is there."""
        item = self._item(name)
        await_bytes(Path(item.path), 0, item.size)
        return Path(item.path)

    def arriving(self, name: str) -> Path:
        """Where the input lies, perhaps in part: for readers that call `await_bytes` before each range."""
        return Path(self._item(name).path)

    def sha256(self, name: str) -> str:
        """The input's digest."""
        return self._item(name).sha256

    def _item(self, name: str) -> WorkInput:
        item = self._by_name.get(name)
        if item is None:
            raise ComputeError("input_missing", f"no input is named {name!r}", field=name, fix="add it to inputs")
        return item

    def shards(self, names: list[str]) -> list[tuple[str, Path]]:
        """(name, path) of several safetensors files, which may still be arriving."""
        return [(name, self.arriving(name)) for name in names]

    def config(self, name: str) -> ModelConfig:
        """The input as a model configuration."""
        return parse_config_bytes(self.path(name).read_bytes(), field=name)

    def table(self, task: str, data: str, split: str, config: ModelConfig) -> Table:
        """The rows of a split, once task and model are known to fit."""
        checked = parse_task(self.path(task).read_bytes(), field=task)
        checked.require_split(split)
        require_model(checked, config)
        return read_table(self.path(data), checked, label=data)

    def size(self, names: list[str]) -> int:
        """Bytes of several inputs together."""
        return sum(self.path(name).stat().st_size for name in names)


NewWorkers = Callable[[Program], Workers]


def run_job(request: WorkRequest, progress: Progress, new_workers: NewWorkers | None = None) -> JobOutput:
    """Runs a job in this process, a merge on other workers where they are given.

    Raises `ComputeError` or `JobCancelled`.
    """
    out = Path(request.directory) / "out"
    if request.kind == "merge":
        return _merge(request, Inputs(request), out, progress, new_workers)
    return _FUNCTIONS[request.kind](request, Inputs(request), out, progress)


def _merge(
    request: WorkRequest, inputs: Inputs, out: Path, progress: Progress, new_workers: NewWorkers | None
) -> JobOutput:
    name = MergeSpec.model_validate(request.spec).program
    started = time.monotonic()
    store = StatisticStore(Path(request.directory) / STATISTICS)
    program = parse_program(inputs.path(name).read_bytes())
    report = run_merge(
        program,
        inputs,
        out,
        threads=len(os.sched_getaffinity(0)),
        progress=progress,
        statistics=store,
        on_file=lambda file: progress.finished(file.path, file.sha256, file.size),
        workers=None if new_workers is None else new_workers(program),
        program_sha256=inputs.sha256(name),
    )
    store.save()
    record = {
        "program_sha256": inputs.sha256(name),
        "seed": program.seed,
        "determinism": report.determinism,
        "tensors": report.tensors,
        "parameters": report.parameters,
        "statistics": {"computed": store.computed, "found": store.found},
        "bytes_read": report.bytes_read,
        "bytes_written": report.bytes_written,
        "resumed_bytes": report.resumed_bytes,
        "seconds": round(time.monotonic() - started, 6),
    }
    files = [OutputFile(path=file.path, sha256=file.sha256, size=file.size) for file in report.files]
    # Merges stay on the CPU: a GPU's kernels are compiled by programs, which a job may not start.
    return JobOutput(files, record, report.bytes_read, "cpu")


def _evaluate(request: WorkRequest, inputs: Inputs, out: Path, progress: Progress) -> JobOutput:
    spec = EvaluateSpec.model_validate(request.spec)
    config = inputs.config(spec.config)
    table = inputs.table(spec.task, spec.data, spec.split, config)
    dtype = _DTYPES[spec.compute_dtype]
    model = load_model(config, inputs.shards(spec.weights), dtype=dtype, device=request.device)
    result = evaluate_classifier(model, table, seed=spec.seed, batch_size=spec.batch_size, progress=progress)
    sha256, size = result.write_samples(out / "samples.jsonl")
    record = {
        **result.record(),
        "compute_dtype": spec.compute_dtype,
        "device": request.device,
        "threads": torch.get_num_threads(),
    }
    file = OutputFile(path="samples.jsonl", sha256=sha256, size=size)
    read = inputs.size([spec.config, spec.task, spec.data, *spec.weights])
    return JobOutput([file], record, read, request.device)


def _train(request: WorkRequest, inputs: Inputs, out: Path, progress: Progress) -> JobOutput:
    spec = TrainSpec.model_validate(request.spec)
    started = time.monotonic()
    initial = None
    if spec.initial is not None:
        config = inputs.config(spec.initial.config)
        initial = load_model(config, inputs.shards(spec.initial.weights), device=request.device)
    else:
        config = parse_config(spec.config, field="spec.config")
    table = inputs.table(spec.task, spec.data, spec.split, config)
    plan = Hyperparameters(spec.optimizer, spec.epochs, spec.batch_size, spec.seed, spec.init)
    trained = train_classifier(config, table, plan, initial=initial, device=request.device, progress=progress)
    record = {
        "data_sha256": inputs.sha256(spec.data),
        "task": table.task.identity(),
        "split": spec.split,
        "optimizer": spec.optimizer.model_dump(),
        "hyperparameters": plan.as_json(),
        "init": spec.init if initial is None else "initial",
        "seed": spec.seed,
        "loss_curve": trained.loss_curve,
        "training_accuracy": trained.accuracy,
        "n": len(table.ids),
        "seconds": round(time.monotonic() - started, 6),
        "engine": {
            "torch": str(torch.__version__),
            "device": request.device,
            "threads": torch.get_num_threads(),
        },
    }
    files = [OutputFile(path=path, sha256=sha, size=size) for path, (sha, size) in trained.save(out).items()]
    raw = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
    (out / "training.json").write_bytes(raw)
    files.append(OutputFile(path="training.json", sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)))
    return JobOutput(files, record, inputs.size([spec.task, spec.data]), request.device)


_FUNCTIONS: dict[str, Callable[[WorkRequest, Inputs, Path, Progress], JobOutput]] = {
    "evaluate": _evaluate,
    "train": _train,
}
