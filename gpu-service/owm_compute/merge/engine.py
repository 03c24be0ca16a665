"""Runs a merge program: pieces from its workers, written and hashed in the order of the output as they come.

The output's bytes do not depend on who the workers are, on how long a piece is or on where a run was interrupted.
Memory is a constant: a few chunks a thread, whatever the size of the models (methods marked `matrix` hold one tensor).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.align import AlignedSource
from owm_compute.merge.program import Program
from owm_compute.merge.record import RECORD, Record, tensor_line
from owm_compute.merge.resolve import OutputFile, Task, count_of, is_exact, resolve
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.workers import LocalWorkers, Piece, Workers
from owm_compute.merge.workspace import CHUNK
from owm_compute.progress import Progress, Silent
from owm_compute.tensors.operand import Source
from owm_compute.tensors.torch_io import TORCH_DTYPES
from owm_compute.tensors.writer import SafetensorsWriter, header_bytes, layout

_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.safetensors$)")
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class FileReport:
    """A finished file of the output."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class MergeReport:
    """What was written, and what it took."""

    files: list[FileReport]
    tensors: int
    parameters: int
    bytes_read: int
    bytes_written: int
    determinism: str
    resumed_bytes: int


def run_program(
    program: Program,
    sources: Sequence[Source],
    output: Path,
    *,
    threads: int = 1,
    progress: Progress | None = None,
    statistics: StatisticStore | None = None,
    chunk: int = CHUNK,
    on_file: Callable[[FileReport], None] | None = None,
    facts: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
    device: str = "cpu",
) -> MergeReport:
    """Writes the program's files and `merge-record.jsonl` into `output`; `on_file` hears of each as it is finished.

    `facts` go into the head of the record. `workers` compute instead of `threads` of this process; with a `device`
    like `cuda:0` a GPU computes what it can, to the same bytes (`device_missing` where there is none).
    What an interrupted run of the same program left in `output` is checked and gone on from. Raises `ComputeError` as
    `resolve` does, and `non_finite` or `tensor_value_mismatch` with the tensor.
    """
    files = resolve(program, sources)
    hands = workers or _new_workers(files, statistics or StatisticStore(), threads, chunk, device)
    engine = _Engine(files, hands, progress or Silent())
    reports = []
    alignment = [source.record() for source in sources if isinstance(source, AlignedSource)]
    exact = is_exact(files, sources)
    found = {**({"alignment": alignment} if alignment else {}), **(facts or {})}
    with Record(output / RECORD, program, found) as record, closing(hands):
        for file in files:
            report = engine.write(file, output / file.path, record)
            reports.append(report)
            if on_file is not None:
                on_file(report)
    reports += _write_indices(files, output)
    reports.append(FileReport(RECORD, *digest_of(output / RECORD)))
    tasks = [task for file in files for task in file.tasks]
    return MergeReport(
        files=reports,
        tensors=len(tasks),
        parameters=sum(count_of(task.spec.shape) for task in tasks),
        bytes_read=engine.bytes_read,
        bytes_written=sum(report.size for report in reports) - engine.resumed_bytes,
        determinism="exact" if exact else "tolerance",
        resumed_bytes=engine.resumed_bytes,
    )


def _new_workers(files: Sequence[OutputFile], store: StatisticStore, threads: int, chunk: int, device: str) -> Workers:
    if device == "cpu":
        return LocalWorkers(files, store, threads, chunk)
    if not torch.cuda.is_available():
        raise ComputeError("device_missing", f"{device} is not here", field="device", fix="use the device cpu")
    # Needs Triton, which PyTorch brings only where it is built for CUDA.
    from owm_compute.merge.gpu.workers import cuda_workers

    return cuda_workers(files, store, threads, device)


class _Engine:
    """The workers and counters of one run."""

    def __init__(self, files: Sequence[OutputFile], workers: Workers, progress: Progress) -> None:
        self._workers = workers
        self._progress = progress
        self._total = sum(task.spec.nbytes for file in files for task in file.tasks)
        self._written = 0
        self.bytes_read = 0
        self.resumed_bytes = 0

    def write(self, file: OutputFile, path: Path, record: Record) -> FileReport:
        tasks = {file.stored_name(task): task for task in file.tasks}
        specs = {name: task.spec for name, task in tasks.items()}
        ordered = [tasks[name] for name in layout(specs)]
        head = header_bytes(specs, _METADATA)
        done = record.finished(path, file.path, head, ordered)
        keep = len(head) + sum(task.spec.nbytes for task in ordered[: len(done)]) if done else 0
        self.resumed_bytes += keep
        self._written += sum(task.spec.nbytes for task in ordered[: len(done)])
        path.parent.mkdir(exist_ok=True)
        with SafetensorsWriter(path, specs, _METADATA, keep=keep) as writer:
            for line in done:
                record.append(line)
            self._write_tensors(ordered[len(done) :], file.path, writer, record)
            sha256, size = writer.finish()
        return FileReport(file.path, sha256, size)

    def _write_tensors(self, tasks: Sequence[Task], path: str, writer: SafetensorsWriter, record: Record) -> None:
        pieces = self._pieces(tasks)
        for task in tasks:
            figures = []
            for _ in range(0, count_of(task.spec.shape), self._workers.length):
                piece = next(pieces)
                figure, data = piece.result()
                figures.append(figure)
                writer.write(data)
                self._progress.written(path, writer.size)
                self._written += len(data)
                piece.release()
                self._progress.step(self._written, self._total, "bytes")
            self.bytes_read += sum(_bytes_read(task))
            record.append(tensor_line(task, path, figures, writer.prefix_sha256()))

    def _pieces(self, tasks: Sequence[Task]) -> Iterator[Piece]:
        """Pieces in the order of the output, computed ahead as far as there is room; preparations run ahead too."""
        workers = self._workers
        waiting: deque[Piece] = deque()
        filled = [task for task in tasks if count_of(task.spec.shape)]
        for task in filled[: workers.ahead]:
            workers.announce(task)
        for number, task in enumerate(filled, start=workers.ahead):
            if number < len(filled):
                workers.announce(filled[number])
            count = count_of(task.spec.shape)
            for start in range(0, count, workers.length):
                while not workers.has_room():
                    yield waiting.popleft()
                waiting.append(workers.submit(task, start, min(workers.length, count - start)))
        yield from waiting


def _bytes_read(task: Task) -> Iterator[int]:
    for operand in task.operands:
        yield count_of(operand.shape) * TORCH_DTYPES[operand.dtype].itemsize


def _write_indices(files: Sequence[OutputFile], output: Path) -> Iterator[FileReport]:
    """An index beside the shards of each file that is cut: they have its name and their number."""
    cut: dict[str, list[OutputFile]] = {}
    for file in files:
        if _SHARD.search(file.path):
            cut.setdefault(_SHARD.sub("", file.path), []).append(file)
    for whole, shards in cut.items():
        where = {shard.stored_name(task): Path(shard.path).name for shard in shards for task in shard.tasks}
        size = sum(task.spec.nbytes for shard in shards for task in shard.tasks)
        document = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
        path = output / f"{whole}.index.json"
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        yield FileReport(f"{whole}.index.json", *digest_of(path))


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 (hex) and size of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
