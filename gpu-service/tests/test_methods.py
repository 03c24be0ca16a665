"""Merge methods through the engine: the results of their formulas, and what must hold for any numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.engine import run_program
from owm_compute.merge.program import Program
from owm_compute.tensors.operand import Operand, Source

VECTORS = Path(__file__).resolve().parents[2] / "test/vectors"
CASES = json.loads((VECTORS / "merge-methods.json").read_text())["cases"]
NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16"}
DELTA_METHODS = [
    "task_arithmetic",
    "ties",
    "ties_paper",
    "dare_linear",
    "dare_ties",
    "dare_paper_linear",
    "dare_paper_ties",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
]


class Held:
    """A tensor in memory as an operand."""

    def __init__(self, label: str, tensor: torch.Tensor) -> None:
        self.label = self.identity = label
        self.dtype = self.stored = NAMES[tensor.dtype]
        self.shape = tuple(tensor.shape)
        self._flat = tensor.reshape(-1)

    def read(self, start: int, out: torch.Tensor) -> None:
        out.copy_(self._flat[start : start + len(out)])


class OneTensor(Source):
    """A model of one tensor."""

    def __init__(self, label: str, name: str, tensor: torch.Tensor) -> None:
        self.label = label
        self._operands = {name: Held(f"{label}.{name}", tensor)}

    def __getitem__(self, name: str) -> Operand:
        return self._operands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operands)

    def __len__(self) -> int:
        return len(self._operands)


class Merger:
    """Runs a method over tensors in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.statistics: dict[str, Any] = {}

    def __call__(
        self,
        method: str,
        models: Sequence[torch.Tensor],
        base: torch.Tensor | None = None,
        *,
        values: Mapping[str, float] | None = None,
        each: Mapping[str, Sequence[float]] | None = None,
        seed: int = 0,
        tensor: str = "layer.weight",
        **options: Any,
    ) -> torch.Tensor:
        operands = [*models, *([] if base is None else [base])]
        program = Program.model_validate(
            {
                "schema": "owm.merge-program/1",
                "seed": seed,
                "sources": [{"label": f"model-{i}", "weights": [f"{i}"]} for i in range(len(operands))],
                "settings": [{"values": values or {}, "each": each or {}}],
                "operations": [
                    {
                        "method": method,
                        "models": list(range(len(models))),
                        "base": None if base is None else len(models),
                    }
                ],
                "files": [{"path": "model.safetensors", "every": 0}],
            }
        )
        for path in self.directory.iterdir():
            path.unlink()
        run_program(program, [OneTensor(f"{i}", tensor, x) for i, x in enumerate(operands)], self.directory, **options)
        lines = (self.directory / "merge-record.jsonl").read_text().splitlines()
        self.statistics = json.loads(lines[-1])["statistics"]
        return safetensors.torch.load_file(self.directory / "model.safetensors")[tensor]


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Merger:
    return Merger(tmp_path_factory.mktemp("merge"))


def tensor_of(numbers: Sequence[float], shape: Sequence[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).reshape(tuple(shape))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_method_gives_what_its_formula_gives(merge: Merger, case: Mapping[str, Any]) -> None:
    models = [tensor_of(numbers, case["shape"]) for numbers in case["models"]]
    base = None if case["base"] is None else tensor_of(case["base"], case["shape"])
    settings = {name: case[name] for name in ("values", "each", "seed", "tensor")}
    if "error" in case:
        with pytest.raises(ComputeError) as error:
            merge(case["method"], models, base, **settings)
        assert error.value.code == case["error"]
        return
    # Short chunks, so that every boundary between them is met.
    merged = merge(case["method"], models, base, **settings, chunk=7)
    expected = torch.tensor(case["expected"], dtype=torch.float64).reshape(merged.shape)
    assert (merged - expected).abs().max() <= case["tolerance"]
