"""Workers that compute on a GPU: pieces are read into pinned memory, copied, computed and copied back, several at once.

Copies in, kernels and copies out have a queue each, so that they overlap. Models stay on the device when all of them
fit, so that merging them again copies nothing. What the kernel can't compute, the threads of `LocalWorkers` do. The
order of operations is tested on a stand-in for a device; none of this has run on a GPU yet.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch

from owm_compute.merge.gpu.device import CudaDevice, Device, Mark
from owm_compute.merge.gpu.fused import MOST_MODELS, Fused, blocks_of, fits, fold, fuse
from owm_compute.merge.resolve import OutputFile, Task, count_of
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tensor_run import ChunkFigures, TensorRun
from owm_compute.merge.workers import LocalWorkers, Piece
from owm_compute.tensors.operand import Operand
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of

LENGTH = 1 << 21
"""Elements a piece: enough that a copy takes longer than to ask for it."""
_IN_FLIGHT = 4
_SHARE = 0.8
_WIDEST = 4
_ROWS = MOST_MODELS * (MOST_MODELS + 1) // 2 + 1


class Resident:
    """Ranges of operands that lie on a device, for one merge at a time. `budget`: bytes that may be held."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: dict[tuple[str, int, int], torch.Tensor] = {}
        self._keeping = False

    def admit(self, operands: Sequence[Operand]) -> None:
        """Decides, before a merge, whether its operands are kept; others make room for them."""
        sizes = {one.identity: count_of(one.shape) * TORCH_DTYPES[one.dtype].itemsize for one in operands}
        others = sum(held.nbytes for (identity, _, _), held in self._held.items() if identity not in sizes)
        if sum(sizes.values()) + others > self._budget:
            self._held = {key: held for key, held in self._held.items() if key[0] in sizes}
        self._keeping = sum(sizes.values()) <= self._budget

    def find(self, operand: Operand, start: int, length: int) -> torch.Tensor | None:
        """The elements [start, start + length), where they are held."""
        return self._held.get((operand.identity, start, length))

    def keep(self, operand: Operand, start: int, values: torch.Tensor) -> None:
        """Holds elements whose copy is queued already."""
        self._held[operand.identity, start, len(values)] = values

    @property
    def keeping(self) -> bool:
        """Whether new ranges are kept."""
        return self._keeping


class _Slot:
    """The buffers of one piece in flight, on the host and on the device."""

    def __init__(self, device: Device, length: int, operands: int) -> None:
        blocks = blocks_of(length)
        self.host = [device.pinned(length * _WIDEST) for _ in range(operands)]
        self.device = [device.empty(length * _WIDEST) for _ in range(operands)]
        self.result = (device.empty(length * _WIDEST), device.pinned(length * _WIDEST))
        self.sums = (device.empty(4 * _ROWS * blocks), device.pinned(4 * _ROWS * blocks))
        self.counts = (device.empty(4 * 2 * blocks), device.pinned(4 * 2 * blocks))


@dataclass(frozen=True)
class _Job:
    run: TensorRun
    fused: Fused
    tables: tuple[torch.Tensor, torch.Tensor]


class _GpuPiece:
    def __init__(self, job: _Job, start: int, length: int, slot: _Slot, work: Future[Mark]) -> None:
        self._job, self._start, self._length, self._slot, self._work = job, start, length, slot, work
        self.release: Callable[[], None]

    def result(self) -> tuple[ChunkFigures, memoryview]:
        self._work.result().synchronize()
        run, fused, blocks = self._job.run, self._job.fused, blocks_of(self._length)
        out = _view(self._slot.result[1], TORCH_DTYPES[run.task.spec.dtype], self._length)
        *dots, square = fold(_view(self._slot.sums[1], torch.float32, fused.sums * blocks).view(-1, blocks))
        kept, conflicts = _view(self._slot.counts[1], torch.int32, 2 * blocks).view(2, blocks).sum(1).tolist()
        if not math.isfinite(math.fsum(dots)):
            run.find_non_finite(self._start, self._length)
        run.require_finite(square, out, self._start)
        tally = {"kept": kept, "sign_conflicts": conflicts}
        return ChunkFigures(dots, square, {name: tally[name] for name in fused.tallies}), bytes_of(out)


class GpuWorkers:
    """See `Workers`. `local` prepares the tasks and computes what has no fused form; `length` is its own."""

    def __init__(self, files: Sequence[OutputFile], local: LocalWorkers, device: Device, resident: Resident) -> None:
        tasks = [task for file in files for task in file.tasks if fits(task)]
        self.length = local.length
        self.ahead = local.ahead
        self._local = local
        self._device = device
        self._resident = resident
        self._resident.admit([operand for task in tasks for operand in task.operands])
        self._jobs: dict[str, _Job | None] = {}
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(_IN_FLIGHT)
        self._slots: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        width = max((len(task.operands) for task in tasks), default=0)
        longest = min(self.length, max((count_of(task.shape) for task in tasks), default=0))
        for _ in range(_IN_FLIGHT):
            self._slots.put(_Slot(device, longest, width))

    def announce(self, task: Task) -> None:
        """See `Workers`."""
        self._local.announce(task)

    def has_room(self) -> bool:
        """See `Workers`."""
        return self._local.has_room() and not self._slots.empty()

    def submit(self, task: Task, start: int, length: int) -> Piece:
        """See `Workers`."""
        if start == 0:
            self._jobs[task.name] = self._job(task)
        last = start + length == count_of(task.spec.shape)
        job = self._jobs.pop(task.name) if last else self._jobs[task.name]
        if job is None:
            return self._local.submit(task, start, length)
        if last:
            self._local.forget(task)
        slot = self._slots.get()
        piece = _GpuPiece(job, start, length, slot, self._readers.submit(self._queue, job, start, length, slot))
        piece.release = partial(self._slots.put, slot)
        return piece

    def close(self) -> None:
        """See `Workers`."""
        self._readers.shutdown(cancel_futures=True)
        self._local.close()
        # Every piece ends in this queue: the buffers go when nothing is copied any more.
        self._device.mark("out").synchronize()

    def _job(self, task: Task) -> _Job | None:
        run, apply = self._local.prepared(task)
        fused = None if apply is None else fuse(task, apply)
        return None if fused is None else _Job(run, fused, fused.tables(self._device.device))

    def _queue(self, job: _Job, start: int, length: int, slot: _Slot) -> Mark:
        """Reads what isn't on the device, then queues copies and kernel; the mark is the end of the last copy."""
        task, device, blocks = job.run.task, self._device, blocks_of(length)
        operands, copies = [], []
        for operand, host, place in zip(task.operands, slot.host, slot.device, strict=False):
            values = self._resident.find(operand, start, length)
            if values is None:
                dtype = TORCH_DTYPES[operand.dtype]
                staged = _view(host, dtype, length)
                operand.read(start, staged)
                values = _view(device.empty(staged.nbytes) if self._resident.keeping else place, dtype, length)
                copies.append((operand, values, staged))
            operands.append(values)
        out = [_view(one, TORCH_DTYPES[task.spec.dtype], length) for one in slot.result]
        sums = [_view(one, torch.float32, job.fused.sums * blocks) for one in slot.sums]
        counts = [_view(one, torch.int32, 2 * blocks) for one in slot.counts]
        # A piece is queued as a whole, so what a mark of one queue covers never depends on the threads.
        with self._lock:
            for operand, values, staged in copies:
                device.run("in", partial(values.copy_, staged, non_blocking=True))
                if self._resident.keeping:
                    self._resident.keep(operand, start, values)
            device.wait("compute", device.mark("in"))
            device.run("compute", partial(job.fused.launch, job.tables, operands, start, out[0], sums[0], counts[0]))
            device.wait("out", device.mark("compute"))
            for here, there in (out, sums, counts):
                device.run("out", partial(there.copy_, here, non_blocking=True))
            return device.mark("out")


def _view(buffer: torch.Tensor, dtype: torch.dtype, length: int) -> torch.Tensor:
    return buffer[: length * dtype.itemsize].view(dtype)


_residents: dict[str, Resident] = {}


def cuda_workers(files: Sequence[OutputFile], store: StatisticStore, threads: int, name: str) -> GpuWorkers:
    """Workers on a CUDA device (`cuda:0`), whose models stay there between the merges of this process."""
    if name not in _residents:
        _residents[name] = Resident(int(_SHARE * torch.cuda.mem_get_info(name)[0]))
    return GpuWorkers(files, LocalWorkers(files, store, threads, LENGTH), CudaDevice(name), _residents[name])
