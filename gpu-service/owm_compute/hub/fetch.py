"""Brings a job's inputs to disk block by block, several at a time, what the job waits for first, and checks digests."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from owm_compute.backends.base import Abandoned, Control
from owm_compute.errors import ComputeError, JobCancelled, disk_full, internal_error, is_disk_full
from owm_compute.hub.client import HubClient, Unavailable, require_success
from owm_compute.specs import InputFile
from owm_compute.tensors.spool import BLOCK, block_count

_log = logging.getLogger("owm_compute.fetch")
# Enough to hide the edge's latency behind transfers. One more is kept for what the job waits for.
_CONNECTIONS = 4
_LOOK_EVERY_S = 0.005
_HASH_PIECE = 1 << 20
_MISSING, _COMING, _PRESENT = 0, 1, 2
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class _Input:
    """One input: its blocks, how far the job and the digest have come."""

    def __init__(self, item: InputFile, path: Path, first: int) -> None:
        self.item = item
        self.path = path
        self.first = first
        self.state = bytearray(block_count(item.size))
        self.cursor = 0
        self.wanted = -1
        self.wishes = 0
        self.digest = hashlib.sha256()
        self.hashed = 0
        self.hashing = threading.Lock()
        self.kept = False

    def next_missing(self) -> int:
        """The first missing block from the cursor on, going round; -1 when none is missing."""
        found = self.state.find(_MISSING, self.cursor)
        return found if found >= 0 else self.state.find(_MISSING)


class Fetch:
    """The inputs of a job on their way into `directory`, which nobody else writes to.

    Use it as a context: it fetches from entry on, and has stopped at exit. A failure is raised by every later
    `control.check()`. Blocks that an earlier fetch of the same inputs left in `directory` are not fetched again.
    """

    def __init__(
        self,
        client: HubClient,
        control: Control,
        items: Sequence[InputFile],
        directory: Path,
        wanted: Path,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._client = client
        self._control = control
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._inputs: list[_Input] = []
        self.present = directory / "present"
        first = 0
        for index, item in enumerate(items):
            self._inputs.append(_Input(item, directory / str(index), first))
            first += block_count(item.size)
        self._total = first
        self._prepare()
        self._wanted = os.open(wanted, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._present = os.open(self.present, os.O_WRONLY | os.O_CLOEXEC)
        self._stopping = threading.Event()
        works = [self._serve_wishes] + [self._read_ahead] * min(_CONNECTIONS, self._total)
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=work.__name__, daemon=True) for work in works
        ]

    def _prepare(self) -> None:
        identity = hashlib.sha256()
        for entry in self._inputs:
            identity.update(f"{entry.item.sha256} {entry.item.size}\n".encode())
        kept = self.present.read_bytes() if self.present.exists() else b""
        if kept[self._total :] != identity.digest():
            kept = bytes(self._total) + identity.digest()
        for entry in self._inputs:
            with entry.path.open("ab") as stream:
                stream.truncate(entry.item.size)
            for block in range(len(entry.state)):
                if kept[entry.first + block]:
                    entry.state[block] = _PRESENT
                    entry.kept = True
        self.present.write_bytes(kept)

    @property
    def paths(self) -> list[Path]:
        """Where each input lies, in the order they were given."""
        return [entry.path for entry in self._inputs]

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to come, rounded up to whole blocks."""
        return sum(min(BLOCK * entry.state.count(_MISSING), entry.item.size) for entry in self._inputs)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        os.close(self._wanted)
        os.close(self._present)

    def finish(self) -> None:
        """Returns when every input is whole and has the digest that was announced; raises what went wrong."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.05)
                self._client.check()
        self._client.check()
        for entry in self._inputs:
            with entry.hashing:
                self._hash(entry)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (Abandoned, JobCancelled):
            return
        except ComputeError as error:
            self._control.fail(error)
        except Exception as error:
            if isinstance(error, OSError) and is_disk_full(error):
                self._control.fail(disk_full())
                return
            _log.exception("fetching failed unexpectedly")
            self._control.fail(internal_error())

    def _read_ahead(self) -> None:
        while (choice := self._choose(self._ahead)) is not None:
            self._bring(*choice)

    def _serve_wishes(self) -> None:
        while any(_MISSING in entry.state for entry in self._inputs):
            choice = self._choose(self._wish)
            if choice is not None:
                self._bring(*choice)
            elif self._stopping.wait(_LOOK_EVERY_S):
                return

    def _choose(self, among: Callable[[], tuple[_Input, int] | None]) -> tuple[_Input, int] | None:
        with self._lock:
            self._client.check()
            choice = None if self._stopping.is_set() else among()
            if choice is not None:
                entry, block = choice
                entry.state[block] = _COMING
                entry.cursor = block + 1
            return choice

    def _wish(self) -> tuple[_Input, int] | None:
        """What the job waits for and nobody brings yet."""
        wishes = os.pread(self._wanted, self._total, 0)
        number = wishes.find(1)
        while number >= 0:
            # Taken back once it is on its way: the job looks for the block, not at this.
            os.pwrite(self._wanted, b"\0", number)
            entry = next(one for one in reversed(self._inputs) if one.first <= number and one.state)
            block = number - entry.first
            entry.wishes += 1
            entry.wanted = max(entry.wanted, block)
            if entry.state[block] == _MISSING:
                return entry, block
            number = wishes.find(1, number + 1)
        return None

    def _ahead(self) -> tuple[_Input, int] | None:
        """What the job waits for, else what it will want next: of the inputs it reads from, the least ahead of it."""
        wish = self._wish()
        if wish is not None:
            return wish
        open_inputs = [entry for entry in self._inputs if _MISSING in entry.state]
        if not open_inputs:
            return None
        # A first wish is mostly for the header; files that were asked for again are being read.
        entry = min(open_inputs, key=lambda one: (one.wishes < 2, one.cursor - one.wanted, one.first))
        return entry, entry.next_missing()

    def _bring(self, entry: _Input, block: int) -> None:
        start = block * BLOCK
        end = min(start + BLOCK, entry.item.size)
        descriptor = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            transfer = _Transfer(self._client, entry.item, descriptor, start, end, self._on_bytes)
            self._client.repeat(f"fetching {entry.item.name}", "input_unavailable", transfer.go_on)
        finally:
            os.close(descriptor)
        os.pwrite(self._present, b"\1", entry.first + block)
        entry.state[block] = _PRESENT
        # Whoever holds the lock looks again after each block, and `finish` does when all are there.
        if entry.hashing.acquire(blocking=False):
            try:
                self._hash(entry)
            finally:
                entry.hashing.release()

    def _hash(self, entry: _Input) -> None:
        """Takes the digest on over the blocks that follow what was hashed; the end of the file settles it."""
        item = entry.item
        piece = memoryview(bytearray(_HASH_PIECE))
        with entry.path.open("rb", buffering=0) as stream:
            while entry.hashed < len(entry.state) and entry.state[entry.hashed] == _PRESENT:
                self._client.check()
                position = entry.hashed * BLOCK
                end = min(position + BLOCK, item.size)
                while position < end:
                    got = os.preadv(stream.fileno(), [piece[: end - position]], position)
                    entry.digest.update(piece[:got])
                    position += got
                entry.hashed += 1
        if entry.hashed == len(entry.state) and entry.digest.hexdigest() != item.sha256:
            raise ComputeError(
                "input_digest_mismatch",
                f"{item.name} has another SHA-256 than announced",
                field=item.name,
                # What lay here from a run that was killed may have lost bytes that a new transfer brings.
                retryable=entry.kept,
            )


class _Transfer:
    """The bytes [position, end) of an input, on their way into a file."""

    def __init__(
        self,
        client: HubClient,
        item: InputFile,
        descriptor: int,
        position: int,
        end: int,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._client = client
        self._item = item
        self._descriptor = descriptor
        self._position = position
        self._end = end
        self._on_bytes = on_bytes

    def go_on(self) -> None:
        """Fetches what is missing; `Unavailable` when the connection ended early."""
        span = f"bytes={self._position}-{self._end - 1}"
        headers = {**self._client.authorization, "Accept-Encoding": "identity", "Range": span}
        with self._client.http.stream("GET", self._item.url, headers=headers) as response:
            self._check(response)
            for chunk in response.iter_raw():
                self._client.check()
                if self._position + len(chunk) > self._end:
                    raise Unavailable("the edge sent more than was asked for")
                self._write(chunk)
                self._on_bytes(len(chunk))
            if self._position < self._end:
                raise Unavailable(f"the connection ended at byte {self._position}, before {self._end}")

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._position)
            self._position += written
            rest = rest[written:]

    def _check(self, response: httpx.Response) -> None:
        announced = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status_code == 416 and announced is None:
            raise self._wrong_size("another size")
        if announced is not None and int(announced[2]) != self._item.size:
            raise self._wrong_size(f"{announced[2]} bytes")
        require_success(response, "input_unavailable")
        if response.status_code == 206:
            if announced is None or announced[1] != str(self._position):
                raise Unavailable("the edge answered another range")
        elif self._position or self._end < self._item.size:
            raise ComputeError("input_unavailable", "the edge does not answer ranges", field=self._item.name)

    def _wrong_size(self, has: str) -> ComputeError:
        name = self._item.name
        message = f"{name} has {has}, not the announced {self._item.size}"
        return ComputeError("input_size_mismatch", message, field=name)
