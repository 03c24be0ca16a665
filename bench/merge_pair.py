"""Makes two models, and merges or copies them, one step a call: each prints what it took as one line of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from owm_compute.merge.linear import merge_linear
from owm_compute.tensors.reader import TensorSet
from owm_compute.tensors.torch_io import save_tensors

TENSOR_BYTES = 32 << 20
ROWS = 4096
PARENTS = ["a.safetensors", "b.safetensors"]
MERGED = "merged.safetensors"


def make(folder: Path, mebibytes: int) -> int:
    """Two models of random bfloat16 tensors; the bytes of both."""
    for seed, name in enumerate(PARENTS):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            f"layers.{index}.weight": torch.randn(ROWS, TENSOR_BYTES // 2 // ROWS, generator=generator).bfloat16()
            for index in range((mebibytes << 20) // TENSOR_BYTES)
        }
        (folder / name).unlink(missing_ok=True)
        save_tensors(folder / name, tensors)
    return sum((folder / name).stat().st_size for name in PARENTS)


def merge(folder: Path) -> int:
    """The engine's linear merge, written through to the disk; the bytes it read."""
    output = folder / MERGED
    output.unlink(missing_ok=True)
    with TensorSet([(PARENTS[0], folder / PARENTS[0])]) as a, TensorSet([(PARENTS[1], folder / PARENTS[1])]) as b:
        report = merge_linear([a, b], [0.3, 0.7], output)
    to_disk(output)
    return report.bytes_read


def copy(folder: Path) -> int:
    """`cp` of both models, written through to the disk; the bytes it read."""
    copies = [folder / f"copy-of-{name}" for name in PARENTS]
    for place in copies:
        place.unlink(missing_ok=True)
    for name, place in zip(PARENTS, copies, strict=True):
        subprocess.run(["cp", str(folder / name), str(place)], check=True)
        to_disk(place)
    return sum(place.stat().st_size for place in copies)


def digest(folder: Path) -> int:
    """SHA-256 of the merged model, which the merge makes on its way; the bytes it read."""
    with (folder / MERGED).open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return (folder / MERGED).stat().st_size


def to_disk(path: Path) -> None:
    """Waits until the bytes are not in memory only."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def peak_mib() -> float:
    """The most memory this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """`merge_pair.py STEP FOLDER [MEBIBYTES]`."""
    step, folder, *rest = sys.argv[1:]
    place = Path(folder)
    # As in a job's process, which has one core's share.
    torch.set_num_threads(1)
    steps: dict[str, Callable[[], int]] = {
        "make": lambda: make(place, int(rest[0])),
        "merge": lambda: merge(place),
        "copy": lambda: copy(place),
        "digest": lambda: digest(place),
    }
    before = peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    work = steps[step]()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    figures = {"work": work, "seconds": seconds, "cpuSeconds": cpu_seconds}
    print(json.dumps({**figures, "beforeMiB": before, "peakMiB": peak_mib()}))


if __name__ == "__main__":
    main()
