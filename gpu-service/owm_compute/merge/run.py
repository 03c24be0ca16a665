"""From a program and the job's input files to the output files: opens every source, then runs the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from owm_compute.errors import ComputeError
from owm_compute.merge.align import align_sources
from owm_compute.merge.computed import ComputedSource
from owm_compute.merge.engine import FileReport, MergeReport, digest_of, run_program
from owm_compute.merge.program import ConfigSpec, Program, SourceSpec
from owm_compute.merge.statistics import StatisticStore
from owm_compute.models.config import MAX_CONFIG_BYTES
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
        sources = _open_all(program, inputs, statistics, progress, stack)
        report = run_program(
            program, sources, output, threads=threads, progress=progress, statistics=statistics, on_file=on_file
        )
    if program.config is None:
        return report
    return replace(report, files=[*report.files, _write_config(program, program.config, inputs, output)])


def _open_all(
    program: Program, inputs: InputFiles, statistics: StatisticStore, progress: Progress, stack: ExitStack
) -> Sequence[Source]:
    sources = [stack.enter_context(_open(spec, inputs, statistics, progress, stack)) for spec in program.sources]
    if program.align is None:
        return sources
    configs = [None if spec.config is None else _read_object(spec.config, inputs) for spec in program.sources]
    return align_sources(program.align, sources, configs, seed=program.seed, progress=progress)


def _open(
    spec: SourceSpec, inputs: InputFiles, statistics: StatisticStore, progress: Progress, stack: ExitStack
) -> Source:
    if spec.program is not None:
        parts = _open_all(spec.program, inputs, statistics, progress, stack)
        return ComputedSource(spec.label, spec.program, parts, statistics)
    return SafetensorsSource(
        [(name, inputs.path(name), inputs.sha256(name)) for name in spec.weights], label=spec.label
    )


def _write_config(program: Program, config: ConfigSpec, inputs: InputFiles, output: Path) -> FileReport:
    name = program.sources[config.source].config
    if name is None:
        raise ComputeError("invalid_spec", "the source of config.json has no configuration", field="program.config")
    raw = inputs.path(name).read_bytes()
    if config.patch:
        document = {**_read_object(name, inputs), **config.patch}
        raw = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    path = output / "config.json"
    path.write_bytes(raw)
    return FileReport("config.json", *digest_of(path))


def _read_object(name: str, inputs: InputFiles) -> dict[str, Any]:
    path = inputs.path(name)
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ComputeError("config_invalid", f"{name} is larger than {MAX_CONFIG_BYTES} bytes", field=name)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ComputeError("config_invalid", f"{name} is no JSON: {error}", field=name) from None
    if not isinstance(document, dict):
        raise ComputeError("config_invalid", f"{name} is no JSON object", field=name)
    return document
