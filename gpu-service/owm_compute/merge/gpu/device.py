"""What the streams of a GPU are to a merge: three queues, and marks in them that others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch

Queue = Literal["in", "compute", "out"]


class Mark(Protocol):
    """A place in a queue."""

    def synchronize(self) -> None:
        """Waits until all that was queued before it is done."""


class Device(Protocol):
    """Memory and queues. Work in one queue is done in order; between queues only `wait` makes an order."""

    @property
    def device(self) -> torch.device:
        """Where tensors lie."""

    def empty(self, nbytes: int) -> torch.Tensor:
        """Bytes on the device."""

    def pinned(self, nbytes: int) -> torch.Tensor:
        """Bytes on the host that can be copied without it waiting."""

    def run(self, queue: Queue, work: Callable[[], object]) -> None:
        """Queues work, which must not wait for the device."""

    def mark(self, queue: Queue) -> Mark:
        """The end of a queue as it is now."""

    def wait(self, queue: Queue, mark: Mark) -> None:
        """Has what is queued from now on wait for a mark of another queue."""


class CudaDevice:
    """A CUDA device with three streams of its own."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self._streams = {
            queue: torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            for queue in ("in", "compute", "out")
        }

    def empty(self, nbytes: int) -> torch.Tensor:
        """See `Device`."""
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def pinned(self, nbytes: int) -> torch.Tensor:
        """See `Device`."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def run(self, queue: Queue, work: Callable[[], object]) -> None:
        """See `Device`."""
        with torch.cuda.device(self.device), torch.cuda.stream(self._streams[queue]):
            work()

    def mark(self, queue: Queue) -> torch.cuda.Event:
        """See `Device`."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._streams[queue])
        return event

    def wait(self, queue: Queue, mark: Mark) -> None:
        """See `Device`."""
        assert isinstance(mark, torch.cuda.Event)  # noqa: S101 (marks of this device are events)
        self._streams[queue].wait_event(mark)
