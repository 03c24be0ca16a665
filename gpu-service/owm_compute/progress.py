"""How a long computation tells its caller where it is and learns that it should stop."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """The caller's side of a running computation."""

    def step(self, done: int, total: int, unit: str) -> None:
        """Reports how far the work is; raises `JobCancelled` when the caller wants it to stop."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Reports one finite value of a series."""

    def written(self, path: str, size: int) -> None:
        """Reports that the first `size` bytes of an output file are final."""

    def finished(self, path: str, sha256: str, size: int) -> None:
        """Reports an output file that is whole."""


class Silent:
    """Progress for library use: nobody listens, nobody stops."""

    def step(self, done: int, total: int, unit: str) -> None:
        """Ignored."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Ignored."""

    def written(self, path: str, size: int) -> None:
        """Ignored."""

    def finished(self, path: str, sha256: str, size: int) -> None:
        """Ignored."""
