"""Jobs of every kind through a real service process and an edge."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from owm_compute.tensors.spool import BLOCK
from tests.conftest import Jobs, model_bytes, wide_model
from tests.digits import MLP, csv_rows
from tests.edge import Edge
from tests.process import ServiceProcess, eventually


def outcome(service: ServiceProcess, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has ended; it was accepted."""
    response = service.submit(job)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    return service.wait_for(job["id"])


def test_a_program_aligns_and_reads_prompts_inside_the_fence(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path
) -> None:
    program = {
        "schema": "owm.merge-program/1",
        "sources": [
            {"label": name, "weights": [f"{name}/model.safetensors"], "tokenizer": {"tokenizer.json": "tokenizer.json"}}
            for name in ("a", "b")
        ],
        "settings": [{"each": {"weight": [0.5, 0.5]}}, {"values": {"experts": 1}}],
        "operations": [
            {"method": "linear", "models": [0, 1]},
            {"method": "moe_gate", "models": [0], "settings": 1},
        ],
        "files": [
            {"path": "model.safetensors", "every": 0},
            {"path": "gate.safetensors", "tensors": [{"name": "gate", "operation": 1, "names": ["owm.prompts.0"]}]},
        ],
        "align": {"reference": 0},
        "prompts": [{"source": 0, "embedding": "layers.1.weight", "positive": ["one", "two"], "negative": ["three"]}],
    }
    files = {
        "program.json": json.dumps(program).encode(),
        "a/model.safetensors": model_bytes(tmp_path, 1),
        "b/model.safetensors": model_bytes(tmp_path, 2),
        "tokenizer.json": tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"one": 0, "two": 1, "three": 2}, unk_token="one")
        )
        .to_str()
        .encode(),
    }
    ended = outcome(service, jobs.submission("merge", {"program": "program.json"}, files))
    assert ended["state"] == "succeeded", ended["error"]
    assert ended["result"]["record"]["determinism"] == "tolerance"
    written = {file["path"]: edge.blobs[file["sha256"]] for file in ended["result"]["files"]}
    head = json.loads(written["merge-record.jsonl"].splitlines()[0])
    assert head["program_sha256"] == hashlib.sha256(files["program.json"]).hexdigest()
    [alignment] = head["alignment"]
    assert alignment["model"] == "b"
    assert 0 < alignment["groups"]["layers.0"]["moved"] <= 1


def test_trains_evaluates_and_merges_end_to_end(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    models = []
    for seed in (1, 2):
        ended = outcome(service, jobs.train(seed=seed))
        assert ended["state"] == "succeeded", ended["error"]
        files = {file["path"]: file for file in ended["result"]["files"]}
        assert set(files) == {"model.safetensors", "config.json", "training.json"}
        assert json.loads(edge.blobs[files["training.json"]["sha256"]]) == ended["result"]["record"]
        assert json.loads(edge.blobs[files["config.json"]["sha256"]]) == MLP
        assert len(ended["result"]["record"]["loss_curve"]) == 5
        models.append(edge.blobs[files["model.safetensors"]["sha256"]])

    merged = outcome(service, jobs.merge(models, [0.5, 0.5]))
    assert merged["state"] == "succeeded", merged["error"]
    assert merged["result"]["record"]["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert merged["result"]["engine"]["name"] == "owm-compute"

    evaluated = outcome(service, jobs.evaluate(models[0]))
    assert evaluated["state"] == "succeeded", evaluated["error"]
    record = evaluated["result"]["record"]
    assert record["n"] == 597
    assert record["metrics"][0]["metric"] == "accuracy"
    assert record["metrics"][0]["value"] > 0.8
    samples = edge.blobs[evaluated["result"]["files"][0]["sha256"]].decode().splitlines()
    right = sum(json.loads(line)["correct"] for line in samples)
    assert right / 597 == record["metrics"][0]["value"]
    assert (
        record["sample_ids_sha256"]
        == hashlib.sha256("".join(f"d{i}\n" for i in range(1200, 1797)).encode()).hexdigest()
    )


def test_reports_events_and_one_result_to_the_edge(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    job = jobs.train()
    ended = outcome(service, job)
    eventually(lambda: edge.results.get(job["id"]))
    assert edge.results[job["id"]] == [{"attempt": 1, "state": "succeeded", "result": ended["result"]}]
    reported = edge.events[job["id"]]
    assert [event["data"]["step"] for event in reported if event["type"] == "metric"] == [1, 2, 3, 4, 5]
    sequence = [event["seq"] for event in reported]
    assert sequence == sorted(set(sequence))


def test_training_is_the_same_for_the_same_seed(service: ServiceProcess, jobs: Jobs) -> None:
    digests = []
    for seed in (7, 7, 8):
        files = outcome(service, jobs.train(seed=seed, epochs=2))["result"]["files"]
        digests.append(next(file["sha256"] for file in files if file["path"] == "model.safetensors"))
    assert digests[0] == digests[1] != digests[2]


def test_continues_training_from_an_initial_model(service: ServiceProcess, jobs: Jobs, tmp_path: Path) -> None:
    initial = {"config": "initial/config.json", "weights": ["initial/model.safetensors"]}
    job = jobs.train(config=None, initial=initial, epochs=3)
    job["inputs"].append(jobs.edge.add_input("initial/config.json", json.dumps(MLP).encode()))
    job["inputs"].append(jobs.edge.add_input("initial/model.safetensors", model_bytes(tmp_path)))
    ended = outcome(service, job)
    assert ended["state"] == "succeeded", ended["error"]
    assert ended["result"]["record"]["init"] == "initial"


def test_resumes_a_broken_download(service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path) -> None:
    edge.break_first_download = True
    ended = outcome(service, jobs.merge([model_bytes(tmp_path, 1), model_bytes(tmp_path, 2)], [1, 1]))
    assert ended["state"] == "succeeded", ended["error"]
    assert sorted(start for _, start in edge.ranges)[:2] == [0, 0]
    assert len(edge.ranges) == 4


def test_computes_before_the_last_byte_of_its_input_has_come(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path
) -> None:
    parents = [wide_model(tmp_path, seed) for seed in (1, 2)]
    job = jobs.merge(parents, [0.5, 0.5])
    last = threading.Event()
    edge.held = {(item["sha256"], item["size"] // BLOCK * BLOCK): last for item in job["inputs"][:2]}
    service.submit(job)

    def has_written() -> bool:
        outputs = (service.state / "jobs").glob(f"{job['id']}/work/out/model.safetensors")
        return any(any(path.read_bytes()[BLOCK // 2 : BLOCK // 2 + 64]) for path in outputs)

    eventually(has_written)
    assert not last.is_set()
    last.set()
    assert service.wait_for(job["id"])["state"] == "succeeded"


SHARDS = {"one.safetensors": ["first.weight"], "two.safetensors": ["second.weight"]}


def test_uploads_a_finished_file_while_the_next_one_is_computed(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path
) -> None:
    job = jobs.program([wide_model(tmp_path, seed) for seed in (1, 2)], SHARDS)
    last = threading.Event()
    edge.held = {(item["sha256"], 2 * BLOCK): last for item in job["inputs"]}
    service.submit(job)
    eventually(lambda: edge.blobs)
    assert not last.is_set()
    last.set()
    ended = service.wait_for(job["id"])
    assert ended["state"] == "succeeded", ended["error"]
    files = {file["path"]: file["sha256"] for file in ended["result"]["files"]}
    assert next(iter(edge.blobs)) == files["one.safetensors"]
    assert set(edge.blobs) == set(files.values())
    assert ended["result"]["record"]["bytes_uploaded"] == sum(len(blob) for blob in edge.blobs.values())


@pytest.mark.parametrize("block", [0, 1])
def test_a_range_that_was_damaged_on_its_way_fails_the_job_whatever_it_made_of_it(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path, block: int
) -> None:
    job = jobs.merge([wide_model(tmp_path, seed) for seed in (1, 2)], [0.5, 0.5])
    # The first bytes of a file are its header, without which the merge gives up before all has come.
    edge.corrupted = {(job["inputs"][1]["sha256"], block * BLOCK)}
    ended = outcome(service, job)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "input_digest_mismatch")
    assert ended["error"]["field"] == "models/1/model.safetensors"
    assert edge.blobs == {}


def test_a_dry_run_reports_digests_and_uploads_nothing(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path
) -> None:
    parents = [model_bytes(tmp_path, 1), model_bytes(tmp_path, 2)]
    dry, real = (outcome(service, jobs.merge(parents, [1, 1], dry_run=dry_run)) for dry_run in (True, False))
    assert dry["result"]["files"] == real["result"]["files"]
    assert edge.requests["uploads"] == len(real["result"]["files"])


def test_uploads_nothing_the_edge_already_holds(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path
) -> None:
    parents = [model_bytes(tmp_path, 1), model_bytes(tmp_path, 2)]
    edge.blobs[hashlib.sha256(parents[1]).hexdigest()] = parents[1]
    ended = outcome(service, jobs.merge(parents, [0, 1]))
    model, record = ended["result"]["files"]
    assert model["sha256"] == hashlib.sha256(parents[1]).hexdigest()
    assert set(edge.parts) == {record["sha256"]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sha256": "0" * 64}, "input_unavailable"),
        ({"size": 5}, "input_size_mismatch"),
        ({"size": 10**6}, "input_size_mismatch"),
    ],
)
def test_believes_no_input_that_differs_from_its_announcement(
    service: ServiceProcess, edge: Edge, jobs: Jobs, tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    job = jobs.merge([model_bytes(tmp_path, 1), model_bytes(tmp_path, 2)], [1, 1])
    if "sha256" in change:
        edge.inputs[change["sha256"]] = b"other bytes".ljust(job["inputs"][0]["size"])
        job["inputs"][0]["sha256"] = change["sha256"][:-1] + "1"
        job["inputs"][0]["url"] = f"{edge.url}/inputs/{change['sha256']}"
        code = "input_digest_mismatch"
    job["inputs"][0].update({key: value for key, value in change.items() if key == "size"})
    ended = outcome(service, job)
    assert (ended["state"], ended["error"]["code"]) == ("failed", code)
    assert ended["error"]["field"] == "models/0/model.safetensors"


def test_a_hostile_weights_file_fails_the_job_with_its_code(
    service: ServiceProcess, jobs: Jobs, tmp_path: Path
) -> None:
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    hostile = len(header).to_bytes(8, "little") + header + bytes(4)
    ended = outcome(service, jobs.merge([model_bytes(tmp_path), hostile], [1, 1]))
    assert ended["error"]["code"] == "safetensors_invalid"
    assert "st.duplicate" in ended["error"]["message"]
    assert ended["error"]["field"] == "models/1/model.safetensors"


def test_a_bad_cell_is_named_by_line_and_column(service: ServiceProcess, jobs: Jobs) -> None:
    rows = csv_rows(0, 20).split(b"\r\n")
    rows[3] = b"x" + rows[3][rows[3].index(b",") :].replace(b",0", b",oops", 1)
    ended = outcome(service, jobs.train(data=b"\r\n".join(rows)))
    assert ended["error"]["code"] == "dataset_mismatch"
    assert "line 4, column" in ended["error"]["message"]


def test_a_learning_rate_that_diverges_says_so(service: ServiceProcess, jobs: Jobs) -> None:
    ended = outcome(service, jobs.train(optimizer={"name": "sgd", "lr": 1000, "weight_decay": 10}))
    assert ended["error"]["code"] == "diverged"
    assert ended["error"]["field"] == "spec.optimizer.lr"


def test_a_job_over_its_memory_limit_fails_alone(service: ServiceProcess, jobs: Jobs) -> None:
    big = {**MLP, "hidden_sizes": [8000, 8000]}
    ended = outcome(service, jobs.train(config=big, limits={"memory_bytes": 2**26}))
    assert ended["error"]["code"] == "resource_exhausted"
    assert service.http.get("/readyz").status_code == 200


def test_a_job_over_its_time_limit_is_killed(service: ServiceProcess, jobs: Jobs) -> None:
    ended = outcome(service, jobs.train(epochs=10_000, limits={"timeout_s": 1}))
    assert (ended["state"], ended["error"]["code"]) == ("failed", "deadline_exceeded")


def test_a_running_job_can_be_cancelled(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    job = jobs.endless()
    service.submit(job)
    service.wait_for(job["id"], "running")
    assert service.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] in ("cancelling", "cancelled")
    ended = service.wait_for(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("cancelled", "cancelled")
    eventually(lambda: edge.results.get(job["id"]))
    assert edge.results[job["id"]][0]["state"] == "cancelled"
    assert service.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_the_edge_can_cancel_in_its_answer_to_progress(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    job = jobs.endless()
    edge.cancel.add(job["id"])
    assert outcome(service, job)["state"] == "cancelled"


def test_a_job_the_edge_has_ended_stops_quietly(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    job = jobs.endless()
    edge.ended.add(job["id"])
    assert outcome(service, job)["error"]["code"] == "revoked"
    assert edge.requests["result"] == 0


def test_a_higher_attempt_supersedes_a_lower_one(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    first = jobs.endless()
    service.submit(first)
    service.wait_for(first["id"], "running")
    second = {**jobs.train(), "id": first["id"], "attempt": 2, "hub": first["hub"]}
    ended = outcome(service, second)
    assert (ended["attempt"], ended["state"]) == (2, "succeeded")
    eventually(lambda: edge.results.get(first["id"]))
    assert [result["attempt"] for result in edge.results[first["id"]]] == [2]
    third = service.post("/v1/jobs", {**first, "attempt": 1, "token": "x"}, "another key")
    assert (third.status_code, third.json()["code"]) == (409, "attempt_superseded")


def test_the_token_and_the_private_files_are_gone_afterwards(service: ServiceProcess, edge: Edge, jobs: Jobs) -> None:
    job = jobs.train()
    outcome(service, job)
    eventually(lambda: edge.results.get(job["id"]))

    def token_is_gone() -> bool:
        return all(job["token"].encode() not in path.read_bytes() for path in service.state.glob("journal.sqlite*"))

    eventually(token_is_gone)
    eventually(lambda: not (service.state / "jobs" / job["id"]).exists())
    with sqlite3.connect(service.state / "journal.sqlite") as journal:
        assert journal.execute("SELECT token FROM jobs WHERE id=?", (job["id"],)).fetchone() == (None,)


def test_what_was_found_of_tensors_is_not_sought_again(service: ServiceProcess, jobs: Jobs, tmp_path: Path) -> None:
    parents = [model_bytes(tmp_path, 1), model_bytes(tmp_path, 2)]
    found = []
    for _ in range(2):
        ended = outcome(service, jobs.merge(parents, [], method="karcher"))
        assert ended["state"] == "succeeded", ended["error"]
        found.append(ended["result"]["record"]["statistics"])
    assert found[0] == {"computed": 4, "found": 0}
    assert found[1] == {"computed": 0, "found": 4}
