"""Crashes, restarts and full queues: nothing is lost, nothing is done twice, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from owm_compute.tensors.spool import BLOCK
from tests.conftest import Jobs, wide_model
from tests.edge import Edge
from tests.process import ROOT, SECRET, ServiceProcess, eventually, is_alive


def is_computing(service: ServiceProcess, job_id: str) -> bool:
    """Whether the job is past its downloads."""
    progress = service.job(job_id)["progress"]
    return progress is not None and progress["unit"] == "steps"


def test_a_killed_service_reruns_its_jobs_and_reports_each_once(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    try:
        running, waiting, finished = jobs.train(epochs=200), jobs.train(), jobs.train()
        edge.refuse_results = True
        service.submit(finished)
        service.wait_for(finished["id"])
        service.submit(running)
        service.submit(waiting)
        eventually(lambda: is_computing(service, running["id"]))
        children = service.descendants()
        assert len(children) >= 2
        service.kill()
        eventually(lambda: not any(is_alive(pid) for pid in children))
        assert edge.results == {}

        edge.refuse_results = False
        service.start()
        for job in (running, waiting):
            assert service.wait_for(job["id"])["state"] == "succeeded"
        for job in (running, waiting, finished):
            eventually(lambda job=job: edge.results.get(job["id"]))  # type: ignore[misc]
            assert [result["state"] for result in edge.results[job["id"]]] == ["succeeded"]
    finally:
        service.stop()


def test_a_stopped_service_leaves_nothing_running_and_keeps_its_jobs(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    job = jobs.train(epochs=200)
    service.submit(job)
    eventually(lambda: is_computing(service, job["id"]))
    children = service.descendants()
    assert service.stop() in (0, -signal.SIGTERM)
    assert not any(is_alive(pid) for pid in children)
    service.start()
    try:
        assert service.wait_for(job["id"])["state"] == "succeeded"
    finally:
        service.stop()


def test_a_service_stops_although_the_edge_hangs(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    edge.hold_inputs.clear()
    job = jobs.train()
    service.submit(job)
    service.wait_for(job["id"], "running")
    eventually(lambda: edge.requests["download"])
    assert service.stop() in (0, -signal.SIGTERM)
    edge.hold_inputs.set()
    service.start()
    try:
        assert service.wait_for(job["id"])["state"] == "succeeded"
    finally:
        service.stop()


def test_a_full_queue_refuses_and_says_when_to_come_back(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state", "--max-queue", "1")
    try:
        running, waiting, third = jobs.endless(), jobs.train(), jobs.train()
        service.submit(running)
        service.wait_for(running["id"], "running")
        assert service.submit(waiting).status_code == 202
        refused = service.submit(third)
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) > 0
        assert service.submit(waiting).status_code == 200
        assert service.post(f"/v1/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
        eventually(lambda: edge.results.get(waiting["id"]))
        assert service.submit(third).status_code == 202
    finally:
        service.stop()


def test_a_worker_that_dies_fails_its_job_and_no_other(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    try:
        job = jobs.endless()
        service.submit(job)
        eventually(lambda: is_computing(service, job["id"]))
        forkserver = service.descendants()[0]
        worker = next(pid for pid in service.descendants() if pid != forkserver)
        os.kill(worker, signal.SIGSEGV)
        ended = service.wait_for(job["id"])
        assert ended["error"]["code"] == "worker_died"
        assert "SIGSEGV" in ended["error"]["message"]

        os.kill(forkserver, signal.SIGKILL)
        after = jobs.train()
        service.submit(after)
        state = service.wait_for(after["id"])
        if state["state"] == "failed":
            # The job may have been handed to the fork server in the instant of its death.
            assert state["error"]["code"] == "worker_died"
            again = jobs.train()
            eventually(lambda: service.http.get("/readyz").status_code == 200)
            service.submit(again)
            state = service.wait_for(again["id"])
        assert state["state"] == "succeeded"
    finally:
        service.stop()


class HalfMerged:
    """A merge of two files that has written the first one, and waits for the last block of its inputs."""

    def __init__(self, service: ServiceProcess, edge: Edge, jobs: Jobs, directory: Path) -> None:
        shards = {"one.safetensors": ["first.weight"], "two.safetensors": ["second.weight"]}
        parents = [wide_model(directory, seed) for seed in (1, 2)]
        straight = jobs.program(parents, shards)
        service.submit(straight)
        self.expected = service.wait_for(straight["id"])["result"]["files"]
        edge.blobs.clear()
        edge.ranges.clear()
        self.edge = edge
        self.job = jobs.program(parents, shards)
        self.last = threading.Event()
        edge.held = {(item["sha256"], 2 * BLOCK): self.last for item in self.job["inputs"]}
        service.submit(self.job)
        eventually(lambda: edge.blobs)

    def check(self, ended: dict[str, Any], service: ServiceProcess) -> None:
        """The job went on from where it was, to the same bytes, and left nothing behind."""
        assert ended["state"] == "succeeded", ended["error"]
        assert ended["result"]["files"] == self.expected
        assert ended["result"]["record"]["resumed_bytes"] > BLOCK
        blocks = Counter(where for where in self.edge.ranges if where[1] < 2 * BLOCK)
        assert set(blocks.values()) == {1}
        eventually(lambda: not any((service.state / "jobs").iterdir()))


def test_a_merge_goes_on_after_its_service_was_killed(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    try:
        half = HalfMerged(service, edge, jobs, tmp_path)
        service.kill()
        half.last.set()
        (service.state / "jobs" / "job_forgotten" / "work").mkdir(parents=True)
        service.start()
        half.check(service.wait_for(half.job["id"]), service)
    finally:
        service.stop()


def test_a_merge_goes_on_after_its_worker_was_killed(edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "state")
    try:
        half = HalfMerged(service, edge, jobs, tmp_path)
        forkserver = service.descendants()[0]
        os.kill(next(pid for pid in service.descendants() if pid != forkserver), signal.SIGKILL)
        half.last.set()
        error = service.wait_for(half.job["id"])["error"]
        assert (error["code"], error["retryable"]) == ("worker_died", True)
        service.submit({**half.job, "attempt": 2})
        half.check(service.wait_for(half.job["id"]), service)
    finally:
        service.stop()


def run_main(tmp_path: Path, secret: str) -> subprocess.CompletedProcess[str]:
    """`python -m owm_compute` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "owm_compute", "--state", str(tmp_path / "state")],
        cwd=ROOT,
        env={**os.environ, "OWM_COMPUTE_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("secret", ["", "short"])
def test_refuses_to_start_without_a_secret_and_names_the_fix(tmp_path: Path, secret: str) -> None:
    ended = run_main(tmp_path, secret)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert '"code": "secret_missing"' in ended.stderr
    assert "set OWM_COMPUTE_SECRET" in ended.stderr


def test_refuses_a_state_directory_that_is_in_use(service: ServiceProcess) -> None:
    ended = run_main(service.state.parent, SECRET)
    assert ended.returncode == 2
    assert '"code": "state_in_use"' in ended.stderr
