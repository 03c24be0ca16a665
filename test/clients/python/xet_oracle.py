"""Writes files, and with the stock client's own code their Xet hashes, xorbs and shards: what ours must agree with."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
from pathlib import Path
from typing import Any

import hf_xet

SIZES = (1, 8191, 8192, 8193, 65_535, 65_536, 65_537, 1_000_000)
FLOATS = 300_000
TEXT_LINES = 20_000


def contents() -> dict[str, bytes]:
    """Files of every interesting size, and of every kind that packs in a way of its own."""
    made = {f"random-{size}": random.Random(size).randbytes(size) for size in SIZES}
    made["published"] = random.Random(1).randbytes(3_000_000)
    made["zeros"] = bytes(1_500_000)
    roll = random.Random(2)
    made["floats"] = b"".join(struct.pack("<f", 1 + roll.random() / 16) for _ in range(FLOATS))
    made["text"] = "".join(f"layer.{roll.randrange(80)}.weight\n" for _ in range(TEXT_LINES)).encode()
    made["again"] = made["random-1000000"][:700_000] + made["floats"][:400_000] + made["random-1000000"][300_000:]
    made["empty"] = b""
    return made


def endpoint(folder: Path) -> str:
    """The client's own store of xorbs and shards, as plain files."""
    return f"local://{folder / 'store'}"


def write(folder: Path) -> list[dict[str, Any]]:
    """Leaves `files/` and `store/` in the folder; answers what hf_xet says of each file."""
    files = folder / "files"
    files.mkdir(parents=True)
    made = contents()
    for name, content in made.items():
        (files / name).write_bytes(content)
    hashed = hf_xet.hash_files([str(files / name) for name in made])
    with hf_xet.XetSession().new_upload_commit(endpoint=endpoint(folder)) as commit:
        for name in made:
            commit.start_upload_file(str(files / name))
    return [
        {"name": name, "hash": info.hash, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for (name, content), info in zip(made.items(), hashed, strict=True)
    ]


def read(folder: Path) -> list[str]:
    """Reads every file of the store back, and answers the names of those that came back changed."""
    known = json.load(sys.stdin)
    back = folder / "back"
    with hf_xet.XetSession().new_file_download_group(endpoint=endpoint(folder)) as group:
        for file in known:
            group.start_download_file(hf_xet.XetFileInfo(file["hash"], file["size"]), str(back / file["name"]))
    return [
        file["name"]
        for file in known
        if (back / file["name"]).read_bytes() != (folder / "files" / file["name"]).read_bytes()
    ]


if __name__ == "__main__":
    json.dump({"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2])), sys.stdout)
