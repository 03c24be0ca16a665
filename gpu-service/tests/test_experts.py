"""Mixtures of experts from dense models: the experts are copies, the gate comes from prompts or at random."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.run import parse_program, run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.progress import Silent
from owm_compute.tensors.torch_io import save_tensors

WORDS = ["[UNK]", "sum", "prove", "rhyme", "verse", "code"]
HIDDEN, INNER = 48, 80
GATE = "model.layers.0.block_sparse_moe.gate.weight"


def tokenizer_json() -> bytes:
    """A tokenizer of whole words."""
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
    return json.dumps(document).encode()


class Assembly:
    """Runs programs over three dense models of one block; the first is the base, the others are the experts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models = [self._model(seed) for seed in range(3)]
        (directory / "tokenizer").write_bytes(tokenizer_json())
        for index, tensors in enumerate(self.models):
            save_tensors(directory / str(index), tensors)

    def _model(self, seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = {
            "model.embed_tokens.weight": (len(WORDS), HIDDEN),
            "model.layers.0.input_layernorm.weight": (HIDDEN,),
            "model.layers.0.mlp.gate_proj.weight": (INNER, HIDDEN),
            "model.layers.0.mlp.down_proj.weight": (HIDDEN, INNER),
        }
        return {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}

    def path(self, name: str) -> Path:
        return self.directory / name

    arriving = path

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.path(name).read_bytes()).hexdigest()

    def __call__(
        self,
        mode: int,
        *,
        seed: int = 0,
        experts: int = 2,
        prompts: Sequence[Mapping[str, Any]] = (),
        tokenizer: str | None = "tokenizer",
    ) -> dict[str, torch.Tensor]:
        block = "model.layers.0"
        vectors = [f"owm.prompts.{i}" for i in range(len(prompts))] or [f"{block}.input_layernorm.weight"]
        renamed = {
            f"{block}.block_sparse_moe.experts.{expert}.{new}.weight": (1 + expert, f"{block}.mlp.{old}_proj.weight")
            for expert in range(2)
            for new, old in (("w1", "gate"), ("w2", "down"))
        }
        program = {
            "schema": "owm.merge-program/1",
            "seed": seed,
            "sources": [
                {"label": f"model {i}", "weights": [str(i)]}
                | ({"tokenizer": {"tokenizer.json": tokenizer}} if tokenizer else {})
                for i in range(3)
            ],
            "settings": [{"each": {"scale": [1.0]}}, {"values": {"experts": experts, "mode": mode}}],
            "operations": [
                {"method": "moe_gate", "models": [0] * len(vectors), "settings": 1},
                *({"method": "passthrough", "models": [i]} for i in range(3)),
            ],
            "files": [
                {
                    "path": "model.safetensors",
                    "tensors": [
                        {"name": GATE, "operation": 0, "names": vectors},
                        {"name": "model.embed_tokens.weight", "operation": 1},
                        *(
                            {"name": name, "operation": 1 + model, "names": [old]}
                            for name, (model, old) in renamed.items()
                        ),
                    ],
                }
            ],
            "prompts": [{"source": 0, "embedding": "model.embed_tokens.weight", **prompt} for prompt in prompts],
        }
        out = self.directory / f"out-{len(list(self.directory.iterdir()))}"
        out.mkdir()
        parsed = parse_program(json.dumps(program).encode())
        run_merge(parsed, self, out, threads=1, progress=Silent(), statistics=StatisticStore())
        return safetensors.torch.load_file(out / "model.safetensors")


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    return Assembly(tmp_path)


def test_experts_keep_their_bytes_under_new_names(assembly: Assembly) -> None:
    merged = assembly(1)
    for expert in range(2):
        own = assembly.models[1 + expert]
        for new, old in (("w1", "gate"), ("w2", "down")):
            name = f"model.layers.0.block_sparse_moe.experts.{expert}.{new}.weight"
            assert torch.equal(merged[name], own[f"model.layers.0.mlp.{old}_proj.weight"])
    assert torch.equal(merged["model.embed_tokens.weight"], assembly.models[0]["model.embed_tokens.weight"])


def test_gate_rows_are_the_directions_of_the_prompts(assembly: Assembly) -> None:
    gate = assembly(
        0,
        prompts=[
            {"positive": ["sum prove", "code"], "negative": ["rhyme"]},
            {"positive": ["rhyme verse"]},
        ],
    )[GATE]
    rows = assembly.models[0]["model.embed_tokens.weight"].double()
    expected = torch.stack([((rows[1] + rows[2]) / 2 + rows[5]) / 2 - rows[3], (rows[3] + rows[4]) / 2])
    expected /= expected.norm(dim=1, keepdim=True)
    assert gate.dtype is torch.bfloat16
    assert torch.allclose(gate.double(), expected, atol=2**-9)


def test_random_gates_depend_on_the_seed_and_have_their_spread(assembly: Assembly) -> None:
    bound = 1 / math.sqrt(HIDDEN)
    for mode, spread in ((1, bound), (2, bound / math.sqrt(3))):
        gate = assembly(mode, experts=64)[GATE].double()
        assert gate.shape == (64, HIDDEN)
        assert abs(float(gate.std()) - spread) < 0.05 * spread
        assert abs(float(gate.mean())) < 0.1 * spread
        assert torch.equal(assembly(mode, experts=64)[GATE].double(), gate)
        assert not torch.equal(assembly(mode, experts=64, seed=1)[GATE].double(), gate)
    assert float(assembly(2, experts=64)[GATE].abs().max()) <= bound * (1 + 2**-8)


@pytest.mark.parametrize(
    ("prompts", "options", "code"),
    [
        ([{"positive": ["sum"], "negative": ["sum"]}, {"positive": ["code"]}], {}, "prompts_cancel"),
        ([{"positive": ["sum"]}, {"positive": [" "]}], {}, "tokenizer_mismatch"),
        ([{"positive": ["sum"]}, {"positive": ["code"], "source": 9}], {}, "invalid_spec"),
        ([{"positive": ["sum"]}, {"positive": ["code"], "embedding": "wte"}], {}, "tensor_missing"),
        ([{"positive": ["sum"]}, {"positive": ["code"]}], {"experts": 3}, "invalid_spec"),
        ([{"positive": ["sum"]}, {"positive": ["code"]}], {"tokenizer": None}, "tokenizer_missing"),
        ([{"positive": ["sum"]}, {"positive": ["code"]}], {"tokenizer": "0"}, "tokenizer_invalid"),
    ],
    ids=["cancel", "no tokens", "source", "embedding", "count", "no tokenizer", "bad tokenizer"],
)
def test_prompts_that_make_no_gate_are_refused(
    assembly: Assembly, prompts: list[dict[str, Any]], options: dict[str, Any], code: str
) -> None:
    with pytest.raises(ComputeError) as refused:
        assembly(0, prompts=prompts, **options)
    assert refused.value.code == code
    assert refused.value.field
