"""The life of a child: confine itself, do one job, report it, exit."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch

from owm_compute import __version__
from owm_compute.errors import ComputeError, JobCancelled, disk_full, is_disk_full
from owm_compute.jobs.functions import run_job
from owm_compute.jobs.sandbox import confine, die_with_parent, protections
from owm_compute.jobs.wire import Channel
from owm_compute.jobs.work import WorkRequest
from owm_compute.tensors.spool import Spool, use_spool

# More often would cost more in messages than it tells anybody.
_PROGRESS_EVERY_S = 0.1
_WRITTEN_EVERY = 4 << 20


def warm_up() -> dict[str, Any]:
    """Loads what every job needs, without starting threads or touching a GPU, both of which a fork would break."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with torch.inference_mode():
        torch.nn.functional.linear(torch.ones(4, 4), torch.ones(4, 4)).softmax(1)
    return {"torch": str(torch.__version__), "sandbox": protections()}


class ChildProgress:
    """Sends progress to the service and notices when it asks to stop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sent_at = 0.0
        self._told: dict[str, int] = {}

    def step(self, done: int, total: int, unit: str) -> None:
        """Reports at most ten times a second, but always the end; raises `JobCancelled` when asked to stop."""
        now = time.monotonic()
        if now - self._sent_at < _PROGRESS_EVERY_S and done < total:
            return
        self._sent_at = now
        self._channel.send({"type": "progress", "done": done, "total": total, "unit": unit})
        message = self._channel.receive(0)
        if message is not None and message.get("type") == "cancel":
            raise JobCancelled

    def metric(self, name: str, step: int, value: float) -> None:
        """Reports one value."""
        self._channel.send({"type": "metric", "name": name, "step": step, "value": value})

    def written(self, path: str, size: int) -> None:
        """Reports every few megabytes; what comes behind the last report is told by `finished`."""
        if size - self._told.get(path, 0) >= _WRITTEN_EVERY:
            self._told[path] = size
            self._channel.send({"type": "written", "path": path, "size": size})

    def finished(self, path: str, sha256: str, size: int) -> None:
        """Reports a whole file."""
        self._channel.send({"type": "finished", "path": path, "sha256": sha256, "size": size})


def run_child(parent: int, channel_fd: int, output_fd: int) -> NoReturn:
    """Never returns: runs the job that comes over `channel_fd`; native output goes to `output_fd`."""
    status = 1
    try:
        os.setsid()
        die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        channel = Channel(socket.socket(fileno=channel_fd))
        message = channel.receive(60)
        if message is not None:
            channel.send(_outcome(WorkRequest.model_validate(message), ChildProgress(channel)))
            status = 0
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # The service is gone, so nobody is left to tell.
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _outcome(request: WorkRequest, progress: ChildProgress) -> dict[str, Any]:
    directory = Path(request.directory)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update({"HOME": str(directory), "TMPDIR": str(directory / "tmp"), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"})
    inputs = Path(request.inputs_directory)
    confine(directory, inputs, request.memory_bytes, request.file_bytes, gpu=request.device != "cpu")
    use_spool(
        Spool(Path(request.present), Path(request.wanted), [(Path(item.path), item.size) for item in request.inputs])
    )
    try:
        output = run_job(request, progress)
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
