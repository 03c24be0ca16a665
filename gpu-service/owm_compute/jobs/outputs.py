"""Takes a job's output to the edge while the job still writes it: large files by chunks as they grow, others whole."""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from owm_compute.backends.base import Abandoned, Control
from owm_compute.errors import ComputeError, JobCancelled, internal_error
from owm_compute.hub.client import HubClient
from owm_compute.hub.upload import upload
from owm_compute.hub.xet import XetFailed, XetUpload
from owm_compute.jobs.work import MAX_OUTPUT_FILES, OutputFile
from owm_compute.specs import HubUrls

_log = logging.getLogger("owm_compute.outputs")
_PIECE = 1 << 20
# Below it, asking for a token and registering cost more than sending the file whole.
_LEAST_BY_CHUNKS = 1 << 20
_LOOK_EVERY_S = 0.1


@dataclass
class _Growing:
    """A file that the job writes front to back: `written` bytes of it are final, all once `done` is there."""

    path: str
    written: int = 0
    done: OutputFile | None = None


class Outputs:
    """The output files in `directory`, sent in the order in which they appear.

    Use it as a context: at exit nothing is under way any more. A failure is raised by every later `control.check()`.
    Files go whole where the edge takes no chunks, or where chunks fail.
    """

    def __init__(self, client: HubClient, control: Control, urls: HubUrls, directory: Path, scratch: Path) -> None:
        self._client = client
        self._control = control
        self._urls = urls
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._scratch = scratch
        self._changed = threading.Condition()
        self._files: dict[str, _Growing] = {}
        self._complete = False
        self._stopping = False
        self._begun = 0
        self._takes_chunks = urls.xet_token_url is not None
        self._xet: XetUpload | None = None
        self._by_chunks: list[OutputFile] = []
        self._thread = threading.Thread(target=self._work, name="outputs", daemon=True)
        self.bytes_sent = 0

    def written(self, path: str, size: int) -> None:
        """So many bytes of a file are there for good."""
        with self._changed:
            self._file(path).written = size
            self._changed.notify_all()

    def finished(self, file: OutputFile) -> None:
        """All of a file is there."""
        with self._changed:
            growing = self._file(file.path)
            if growing.done is None:
                growing.written, growing.done = file.size, file
            elif growing.done != file:
                raise _changed_its_mind(file.path)
            self._changed.notify_all()

    def _file(self, path: str) -> _Growing:
        if path not in self._files and len(self._files) == MAX_OUTPUT_FILES:
            raise _changed_its_mind(path)
        return self._files.setdefault(path, _Growing(path))

    def deliver(self, files: Sequence[OutputFile]) -> None:
        """Returns when exactly these files are at the edge; raises what went wrong."""
        for file in files:
            self.finished(file)
        with self._changed:
            self._complete = True
            self._changed.notify_all()
            if len(self._files) != len(files):
                raise _changed_its_mind(", ".join(self._files))
        while self._thread.is_alive():
            self._thread.join(0.05)
            self._client.check()
        self._client.check()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._xet is not None and self._thread.is_alive():
            # The thread may wait inside the client, for room or for the edge.
            self._xet.abort()
        self._thread.join()
        os.close(self._directory)

    def _work(self) -> None:
        try:
            while (growing := self._next()) is not None:
                self._send(growing)
            if self._complete and not self._stopping:
                self._register()
        except (Abandoned, JobCancelled):
            return
        except ComputeError as error:
            self._control.fail(error)
        except Exception:
            _log.exception("uploading failed unexpectedly")
            self._control.fail(internal_error())

    def _next(self) -> _Growing | None:
        """The next file to begin with; None when there will be no more."""
        with self._changed:
            while not self._stopping:
                self._client.check()
                if self._begun < len(self._files):
                    self._begun += 1
                    return list(self._files.values())[self._begun - 1]
                if self._complete:
                    return None
                self._changed.wait(_LOOK_EVERY_S)
        return None

    def _reach(self, growing: _Growing, position: int) -> int:
        """How much of a file is there, once that is more than `position` or all of it."""
        with self._changed:
            while growing.done is None and growing.written <= position:
                self._changed.wait(_LOOK_EVERY_S)
                self._client.check()
                if self._stopping:
                    raise Abandoned
            return growing.written

    def _send(self, growing: _Growing) -> None:
        if self._takes_chunks and (growing.done is None or growing.done.size >= _LEAST_BY_CHUNKS):
            try:
                self._send_by_chunks(growing)
                return
            except XetFailed:
                self._takes_chunks = False
        while growing.done is None:
            self._reach(growing, growing.written)
        self._send_whole(growing.done)

    def _send_whole(self, file: OutputFile) -> None:
        with self._open(file.path) as stream:
            if os.fstat(stream.fileno()).st_size != file.size:
                raise _changed_its_mind(file.path)
            self.bytes_sent += upload(self._client, self._urls.uploads_url, stream, file.sha256, file.size)

    def _send_by_chunks(self, growing: _Growing) -> None:
        if self._xet is None:
            self._xet = XetUpload(self._client, self._urls.xet_token_url or "", self._scratch)
        with self._open(growing.path) as stream:
            sent = self._xet.send(growing.path, self._pieces(growing, stream))
        if growing.done is None or sent != (growing.done.sha256, growing.done.size):
            raise _changed_its_mind(growing.path)
        self._by_chunks.append(growing.done)

    def _pieces(self, growing: _Growing, stream: BinaryIO) -> Iterator[bytes]:
        position = 0
        while position < (reached := self._reach(growing, position)):
            self._client.check()
            piece = os.pread(stream.fileno(), min(_PIECE, reached - position), position)
            if not piece:
                raise _changed_its_mind(growing.path)
            position += len(piece)
            yield piece

    def _register(self) -> None:
        if self._xet is None or not self._by_chunks:
            return
        try:
            self.bytes_sent += self._xet.commit()
        except XetFailed:
            for file in self._by_chunks:
                self._send_whole(file)

    def _open(self, path: str) -> BinaryIO:
        # The job chose what lies here: a link could point at the journal, a folder that is one too.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        folder, _, name = path.rpartition("/")
        directory = os.open(folder or ".", flags | os.O_DIRECTORY, dir_fd=self._directory)
        try:
            stream = os.fdopen(os.open(name, flags, dir_fd=directory), "rb")
        finally:
            os.close(directory)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            stream.close()
            raise _changed_its_mind(path)
        return stream


def _changed_its_mind(path: str) -> ComputeError:
    return ComputeError("worker_died", f"the worker's output {path} is not what it announced")
