"""Numbers that a sweep found, kept by the identity of what was swept: a later merge of the same parents reads them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from owm_compute.merge.method import Shared
from owm_compute.merge.resolve import Task

_ENTRIES: TypeAdapter[dict[str, list[float]]] = TypeAdapter(dict[str, list[float]])
# Raise it when the meaning of a kept number changes.
_VERSION = 1
_RECENT = 2


class StatisticStore:
    """Statistics in memory, read from and written to one JSON file (digest → numbers). Safe for several threads."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, list[float]] = {}
        self._recent: dict[str, Future[Any]] = {}
        self.found = 0
        self.computed = 0
        if path is not None and path.exists():
            # What can't be read is only computed again.
            try:
                self._entries = _ENTRIES.validate_json(path.read_bytes())
            except ValidationError:
                self._entries = {}

    def get(self, key: str, task: Task, compute: Callable[[], Sequence[float]]) -> list[float]:
        """The numbers of `key` for the operands of a task."""
        digest = _digest(key, task)
        with self._lock:
            known = self._entries.get(digest)
            if known is not None:
                self.found += 1
                return known
        numbers = [float(number) for number in compute()]
        with self._lock:
            self.computed += 1
            self._entries[digest] = numbers
        return numbers

    def share(self, key: str, task: Task, compute: Callable[[], Shared]) -> Shared:
        """Anything else of `key` for the operands of a task: computed once, kept for the next few tensors only."""
        digest = _digest(key, task)
        with self._lock:
            known = self._recent.get(digest)
            future: Future[Shared] = known or Future()
            self._recent[digest] = future
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
        if known is None:
            try:
                future.set_result(compute())
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        with self._lock:
            fresh.write_text(json.dumps(self._entries, allow_nan=False))
        fresh.replace(self._path)


def _digest(key: str, task: Task) -> str:
    identities = [operand.identity for operand in task.operands]
    text = json.dumps([_VERSION, key, task.method.deltas, task.base is not None, identities])
    return hashlib.sha256(text.encode()).hexdigest()
