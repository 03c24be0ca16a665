"""Inputs on their way from the edge: what is read first comes first, and nothing wrong is believed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from owm_compute.backends.base import Control
from owm_compute.errors import ComputeError
from owm_compute.hub import client
from owm_compute.hub.client import HubClient, new_http
from owm_compute.hub.fetch import Fetch
from owm_compute.specs import InputFile
from owm_compute.tensors.spool import BLOCK, Spool
from tests.edge import Edge


class Inputs:
    """Files at an edge, fetched in this process into `directory`."""

    def __init__(self, edge: Edge, directory: Path, *files: bytes) -> None:
        edge.tokens.add("token")
        self.directory = directory
        self.items = [InputFile.model_validate(edge.add_input(str(index), data)) for index, data in enumerate(files)]
        self.received = 0

    @contextmanager
    def fetch(self) -> Iterator[Fetch]:
        """A running fetch."""
        control = Control(time.monotonic() + 60)
        wanted = self.directory / "wanted"
        wanted.unlink(missing_ok=True)
        with new_http() as http:
            hub = HubClient(http, "token", control)
            with Fetch(hub, control, self.items, self.directory, wanted, self._count) as fetch:
                yield fetch

    def _count(self, count: int) -> None:
        self.received += count

    def reader(self, fetch: Fetch) -> Spool:
        """What the job sees of the fetch."""
        files = [(path, item.size) for path, item in zip(fetch.paths, self.items, strict=True)]
        return Spool(fetch.present, self.directory / "wanted", files)


def test_a_reader_gets_the_range_it_waits_for_before_all_that_lies_before_it(edge: Edge, tmp_path: Path) -> None:
    data = os.urandom(6 * BLOCK)
    inputs = Inputs(edge, tmp_path, data)
    held = Event()
    name = inputs.items[0].sha256
    edge.held = {(name, block * BLOCK): held for block in range(5)}
    with inputs.fetch() as fetch:
        inputs.reader(fetch).require(fetch.paths[0], len(data) - 8, 8)
        assert fetch.paths[0].read_bytes()[-8:] == data[-8:]
        assert not held.is_set()
        held.set()
        fetch.finish()
        assert fetch.paths[0].read_bytes() == data
    assert inputs.received == len(data)


def test_empty_and_tiny_inputs_arrive_too(edge: Edge, tmp_path: Path) -> None:
    inputs = Inputs(edge, tmp_path, b"", b"x", b"")
    with inputs.fetch() as fetch:
        fetch.finish()
        assert [path.read_bytes() for path in fetch.paths] == [b"", b"x", b""]


@pytest.mark.parametrize("block", [0, 1])
def test_one_wrong_bit_is_found_and_named(edge: Edge, tmp_path: Path, block: int) -> None:
    inputs = Inputs(edge, tmp_path, os.urandom(2 * BLOCK))
    edge.corrupted.add((inputs.items[0].sha256, block * BLOCK))
    with inputs.fetch() as fetch, pytest.raises(ComputeError) as caught:
        fetch.finish()
    assert (caught.value.code, caught.value.field, caught.value.retryable) == ("input_digest_mismatch", "0", False)


def test_an_edge_that_comes_back_is_asked_again(edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "backoff", lambda *_: 0)
    inputs = Inputs(edge, tmp_path, os.urandom(2 * BLOCK))
    edge.unavailable = 3
    with inputs.fetch() as fetch:
        fetch.finish()


def test_an_edge_that_stays_away_fails_the_job_for_now(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "backoff", lambda *_: 0)
    inputs = Inputs(edge, tmp_path, os.urandom(2 * BLOCK))
    edge.unavailable = 1000
    with inputs.fetch() as fetch, pytest.raises(ComputeError) as caught:
        fetch.finish()
    assert (caught.value.code, caught.value.retryable) == ("input_unavailable", True)


def test_what_an_earlier_fetch_left_is_not_fetched_again(edge: Edge, tmp_path: Path) -> None:
    inputs = Inputs(edge, tmp_path, os.urandom(3 * BLOCK + 5))
    held = Event()
    edge.held = {(inputs.items[0].sha256, 2 * BLOCK): held}
    with inputs.fetch() as fetch:
        inputs.reader(fetch).require(fetch.paths[0], 0, BLOCK)
        inputs.reader(fetch).require(fetch.paths[0], 3 * BLOCK, 5)
        held.set()
    first = inputs.received
    with inputs.fetch() as fetch:
        fetch.finish()
    assert first >= BLOCK + 5
    assert inputs.received == 3 * BLOCK + 5


def test_a_kept_block_that_was_damaged_costs_another_try_and_no_wrong_result(edge: Edge, tmp_path: Path) -> None:
    inputs = Inputs(edge, tmp_path, os.urandom(2 * BLOCK))
    with inputs.fetch() as fetch:
        fetch.finish()
    with fetch.paths[0].open("r+b") as stream:
        stream.write(b"damage")
    with inputs.fetch() as fetch, pytest.raises(ComputeError) as caught:
        fetch.finish()
    assert (caught.value.code, caught.value.retryable) == ("input_digest_mismatch", True)


def test_other_inputs_take_nothing_from_what_lies_there(edge: Edge, tmp_path: Path) -> None:
    with Inputs(edge, tmp_path, os.urandom(BLOCK)).fetch() as fetch:
        fetch.finish()
    data = os.urandom(BLOCK - 1)
    with Inputs(edge, tmp_path, data).fetch() as fetch:
        fetch.finish()
        assert fetch.paths[0].read_bytes() == data


def test_a_full_disk_fails_the_job_for_now(edge: Edge, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("a small file system needs root")
    try:
        inputs = Inputs(edge, tmp_path, os.urandom(BLOCK))
        with inputs.fetch() as fetch, pytest.raises(ComputeError) as caught:
            fetch.finish()
        assert (caught.value.code, caught.value.retryable) == ("resource_exhausted", True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
