"""Merging vocabularies: which tokens the output has, and which row each of them gets in every model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.merge.program import SourceSpec, TokenizerSpec
from owm_compute.merge.tokenizer import MergedTokenizer, merge_tokenizers
from owm_compute.tensors.operand import Operand
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors

WIDTH = 3


def tokenizer(tokens: Sequence[str], added: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json of whole words."""
    entries = [
        {"id": len(tokens) + i, "content": token, "special": True, "single_word": False}
        | {"lstrip": False, "rstrip": False, "normalized": False}
        for i, token in enumerate(added)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": entries,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": tokens[0]},
    }


class Workbench:
    """Models whose embedding has, in each column of row i, (i + 1) · 10ᵐ, with m the number of the model."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(
        self, models: Sequence[Mapping[str, Any]], rows: Sequence[int] | None = None, **spec: Any
    ) -> MergedTokenizer:
        specs, sources = [], []
        for index, document in enumerate(models):
            count = len(document["model"]["vocab"]) + len(document["added_tokens"])
            path = self._directory / f"{index}.safetensors"
            values = (torch.arange(rows[index] if rows else count) + 1.0) * 10**index
            save_tensors(path, {"embed": values.unsqueeze(1).expand(-1, WIDTH).contiguous(), "norm": torch.ones(2)})
            sources.append(SafetensorsSource([(path.name, path, f"digest-{index}")], label=f"model-{index}"))
            (self._directory / f"{index}.json").write_text(json.dumps(document))
            files = {"tokenizer.json": f"{index}.json"}
            specs.append(SourceSpec(label=f"model-{index}", weights=[path.name], folders={}, tokenizer=files))
        chosen = TokenizerSpec.model_validate({"source": "union", "base": 0, "embeddings": ["embed"], **spec})
        return merge_tokenizers(chosen, specs, sources, lambda name: self._directory / name)


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def first_column(operand: Operand) -> list[float]:
    out = torch.empty(operand.shape[0] * operand.shape[1])
    operand.read(0, out)
    return out.view(operand.shape)[:, 0].tolist()


def test_the_union_keeps_the_bases_ids_and_appends_the_rest(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a", "b", "c"]), tokenizer(["c", "d", "a"], ["<x>"])])
    # a b c, then d and <x> of the other model.
    assert merged.rows == 5
    base, other = merged.sources
    # The base lacks d and <x>: the only owner's rows; the other lacks b: the base's row.
    assert first_column(base["embed"]) == [1, 2, 3, 20, 40]
    assert first_column(other["embed"]) == [30, 2, 10, 20, 40]
    assert base["norm"].shape == (2,)
    written = tokenizers.Tokenizer.from_str(merged.files["tokenizer.json"].decode())
    assert [written.token_to_id(token) for token in ("a", "b", "c", "d", "<x>")] == [0, 1, 2, 3, 4]
    assert written.encode("a <x> b").ids == [0, 4, 1]


def test_a_token_that_only_others_have_is_their_mean(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a"]), tokenizer(["d"]), tokenizer(["d"])])
    assert first_column(merged.sources[0]["embed"]) == [1, (10 + 100) / 2]


def test_the_bases_vocabulary_is_kept_as_it_is(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a", "b"]), tokenizer(["b", "z"])], source="base")
    assert merged.rows == 2
    assert first_column(merged.sources[1]["embed"]) == [1, 10]
    assert json.loads(merged.files["tokenizer.json"]) == tokenizer(["a", "b"])


def test_another_models_vocabulary_is_taken(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a", "b"]), tokenizer(["b", "z"])], source=1)
    # b, z: the base has no z, the other model alone does.
    assert first_column(merged.sources[0]["embed"]) == [2, 20]


def test_named_tokens_get_the_row_that_is_asked_for(workbench: Workbench) -> None:
    tokens = [
        {"token": "<new>", "kind": "model_token", "model": 1, "model_token": "d"},
        {"token": "<empty>", "kind": "zero"},
        {"token": "a", "kind": "model_token", "model": 1, "model_id": 1, "force": True},
    ]
    merged = workbench([tokenizer(["a", "b"]), tokenizer(["a", "d"])], source="base", tokens=tokens)
    assert first_column(merged.sources[0]["embed"]) == [20, 2, 20, 0]
    assert first_column(merged.sources[1]["embed"]) == [20, 2, 20, 0]


def test_padding_rows_are_the_mean_row(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a", "b", "c"]), tokenizer(["a", "b", "c"])], pad_to_multiple_of=4)
    assert merged.rows == 4
    assert first_column(merged.sources[0]["embed"]) == [1, 2, 3, 2]


def test_ids_without_a_row_are_left_out(workbench: Workbench) -> None:
    merged = workbench([tokenizer(["a", "b"]), tokenizer(["a", "d", "e"])], rows=[2, 2])
    assert merged.rows == 3
    assert first_column(merged.sources[0]["embed"]) == [1, 2, 20]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"model": {"vocab": {"a": -1}}, "added_tokens": []}, "tokenizer_invalid"),
        ({"model": {"vocab": {"a": 2**60}}, "added_tokens": []}, "tokenizer_invalid"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}, "tokenizer_invalid"),
    ],
)
def test_refuses_a_tokenizer_that_is_none(workbench: Workbench, document: dict[str, Any], code: str) -> None:
    with pytest.raises(ComputeError, match="model-1") as failure:
        workbench([tokenizer(["a"]), document])
    assert failure.value.code == code


def test_refuses_a_token_that_its_model_lacks(workbench: Workbench) -> None:
    entry = {"token": "<new>", "kind": "model_token", "model": 1, "model_token": "nowhere"}
    with pytest.raises(ComputeError, match="model-1 has no token 'nowhere'"):
        workbench([tokenizer(["a"]), tokenizer(["b"])], tokens=[entry])


words = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(words, min_size=2, max_size=3), st.integers(1, 5), st.data())
def test_a_row_is_the_same_however_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, vocabularies: list[list[str]], step: int, data: st.DataObject
) -> None:
    workbench = Workbench(tmp_path_factory.mktemp("tokenizers"))
    merged = workbench([tokenizer(words) for words in vocabularies], pad_to_multiple_of=step)
    for source, vocabulary in zip(merged.sources, vocabularies, strict=True):
        operand = source["embed"]
        count = operand.shape[0] * WIDTH
        whole = torch.empty(count)
        operand.read(0, whole)
        start = data.draw(st.integers(0, count - 1))
        part = torch.empty(data.draw(st.integers(1, count - start)))
        operand.read(start, part)
        assert torch.equal(part, whole[start : start + len(part)])
        # A token that a model has keeps the model's own row.
        ids = tokenizers.Tokenizer.from_str(merged.files["tokenizer.json"].decode())
        for position, token in enumerate(vocabulary):
            own = torch.empty(WIDTH)
            source["embed"].read((ids.token_to_id(token) or 0) * WIDTH, own)
            assert own[0] == (position + 1) * 10 ** merged.sources.index(source)
