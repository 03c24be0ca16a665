"""The safetensors codec against shared vectors, the reference library and random bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.tensors.header import Header, HeaderError, header_length, parse_header
from owm_compute.tensors.reader import TensorSet
from owm_compute.tensors.torch_io import TORCH_DTYPES, load_tensor, save_tensors
from owm_compute.tensors.writer import TensorSpec, header_bytes
from tests.process import ROOT

VECTORS = ROOT.parent / "test" / "vectors" / "safetensors.json"
FRESH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def vectors() -> list[dict[str, Any]]:
    """The vectors that the edge's parser is held to as well."""
    found: list[dict[str, Any]] = json.loads(VECTORS.read_text())["files"]
    return found


def file_of(vector: dict[str, Any]) -> bytes:
    """The bytes of a vector."""
    if "base64" in vector:
        return base64.b64decode(vector["base64"])
    raw = b""
    for part in vector["build"]:
        if "base64" in part:
            raw += base64.b64decode(part["base64"])
        else:
            raw += "".join(part["text"].replace("{i}", str(i)) for i in range(part["times"])).encode()
    return raw


def parse(raw: bytes) -> Header:
    """The header of a whole file."""
    length = header_length(raw[:8], len(raw))
    return parse_header(raw[8 : 8 + length], len(raw))


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["name"])[:60])
def test_agrees_with_the_shared_vectors(vector: dict[str, Any]) -> None:
    raw = file_of(vector)
    if not vector["ok"]:
        with pytest.raises(HeaderError) as refused:
            parse(raw)
        assert refused.value.code == vector["code"]
        return
    header = parse(raw)
    assert header.header_bytes == vector.get("header_bytes", header.header_bytes)
    assert header.parameters == vector.get("parameters", header.parameters)
    assert header.metadata == vector.get("metadata", header.metadata)
    if "tensors" in vector:
        found = {t.name: (t.dtype, list(t.shape), t.begin, t.end) for t in header.tensors}
        wanted = {t["name"]: (t["dtype"], t["shape"], t["begin"], t["end"]) for t in vector["tensors"]}
        assert found == wanted


names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1, max_size=12).filter(
    lambda name: name not in ("__proto__", "__metadata__")
)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
layouts = st.dictionaries(names, st.tuples(st.sampled_from(sorted(TORCH_DTYPES)), shapes), max_size=6)


@FRESH
@given(layouts)
def test_writes_the_bytes_of_the_reference_library(
    tmp_path: Path, layout: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    tensors = {
        name: torch.arange(torch.Size(shape).numel()).reshape(shape).to(TORCH_DTYPES[dtype])
        for name, (dtype, shape) in layout.items()
    }
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)
    save_tensors(path, tensors)
    assert path.read_bytes() == safetensors.torch.save(tensors, metadata={"format": "pt"})
    with TensorSet([("model", path)]) as source:
        assert set(source) == set(tensors)
        for name, tensor in tensors.items():
            assert torch.equal(load_tensor(source, name), tensor)


VALID = header_bytes({"a": TensorSpec("F32", (2, 2)), "b": TensorSpec("U8", (3,))}, {"format": "pt"}) + bytes(19)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_with_a_code_or_read_as_something_valid(data: st.DataObject) -> None:
    raw = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        header = parse(bytes(raw))
    except HeaderError:
        return
    assert sum(tensor.nbytes for tensor in header.tensors) == len(raw) - header.data_start


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_tensors(tmp_path / name, {"a": torch.zeros(2)})
    with pytest.raises(ComputeError, match="stands in one and in two"):
        TensorSet([("one", tmp_path / "one"), ("two", tmp_path / "two")])
