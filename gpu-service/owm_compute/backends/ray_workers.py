"""Pieces of a merge computed by Ray actors, on one host or several: each opens the models and takes a share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch

from owm_compute.errors import ComputeError
from owm_compute.jobs.functions import Inputs
from owm_compute.jobs.perform import spool_of
from owm_compute.jobs.work import WorkRequest
from owm_compute.merge.method import Apply
from owm_compute.merge.program import Program
from owm_compute.merge.resolve import Task, count_of, resolve
from owm_compute.merge.run import open_sources
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tensor_run import ChunkFigures, TensorRun
from owm_compute.merge.workers import Piece
from owm_compute.merge.workspace import CHUNK, Workspace, chunk_length, output_dtype
from owm_compute.progress import Silent
from owm_compute.tensors.spool import use_spool
from owm_compute.tensors.torch_io import bytes_of

_PIECES_A_WORKER = 4
_Answer = tuple[ChunkFigures, npt.NDArray[np.uint8]] | dict[str, Any]


class MergeActor:
    """One worker process: the tasks of a program over sources that it has opened."""

    def __init__(self, program: str, request: dict[str, Any], chunk: int) -> None:
        torch.set_num_threads(1)
        work = WorkRequest.model_validate(request)
        use_spool(spool_of(work))
        plan = Program.model_validate_json(program)
        self._stack = ExitStack()
        store = StatisticStore()
        sources, _ = open_sources(plan, Inputs(work), store, Silent(), self._stack)
        tasks = [task for file in resolve(plan, sources) for task in file.tasks]
        workspace = Workspace(chunk)
        self._runs = {task.name: TensorRun(task, store, lambda: workspace) for task in tasks}
        self._prepared: tuple[str, Apply] | None = None

    def compute(self, name: str, start: int, length: int) -> _Answer:
        """One piece, or the error that it ended with: Ray would wrap an exception until it can't be told."""
        run = self._runs[name]
        out = torch.empty(length, dtype=output_dtype(run.task))
        try:
            if run.task.is_exact:
                figures = run.copy_equal(start, out)
            else:
                if self._prepared is None or self._prepared[0] != name:
                    self._prepared = (name, run.prepare())
                figures = run.compute(self._prepared[1], start, out)
        except ComputeError as error:
            return error.as_json()
        return figures, np.frombuffer(bytes_of(out), dtype=np.uint8)


class RayWorkers:
    """`Workers` over `count` actors; a tensor goes to the one with the fewest bytes so far. Ray must be initialised.

    The paths of the request must be the same on every host.
    """

    def __init__(self, program: Program, request: WorkRequest, count: int) -> None:
        most = max((len(operation.models) + 1 for operation in program.operations), default=1)
        self.length = chunk_length(most, CHUNK)
        self.ahead = 0
        text = program.model_dump_json(by_alias=True)
        kind: Any = ray.remote(MergeActor)
        self._actors: list[Any] = [
            kind.options(num_cpus=1).remote(text, request.model_dump(), self.length) for _ in range(count)
        ]
        self._bytes = [0] * count
        self._place: dict[str, int] = {}
        self._open = 0

    def announce(self, task: Task) -> None:
        """See `Workers`: an actor prepares a task when the first piece is asked for."""

    def has_room(self) -> bool:
        """See `Workers`."""
        return self._open < _PIECES_A_WORKER * len(self._actors)

    def submit(self, task: Task, start: int, length: int) -> Piece:
        """See `Workers`."""
        if task.name not in self._place:
            self._place[task.name] = min(range(len(self._actors)), key=self._bytes.__getitem__)
            self._bytes[self._place[task.name]] += task.spec.nbytes
        place = self._place[task.name]
        if start + length == count_of(task.spec.shape):
            del self._place[task.name]
        self._open += 1
        return _RayPiece(self, self._actors[place].compute.remote(task.name, start, length))

    def released(self) -> None:
        """One piece fewer is open."""
        self._open -= 1

    def close(self) -> None:
        """See `Workers`."""
        for actor in self._actors:
            ray.kill(actor)


class _RayPiece:
    def __init__(self, workers: RayWorkers, reference: Any) -> None:
        self._workers = workers
        self._reference = reference

    def result(self) -> tuple[ChunkFigures, memoryview]:
        answer: _Answer = ray.get(self._reference)
        if isinstance(answer, dict):
            raise ComputeError(**answer)
        figures, data = answer
        return figures, data.data

    def release(self) -> None:
        self._reference = None
        self._workers.released()
