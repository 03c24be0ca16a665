"""A model that exists only as a program: its tensors are computed while they are read, chunk by chunk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence

import torch

from owm_compute.merge.method import Apply
from owm_compute.merge.program import Program
from owm_compute.merge.resolve import Task, is_exact, resolve
from owm_compute.merge.statistics import StatisticStore
from owm_compute.merge.tensor_run import TensorRun
from owm_compute.merge.workspace import CHUNK, chunk_length, thread_workspaces
from owm_compute.tensors.operand import Collection, Source


class ComputedOperand:
    """One tensor of a merge that is never written: rounded to its dtype, as if it had been."""

    def __init__(self, run: TensorRun, chunk: int) -> None:
        task = run.task
        self._run = run
        self._chunk = chunk
        self._lock = threading.Lock()
        self._apply: Apply | None = None
        self.label = task.name
        self.dtype = self.stored = task.spec.dtype
        self.shape = task.spec.shape
        self.identity = _identity(task)

    def read(self, start: int, out: torch.Tensor) -> None:
        """See `Operand.read`."""
        for low in range(0, len(out), self._chunk):
            part = out[low : low + self._chunk]
            if self._run.task.is_exact:
                self._run.copy_equal(start + low, part)
            else:
                self._run.compute(self._prepared(), start + low, part)

    def _prepared(self) -> Apply:
        with self._lock:
            if self._apply is None:
                self._apply = self._run.prepare()
            return self._apply


class ComputedSource(Collection):
    """The tensors that a program over opened sources would write; closing it closes those sources."""

    def __init__(self, label: str, program: Program, sources: Sequence[Source], store: StatisticStore) -> None:
        files = resolve(program, sources)
        tasks = [task for file in files for task in file.tasks]
        chunk = chunk_length(max((len(task.operands) for task in tasks), default=1), CHUNK)
        workspace = thread_workspaces(chunk)
        super().__init__(
            label, {task.name: ComputedOperand(TensorRun(task, store, workspace), chunk) for task in tasks}
        )
        self.exact = is_exact(files, sources)
        self._sources = sources

    def close(self) -> None:
        """Releases the sources below."""
        for source in self._sources:
            source.close()


def _identity(task: Task) -> str:
    text = json.dumps(
        [
            task.name,
            task.method.name,
            task.settings.model_dump(),
            [operand.identity for operand in task.models],
            None if task.base is None else task.base.identity,
            task.seed,
            task.spec.dtype,
            task.spec.shape,
        ]
    )
    return f"computed:{hashlib.sha256(text.encode()).hexdigest()}"
