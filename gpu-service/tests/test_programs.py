"""What edge and service must agree about: merge methods, what their inputs are read as, and what a program is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from owm_compute.merge import catalog as methods
from owm_compute.merge.program import Program, SourceSpec
from owm_compute.merge.run import run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.progress import Silent
from owm_compute.tensors import catalog as sources
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import TORCH_DTYPES, save_tensors

ROOT = Path(__file__).resolve().parents[1]
# Written by the edge's tests: the programs that recipes are compiled into, and those that nobody may run.
EXAMPLES = json.loads((ROOT.parent / "test/vectors/merge-programs.json").read_text())
SAFETENSORS = [example for example in EXAMPLES["programs"] if '"format":' not in json.dumps(example["program"])]
STAGED = [example for example in EXAMPLES["programs"] if '"format": "program"' in json.dumps(example["program"])]
ADAPTED = "model.layers.0.self_attn.q_proj"


def test_the_committed_table_of_methods_is_current() -> None:
    assert (ROOT / "methods.json").read_text() == methods.render(), "run: npm run methods"


def test_the_committed_table_of_sources_is_current() -> None:
    assert (ROOT / "sources.json").read_text() == sources.render(), "run: npm run sources"


class Inputs:
    """Models made up from what the edge knew of them: shapes and dtypes of their tensors."""

    def __init__(self, directory: Path, models: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        self._directory = directory
        self._models = models

    def path(self, name: str) -> Path:
        return self._directory / hashlib.sha256(name.encode()).hexdigest()

    arriving = path

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.path(name).read_bytes()).hexdigest()

    def add(self, source: SourceSpec) -> None:
        """Every file of a source."""
        if source.program is not None:
            for part in source.program.sources:
                self.add(part)
            return
        generator = torch.Generator().manual_seed(len(source.label))
        tensors = self._models[source.label]
        save_tensors(
            self.path(source.weights[0]),
            {
                name: torch.randn(shape, generator=generator).to(TORCH_DTYPES[dtype])
                for name, (dtype, *shape) in tensors.items()
            },
        )
        if source.config is not None:
            self.path(source.config).write_text(json.dumps({"model_type": "llama"}))
        rows = tensors.get("model.embed_tokens.weight", ("BF16", 0))[1]
        for name in source.tokenizer.values():
            vocabulary = {word: i for i, word in enumerate(["prove", "rhyme", "<a>", *map(str, range(rows - 3))])}
            self.path(name).write_text(
                json.dumps(
                    {
                        "version": "1.0",
                        "added_tokens": [],
                        "pre_tokenizer": {"type": "Whitespace"},
                        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "0"},
                    }
                )
            )
        if source.adapter is not None:
            self.path(source.adapter.config).write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
            factors = {"lora_A": torch.ones(1, 4), "lora_B": torch.ones(4, 1)}
            save_tensors(
                self.path(source.adapter.weights[0]),
                {f"base_model.model.{ADAPTED}.{factor}.weight": values for factor, values in factors.items()},
            )


@pytest.mark.parametrize("example", [*SAFETENSORS, *STAGED], ids=lambda example: str(example["name"]))
def test_a_program_of_the_edge_makes_what_the_edge_said(example: dict[str, Any], tmp_path: Path) -> None:
    program = Program.model_validate_json(json.dumps(example["program"]))
    inputs = Inputs(tmp_path, example["models"])
    for source in program.sources:
        inputs.add(source)
    output = tmp_path / "output"
    output.mkdir()
    run_merge(program, inputs, output, threads=1, progress=Silent(), statistics=StatisticStore())
    for index, file in enumerate(program.files):
        path = output / file.path
        with SafetensorsSource([(file.path, path, hashlib.sha256(path.read_bytes()).hexdigest())], label="") as made:
            assert set(made) == {tensor.name for tensor in file.tensors}
            sizes = [math.prod(one.shape) * TORCH_DTYPES[one.dtype].itemsize for one in made.values()]
        if example["files"] is not None:
            assert example["files"][index] == {"path": file.path, "tensors": len(sizes), "bytes": sum(sizes)}
    if program.config is not None:
        written = json.loads((output / "config.json").read_text())
        assert written.items() >= {"model_type": "llama", **program.config.patch}.items()


@pytest.mark.parametrize("example", EXAMPLES["programs"], ids=lambda example: str(example["name"]))
def test_a_program_of_the_edge_is_one_of_the_service(example: dict[str, Any]) -> None:
    program = Program.model_validate_json(json.dumps(example["program"]))
    assert json.loads(program.model_dump_json(by_alias=True, exclude_unset=True)) == example["program"]


@pytest.mark.parametrize("example", EXAMPLES["refused"], ids=lambda example: str(example["name"]))
def test_what_the_edge_calls_no_program_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Program.model_validate_json(json.dumps(example["program"]))
