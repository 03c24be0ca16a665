"""What an operator can set, each with its default and the fix when it is missing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from owm_compute.errors import ComputeError

# RFC 7518 §3.2: an HS256 key is at least as long as its digest.
MIN_SECRET_BYTES = 32


@dataclass(frozen=True)
class Settings:
    """Everything the service reads at start; nothing is read from the environment later."""

    secret: str
    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 8788
    slots: int = 1
    max_queue: int = 64
    cancel_grace_s: float = 5.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["local", "ray"] = "local"
    ray_address: str = "local"
    workers: int = 2
    max_timeout_s: int = 24 * 3600
    max_memory_bytes: int = 64 * 2**30
    log_level: str = "INFO"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m owm_compute", description="The compute service of OWM Hub.")
    parser.add_argument("--host", default=Settings.host)
    parser.add_argument("--port", type=int, default=Settings.port)
    parser.add_argument("--state", type=Path, required=True, help="directory of the journal and of running jobs")
    parser.add_argument("--slots", type=int, default=Settings.slots, help="jobs that run at the same time")
    parser.add_argument("--max-queue", type=int, default=Settings.max_queue, help="jobs that may wait")
    parser.add_argument("--cancel-grace", type=float, default=Settings.cancel_grace_s, help="seconds before the kill")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default=Settings.device)
    parser.add_argument("--backend", choices=["local", "ray"], default=Settings.backend, help="who does the work")
    parser.add_argument("--ray-address", default=Settings.ray_address, help="of the cluster; local starts one here")
    parser.add_argument("--workers", type=int, default=Settings.workers, help="processes a merge has on the cluster")
    parser.add_argument("--log-level", default=Settings.log_level)
    return parser


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line and `OWM_COMPUTE_SECRET`, which is then removed from the environment.

    Raises `ComputeError` (`secret_missing`, `setting_invalid`), each naming the fix.
    """
    args = _parser().parse_args(argv)
    secret = os.environ.pop("OWM_COMPUTE_SECRET", "")
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ComputeError(
            "secret_missing",
            f"OWM_COMPUTE_SECRET is not set or is shorter than {MIN_SECRET_BYTES} bytes",
            field="OWM_COMPUTE_SECRET",
            fix="set OWM_COMPUTE_SECRET to the value the edge uses, for example from `openssl rand -hex 32`",
        )
    for name, value, least in (
        ("--slots", args.slots, 1),
        ("--max-queue", args.max_queue, 1),
        ("--workers", args.workers, 1),
    ):
        if value < least:
            raise ComputeError("setting_invalid", f"{name} must be at least {least}", field=name)
    return Settings(
        secret=secret,
        state_dir=args.state.resolve(),
        host=args.host,
        port=args.port,
        slots=args.slots,
        max_queue=args.max_queue,
        cancel_grace_s=max(0.0, args.cancel_grace),
        device=args.device,
        backend=args.backend,
        ray_address=args.ray_address,
        workers=args.workers,
        log_level=args.log_level,
    )
