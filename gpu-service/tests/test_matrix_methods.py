"""Merges on spheres, in pairs and through singular vectors: golden results, and what each method promises."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

import owm_compute.merge.methods as _registered  # noqa: F401
from owm_compute.errors import ComputeError
from owm_compute.merge.method import REGISTRY
from owm_compute.merge.statistics import StatisticStore
from tests.test_engine import Engine

DIRECTORY = Path(__file__).parents[2] / "test/vectors"
VECTORS = json.loads((DIRECTORY / "merge-matrix-methods.json").read_text())
MERGEKIT = json.loads((DIRECTORY / "merge-mergekit.json").read_text())
SYMMETRIC = ("karcher", "model_stock", "tsvm", "iso_c", "iso_cts", "wudi", "core_iso_c")
EXACT = ("slerp", "nuslerp", "multislerp", "karcher", "model_stock", "nearswap")


class Merger:
    """Merges one tensor by one method, through files and the engine."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory)
        self.tensor = "layer.weight"

    def __call__(
        self,
        method: str,
        models: Sequence[torch.Tensor],
        base: torch.Tensor | None = None,
        *,
        values: dict[str, float] | None = None,
        each: dict[str, list[float]] | None = None,
        **options: Any,
    ) -> torch.Tensor:
        tensors = [*models, *([] if base is None else [base])]
        program = {
            "settings": [{"values": values or {}, "each": each or {}}],
            "operations": [
                {
                    "method": method,
                    "models": list(range(len(models))),
                    "base": None if base is None else len(models),
                }
            ],
        }
        merged = self.engine([{self.tensor: tensor} for tensor in tensors], program=program, **options)
        return merged[self.tensor]


@pytest.fixture
def merge(tmp_path: Path) -> Merger:
    return Merger(tmp_path)


def random_tensors(count: int, shape: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    """Tensors of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def fine_tunes(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A base and models near it."""
    base, *deltas = random_tensors(count + 1, shape, seed)
    return base, [base + 0.1 * delta for delta in deltas]


def required(method: str, models: int) -> dict[str, Any]:
    """Settings for the parameters of a method that have no default."""
    missing = [parameter for parameter in REGISTRY[method].parameters if parameter.default is None]
    return {
        "values": {parameter.name: 0.3 for parameter in missing if not parameter.each},
        "each": {parameter.name: [1.0] * models for parameter in missing if parameter.each},
    }


@pytest.mark.parametrize("method", sorted({entry["method"] for entry in VECTORS["cases"]}))
def test_agrees_with_the_formulas_in_float64(merge: Merger, method: str) -> None:
    for entry in VECTORS["cases"]:
        if entry["method"] != method:
            continue
        models = [torch.tensor(model).view(entry["shape"]) for model in entry["models"]]
        base = None if entry["base"] is None else torch.tensor(entry["base"]).view(entry["shape"])
        settings = {"values": entry["values"], "each": entry["each"]}
        if "error" in entry:
            with pytest.raises(ComputeError) as failure:
                merge(method, models, base, **settings)
            assert failure.value.code == entry["error"], entry["name"]
            continue
        # Chunks of seven cut rows and columns in their midst.
        merged = merge(method, models, base, **settings, chunk=7)
        assert list(merged.shape) == entry.get("expected_shape", entry["shape"]), entry["name"]
        expected = torch.tensor(entry["expected"], dtype=torch.float64).view(merged.shape)
        assert (merged.double() - expected).abs().max() <= entry["tolerance"], entry["name"]


def test_agrees_with_what_mergekit_made_of_the_same_models(merge: Merger) -> None:
    for entry in MERGEKIT["cases"]:
        for name, shape in MERGEKIT["shapes"].items():
            base, *_ = tensors = [torch.tensor(model[name]).view(shape) for model in MERGEKIT["models"]]
            models = [tensors[index] for index in entry["models"]]
            settings = {"values": entry["values"], "each": entry["each"]}
            merged = merge(entry["method"], models, base if entry["base"] else None, **settings)
            expected = torch.tensor(entry["expected"][name]).view(shape)
            assert (merged - expected).abs().max() <= 1e-6 * expected.abs().max(), (entry["method"], name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slerp_gives_the_very_bytes_of_an_end(merge: Merger, dtype: torch.dtype) -> None:
    base, other = (tensor.to(dtype) for tensor in random_tensors(2, (33, 9)))
    base[0, 0], other[0, 1] = -0.0, -0.0
    for t, expected in ((0.0, base), (1.0, other)):
        merged = merge("slerp", [other], base, values={"t": t})
        assert merged.view(torch.uint8).equal(expected.view(torch.uint8))


def test_slerp_keeps_the_norm_and_splits_the_angle(merge: Merger) -> None:
    base, other = (tensor / tensor.norm() for tensor in random_tensors(2, (40, 50)))
    merged = merge("slerp", [other], base, values={"t": 0.25})
    assert merged.norm().item() == pytest.approx(1, abs=1e-6)
    whole, part = (math.acos(float((base * tensor).sum())) for tensor in (other, merged))
    assert part == pytest.approx(whole / 4, abs=1e-5)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("settings", [{}, {"nuslerp_flatten": 0}, {"nuslerp_row_wise": 1, "nuslerp_flatten": 0}])
def test_chunks_and_threads_change_no_byte(merge: Merger, method: str, settings: dict[str, float]) -> None:
    if settings and method != "nuslerp":
        settings = {"filter_wise": 1} if method == "model_stock" else {}
    shape = (300, 301)
    base, models = fine_tunes(2, shape)
    models = models[: 1 if REGISTRY[method].most == 1 else 2]
    wanted = required(method, len(models))
    wanted["values"] = {**wanted["values"], **settings}
    origin = None if REGISTRY[method].base == "forbidden" else base
    whole = merge(method, models, origin, **wanted)
    for chunk, threads in ((1000, 1), (4096, 2), (301 * 7, 2)):
        cut = merge(method, models, origin, **wanted, chunk=chunk, threads=threads, out=f"{chunk}")
        assert cut.equal(whole)


def test_angles_are_kept_for_the_next_merge_of_the_same_models(merge: Merger) -> None:
    base, [other] = fine_tunes(1, (50, 50))
    store = StatisticStore()
    first = merge("slerp", [other], base, values={"t": 0.3}, statistics=store)
    merge("slerp", [other], base, values={"t": 0.6}, statistics=store, out="other t")
    again = merge("slerp", [other], base, values={"t": 0.3}, statistics=store, out="again")
    assert (store.computed, store.found) == (1, 2)
    assert again.equal(first)


@pytest.mark.parametrize("method", SYMMETRIC)
def test_the_order_of_the_models_does_not_matter(merge: Merger, method: str) -> None:
    base, models = fine_tunes(3, (12, 10))
    origin = None if REGISTRY[method].base == "forbidden" else base
    results = [merge(method, list(order), origin, out=str(i)) for i, order in enumerate(permutations(models))]
    for result in results[1:]:
        assert torch.allclose(result, results[0], atol=1e-5)


def test_karcher_mean_is_at_equal_angles_to_two_models_and_stays_at_one(merge: Merger) -> None:
    a, b = random_tensors(2, (20, 20))
    mean = merge("karcher", [a, b])
    angles = [float((x * mean).sum() / x.norm() / mean.norm()) for x in (a, b)]
    assert angles[0] == pytest.approx(angles[1], abs=1e-6)
    assert merge("karcher", [a, a, a], out="same").sub(a).abs().max() < 1e-5


def test_model_stock_stays_at_the_base_when_models_disagree_and_moves_whole_when_they_agree(merge: Merger) -> None:
    base = torch.zeros(4)
    apart = [torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0])]
    assert merge("model_stock", apart, base).equal(base)
    assert merge("model_stock", [apart[0]] * 2, base, out="same").equal(apart[0])
    # Opposite differences: the ratio has a pole.
    assert merge("model_stock", [apart[0], -apart[0]], base, out="opposite").equal(base)


def test_nearswap_takes_near_elements_whole_and_leaves_none_at_zero(merge: Merger) -> None:
    base, other = torch.tensor([1.0, 1.0, -0.0]), torch.tensor([1.01, 3.0, 7.0])
    assert merge("nearswap", [other], base, values={"t": 0.1}).tolist() == pytest.approx([1.01, 1.1, 0.1])
    zero = merge("nearswap", [other], base, values={"t": 0}, out="zero")
    assert zero.view(torch.uint8).equal(base.view(torch.uint8))


def test_arcee_fusion_samples_large_tensors_by_the_seed_alone(merge: Merger) -> None:
    base, [other] = fine_tunes(1, (1100, 1000))
    merged = merge("arcee_fusion", [other], base)
    kept = merged != base
    assert merged[kept].equal(other[kept])
    assert 0.01 < kept.float().mean() < 0.2
    assert merge("arcee_fusion", [other], base, chunk=1 << 18, threads=2, out="cut").equal(merged)
    # A sample finds nearly the same threshold as all elements do.
    p, q = (torch.softmax(x.double(), -1) + 1e-8 for x in (other, base))
    importance = (other - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True)
    ordered = importance.view(-1).sort().values
    low, middle, high = (float(ordered[int(share * len(ordered))]) for share in (0.25, 0.5, 0.75))
    exact = importance >= middle + 1.5 * (high - low)
    assert (exact != kept).float().mean() < 0.002


@pytest.mark.parametrize("shape", [(24, 10), (10, 24)])
def test_iso_c_has_equal_singular_values_of_the_same_sum(merge: Merger, shape: tuple[int, int]) -> None:
    base, models = fine_tunes(3, shape)
    values = torch.linalg.svdvals(merge("iso_c", models, base) - base)
    expected = torch.linalg.svdvals(sum((model - base for model in models), torch.zeros(shape))).mean()
    assert torch.allclose(values, expected.expand(10), rtol=1e-4)
    values = torch.linalg.svdvals(merge("iso_cts", models, base, out="cts") - base)
    assert torch.allclose(values, values[:1].expand(10), rtol=1e-4)


def test_tsvm_of_one_model_is_that_model_and_separate_tasks_stay_whole(merge: Merger) -> None:
    base, [model] = fine_tunes(1, (12, 9))
    assert torch.allclose(merge("tsvm", [model], base), model, atol=1e-5)
    # Two updates of rank 2 on different rows and columns do not disturb each other.
    deltas = [torch.zeros(8, 8), torch.zeros(8, 8)]
    a, b = random_tensors(2, (2, 2))
    deltas[0][:2, :2], deltas[1][2:4, 2:4] = a, b
    zero = torch.zeros(8, 8)
    assert torch.allclose(merge("tsvm", deltas, zero, out="apart"), deltas[0] + deltas[1], atol=1e-5)
    # And the same model twice is not counted twice.
    assert torch.allclose(merge("tsvm", [deltas[0]] * 2, zero, out="twice"), deltas[0], atol=1e-5)


def test_svc_counts_shared_knowledge_once_and_leaves_what_is_apart(merge: Merger) -> None:
    base, [model] = fine_tunes(1, (12, 9))
    each = {"weight": [1.0] * 3}
    assert torch.allclose(merge("svc", [model] * 3, base, each=each), model, atol=1e-5)
    deltas = [torch.zeros(8, 8), torch.zeros(8, 8)]
    a, b = random_tensors(2, (4, 4))
    deltas[0][:4, :4], deltas[1][4:, 4:] = a, b
    summed = merge("svc", deltas, torch.zeros(8, 8), each={"weight": [1.0, 1.0]}, values={"alpha": 1}, out="apart")
    assert torch.allclose(summed, deltas[0] + deltas[1], atol=1e-5)


def test_wudi_disturbs_the_models_less_with_every_step(merge: Merger) -> None:
    base, models = fine_tunes(3, (16, 12))
    deltas = [model - base for model in models]

    def loss(steps: int) -> float:
        values = {"steps": steps, "learning_rate": 1e-3}
        x = merge("wudi", models, base, values=values, out=f"{steps}") - base
        return sum(float(((x - d) @ d.T).square().sum() / d.square().sum()) for d in deltas)

    losses = [loss(steps) for steps in (0, 30, 300)]
    assert losses[0] > losses[1] > losses[2]
    assert torch.allclose(
        merge("wudi", models, base, values={"steps": 0}), base + torch.stack(deltas).sum(0), atol=1e-5
    )


def test_low_rank_updates_merged_in_their_basis_keep_its_rank(merge: Merger) -> None:
    base = torch.zeros(30, 20)
    models = [
        left @ right for left, right in zip(random_tensors(3, (30, 2), 1), random_tensors(3, (2, 20), 2), strict=True)
    ]
    for method in ("knots_ties", "core_iso_c"):
        merged = merge(method, models, base, out=method)
        values = torch.linalg.svdvals(merged)
        assert int((values > 1e-4 * values[0]).sum()) <= 6
    # One model alone, with all its coordinates, is itself.
    assert torch.allclose(merge("knots_ties", models[:1], base, out="one"), models[0], atol=1e-4)
    # Nothing changed: nothing to merge.
    for method in ("knots_ties", "core_iso_c"):
        assert merge(method, [models[0], models[0]], models[0], out=f"{method} of none").equal(models[0])


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (8, 3, 2, 2)])
def test_lora_of_a_low_rank_change_reproduces_it_and_no_factors_of_that_rank_do_better(
    merge: Merger, shape: tuple[int, ...]
) -> None:
    columns = math.prod(shape[1:])
    [base], [left], [right] = (random_tensors(1, s, i) for i, s in enumerate([shape, (shape[0], 4), (4, columns)]))
    [full] = random_tensors(1, (shape[0], columns), 9)

    def product(model: torch.Tensor, **values: float) -> torch.Tensor:
        a, b = (merge(name, [model], base, values=values, out=f"{name} {values}") for name in ("lora_a", "lora_b"))
        return b.reshape(shape[0], -1) @ a.reshape(-1, columns)

    change = left @ right
    found = product(base + change.view(shape), max_rank=6)
    assert (found - change).abs().max() < 1e-5 * change.abs().max() + 1e-5
    cut = product(base + full.view(shape), max_rank=3)
    least = torch.linalg.svdvals(full)[3:].norm()
    assert (full - cut).norm().item() == pytest.approx(least.item(), rel=1e-4)


def test_an_adapter_is_extracted_in_one_program_even_where_singular_values_are_equal(merge: Merger) -> None:
    base = torch.zeros(16, 16)
    model = torch.linalg.qr(random_tensors(1, (16, 16))[0]).Q.contiguous()
    stem = "model.layer"
    names = [f"{stem}.lora_{letter}.weight" for letter in "AB"]
    program = {
        "settings": [{"values": {"max_rank": 4}}],
        "operations": [{"method": f"lora_{letter}", "models": [0], "base": 1} for letter in "ab"],
        "files": [
            {
                "path": "adapter_model.safetensors",
                "tensors": [
                    {"name": name, "operation": i, "names": [f"{stem}.weight"], "dtype": "F32"}
                    for i, name in enumerate(names)
                ],
            }
        ],
    }
    tensors = [{f"{stem}.weight": tensor} for tensor in (model, base)]
    adapter = merge.engine(tensors, program=program, threads=2)
    a, b = (adapter[name] for name in names)
    assert (a.shape, b.shape) == ((4, 16), (16, 4))
    # Any four of the sixteen directions are a best approximation, as long as both factors have the same ones.
    assert (model - b @ a).norm().item() == pytest.approx(math.sqrt(12), abs=1e-4)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (), (1, 1)])
def test_a_tensor_of_any_shape_is_merged(merge: Merger, shape: tuple[int, ...]) -> None:
    base, models = fine_tunes(2, shape)
    for method in sorted({entry["method"] for entry in VECTORS["cases"]} - {"lora_a", "lora_b"}):
        some = models[: 1 if REGISTRY[method].most == 1 else 2]
        origin = None if REGISTRY[method].base == "forbidden" else base
        wanted = required(method, len(some))
        for switch in ({}, {"nuslerp_flatten": 0}, {"nuslerp_flatten": 0, "nuslerp_row_wise": 1}, {"filter_wise": 1}):
            if set(switch) <= {parameter.name for parameter in REGISTRY[method].parameters}:
                settings = {**wanted, "values": {**wanted["values"], **switch}}
                assert merge(method, some, origin, **settings, out=f"{method}{switch}").shape == shape


@pytest.mark.parametrize("method", sorted({entry["method"] for entry in VECTORS["cases"]} - {"nearswap"}))
def test_a_number_that_is_not_finite_is_named(merge: Merger, method: str) -> None:
    base, models = fine_tunes(2, (12, 10))
    models = models[: 1 if REGISTRY[method].most == 1 else 2]
    models[-1][3, 4] = float("nan")
    origin = None if REGISTRY[method].base == "forbidden" else base
    with pytest.raises(ComputeError, match="not finite at index 34") as failure:
        merge(method, models, origin, **required(method, len(models)), chunk=50)
    assert (failure.value.code, failure.value.field) == ("non_finite", merge.tensor)
