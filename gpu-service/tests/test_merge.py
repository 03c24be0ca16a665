"""The linear merge: its arithmetic, its exactness at the ends and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.merge.engine import MergeReport, run_program
from owm_compute.merge.program import Program
from owm_compute.merge.workspace import CHUNK
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors

Tensors = dict[str, torch.Tensor]


class Merger:
    """Merges tensors through files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.report: MergeReport
        self.output = directory / "out" / "model.safetensors"
        self.output.parent.mkdir()

    def __call__(
        self,
        models: Sequence[Tensors],
        weights: Sequence[float],
        *,
        normalize: bool = True,
        out_dtype: str | None = None,
    ) -> Tensors:
        with ExitStack() as stack:
            parents = []
            for index, tensors in enumerate(models):
                path = self.directory / f"parent{index}.safetensors"
                sha256, _ = save_tensors(path, tensors)
                source = SafetensorsSource([(path.name, path, sha256)], label=f"parent{index}")
                parents.append(stack.enter_context(source))
            program = {
                "schema": "owm.merge-program/1",
                "sources": [{"label": parent.label, "weights": [parent.label]} for parent in parents],
                "settings": [{"values": {"normalize": int(normalize)}, "each": {"weight": list(weights)}}],
                "operations": [{"method": "linear", "models": list(range(len(parents)))}],
                "files": [
                    {
                        "path": self.output.name,
                        "tensors": [{"name": name, "operation": 0, "dtype": out_dtype} for name in models[0]],
                    }
                ],
            }
            self.report = run_program(Program.model_validate(program), parents, self.output.parent)
        return safetensors.torch.load_file(self.output)


@pytest.fixture
def merger(tmp_path: Path) -> Merger:
    return Merger(tmp_path)


def random_model(seed: int, dtype: torch.dtype = torch.float32, size: int = 1000) -> Tensors:
    """Two tensors of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    made = {"w": torch.randn(size, generator=generator), "b": torch.randn(3, 5, generator=generator)}
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def expected(
    models: Sequence[Tensors], weights: Sequence[float], normalize: bool = True
) -> dict[str, npt.NDArray[np.float32]]:
    """The weighted sum, operation by operation in float32."""
    total = sum(weights) if normalize else 1.0
    result = {}
    for name in models[0]:
        arrays: list[npt.NDArray[np.float32]] = [model[name].float().numpy() for model in models]
        value: npt.NDArray[np.float32] = arrays[0] * np.float32(weights[0] / total)
        for array, weight in zip(arrays[1:], weights[1:], strict=True):
            value = np.asarray(value + array * np.float32(weight / total), dtype=np.float32)
        result[name] = value
    return result


@pytest.mark.parametrize("weights", [[0.5, 0.5, 1], [0.3, 0.7, 2], [-1, 3, 0.25]])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_float32_sum_bit_for_bit(merger: Merger, weights: list[float], normalize: bool) -> None:
    models = [random_model(seed) for seed in range(3)]
    merged = merger(models, weights, normalize=normalize)
    for name, value in expected(models, weights, normalize).items():
        assert np.array_equal(merged[name].numpy(), value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounds_once_to_the_dtype_of_the_first_model(merger: Merger, dtype: torch.dtype) -> None:
    models = [random_model(1, dtype), random_model(2, torch.float32)]
    merged = merger(models, [0.3, 0.7])
    for name, value in expected(models, [0.3, 0.7]).items():
        assert merged[name].dtype == dtype
        assert torch.equal(merged[name], torch.from_numpy(value).to(dtype))


def test_an_output_dtype_can_be_chosen(merger: Merger) -> None:
    merged = merger([random_model(1), random_model(2)], [1, 1], out_dtype="BF16")
    assert merged["w"].dtype == torch.bfloat16


def test_float64_parents_keep_their_precision(merger: Merger) -> None:
    a, b = random_model(1, torch.float64), random_model(2, torch.float64)
    a["w"] += 1e-12
    assert torch.equal(merger([a, b], [1, 1])["w"], a["w"] * 0.5 + b["w"] * 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_weight_of_one_against_zero_gives_the_bytes_of_that_parent(
    merger: Merger, tmp_path: Path, dtype: torch.dtype, keep: int
) -> None:
    models = [random_model(1, dtype), random_model(2, dtype)]
    models[keep]["w"][0] = -0.0
    merger(models, [0.0, 0.0][:keep] + [0.4] + [0.0] * (1 - keep))
    assert merger.output.read_bytes() == (tmp_path / f"parent{keep}.safetensors").read_bytes()


def test_the_report_is_true(merger: Merger) -> None:
    merger([random_model(1), random_model(2)], [1, 1])
    raw = merger.output.read_bytes()
    assert (merger.report.files[0].sha256, merger.report.files[0].size) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert (merger.report.tensors, merger.report.parameters) == (2, 1015)
    assert merger.report.bytes_read == 2 * 1015 * 4


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_chunks_leave_no_seam(merger: Merger, size: int) -> None:
    models = [random_model(seed, size=size) for seed in (1, 2)]
    merged = merger(models, [1, 3])
    assert np.array_equal(merged["w"].numpy(), expected(models, [1, 3])["w"])


def test_equal_integers_are_copied(merger: Merger) -> None:
    exact = {"i": torch.arange(5), "m": torch.tensor([True, False])}
    merged = merger([{**exact, "f": torch.zeros(1)}, {**exact, "f": torch.ones(1)}], [1, 1], out_dtype="BF16")
    assert torch.equal(merged["i"], exact["i"])
    assert torch.equal(merged["m"], exact["m"])
    assert merged["f"].dtype == torch.bfloat16


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=4).filter(lambda weights: abs(sum(weights)) > 0.1))
def test_merging_a_model_with_itself_gives_it_back_nearly(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float]
) -> None:
    model = random_model(1)
    merged = Merger(tmp_path_factory.mktemp("merge"))([model] * len(weights), weights)
    scale = sum(abs(weight) for weight in weights) / abs(sum(weights))
    assert torch.allclose(merged["w"], model["w"], atol=1e-6 * scale * 4)


def with_value(index: int, value: float) -> Tensors:
    """A model with one odd number."""
    model = random_model(1)
    model["w"][index] = value
    return model


def huge(dtype: torch.dtype) -> Tensors:
    return {"w": torch.full((4,), torch.finfo(dtype).max, dtype=dtype)}


@pytest.mark.parametrize(
    ("models", "weights", "code", "says"),
    [
        ([random_model(1), with_value(7, float("nan"))], [1, 1], "non_finite", "'w' is not finite at index 7"),
        ([with_value(999, float("inf")), random_model(1)], [1, 1], "non_finite", "'w' is not finite at index 999"),
        ([with_value(3, float("-inf")), random_model(1)], [0, 1], "non_finite", "'w' is not finite at index 3"),
        ([huge(torch.float16), huge(torch.float16)], [3, -1], "", ""),
        ([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}], [1, 1], "tensor_shape_mismatch", "[2]"),
        ([{"w": torch.zeros(2)}, {"v": torch.zeros(2)}], [1, 1], "tensor_missing", "parent1 lacks tensor 'w'"),
        ([{"w": torch.zeros(2)}, {"w": torch.zeros(2).int()}], [1, 1], "tensor_dtype_mismatch", "I32"),
        ([{"w": torch.ones(2).int()}, {"w": torch.zeros(2).int()}], [1, 1], "tensor_value_mismatch", "index 0"),
        ([random_model(1), random_model(2)], [1, -1], "weights_sum_zero", "zero"),
    ],
)
def test_refuses_with_a_code(merger: Merger, models: list[Tensors], weights: list[float], code: str, says: str) -> None:
    if not code:
        assert torch.equal(merger(models, weights)["w"], models[0]["w"])
        return
    with pytest.raises(ComputeError) as refused:
        merger(models, weights)
    assert refused.value.code == code
    assert says in refused.value.message


def test_refuses_a_sum_that_overflows_the_output(merger: Merger) -> None:
    with pytest.raises(ComputeError, match="non_finite"):
        merger([huge(torch.float16), huge(torch.float16)], [1, 1], normalize=False)
