"""The HTTP interface: who may call, what is refused, and how a caller follows a job."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from owm_compute.openapi import render
from tests.conftest import Jobs
from tests.digits import MLP
from tests.edge import Edge
from tests.process import ROOT, ServiceProcess, sign

NOW = int(time.time())


@pytest.mark.parametrize(
    "token",
    [
        None,
        "garbage",
        sign(b"other body"),
        sign(b"", aud="somebody-else"),
        sign(b"", iss="somebody-else"),
        sign(b"", exp=NOW - 1, iat=NOW - 60),
        sign(b"", exp=NOW + 10_000),
        sign(b"", iat=NOW + 5_000, exp=NOW + 5_200),
        sign(b"", iat=None),
        sign(b"", sha256=None),
        sign(b"", secret="another secret that is long enough, too, and differs from the real one in all"),
        sign(b"", algorithm="HS512"),
    ],
)
def test_refuses_any_token_but_a_fresh_one_for_this_body(service: ServiceProcess, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    response = service.http.get("/v1/jobs", headers=headers)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unauthorized"


def test_health_and_metrics_need_no_token(service: ServiceProcess) -> None:
    assert service.http.get("/healthz").json() == {"status": "ok"}
    text = service.http.get("/metrics").text
    for name in ("jobs_total", "job_queue_seconds", "job_run_seconds", "queue_depth", "slots_busy", "bytes_read_total"):
        assert f"# TYPE {name}" in text


def test_capabilities_describe_every_kind(service: ServiceProcess) -> None:
    found = service.get("/v1/capabilities").json()
    assert {kind["kind"] for kind in found["kinds"]} == {"merge", "evaluate", "train"}
    assert all(kind["spec_schema"]["type"] == "object" for kind in found["kinds"])
    assert [entry["name"] for entry in found["architectures"]] == ["OwmMLP", "OwmCNN"]
    assert found["versions"]["torch"].startswith("2.")


def bad_specs() -> Iterator[tuple[dict[str, Any], str, str]]:
    """(changes of a good training, code, field)."""
    yield {"kind": "dance"}, "invalid_spec", ""
    yield {"attempt": 0}, "invalid_spec", "attempt"
    yield {"attempt": "1"}, "invalid_spec", "attempt"
    yield {"id": "../x"}, "invalid_spec", "id"
    yield {"surprise": 1}, "invalid_spec", "surprise"
    yield {"inputs": []}, "input_missing", "spec.task"
    yield {"token": "a b"}, "invalid_spec", "token"
    yield {"limits": {"timeout_s": 10**9}}, "limit_too_large", "limits.timeout_s"


def bad_trainings() -> Iterator[tuple[dict[str, Any], str, str]]:
    """(changes of a good training's spec, code, field)."""
    yield {"epochs": 0}, "invalid_spec", "spec.epochs"
    yield {"optimizer": {"name": "lion", "lr": 1}}, "invalid_spec", "spec.optimizer.name"
    yield {"optimizer": {"name": "sgd", "lr": -1}}, "invalid_spec", "spec.optimizer.lr"
    yield {"config": None}, "invalid_spec", "spec.config"
    yield (
        {"config": {**MLP, "architectures": ["LlamaForCausalLM"]}},
        "unsupported_architecture",
        "spec.config.architectures",
    )
    yield {"config": {**MLP, "auto_map": {"AutoModel": "x.py"}}}, "unsupported_architecture", "spec.config.auto_map"
    yield {"config": {**MLP, "hidden_sizes": [0]}}, "config_invalid", "spec.config.hidden_sizes.0"
    yield {"config": {**MLP, "hidden_sizes": [65_536] * 3}}, "model_too_large", "spec.config"


@pytest.mark.parametrize(("change", "code", "field"), [*bad_specs()])
def test_refuses_a_submission_that_cant_be_run(
    service: ServiceProcess, jobs: Jobs, change: dict[str, Any], code: str, field: str
) -> None:
    response = service.post("/v1/jobs", {**jobs.train(), **change}, "a key")
    assert (response.status_code, response.json()["code"]) == (422, code), response.text
    assert response.json().get("field", "") == field


@pytest.mark.parametrize(("change", "code", "field"), [*bad_trainings()])
def test_refuses_a_spec_that_cant_be_run(
    service: ServiceProcess, jobs: Jobs, change: dict[str, Any], code: str, field: str
) -> None:
    response = service.submit(jobs.train(**change))
    assert (response.status_code, response.json()["code"]) == (422, code), response.text
    assert response.json()["field"] == field


def test_refuses_inputs_of_another_origin_than_the_edge(service: ServiceProcess, jobs: Jobs) -> None:
    job = jobs.train()
    job["inputs"][1]["url"] = "http://169.254.169.254/latest"
    response = service.submit(job)
    assert (response.status_code, response.json()["code"]) == (422, "origin_mismatch")
    assert response.json()["field"] == "inputs.1.url"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"id": NaN}', b"[" * 10_000])
def test_refuses_a_body_that_is_no_submission(service: ServiceProcess, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {sign(body)}", "Idempotency-Key": "k"}
    response = service.http.post("/v1/jobs", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_spec")


def test_refuses_a_body_that_is_too_large(service: ServiceProcess) -> None:
    body = b" " * (2**20 + 1)
    response = service.http.post("/v1/jobs", content=body, headers={"Authorization": f"Bearer {sign(body)}"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_an_idempotency_key_is_needed_replays_and_is_not_reused(service: ServiceProcess, jobs: Jobs) -> None:
    job = jobs.train(epochs=1)
    assert service.post("/v1/jobs", job).json()["code"] == "idempotency_key_missing"
    assert service.submit(job).status_code == 202
    service.wait_for(job["id"])
    again = service.submit(job)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, job["id"], "succeeded")
    other = service.submit({**job, "limits": {"timeout_s": 5}})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_unknown_jobs_and_routes_are_problems(service: ServiceProcess) -> None:
    assert service.get("/v1/jobs/job_unknown").json()["code"] == "job_not_found"
    assert service.post("/v1/jobs/job_unknown/cancel").json()["code"] == "job_not_found"
    assert service.get("/v1/nothing").json()["code"] == "not_found"
    assert service.get("/v1/jobs?limit=100000").json()["code"] == "invalid_parameter"


def test_lists_jobs_in_pages(service: ServiceProcess, jobs: Jobs) -> None:
    made = []
    for _ in range(3):
        job = jobs.train(epochs=1)
        service.submit(job)
        made.append(job["id"])
    first = service.get("/v1/jobs?limit=2").json()
    second = service.get(f"/v1/jobs?limit=1&cursor={first['next']}").json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == made[::-1]
    for job_id in made:
        service.wait_for(job_id)


def test_a_long_poll_answers_with_the_next_event(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    edge.hold_inputs.clear()
    job = jobs.train()
    service.submit(job)
    before = service.wait_for(job["id"], "running")
    edge.hold_inputs.set()
    after = service.get(f"/v1/jobs/{job['id']}?wait=60&since={before['seq']}").json()
    assert after["seq"] > before["seq"]
    service.wait_for(job["id"])


def read_events(service: ServiceProcess, job_id: str, last: str | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """(seq, type, data) of a whole event stream."""
    headers = {"Authorization": f"Bearer {sign(b'')}", **({} if last is None else {"Last-Event-ID": last})}
    found = []
    with httpx.stream("GET", f"{service.http.base_url}/v1/jobs/{job_id}/events", headers=headers, timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for block in "".join(stream.iter_text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_events_stream_to_the_end_and_resume(service: ServiceProcess, jobs: Jobs) -> None:
    job = jobs.train()
    service.submit(job)
    live = read_events(service, job["id"])
    assert live[0][1:] == ("state", live[0][2])
    assert live[-1][1] == "state"
    assert live[-1][2]["state"] == "succeeded"
    assert [data["step"] for _, kind, data in live if kind == "metric"] == [1, 2, 3, 4, 5]
    whole = read_events(service, job["id"])
    middle = whole[2][0]
    assert read_events(service, job["id"], str(middle)) == [event for event in whole if event[0] > middle]
    assert read_events(service, job["id"], str(whole[-1][0])) == []


def test_the_committed_openapi_document_is_current() -> None:
    assert (ROOT / "openapi.json").read_text() == render(), "run: python -m owm_compute.openapi > openapi.json"


def test_the_http_process_never_imports_torch() -> None:
    import subprocess

    code = "import sys, owm_compute.__main__, owm_compute.openapi; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
