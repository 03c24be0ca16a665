"""The parts of a running service and the order in which they start and stop."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from owm_compute.api.changes import Changes
from owm_compute.backends.base import Backend
from owm_compute.backends.local import LocalBackend
from owm_compute.errors import ComputeError
from owm_compute.jobs.delivery import Deliverer
from owm_compute.jobs.journal import Journal
from owm_compute.jobs.runner import Runner
from owm_compute.jobs.spawner import Spawner
from owm_compute.settings import Settings
from owm_compute.telemetry import Telemetry

_log = logging.getLogger("owm_compute.service")


class Service:
    """Everything behind the HTTP routes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = choose_device(settings.device)
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_fd = _lock(settings.state_dir / "lock")
        self.telemetry = Telemetry()
        self.changes = Changes()
        self.journal = Journal(settings.state_dir / "journal.sqlite")
        self.journal.on_change(self.changes.notify)
        self.spawner = Spawner()
        self.deliverer = Deliverer(self.journal, self.telemetry)
        self.runner = Runner(
            self.journal,
            self._new_backend(),
            self.deliverer,
            self.telemetry,
            settings.state_dir / "jobs",
            slots=settings.slots,
            device=self.device,
            ready=self.spawner.warm,
        )

    def _new_backend(self) -> Backend:
        if self.settings.backend == "local":
            return LocalBackend(self.spawner, self.settings.cancel_grace_s)
        try:
            from owm_compute.backends.ray import RayBackend
        except ImportError:
            raise ComputeError(
                "setting_invalid",
                "Ray is not installed",
                field="--backend",
                fix="pip install -r requirements-ray.txt, or use --backend local",
            ) from None
        return RayBackend(self.settings.ray_address, self.settings.workers, self.settings.cancel_grace_s)

    @property
    def ready(self) -> bool:
        """Whether a submitted job would start at once."""
        return self.spawner.warm.is_set()

    def start(self) -> None:
        """Recovers what an earlier process left, then begins to run and deliver."""
        self.spawner.start()
        self.runner.start()
        self.deliverer.start()

    def stop(self) -> None:
        """Kills every child and ends every thread; the journal keeps what was not done."""
        self.runner.stop()
        self.spawner.stop()
        self.deliverer.stop()
        self.journal.close()
        os.close(self._lock_fd)
        _log.info("stopped")


def choose_device(wish: str) -> str:
    """`cpu` or `cuda:0`; `device_missing` when a GPU was asked for and none is there."""
    # The driver's device file is there before any CUDA library is loaded, which must never happen in this process.
    present = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    if wish == "cuda" and not present:
        raise ComputeError("device_missing", "no NVIDIA device is present", field="--device", fix="use --device cpu")
    return "cuda:0" if wish == "cuda" or (wish == "auto" and present) else "cpu"


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ComputeError(
            "state_in_use",
            f"another service uses {path.parent}",
            field="--state",
            fix="stop it or give another directory",
        ) from None
    return descriptor
