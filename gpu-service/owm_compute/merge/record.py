"""The record of a merge, a line for each finished tensor, from which an interrupted run is gone on with."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from owm_compute import __version__
from owm_compute.merge.program import Program
from owm_compute.merge.resolve import Task
from owm_compute.merge.tensor_run import ChunkFigures

RECORD = "merge-record.jsonl"
RecordLine = dict[str, Any]
_PIECE = 1 << 20


class Record:
    """`merge-record.jsonl` being written: a head, then a line a finished tensor.

    The head names program and engine, and what was found before the first tensor: by an alignment, by tokenizers. A
    program that was read from a file is named by the digest of that file, which `found` then holds.
    """

    def __init__(self, path: Path, program: Program, found: Mapping[str, Any]) -> None:
        text = program.model_dump_json(by_alias=True)
        self._head = {
            "schema": "owm.merge-record/1",
            "program_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "engine": __version__,
            **found,
        }
        self._left = _read_lines(path) if path.exists() else []
        if self._left and self._left[0] == self._head:
            self._left = self._left[1:]
        else:
            self._left = []
        self._stream = path.open("w", encoding="utf-8")
        self._write(self._head)

    def finished(self, path: Path, file: str, head: bytes, tasks: Sequence[Task]) -> list[RecordLine]:
        """The lines of those first tensors of a file that an earlier run made of the same inputs and left whole."""
        lines = [line for line in self._left if line.get("file") == file]
        if not lines or not path.exists():
            return []
        good = 0
        digest = hashlib.sha256(head)
        with path.open("rb") as stream:
            if stream.read(len(head)) != head:
                return []
            for index, (line, task) in enumerate(zip(lines, tasks, strict=False), start=1):
                same = _described(task, file).items() <= line.items()
                if not same or not _feed(digest.update, stream.read, task.spec.nbytes):
                    break
                if line.get("prefix_sha256") == digest.hexdigest():
                    good = index
        return lines[:good]

    def append(self, line: RecordLine) -> None:
        """Adds a finished tensor. Its bytes are in the file already."""
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def tensor_line(task: Task, file: str, figures: Sequence[ChunkFigures], prefix_sha256: str) -> RecordLine:
    """What the record says of a tensor.

    Norms and cosines are of what the method takes: differences from the base, or values. `prefix_sha256` is the digest
    of the file up to the tensor's end: it tells the first tensor in which two runs differ, and costs nothing.
    """
    figured = {} if task.is_exact else {"statistics": _statistics(len(task.models), figures)}
    return {**_described(task, file), **figured, "prefix_sha256": prefix_sha256}


def _described(task: Task, file: str) -> RecordLine:
    """What is known of a tensor before it is computed."""
    return {
        "name": task.name,
        "file": file,
        "dtype": task.spec.dtype,
        "shape": list(task.spec.shape),
        "method": task.method.name,
        "settings": {**task.settings.values, **task.settings.each},
        "models": [{"label": operand.label, "identity": operand.identity} for operand in task.models],
        "base": None if task.base is None else {"label": task.base.label, "identity": task.base.identity},
    }


def _statistics(models: int, figures: Sequence[ChunkFigures]) -> dict[str, Any]:
    pairs = list(itertools.combinations_with_replacement(range(models), 2))
    dots = {pair: math.fsum(chunk.dots[i] for chunk in figures if chunk.dots) for i, pair in enumerate(pairs)}
    norms = [math.sqrt(dots[i, i]) for i in range(models)]
    cosines = [
        _rounded(dots[i, j] / (norms[i] * norms[j])) if norms[i] * norms[j] > 0 else 0.0 for i, j in pairs if i != j
    ]
    tally: dict[str, float] = {}
    for chunk in figures:
        for name, value in chunk.tally.items():
            tally[name] = tally.get(name, 0) + value
    return {
        "norms": [_rounded(norm) for norm in norms],
        "cosines": cosines,
        "norm": _rounded(math.sqrt(math.fsum(chunk.square for chunk in figures))),
        "non_finite": 0,
        **tally,
    }


def _rounded(value: float) -> float:
    """Six significant digits: as many as sums in single precision carry."""
    return float(f"{value:.6g}")


def _read_lines(path: Path) -> list[RecordLine]:
    lines: list[RecordLine] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def _feed(update: Callable[[bytes], None], read: Callable[[int], bytes], size: int) -> bool:
    """Whether so many bytes could be read."""
    while size:
        piece = read(min(_PIECE, size))
        if not piece:
            return False
        update(piece)
        size -= len(piece)
    return True
