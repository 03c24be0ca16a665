"""Writes files to transfer: random bytes, or safetensors with fp32 tensors of bf16 values, which pack to half."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np

TENSORS = 100
MIB = 1 << 20


def random_file(path: Path, mebibytes: int, seed: int) -> None:
    roll = np.random.default_rng(seed)
    with path.open("wb") as out:
        for _ in range(mebibytes):
            out.write(roll.bytes(MIB))


def tensor(count: int, seed: int, index: int) -> bytes:
    values = np.random.default_rng([seed, index]).standard_normal(count, dtype=np.float32) * np.float32(0.02)
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).tobytes()


def weights(path: Path, mebibytes: int, seed: int, *changes: int) -> None:
    """Each change is a seed that five of the hundred tensors are made anew with: other five for each."""
    count = mebibytes * MIB // TENSORS // 4
    names = {
        f"model.layers.{i}.weight": {
            "dtype": "F32",
            "shape": [count],
            "data_offsets": [4 * count * i, 4 * count * (i + 1)],
        }
        for i in range(TENSORS)
    }
    header = json.dumps(names).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        for i in range(TENSORS):
            changed = [change for nth, change in enumerate(changes, 1) if i % 20 == 5 * nth]
            out.write(tensor(count, changed[0] if changed else seed, i))


if __name__ == "__main__":
    kind, path, *numbers = sys.argv[1:]
    {"random": random_file, "weights": weights}[kind](Path(path), *map(int, numbers))
