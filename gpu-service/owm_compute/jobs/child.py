"""The life of a child: confine itself, do one job, report it, exit."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch

from owm_compute.jobs.perform import JobProgress, perform
from owm_compute.jobs.sandbox import confine, die_with_parent, protections
from owm_compute.jobs.wire import Channel
from owm_compute.jobs.work import WorkRequest


def warm_up() -> dict[str, Any]:
    """Loads what every job needs, without starting threads or touching a GPU, both of which a fork would break."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with torch.inference_mode():
        torch.nn.functional.linear(torch.ones(4, 4), torch.ones(4, 4)).softmax(1)
    return {"torch": str(torch.__version__), "sandbox": protections()}


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
            channel.send(_outcome(WorkRequest.model_validate(message), channel))
            status = 0
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # The service is gone, so nobody is left to tell.
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _outcome(request: WorkRequest, channel: Channel) -> dict[str, Any]:
    directory = Path(request.directory)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update({"HOME": str(directory), "TMPDIR": str(directory / "tmp"), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"})
    inputs = Path(request.inputs_directory)
    confine(directory, inputs, request.memory_bytes, request.file_bytes, gpu=request.device != "cpu")

    def is_cancelled() -> bool:
        message = channel.receive(0)
        return message is not None and message.get("type") == "cancel"

    return perform(request, JobProgress(channel.send, is_cancelled))
