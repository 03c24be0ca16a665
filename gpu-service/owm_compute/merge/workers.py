"""Who computes the pieces of a merge: threads of this process, or anything else behind the same few calls.

The engine asks for pieces in the order of the output and writes them in that order, so nothing of how they are shared
out shows in the bytes.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from owm_compute.merge.method import Apply
from owm_compute.merge.resolve import OutputFile, Task, count_of
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tensor_run import ChunkFigures, TensorRun
from owm_compute.merge.workspace import chunk_length, output_dtype, thread_workspaces
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.torch_io import bytes_of


class Piece(Protocol):
    """Elements of one output tensor that are being computed."""

    def result(self) -> tuple[ChunkFigures, memoryview]:
        """Waits; what the record needs, and the bytes, which hold until `release`."""

    def release(self) -> None:
        """Gives the buffer back."""


class Workers(Protocol):
    """Computes pieces. Calls come from one thread, for tasks in the order of the output."""

    @property
    def length(self) -> int:
        """Elements a piece, but for the last of a tensor."""

    @property
    def ahead(self) -> int:
        """How many tensors should be announced before their pieces are asked for."""

    def announce(self, task: Task) -> None:
        """Begins the prepare step of a task."""

    def has_room(self) -> bool:
        """Whether another piece can be asked for before one is released."""

    def submit(self, task: Task, start: int, length: int) -> Piece:
        """Asks for elements [start, start + length) of an announced task."""

    def close(self) -> None:
        """Ends what runs."""


class _LocalPiece:
    def __init__(self, work: Future[ChunkFigures], data: memoryview, release: Callable[[], None]) -> None:
        self._work = work
        self._data = data
        self.release = release

    def result(self) -> tuple[ChunkFigures, memoryview]:
        return self._work.result(), self._data


class LocalWorkers:
    """Threads of this process, over buffers that are allocated once."""

    def __init__(self, files: Sequence[OutputFile], store: StatisticStore, threads: int, chunk: int) -> None:
        tasks = [task for file in files for task in file.tasks]
        self.length = chunk_length(max((len(task.operands) for task in tasks), default=1), chunk)
        self.ahead = threads
        self._store = store
        self._workspace = thread_workspaces(self.length)
        self._pool = ThreadPoolExecutor(threads)
        self._runs: dict[str, tuple[TensorRun, Future[Apply] | None]] = {}
        widest = max((BITS[task.spec.dtype] // 8 for task in tasks), default=1)
        self._buffers: queue.SimpleQueue[torch.Tensor] = queue.SimpleQueue()
        # As many as threads compute into, and as many again that wait for their turn to be written.
        for _ in range(2 * threads + 1):
            self._buffers.put(torch.empty(self.length * widest, dtype=torch.uint8))

    def announce(self, task: Task) -> None:
        """See `Workers`."""
        run = TensorRun(task, self._store, self._workspace)
        self._runs[task.name] = (run, None if task.is_exact else self._pool.submit(run.prepare))

    def has_room(self) -> bool:
        """See `Workers`."""
        return not self._buffers.empty()

    def submit(self, task: Task, start: int, length: int) -> Piece:
        """See `Workers`."""
        # Waited for here: a thread of the pool that waited for another of its own could wait for ever.
        run, apply = self.prepared(task)
        if start + length == count_of(task.spec.shape):
            self.forget(task)
        buffer = self._buffers.get()
        dtype = output_dtype(task)
        out = buffer[: length * dtype.itemsize].view(dtype)
        if apply is None:
            work = self._pool.submit(run.copy_equal, start, out)
        else:
            work = self._pool.submit(run.compute, apply, start, out)
        return _LocalPiece(work, bytes_of(out), lambda: self._buffers.put(buffer))

    def prepared(self, task: Task) -> tuple[TensorRun, Apply | None]:
        """Waits for the prepare step of an announced task; integers have no apply step."""
        run, preparing = self._runs[task.name]
        return run, None if preparing is None else preparing.result()

    def forget(self, task: Task) -> None:
        """Ends an announced task, all pieces of which have been asked for."""
        del self._runs[task.name]

    def close(self) -> None:
        """See `Workers`."""
        self._pool.shutdown(cancel_futures=True)
