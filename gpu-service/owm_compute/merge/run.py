"""From a program and the job's input files to the output files: opens every source, then runs the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from owm_compute.errors import ComputeError
from owm_compute.merge.align import align_sources
from owm_compute.merge.computed import ComputedSource
from owm_compute.merge.engine import FileReport, MergeReport, digest_of, run_program
from owm_compute.merge.program import ConfigSpec, Program, SourceSpec
from owm_compute.merge.prompts import add_prompts
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tokenizer import MergedTokenizer, merge_tokenizers
from owm_compute.merge.workers import Workers
from owm_compute.progress import Progress
from owm_compute.tensors.open import InputFiles, open_source, read_json
from owm_compute.tensors.operand import Source


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
    workers: Workers | None = None,
    device: str = "cpu",
    program_sha256: str | None = None,
) -> MergeReport:
    """Runs a program over a job's inputs; see `run_program`. `program_sha256`: of the file that it was read from.

    Writes `config.json` and the tokenizer's files too, where the program says so.
    """
    with ExitStack() as stack:
        sources, tokenizer = open_sources(program, inputs, statistics, progress, stack)
        facts: dict[str, Any] = {} if program_sha256 is None else {"program_sha256": program_sha256}
        if tokenizer is not None:
            facts["tokenizer"] = {"rows": tokenizer.rows, "notes": tokenizer.notes}
        report = run_program(
            program,
            sources,
            output,
            threads=threads,
            progress=progress,
            statistics=statistics,
            on_file=on_file,
            facts=facts,
            workers=workers,
            device=device,
        )
    texts = dict(tokenizer.files) if tokenizer is not None else {}
    if program.config is not None:
        vocabulary = {} if tokenizer is None else {"vocab_size": tokenizer.rows}
        texts["config.json"] = _config(program, program.config, vocabulary, inputs)
    return replace(report, files=[*report.files, *(_write(output / name, raw) for name, raw in texts.items())])


def open_sources(
    program: Program, inputs: InputFiles, statistics: StatisticStore, progress: Progress, stack: ExitStack
) -> tuple[Sequence[Source], MergedTokenizer | None]:
    """The sources of a program as its operations see them, tokenizers and alignment applied; `stack` closes them."""
    sources: Sequence[Source] = [
        stack.enter_context(_open(spec, inputs, statistics, progress, stack)) for spec in program.sources
    ]
    merged = None
    if program.tokenizer is not None:
        merged = merge_tokenizers(program.tokenizer, program.sources, sources, inputs.path)
        sources = merged.sources
    sources = add_prompts(program, sources, inputs.path)
    if program.align is not None:
        configs = [None if spec.config is None else read_json(spec.config, inputs) for spec in program.sources]
        sources = align_sources(program.align, sources, configs, seed=program.seed, progress=progress)
    return sources, merged


def _open(
    spec: SourceSpec, inputs: InputFiles, statistics: StatisticStore, progress: Progress, stack: ExitStack
) -> Source:
    if spec.program is not None:
        parts, _ = open_sources(spec.program, inputs, statistics, progress, stack)
        return ComputedSource(spec.label, spec.program, parts, statistics)
    return open_source(spec, inputs)


def _config(program: Program, config: ConfigSpec, vocabulary: Mapping[str, Any], inputs: InputFiles) -> bytes:
    name = program.sources[config.source].config
    if name is None:
        raise ComputeError("invalid_spec", "the source of config.json has no configuration", field="program.config")
    changes = {**config.patch, **vocabulary}
    if not changes:
        return inputs.path(name).read_bytes()
    return (json.dumps({**read_json(name, inputs), **changes}, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, raw: bytes) -> FileReport:
    path.write_bytes(raw)
    return FileReport(path.name, *digest_of(path))
