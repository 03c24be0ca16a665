"""Does a job in this process and puts what came of it into one last message, whatever it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from owm_compute import __version__
from owm_compute.errors import ComputeError, JobCancelled, disk_full, is_disk_full
from owm_compute.jobs.functions import NewWorkers, run_job
from owm_compute.jobs.work import WorkRequest
from owm_compute.tensors.spool import Spool, use_spool

# More often would cost more in messages than it tells anybody.
_PROGRESS_EVERY_S = 0.1
_WRITTEN_EVERY = 4 << 20


class JobProgress:
    """Tells the service how far a job is, and notices when it should stop."""

    def __init__(self, send: Callable[[dict[str, Any]], None], is_cancelled: Callable[[], bool]) -> None:
        self._send = send
        self._is_cancelled = is_cancelled
        self._sent_at = 0.0
        self._told: dict[str, int] = {}

    def step(self, done: int, total: int, unit: str) -> None:
        """Reports at most ten times a second, but always the end; raises `JobCancelled` when asked to stop."""
        now = time.monotonic()
        if now - self._sent_at < _PROGRESS_EVERY_S and done < total:
            return
        self._sent_at = now
        self._send({"type": "progress", "done": done, "total": total, "unit": unit})
        if self._is_cancelled():
            raise JobCancelled

    def metric(self, name: str, step: int, value: float) -> None:
        """Reports one value."""
        self._send({"type": "metric", "name": name, "step": step, "value": value})

    def written(self, path: str, size: int) -> None:
        """Reports every few megabytes; what comes behind the last report is told by `finished`."""
        if size - self._told.get(path, 0) >= _WRITTEN_EVERY:
            self._told[path] = size
            self._send({"type": "written", "path": path, "size": size})

    def finished(self, path: str, sha256: str, size: int) -> None:
        """Reports a whole file."""
        self._send({"type": "finished", "path": path, "sha256": sha256, "size": size})


def perform(request: WorkRequest, progress: JobProgress, new_workers: NewWorkers | None = None) -> dict[str, Any]:
    """The message that ends the job: `result`, `error` or `cancelled`. Anything unforeseen is raised.

    `new_workers` makes what computes a merge, where that is not this process.
    """
    use_spool(spool_of(request))
    try:
        output = run_job(request, progress, new_workers)
    except JobCancelled:
        return {"type": "cancelled"}
    except ComputeError as error:
        return {"type": "error", **error.as_json()}
    except MemoryError:
        return _exhausted(request)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return {"type": "error", **disk_full().as_json()}
    except RuntimeError as error:
        # torch has no type of its own for a failed allocation on the CPU.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        return _exhausted(request)
    engine = {
        "name": "owm-compute",
        "version": __version__,
        "torch": str(torch.__version__),
        "device": _device_name(output.device),
    }
    files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in output.files]
    return {
        "type": "result",
        "files": files,
        "record": output.record,
        "engine": engine,
        "bytes_read": output.bytes_read,
        "bytes_written": sum(file.size for file in output.files),
    }


def spool_of(request: WorkRequest) -> Spool:
    """The inputs of a request, some of which may still be arriving."""
    files = [(Path(item.path), item.size) for item in request.inputs]
    return Spool(Path(request.present), Path(request.wanted), files)


def _device_name(device: str) -> str:
    return "cpu" if device == "cpu" else f"cuda ({torch.cuda.get_device_name(0)})"


def _exhausted(request: WorkRequest) -> dict[str, Any]:
    error = ComputeError(
        "resource_exhausted",
        f"the job needs more than {request.memory_bytes} bytes of memory",
        field="limits.memory_bytes",
        fix="raise limits.memory_bytes, or use a smaller model or batch",
    )
    return {"type": "error", **error.as_json()}
