"""Runs a merge program: chunks through several threads, written and hashed in the order of the output as they come.

The output's bytes do not depend on the number of threads, on the length of a chunk or on where a run was interrupted.
Memory is a constant: a few chunks a thread, whatever the size of the models (methods marked `matrix` hold one tensor).
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from owm_compute.merge.align import AlignedSource
from owm_compute.merge.method import Apply
from owm_compute.merge.program import Program
from owm_compute.merge.record import RECORD, Record, tensor_line
from owm_compute.merge.resolve import OutputFile, Task, count_of, resolve
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tensor_run import ChunkFigures, TensorRun
from owm_compute.merge.workspace import Workspace, chunk_length
from owm_compute.progress import Progress, Silent
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.operand import Source
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of
from owm_compute.tensors.writer import SafetensorsWriter, header_bytes, layout

CHUNK = 1 << 18
INDEX = "model.safetensors.index.json"
_METADATA = {"format": "pt"}
_Piece = tuple[Future[ChunkFigures], torch.Tensor, memoryview]


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
) -> MergeReport:
    """Writes the program's files and `merge-record.jsonl` into `output`; `on_file` hears of each as it is finished.

    `facts` go into the head of the record.

    What an interrupted run of the same program left in `output` is checked and gone on from. Raises `ComputeError` as
    `resolve` does, and `non_finite` or `tensor_value_mismatch` with the tensor.
    """
    files = resolve(program, sources)
    engine = _Engine(files, statistics or StatisticStore(), threads, chunk, progress or Silent())
    reports = []
    alignment = [source.record() for source in sources if isinstance(source, AlignedSource)]
    exact = not alignment and all(task.method.determinism == "exact" for file in files for task in file.tasks)
    found = {**({"alignment": alignment} if alignment else {}), **(facts or {})}
    with Record(output / RECORD, program, found) as record, ThreadPoolExecutor(threads) as pool:
        for file in files:
            report = engine.write(file, output / file.path, record, pool)
            reports.append(report)
            if on_file is not None:
                on_file(report)
    if len(files) > 1:
        reports.append(_write_index(files, output))
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


class _Engine:
    """The threads, buffers and counters of one run."""

    def __init__(
        self, files: Sequence[OutputFile], store: StatisticStore, threads: int, chunk: int, progress: Progress
    ) -> None:
        self._store = store
        self._threads = threads
        self._chunk = chunk
        self._progress = progress
        self._local = threading.local()
        self._total = sum(task.spec.nbytes for file in files for task in file.tasks)
        self._written = 0
        self.bytes_read = 0
        self.resumed_bytes = 0
        most = max((len(task.operands) for file in files for task in file.tasks), default=1)
        self._length = chunk_length(most, chunk)
        widest = max((BITS[task.spec.dtype] // 8 for file in files for task in file.tasks), default=1)
        self._buffers: queue.SimpleQueue[torch.Tensor] = queue.SimpleQueue()
        # As many as threads compute into, and as many again that wait for their turn to be written.
        for _ in range(2 * threads + 1):
            self._buffers.put(torch.empty(self._length * widest, dtype=torch.uint8))

    def write(self, file: OutputFile, path: Path, record: Record, pool: ThreadPoolExecutor) -> FileReport:
        specs = {task.name: task.spec for task in file.tasks}
        tasks = {task.name: task for task in file.tasks}
        ordered = [tasks[name] for name in layout(specs)]
        head = header_bytes(specs, _METADATA)
        done = record.finished(path, head, ordered)
        keep = len(head) + sum(task.spec.nbytes for task in ordered[: len(done)]) if done else 0
        self.resumed_bytes += keep
        self._written += sum(task.spec.nbytes for task in ordered[: len(done)])
        with SafetensorsWriter(path, specs, _METADATA, keep=keep) as writer:
            for line in done:
                record.append(line)
            self._write_tensors(ordered[len(done) :], file.path, writer, record, pool)
            sha256, size = writer.finish()
        return FileReport(file.path, sha256, size)

    def _write_tensors(
        self,
        tasks: Sequence[Task],
        path: str,
        writer: SafetensorsWriter,
        record: Record,
        pool: ThreadPoolExecutor,
    ) -> None:
        pieces = self._pieces(tasks, pool)
        try:
            for task in tasks:
                figures = []
                for _ in range(0, count_of(task.spec.shape), self._length):
                    future, buffer, data = next(pieces)
                    figures.append(future.result())
                    writer.write(data)
                    self._progress.written(path, writer.size)
                    self._buffers.put(buffer)
                    self._written += len(data)
                    self._progress.step(self._written, self._total, "bytes")
                self.bytes_read += sum(_bytes_read(task))
                record.append(tensor_line(task, path, figures, writer.prefix_sha256()))
        finally:
            pieces.close()

    def _pieces(self, tasks: Sequence[Task], pool: ThreadPoolExecutor) -> Generator[_Piece, None, None]:
        """Chunks in the order of the output, computed ahead as far as buffers go; preparations run a tensor ahead."""
        waiting: deque[_Piece] = deque()
        prepared: deque[tuple[TensorRun, Future[Apply] | None]] = deque()
        upcoming = iter(tasks)

        def prepare_next() -> None:
            task = next(upcoming, None)
            if task is not None:
                run = TensorRun(task, self._store, self._workspace)
                prepared.append((run, None if task.is_exact else pool.submit(run.prepare)))

        for _ in range(self._threads):
            prepare_next()
        while prepared:
            run, future = prepared.popleft()
            prepare_next()
            apply = None if future is None else future.result()
            dtype = TORCH_DTYPES[run.task.spec.dtype] if run.task.spec.dtype != "BOOL" else torch.uint8
            count = count_of(run.task.spec.shape)
            for start in range(0, count, self._length):
                while self._buffers.empty():
                    yield waiting.popleft()
                buffer = self._buffers.get()
                length = min(self._length, count - start)
                out = buffer[: length * dtype.itemsize].view(dtype)
                work = (
                    pool.submit(run.copy_equal, start, out)
                    if apply is None
                    else pool.submit(run.compute, apply, start, out)
                )
                waiting.append((work, buffer, bytes_of(out)))
        while waiting:
            yield waiting.popleft()

    def _workspace(self) -> Workspace:
        workspace: Workspace | None = getattr(self._local, "workspace", None)
        if workspace is None:
            workspace = self._local.workspace = Workspace(self._length)
        return workspace


def _bytes_read(task: Task) -> Iterator[int]:
    for operand in task.operands:
        yield count_of(operand.shape) * TORCH_DTYPES[operand.dtype].itemsize


def _write_index(files: Sequence[OutputFile], output: Path) -> FileReport:
    where = {task.name: file.path for file in files for task in file.tasks}
    size = sum(task.spec.nbytes for file in files for task in file.tasks)
    document = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
    path = output / INDEX
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return FileReport(INDEX, *digest_of(path))


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 (hex) and size of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
