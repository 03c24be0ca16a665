"""Merges on a GPU, in Triton's interpreter and on a stand-in for its queues: the CPU's bytes in any legal order."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.engine import run_program
from owm_compute.merge.gpu.device import Mark, Queue
from owm_compute.merge.gpu.fused import Fused
from owm_compute.merge.gpu.kernels import KEEP_RANDOM, NO_BASE
from owm_compute.merge.gpu.workers import GpuWorkers, Resident
from owm_compute.merge.methods.sparsify import Chance
from owm_compute.merge.program import Program
from owm_compute.merge.random import keep_limit, keep_mask
from owm_compute.merge.resolve import resolve
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.workers import LocalWorkers
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors

CHUNK = 1100
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


class LazyDevice:
    """The most unfavourable GPU: nothing is done before somebody waits for it, and then only what must be."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.queues: dict[str, list[Callable[[], object]]] = {"in": [], "compute": [], "out": []}
        self.done = dict.fromkeys(self.queues, 0)
        self.copied_in = 0

    def empty(self, nbytes: int) -> torch.Tensor:
        return torch.full((nbytes,), 0x55, dtype=torch.uint8)

    pinned = empty

    def run(self, queue: Queue, work: Callable[[], object]) -> None:
        self.queues[queue].append(work)
        self.copied_in += queue == "in"

    def mark(self, queue: Queue) -> Mark:
        return LazyMark(self, queue, len(self.queues[queue]))

    def wait(self, queue: Queue, mark: Mark) -> None:
        self.queues[queue].append(mark.synchronize)


class LazyMark:
    def __init__(self, device: LazyDevice, queue: Queue, place: int) -> None:
        self._device, self._queue, self._place = device, queue, place

    def synchronize(self) -> None:
        device = self._device
        while device.done[self._queue] < self._place:
            work = device.queues[self._queue][device.done[self._queue]]
            device.done[self._queue] += 1
            work()


class Merge:
    """Merges of the same models, the last of which may be the base, on the CPU and on the stand-in."""

    def __init__(self, directory: Path, models: Sequence[Mapping[str, torch.Tensor]]) -> None:
        self.directory = directory
        self.paths = [directory / f"{i}.safetensors" for i in range(len(models))]
        for path, tensors in zip(self.paths, models, strict=True):
            save_tensors(path, tensors)
        self.resident = Resident(0)

    def __call__(
        self, method: str, base: bool, *, gpu: LazyDevice | None = None, device: str = "cpu", **settings: Any
    ) -> bytes:
        """The output's bytes."""
        count = len(self.paths)
        models = list(range(count - base))
        each = {name: value for name, value in settings.items() if isinstance(value, list)}
        fields = {
            "schema": "owm.merge-program/1",
            "seed": 7,
            "sources": [{"label": f"model-{i}", "weights": [f"{i}"]} for i in range(count)],
            "settings": [{"values": {k: v for k, v in settings.items() if k not in each}, "each": each}],
            "operations": [{"method": method, "models": models, **({"base": count - 1} if base else {})}],
            "files": [{"path": "model.safetensors", "every": 0}],
        }
        program = Program.model_validate(fields)
        out = self.directory / ("cpu" if gpu is None else "gpu")
        out.mkdir(exist_ok=True)
        for old in out.iterdir():
            old.unlink()
        with ExitStack() as stack:
            sources = [
                stack.enter_context(SafetensorsSource([(path.name, path, digest(path))], label=path.stem))
                for path in self.paths
            ]
            workers = None
            if gpu is not None:
                files = resolve(program, sources)
                workers = GpuWorkers(files, LocalWorkers(files, StatisticStore(), 1, CHUNK), gpu, self.resident)
            run_program(program, sources, out, chunk=CHUNK, workers=workers, device=device)
        return (out / "model.safetensors").read_bytes()

    def record(self, kind: str) -> list[dict[str, Any]]:
        """The lines of the record of the last merge."""
        lines = (self.directory / kind / "merge-record.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Values with many ties, zeros of both signs and, in float16, some that are subnormal."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.randn(31, 51, generator=generator)
    coarse = torch.randn(11, 50, generator=generator).mul(2).round().div(4) * torch.tensor([1e-6, 1.0]).repeat(25)
    return {"smooth": smooth.to(dtype), "coarse": coarse.to(dtype), "ids": torch.arange(9)}


WEIGHTS = [0.7, -0.2, 1.3]
METHODS: list[tuple[str, bool, dict[str, Any]]] = [
    ("linear", False, {"weight": [0.3, 0.0, 1.0, 0.25], "normalize": 1}),
    ("linear", False, {"weight": [0.0] * 4, "normalize": 0}),
    ("nan", True, {"lambda": 0.6}),
    ("task_arithmetic", True, {"weight": WEIGHTS, "lambda": 0.9}),
    ("task_arithmetic", True, {"weight": [0.0] * 3}),
    ("task_arithmetic", True, {"weight": WEIGHTS, "lambda": 0}),
    ("model_stock", True, {}),
    ("multislerp", True, {"weight": [0.2, 0.3, 0.5]}),
    ("karcher", False, {}),
    ("ties", True, {"weight": WEIGHTS, "density": [0.4, 1.0, 0.07]}),
    ("ties", True, {"weight": [1.0, 0.0, 0.5], "density": [0.4, 0.9, 0.07], "normalize": 0, "rescale": 1}),
    ("ties_paper", True, {"weight": [0.7, 0.2, 1.3], "density": [0.5, 0.2, 0.9], "lambda": 1.5}),
    ("dare_linear", True, {"weight": WEIGHTS, "density": [0.4, 1.0, 0.7]}),
    ("dare_ties", True, {"weight": WEIGHTS, "density": [0.4, 0.0, 0.7], "normalize": 1}),
    ("dare_paper_ties", True, {"weight": [0.7, 0.2, 1.3], "density": [0.5, 0.2, 0.9]}),
    ("breadcrumbs", True, {"weight": WEIGHTS, "density": [0.5] * 3, "gamma": [0.01] * 3}),
]


@pytest.mark.parametrize(("method", "base", "settings"), METHODS)
def test_a_gpu_merges_to_the_bytes_of_the_cpu(
    method: str, base: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    merge = Merge(tmp_path, [model(seed, dtype) for seed, dtype in enumerate([*DTYPES, torch.bfloat16])])
    assert merge(method, base, gpu=LazyDevice(), **settings) == merge(method, base, **settings)
    for here, there in zip(merge.record("gpu"), merge.record("cpu"), strict=True):
        assert here["prefix_sha256"] == there["prefix_sha256"]
        for name, value in there.get("statistics", {}).items():
            assert here["statistics"][name] == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_models_that_fit_are_copied_to_the_device_once(tmp_path: Path) -> None:
    merge = Merge(tmp_path, [model(seed, torch.bfloat16) for seed in range(3)])
    expected = merge("linear", False, weight=[0.2, 0.5, 0.3])
    for budget, copies in [(1 << 20, (9, 0)), (1 << 10, (9, 9))]:
        merge.resident = Resident(budget)
        for copied in copies:
            gpu = LazyDevice()
            assert merge("linear", False, gpu=gpu, weight=[0.2, 0.5, 0.3]) == expected
            assert gpu.copied_in == copied


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize(("value", "weight", "index"), [(float("nan"), 0.5, 1203), (60000.0, 2.0, 1203)])
def test_what_is_not_finite_is_named_with_its_index(value: float, weight: float, index: int, tmp_path: Path) -> None:
    bad = model(0, torch.float16)
    bad["smooth"].view(-1)[index] = value
    merge = Merge(tmp_path, [bad, model(1, torch.float16)])
    with pytest.raises(ComputeError, match=f"'smooth'.* not finite at index {index}"):
        merge("linear", False, gpu=LazyDevice(), weight=[weight, weight], normalize=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    merge = Merge(tmp_path, [model(0, torch.float32)])
    with pytest.raises(ComputeError, match="cuda:0 is not here"):
        merge("linear", False, device="cuda:0", weight=[1.0])
    assert not list((tmp_path / "cpu").iterdir())


@pytest.mark.skipif(
    os.environ["TRITON_INTERPRET"] != "0" or not torch.cuda.is_available(),
    reason="for a GPU, and alone: TRITON_INTERPRET=0 pytest -k real_gpu",
)
def test_a_real_gpu_merges_to_the_bytes_of_the_cpu(tmp_path: Path) -> None:
    merge = Merge(tmp_path, [model(seed, dtype) for seed, dtype in enumerate([*DTYPES, torch.bfloat16])])
    for method, base, settings in METHODS:
        assert merge(method, base, device="cuda:0", **settings) == merge(method, base, **settings)


def test_random_choices_hold_beyond_32_bits_of_index() -> None:
    start, length, chance = 2**32 - 700, 1500, Chance((0x9E3779B9, 0xFFFFFFFF), 0.6)
    fused = Fused(
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0, *chance.key, keep_limit(chance.probability)],
        {
            "MODELS": 1,
            "ACTIVE": (True,),
            "FIRST": 0,
            "KEEP": (KEEP_RANDOM,),
            "DELTAS": False,
            "BASE": NO_BASE,
            "VOTE": False,
            "NORMALIZE": False,
            "WEIGHTED": True,
        },
        ("kept",),
        1,
    )
    out, sums, counts = torch.empty(length), torch.empty(2, 2), torch.empty(2, 2, dtype=torch.int32)
    fused.launch(fused.tables(torch.device("cpu")), [torch.ones(length)], start, out, sums, counts)
    kept = torch.from_numpy(keep_mask(chance.key, start, length, chance.probability))
    assert torch.equal(out.bool(), kept)
    assert counts[0].sum() == kept.sum()


COMPILE = """
import re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from owm_compute.merge.gpu.kernels import combine_kernel

types = {"models": ("*bf16", "*fp16"), "base": "*fp32", "out": "*bf16", "sums": "*fp32", "counts": "*i32"}
types |= {"floats": "*fp32", "ints": "*i64", "start": "i64", "length": "i32"}
flags = dict(MODELS=2, ACTIVE=(True, True), FIRST=0, KEEP=(1, 2), DELTAS=True, BASE=2, VOTE=True, NORMALIZE=True)
source = ASTSource(combine_kernel, types, {**flags, "WEIGHTED": False, "BLOCK": 1024})
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
print(*sorted(set(re.findall(r"[a-z]+[.][a-z0-9.]*f(?:32|16)", made.asm["ptx"]))))
"""


def test_compiled_arithmetic_is_neither_fused_nor_flushed(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True)
    operations = made.stdout.split()
    assert {"add.rn.f32", "mul.rn.f32", "div.rn.f32"} <= set(operations)
    assert not [name for name in operations if name.startswith(("fma", "mad")) or "ftz" in name or ".approx" in name]
