"""Merge methods through the engine: the results of their formulas, and what must hold for any numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.merge.engine import run_program
from owm_compute.merge.method import REGISTRY
from owm_compute.merge.program import Program
from owm_compute.merge.statistics import StatisticStore
from tests.memory import Memory

VECTORS = Path(__file__).resolve().parents[2] / "test/vectors"
CASES = json.loads((VECTORS / "merge-methods.json").read_text())["cases"]
METHODS = sorted({case["method"] for case in CASES})
PARAMETERS = {name: {parameter.name for parameter in REGISTRY[name].parameters} for name in METHODS}


@dataclass(frozen=True)
class Task:
    """One tensor to merge."""

    method: str
    models: Sequence[torch.Tensor]
    base: torch.Tensor | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    each: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Merger:
    """Runs methods over tensors in memory, into a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.statistics: dict[str, Any] = {}

    def all(self, tasks: Mapping[str, Task], *, seed: int = 0, **options: Any) -> dict[str, torch.Tensor]:
        """Merges tensors by their names, in one program."""
        most = max(len(task.models) for task in tasks.values())
        tensors: list[dict[str, torch.Tensor]] = [{} for _ in range(most + 1)]
        for name, task in tasks.items():
            for i, model in enumerate(task.models):
                tensors[i][name] = model
            if task.base is not None:
                tensors[most][name] = task.base
        program = Program.model_validate(
            {
                "schema": "owm.merge-program/1",
                "seed": seed,
                "sources": [{"label": f"model-{i}", "weights": [f"{i}"]} for i in range(most + 1)],
                "settings": [{"values": task.values, "each": task.each} for task in tasks.values()],
                "operations": [
                    {
                        "method": task.method,
                        "models": list(range(len(task.models))),
                        "base": None if task.base is None else most,
                        "settings": i,
                    }
                    for i, task in enumerate(tasks.values())
                ],
                "files": [
                    {
                        "path": "model.safetensors",
                        "tensors": [{"name": name, "operation": i} for i, name in enumerate(tasks)],
                    }
                ],
            }
        )
        for path in self.directory.iterdir():
            path.unlink()
        run_program(program, [Memory(held, f"{i}") for i, held in enumerate(tensors)], self.directory, **options)
        lines = (self.directory / "merge-record.jsonl").read_text().splitlines()
        self.statistics = json.loads(lines[-1])["statistics"]
        return safetensors.torch.load_file(self.directory / "model.safetensors")

    def __call__(
        self,
        method: str,
        models: Sequence[torch.Tensor],
        base: torch.Tensor | None = None,
        *,
        values: Mapping[str, float] | None = None,
        each: Mapping[str, Sequence[float]] | None = None,
        tensor: str = "layer.weight",
        **options: Any,
    ) -> torch.Tensor:
        return self.all({tensor: Task(method, models, base, values or {}, each or {})}, **options)[tensor]


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Merger:
    return Merger(tmp_path_factory.mktemp("merge"))


def tensor_of(numbers: Sequence[float], shape: Sequence[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).reshape(tuple(shape))


def task_of(case: Mapping[str, Any]) -> Task:
    base = None if case["base"] is None else tensor_of(case["base"], case["shape"])
    models = [tensor_of(numbers, case["shape"]) for numbers in case["models"]]
    return Task(case["method"], models, base, case["values"], case["each"])


@pytest.fixture(scope="module")
def golden(merge: Merger) -> dict[str, torch.Tensor]:
    """The cases that succeed, merged in chunks so short that every boundary between them is met."""
    tasks = {case["tensor"]: task_of(case) for case in CASES if "expected" in case}
    [seed] = {case["seed"] for case in CASES}
    return merge.all(tasks, seed=seed, chunk=7)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_method_gives_what_its_formula_gives(
    merge: Merger, golden: Mapping[str, torch.Tensor], case: Mapping[str, Any]
) -> None:
    if "error" in case:
        with pytest.raises(ComputeError) as error:
            merge.all({case["tensor"]: task_of(case)})
        assert error.value.code == case["error"]
        assert not list(merge.directory.iterdir()), "refused before anything is written"
    else:
        merged = golden[case["tensor"]]
        expected = torch.tensor(case["expected"], dtype=torch.float64).reshape(merged.shape)
        assert (merged - expected).abs().max() <= case["tolerance"]


def random_tensors(count: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Tensors of normal numbers."""
    generator = torch.Generator().manual_seed(len(shape) + count)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]


def each_of(method: str, models: int, *, density: float = 0.5, weight: float | None = None) -> dict[str, list[float]]:
    """One value a model for what a method takes: weights, unequal unless one is given, and density."""
    weights = [1.0 - 0.25 * i if weight is None else weight for i in range(models)]
    return {
        name: numbers
        for name, numbers in {"weight": weights, "density": [density] * models}.items()
        if name in PARAMETERS[method]
    }


def same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_chunks_and_threads_change_no_byte(merge: Merger, dtype: torch.dtype) -> None:
    base, *models = random_tensors(4, (13, 17), dtype)
    tasks = {}
    for method in METHODS:
        count = REGISTRY[method].most or 3
        origin = None if REGISTRY[method].base == "forbidden" else base
        values = {"select_topk": 0.5} if method == "sce" else {}
        tasks[method] = Task(method, models[:count], origin, values, each_of(method, count))
    expected = merge.all(tasks)
    for chunk, threads in [(7, 2), (64, 1)]:
        merged = merge.all(tasks, chunk=chunk, threads=threads)
        for method, tensor in expected.items():
            assert tensor.dtype is dtype
            assert same_bytes(merged[method], tensor), method


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_linear_gives_the_bytes_of_the_model_that_has_all_the_weight(merge: Merger, dtype: torch.dtype) -> None:
    models = [*random_tensors(2, (9, 5), dtype), torch.full((9, 5), -0.0, dtype=dtype)]
    for i, model in enumerate(models):
        weights = [3.0 * (i == j) for j in range(3)]
        assert same_bytes(merge("linear", models, each={"weight": weights}), model)
        assert same_bytes(merge("passthrough", [model]), model)


@pytest.mark.parametrize("method", [name for name in METHODS if "lambda" in PARAMETERS[name] and name != "nan"])
def test_a_lambda_of_0_gives_the_bytes_of_the_base(merge: Merger, method: str) -> None:
    base, *models = random_tensors(3, (9, 5), torch.bfloat16)
    base[0] = -0.0
    assert same_bytes(merge(method, models, base, values={"lambda": 0}, each=each_of(method, 2)), base)


def test_task_arithmetic_with_all_of_one_model_gives_that_model(merge: Merger) -> None:
    base, model = random_tensors(2, (90, 50), torch.bfloat16)
    assert same_bytes(merge("task_arithmetic", [model], base, each={"weight": [1.0]}), model)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "passthrough"])
def test_the_order_of_the_models_does_not_matter(merge: Merger, method: str) -> None:
    first, *models = random_tensors(4, (12, 11))
    base = None if REGISTRY[method].base == "forbidden" else first
    # A random mask belongs to a model's place: without one these methods are symmetric too.
    each = each_of(method, 3, density=1.0 if method.startswith(("dare", "della")) else 0.5, weight=0.75)
    merged = merge(method, models, base, each=each)
    assert torch.allclose(merge(method, models[::-1], base, each=each), merged, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["dare_linear", "dare_paper_linear", "breadcrumbs", "della_linear"])
def test_a_density_of_1_is_task_arithmetic(merge: Merger, method: str) -> None:
    base, *models = random_tensors(4, (8, 9))
    each = each_of(method, 3, density=1.0)
    plain = merge("task_arithmetic", models, base, each={"weight": each["weight"]})
    assert same_bytes(merge(method, models, base, each=each), plain)


def lone(merge: Merger, method: str, delta: torch.Tensor, **more: Any) -> torch.Tensor:
    """What a method keeps of the one delta from a base of zeros."""
    return merge(method, [delta], torch.zeros_like(delta), **{"each": each_of(method, 1, weight=1.0), **more})


@given(
    st.lists(st.integers(1, 4).flatmap(lambda n: st.sampled_from([n, -n])), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_exactly_as_many_survive_as_the_density_says(
    merge: Merger, numbers: list[int], density: float, gamma: float
) -> None:
    delta = torch.tensor(numbers, dtype=torch.float32)
    n, keep = len(numbers), int(density * len(numbers))
    order = sorted(range(n), key=lambda i: (-abs(numbers[i]), i))
    top = min(int(gamma * n), n - keep) if density < 1 else 0
    for method, first in [("ties", 0), ("breadcrumbs", top)]:
        each = {"weight": [1.0], "density": [density], **({"gamma": [gamma]} if first else {})}
        if keep == 0:
            with pytest.raises(ComputeError) as error:
                lone(merge, method, delta, each=each)
            assert (error.value.code, error.value.field) == ("density_too_small", "density")
            continue
        each = {**each, **({"gamma": [gamma]} if method == "breadcrumbs" else {})}
        expected = torch.zeros(n)
        for i in order[first : first + keep]:
            expected[i] = delta[i]
        assert torch.equal(lone(merge, method, delta, each=each, chunk=7), expected)
        assert merge.statistics["kept"] == keep


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_large_tensors_keep_the_largest_and_of_equals_the_first(merge: Merger, dtype: torch.dtype) -> None:
    n = 400_000
    generator = torch.Generator().manual_seed(0)
    for numbers in (
        torch.randn(n, generator=generator, dtype=dtype),
        torch.randint(1, 4, (n,), generator=generator).to(dtype),
        torch.full((n,), -0.1, dtype=dtype),
    ):
        # Of three models at once, so many elements are no longer all looked at together.
        each = {"weight": [1.0] * 3, "density": [0.3] * 3}
        merged = merge("ties", [numbers] * 3, torch.zeros(n, dtype=dtype), each=each)
        order = torch.sort(numbers.abs(), descending=True, stable=True).indices[: int(0.3 * n)]
        expected = torch.zeros(n, dtype=torch.bool)
        expected[order] = True
        assert torch.equal(merged != 0, expected)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "dare_paper_linear", "dare_paper_ties"])
def test_dare_keeps_a_random_part_and_the_mean(merge: Merger, method: str) -> None:
    [delta] = random_tensors(1, (40, 50))
    each = {"weight": [1.0], "density": [0.3]}
    results = torch.stack([lone(merge, method, delta, each=each, seed=seed) for seed in range(20)])
    kept = (results != 0).double().mean()
    # Eight standard deviations of 40,000 draws.
    assert abs(kept - 0.3) < 8 * math.sqrt(0.3 * 0.7 / results.numel())
    assert (results.mean(0) - delta).abs().mean() < 0.5 * delta.abs().mean()
    assert len({tuple(result.flatten().tolist()) for result in results}) == 20
    if "paper" not in method:
        assert torch.allclose(results.abs().sum((1, 2)), delta.abs().sum(), rtol=1e-5)


def test_other_tensors_and_other_models_lose_other_elements(merge: Merger) -> None:
    [delta] = random_tensors(1, (400,))
    one, same, other = (lone(merge, "dare_linear", delta, tensor=name) for name in ("a", "a", "b"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    both = merge("dare_linear", [delta, -delta], torch.zeros(400), each={"weight": [1.0, 1.0], "density": [0.5, 0.5]})
    assert both.count_nonzero() > 100


def test_della_keeps_larger_elements_of_a_row_more_often(merge: Merger) -> None:
    delta = torch.arange(1.0, 101).repeat(80, 1) * torch.logspace(-3, 3, 80)[:, None]
    each = {"weight": [1.0], "density": [0.5], "epsilon": [0.4]}
    kept = lone(merge, "della_linear", delta, each=each) != 0
    share = kept.double().reshape(80, 4, 25).mean((0, 2))
    # The mean probability of each quarter of the ranks, give or take five standard deviations.
    expected = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    assert torch.allclose(share, expected, atol=5 * 0.5 / math.sqrt(2000))


def test_ties_differs_from_the_paper_only_where_weights_differ(merge: Merger) -> None:
    base, *models = random_tensors(4, (30, 20))
    density = [0.4] * 3
    equal = {"weight": [1.0] * 3, "density": density}
    assert same_bytes(merge("ties", models, base, each=equal), merge("ties_paper", models, base, each=equal))
    # Two small votes against one large one of a small weight: the paper counts the delta, mergekit what it weighs.
    models = [torch.tensor([3.0]), torch.tensor([-1.0]), torch.tensor([-1.0])]
    each = {"weight": [0.5, 1.0, 1.0]}
    assert merge("ties", models, torch.zeros(1), each=each).item() == -1
    assert merge("ties_paper", models, torch.zeros(1), each=each).item() == 3


def test_the_record_counts_what_is_kept_and_what_is_outvoted(merge: Merger) -> None:
    models = [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([-1.0, 2.0, 3.0, 4.0])]
    merge("ties", models, torch.zeros(4), each={"weight": [1.0, 1.0], "density": [0.75, 1.0]})
    assert (merge.statistics["kept"], merge.statistics["sign_conflicts"]) == (7, 1)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "ties_paper", "dare_ties", "della"])
def test_a_model_of_weight_0_changes_nothing(merge: Merger, method: str) -> None:
    first, model, other = random_tensors(3, (6, 5))
    base = None if method == "linear" else first
    alone = merge(method, [model], base, each=each_of(method, 1))
    each = {**each_of(method, 2), "weight": [1.0, 0.0]}
    assert same_bytes(merge(method, [model, other], base, each=each), alone)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_what_is_not_finite_is_named_even_in_a_model_of_weight_0(merge: Merger, method: str, number: float) -> None:
    first, *models = random_tensors(3, (6, 5))
    base = None if REGISTRY[method].base == "forbidden" else first
    models = models[: REGISTRY[method].most]
    models[-1][3, 2] = number
    each = each_of(method, len(models))
    if len(models) > 1 and "weight" in each:
        each["weight"] = [1.0, 0.0]
    with pytest.raises(ComputeError) as error:
        merge(method, models, base, each=each)
    assert error.value.code == "non_finite"
    assert "index 17" in error.value.message


@pytest.mark.parametrize(
    ("method", "name", "number"),
    [("ties", "density", 1.5), ("ties", "density", -0.5), ("breadcrumbs", "gamma", -1.0), ("della", "epsilon", 2.0)],
)
def test_a_parameter_beyond_its_limits_is_refused(merge: Merger, method: str, name: str, number: float) -> None:
    base, model = random_tensors(2, (6, 5))
    with pytest.raises(ComputeError) as error:
        merge(method, [model], base, each={"weight": [1.0], name: [number]})
    assert (error.value.code, error.value.field) == ("invalid_spec", name)


def test_other_weights_of_the_same_models_need_no_new_thresholds(merge: Merger) -> None:
    base, *models = random_tensors(3, (40, 30))
    store = StatisticStore()
    for weight in (1.0, 0.5):
        merge("ties", models, base, each={"weight": [1.0, weight], "density": [0.5, 0.5]}, statistics=store)
    assert (store.computed, store.found) == (1, 1)
    other = [*models[:1], models[1] + 1]
    merge("ties", other, base, each={"weight": [1.0, 1.0], "density": [0.5, 0.5]}, statistics=store)
    assert store.computed == 2
