"""What a merge reads, whatever it is stored as: the same values in pieces of any size, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.tensors.operand import Operand
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of, save_tensors
from owm_compute.tensors.writer import TensorSpec, header_bytes

FRESH = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
cuts = st.lists(st.floats(0, 1), max_size=6)


def read(operand: Operand, cut: list[float] | None = None) -> torch.Tensor:
    """The whole operand, read in pieces that end at these fractions of it."""
    count = torch.Size(operand.shape).numel()
    whole = torch.empty(count, dtype=TORCH_DTYPES[operand.dtype])
    edges = [0, *sorted(int(fraction * count) for fraction in cut or []), count]
    for start, end in pairwise(edges):
        operand.read(start, whole[start:end])
    return whole.view(operand.shape)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have the same bytes."""
    return bytes_of(first) == bytes_of(second.contiguous())


def shards(folder: Path, *models: dict[str, torch.Tensor]) -> list[tuple[str, Path, str]]:
    """Writes each set of tensors as a shard."""
    written = []
    for index, tensors in enumerate(models):
        path = folder / f"shard-{index}.safetensors"
        path.unlink(missing_ok=True)
        sha256, _ = save_tensors(path, tensors)
        written.append((path.name, path, sha256))
    return written


@FRESH
@given(st.sampled_from(sorted(TORCH_DTYPES)), cuts)
def test_a_stored_tensor_is_read_as_it_is_in_any_pieces(tmp_path: Path, dtype: str, cut: list[float]) -> None:
    tensor = torch.arange(60).reshape(3, 4, 5).to(TORCH_DTYPES[dtype])
    files = shards(tmp_path, {"a": torch.zeros(3)}, {"b": tensor})
    with SafetensorsSource(files, label="team/model@main") as source:
        assert sorted(source) == ["a", "b"]
        operand = source["b"]
        assert (operand.dtype, operand.stored, operand.shape) == (dtype, dtype, (3, 4, 5))
        assert operand.identity == f"{files[1][2]}:b"
        assert operand.label == "team/model@main: b"
        assert same(read(operand, cut), tensor)


def test_many_threads_read_one_tensor(tmp_path: Path) -> None:
    tensor = torch.arange(1 << 16, dtype=torch.int32)
    with SafetensorsSource(shards(tmp_path, {"a": tensor}), label="m") as source, ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda part: read(source["a"], [part / 64]), range(64)))
    assert all(same(piece, tensor) for piece in pieces)


def test_elements_of_half_a_byte_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header_bytes({"w": TensorSpec("F4", (4,))}, {}) + bytes(2))
    with pytest.raises(ComputeError, match="tensor 'w' of F4 can't be merged"):
        SafetensorsSource([("model", path, "0" * 64)], label="m")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    files = shards(tmp_path, {"a": torch.zeros(100)})
    with SafetensorsSource(files, label="m") as source:
        files[0][1].write_bytes(files[0][1].read_bytes()[:-4])
        with pytest.raises(ComputeError, match="truncated"):
            read(source["a"])
