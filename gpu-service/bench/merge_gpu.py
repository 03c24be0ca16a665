"""Measures merging on a GPU against what its memory and its bus can do, after a check that the bytes are the CPU's.

In gpu-service/: `python -m bench.merge_gpu`. Without CUDA it says so and ends.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from owm_compute.merge.engine import run_program
from owm_compute.merge.gpu.device import CudaDevice
from owm_compute.merge.gpu.fused import blocks_of, fuse
from owm_compute.merge.gpu.workers import LENGTH, GpuWorkers, Resident
from owm_compute.merge.method import Apply, find_method
from owm_compute.merge.methods.combination import Combination, Vote
from owm_compute.merge.methods.selection import Boundary
from owm_compute.merge.methods.sparsify import Chance, Sparsifier
from owm_compute.merge.program import Program, Settings
from owm_compute.merge.resolve import OutputFile, Task
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.workers import LocalWorkers, Piece
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors
from owm_compute.tensors.writer import TensorSpec

DEVICE = "cuda:0"
WARM_UPS, REPEATS = 3, 10
ELEMENTS = 1 << 28
FILE_ELEMENTS = 1 << 24
MODELS = 3
WEIGHTS = [0.2, 0.3, 0.5]
SETTINGS: dict[str, tuple[dict[str, float], dict[str, list[float]]]] = {
    "linear": ({}, {"weight": WEIGHTS}),
    "task_arithmetic": ({"lambda": 0.9}, {"weight": WEIGHTS}),
    "ties": ({}, {"weight": WEIGHTS, "density": [0.5] * MODELS}),
    "dare_ties": ({"rescale": 0}, {"weight": WEIGHTS, "density": [0.5] * MODELS}),
}
STEPS = {
    "linear": Combination(WEIGHTS),
    "task_arithmetic": Combination(WEIGHTS, onto=0.9),
    "ties": Combination(
        Vote(WEIGHTS, [1.0] * MODELS, normalize=True),
        Sparsifier("", lambda _: None, dict.fromkeys(range(MODELS), Boundary(0.95, ELEMENTS))),
        onto=1.0,
    ),
    "dare_ties": Combination(
        Vote(WEIGHTS, [1.0] * MODELS, normalize=False),
        Sparsifier("", lambda _: None, {i: Chance((i, 7), 0.5) for i in range(MODELS)}),
        onto=1.0,
    ),
}


class Memory:
    """An operand that lies in memory, in bfloat16."""

    dtype = stored = "BF16"

    def __init__(self, label: str) -> None:
        self.label = self.identity = label
        self.shape = (ELEMENTS,)
        self._values = torch.randn(ELEMENTS).bfloat16()

    def read(self, start: int, out: torch.Tensor) -> None:
        """See `Operand`."""
        out.copy_(self._values[start : start + len(out)])


def milliseconds(work: Callable[[], object]) -> float:
    """The median time of some work on the device, by CUDA events."""
    times: list[float] = []
    for number in range(WARM_UPS + REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        if number >= WARM_UPS:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def seconds(work: Callable[[], object]) -> float:
    """The median time of some work that ends by waiting for the device."""
    times = []
    for number in range(WARM_UPS + REPEATS):
        begin = time.perf_counter()
        work()
        if number >= WARM_UPS:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def task_of(method: str, operands: list[Memory]) -> Task:
    """The merge of one tensor, on the last operand as the base where the method has one."""
    values, each = SETTINGS[method]
    base = None if method == "linear" else operands[MODELS]
    settings = Settings(values=values, each=each)
    spec = TensorSpec("BF16", (ELEMENTS,))
    return Task("tensor", find_method(method), settings, tuple(operands[:MODELS]), base, 1, spec)


def measure_kernels(operands: list[Memory]) -> None:
    """Bytes read and written a second over operands on the device, beside a copy there."""
    device = torch.device(DEVICE)
    values = [torch.randn(ELEMENTS, device=device, dtype=torch.bfloat16) for _ in operands]
    out = torch.empty_like(values[0])
    copied = 2 * out.nbytes / milliseconds(lambda: out.copy_(values[0])) / 1e6
    print(f"copy on the device: {copied:.0f} GB/s read and written")
    for method, step in STEPS.items():
        task = task_of(method, operands)
        used = values[: len(task.operands)]
        took = milliseconds(launch(task, step, used, out))
        rate = (sum(one.nbytes for one in used) + out.nbytes) / took / 1e6
        print(f"{method}, {MODELS} models on the device: {rate:.0f} GB/s, {100 * rate / copied:.0f} % of the copy")


def launch(task: Task, step: Apply, values: list[torch.Tensor], out: torch.Tensor) -> Callable[[], object]:
    """A launch of the kernel over a whole tensor."""
    fused = fuse(task, step)
    if fused is None:
        raise SystemExit(f"{task.method.name} has no fused form")
    tables = fused.tables(out.device)
    sums = torch.empty(fused.sums, blocks_of(ELEMENTS), device=out.device)
    counts = torch.empty(2, blocks_of(ELEMENTS), dtype=torch.int32, device=out.device)
    return lambda: fused.launch(tables, values, 0, out, sums, counts)


def measure_stream(operands: list[Memory]) -> None:
    """Bytes of operands copied in a second while pieces are merged and copied back, beside a bare pinned copy."""
    pinned = torch.empty(ELEMENTS, dtype=torch.bfloat16, pin_memory=True)
    there = torch.empty(ELEMENTS, dtype=torch.bfloat16, device=DEVICE)
    copied = pinned.nbytes / milliseconds(lambda: there.copy_(pinned, non_blocking=True)) / 1e6
    print(f"pinned copy to the device: {copied:.1f} GB/s")
    task = task_of("linear", operands)
    files = [OutputFile("model.safetensors", (task,))]
    workers = GpuWorkers(files, LocalWorkers(files, StatisticStore(), 1, LENGTH), CudaDevice(DEVICE), Resident(0))

    def stream() -> None:
        workers.announce(task)
        waiting: deque[Piece] = deque()
        for start in range(0, ELEMENTS, workers.length):
            while not workers.has_room():
                finish(waiting.popleft())
            waiting.append(workers.submit(task, start, min(workers.length, ELEMENTS - start)))
        for piece in waiting:
            finish(piece)

    rate = MODELS * pinned.nbytes / seconds(stream) / 1e9
    workers.close()
    print(f"linear, {MODELS} models streamed from memory: {rate:.1f} GB/s, {100 * rate / copied:.0f} % of the copy")


def finish(piece: Piece) -> None:
    """Waits for a piece as the engine does, but writes it nowhere."""
    piece.result()
    piece.release()


def merge(directory: Path, method: str, device: str, store: StatisticStore) -> tuple[str, float]:
    """The digest of the output, and seconds from the first byte read to the last written and hashed."""
    out = directory / "out"
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    values, each = SETTINGS[method]
    operation: dict[str, Any] = {"method": method, "models": list(range(MODELS))}
    program = Program.model_validate(
        {
            "schema": "owm.merge-program/1",
            "seed": 1,
            "sources": [{"label": f"model-{i}", "weights": [f"{i}"]} for i in range(MODELS + 1)],
            "settings": [{"values": values, "each": each}],
            "operations": [operation if method == "linear" else {**operation, "base": MODELS}],
            "files": [{"path": "model.safetensors", "every": 0}],
        }
    )
    with ExitStack() as stack:
        sources = []
        for i in range(MODELS + 1):
            path = directory / f"{i}.safetensors"
            # Digests name what is kept on the device: the files of another run are other files.
            digest = hashlib.sha256(str(path).encode()).hexdigest()
            sources.append(stack.enter_context(SafetensorsSource([(path.name, path, digest)], label=f"model-{i}")))
        begin = time.perf_counter()
        report = run_program(program, sources, out, threads=8, statistics=store, device=device)
        return report.files[0].sha256, time.perf_counter() - begin


def check_bytes(directory: Path) -> None:
    """Merges files on the CPU and twice on the GPU, and ends with an error where bytes differ."""
    generator = torch.Generator().manual_seed(0)
    for i in range(MODELS + 1):
        tensors = {f"{n}.weight": torch.randn(FILE_ELEMENTS, generator=generator).bfloat16() for n in range(4)}
        save_tensors(directory / f"{i}.safetensors", tensors)
    for method in SETTINGS:
        store = StatisticStore()
        expected, on_cpu = merge(directory, method, "cpu", store)
        first, once = merge(directory, method, DEVICE, store)
        second, again = merge(directory, method, DEVICE, store)
        if not expected == first == second:
            raise SystemExit(f"{method}: the GPU's bytes are not the CPU's")
        print(f"{method}, file to file: bytes equal; CPU {on_cpu:.2f} s, GPU {once:.2f} s, again {again:.2f} s")


def main() -> None:
    """Runs everything."""
    if not torch.cuda.is_available():
        print("no CUDA device is here: nothing was measured")
        return
    print(torch.cuda.get_device_name(DEVICE))
    with tempfile.TemporaryDirectory() as directory:
        check_bytes(Path(directory))
    operands = [Memory(f"operand-{i}") for i in range(MODELS + 1)]
    measure_kernels(operands)
    measure_stream(operands)


if __name__ == "__main__":
    main()
