"""From a program and the job's input files to the output files: opens every source, then runs the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from owm_compute.errors import ComputeError
from owm_compute.merge.computed import ComputedSource
from owm_compute.merge.engine import FileReport, MergeReport, digest_of, run_program
from owm_compute.merge.program import ConfigSpec, Program, SourceSpec
from owm_compute.merge.statistics import StatisticStore
from owm_compute.progress import Progress
from owm_compute.tensors.operand import Source
from owm_compute.tensors.safetensors_source import SafetensorsSource


class InputFiles(Protocol):
    """The verified input files of a job, by name."""

    def path(self, name: str) -> Path:
        """Where it lies; `input_missing` when the job has no such input."""

    def sha256(self, name: str) -> str:
        """Its digest."""


def parse_program(raw: bytes) -> Program:
    """A checked program. Raises `ComputeError` (`invalid_spec`) with the field."""
    try:
        return Program.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ComputeError("invalid_spec", f"program: {first['msg']}", field=f"program.{field}") from None


def run_merge(
    program: Program,
    inputs: InputFiles,
    output: Path,
    *,
    threads: int,
    progress: Progress,
    statistics: StatisticStore,
    on_file: Callable[[FileReport], None] | None = None,
) -> MergeReport:
    """Runs a program over a job's inputs; see `run_program`. Writes `config.json` too where the program says so."""
    with ExitStack() as stack:
        sources = _open_all(program, inputs, statistics, stack)
        report = run_program(
            program, sources, output, threads=threads, progress=progress, statistics=statistics, on_file=on_file
        )
    if program.config is None:
        return report
    return replace(report, files=[*report.files, _write_config(program, program.config, inputs, output)])


def _open_all(program: Program, inputs: InputFiles, statistics: StatisticStore, stack: ExitStack) -> Sequence[Source]:
    return [stack.enter_context(_open(spec, inputs, statistics, stack)) for spec in program.sources]


def _open(spec: SourceSpec, inputs: InputFiles, statistics: StatisticStore, stack: ExitStack) -> Source:
    if spec.program is not None:
        return ComputedSource(spec.label, spec.program, _open_all(spec.program, inputs, statistics, stack), statistics)
    return SafetensorsSource(
        [(name, inputs.path(name), inputs.sha256(name)) for name in spec.weights], label=spec.label
    )


def _write_config(program: Program, config: ConfigSpec, inputs: InputFiles, output: Path) -> FileReport:
    name = program.sources[config.source].config
    if name is None:
        raise ComputeError("invalid_spec", "the source of config.json has no configuration", field="program.config")
    raw = inputs.path(name).read_bytes()
    if config.patch:
        document = json.loads(raw)
        if not isinstance(document, dict):
            raise ComputeError("invalid_spec", f"{name} is no JSON object", field=name)
        raw = (json.dumps({**document, **config.patch}, indent=2, ensure_ascii=False) + "\n").encode()
    path = output / "config.json"
    path.write_bytes(raw)
    return FileReport("config.json", *digest_of(path))
