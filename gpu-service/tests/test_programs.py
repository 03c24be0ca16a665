"""What edge and service must agree about: the table of merge methods, and what a merge program is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from owm_compute.merge.catalog import render
from owm_compute.merge.method import bind, find_method
from owm_compute.merge.program import Program

ROOT = Path(__file__).resolve().parents[1]
# Written by the edge's tests: the programs that recipes are compiled into, and those that nobody may run.
EXAMPLES = json.loads((ROOT.parent / "test/vectors/merge-programs.json").read_text())


def test_the_committed_table_of_methods_is_current() -> None:
    assert (ROOT / "methods.json").read_text() == render(), "run: npm run methods"


@pytest.mark.parametrize("example", EXAMPLES["programs"], ids=lambda example: str(example["name"]))
def test_a_program_of_the_edge_can_be_run(example: dict[str, Any]) -> None:
    program = Program.model_validate_json(json.dumps(example["program"]))
    for operation in program.operations:
        settings = program.settings[operation.settings]
        assert bind(find_method(operation.method), settings.values, settings.each, len(operation.models)) is not None


@pytest.mark.parametrize("example", EXAMPLES["refused"], ids=lambda example: str(example["name"]))
def test_what_the_edge_calls_no_program_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Program.model_validate_json(json.dumps(example["program"]))
