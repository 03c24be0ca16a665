"""The main job on real data: two teams publish, the hub merges and evaluates, and anyone can check the result.

Reads HF_ENDPOINT, OWM_TOKEN (an administrator's) and, optionally, OWM_DEMO_REPORT: a file for the figures as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import teams
from huggingface_hub import HfApi, RepoFile, snapshot_download
from huggingface_hub.utils.tqdm import disable_progress_bars
from owm_compute.evaluate import Comparison, compare, evaluate_classifier
from owm_compute.models.load import load_directory

from hub import DemoError, Hub

DATASET, BASE, MERGED = "lab/digits", "lab/digits-base", "lab/digits-merged"
TEAM = {"a": "team-a/digits", "b": "team-b/digits"}
LAMBDAS = [step / 10 for step in range(11)]
METRICS = ["accuracy", "precision", "recall", "f1", "roc_auc"]


def main() -> None:
    """Runs the story from the data to the checked download."""
    disable_progress_bars()
    endpoint = os.environ["HF_ENDPOINT"]
    hub = Hub(endpoint, os.environ["OWM_TOKEN"])
    api = {"lab": HfApi(endpoint, hub.token)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        say("\n1. Two teams and a lab have accounts; the lab publishes the data set with the stock client.")
        for team in TEAM:
            hub.account("users", f"team-{team}", f"Team {team.upper()}")
            api[team] = HfApi(endpoint, hub.token_for(f"team-{team}"))
        hub.account("organizations", "lab", "The lab")
        split = teams.split_digits()
        dataset = publish_dataset(api["lab"], place / "lab", split)

        say("\n2. The hub trains the common base model (job kind `train`).")
        base = train_base(hub, dataset)

        say("\n3. Each team trains the base on data of its own, at home, and publishes with the stock client.")
        models = {team: publish_team(api[team], team, base, place, split) for team in TEAM}
        for model in models.values():
            print_storage(hub, model)

        say("\n4. The hub merges w = λ·wA + (1−λ)·wB for eleven λ and evaluates each on the validation split.")
        sweep = merge_and_validate(hub, models, base, dataset)
        chosen = max(sweep, key=lambda candidate: float(candidate["accuracy"]["value"]))
        print_sweep(sweep, chosen)

        say(f"\n5. λ = {chosen['lambda']} is published on main, and evaluated on the test split: once.")
        published = publish_choice(hub, models, base, chosen)
        tested = test_all(hub, {"base": base, "a": models["a"], "b": models["b"], "merged": published}, dataset)
        comparisons = {team: compare(correct(hub, tested["merged"]), correct(hub, tested[team])) for team in TEAM}
        print_test(tested, comparisons)

        say("\n6. The stock client downloads the result; its bytes and its score are checked here.")
        check = check_download(endpoint, published, chosen, tested["merged"], place / "lab")
        check["verified"] = has_verified(hub, published)
        print_check(check)
    pages(endpoint)
    report(sweep, chosen, tested, comparisons, check)


def say(text: str) -> None:
    """Prints at once, also through a pipe."""
    print(text, flush=True)


def publish_dataset(api: HfApi, folder: Path, split: teams.Split) -> str:
    """Uploads base, validation and test splits; the data set's reference at the commit."""
    teams.write_dataset(folder, {"train": split.base, "validation": split.validation, "test": split.test})
    (folder / "README.md").write_text(
        "---\nlicense: cc-by-4.0\ntags: [digits]\n---\n# Handwritten digits\n\n8×8 images of the UCI optical digits "
        "(scikit-learn's copy): a small split to train a base on, one to choose on, one to judge on.\n"
    )
    return publish(api, DATASET, folder, "dataset", "The splits everyone shares")


def publish(api: HfApi, repo: str, folder: Path, kind: str, message: str) -> str:
    """Creates the repository if need be, uploads the folder, and returns `owner/name@commit`."""
    api.create_repo(repo, repo_type=kind, exist_ok=True)
    commit = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message=message)
    say(f"  {repo}@{commit.oid[:10]}  {sum(1 for file in folder.rglob('*') if file.is_file())} files")
    return f"{repo}@{commit.oid}"


def train_base(hub: Hub, dataset: str) -> str:
    """The base model's reference at the commit that the training job published."""
    request = {
        "kind": "train",
        "dataset": dataset,
        "split": "train",
        "architecture": teams.ARCHITECTURE,
        "init": "he_normal",
        "optimizer": {"name": "adam", "lr": 0.003},
        "epochs": 15,
        "batch_size": 32,
        "seed": 1,
        "output": {"repo": BASE, "private": False},
    }
    key = f"train {dataset}"
    return output_of(hub.run("training", {key: request})[key])


def output_of(job: dict[str, Any]) -> str:
    """`owner/name@commit` that a job published."""
    result = job["result"]
    return f"{result['repo']}@{result['commit']}"


def publish_team(api: HfApi, team: str, base: str, place: Path, split: teams.Split) -> str:
    """Trains a team's model on its own data and publishes it; the model's reference at the commit."""
    repo, commit = base.split("@")
    downloaded = Path(snapshot_download(repo, revision=commit, token=api.token, endpoint=api.endpoint))
    data = place / f"{team}-data"
    teams.write_dataset(data, {"train": split.team_a if team == "a" else split.team_b})
    folder = place / f"{team}-model"
    result = teams.train_team(downloaded, base, data, folder, team=team.upper(), seed=ord(team))
    say(f"  team {team.upper()}: {result.rows} images, training accuracy {result.accuracy:.3f}")
    return publish(api, TEAM[team], folder, "model", f"Team {team.upper()}'s digits")


def print_storage(hub: Hub, reference: str) -> None:
    """What a revision takes in storage: the client packs weights, and the hub keeps equal parts once."""
    repo, commit = reference.split("@")
    [revision] = hub.call("GET", f"/repos/model/{repo}/storage?revision={commit}&limit=1")["revisions"]
    say(
        f"  {repo}: {revision['logical_bytes']:,} bytes of files take {revision['stored_bytes']:,} in storage; "
        f"{revision['new_bytes']:,} of these are new, the hub had the rest"
    )


def merge_request(models: dict[str, str], base: str, weight: float, branch: str) -> dict[str, Any]:
    """The job that merges both teams' models onto a branch."""
    return {
        "kind": "merge",
        "method": "linear",
        "a": models["a"],
        "b": models["b"],
        "lambda": weight,
        "base_model": base,
        "output": {"repo": MERGED, "branch": branch, "private": False, "message": f"Merge with λ = {weight}"},
    }


def merge_and_validate(hub: Hub, models: dict[str, str], base: str, dataset: str) -> list[dict[str, Any]]:
    """One candidate a λ, each on a branch of its own: its revision and its accuracy on the validation split."""
    keys = {weight: f"merge {models['a']} {models['b']} {weight}" for weight in LAMBDAS}
    merges = hub.run("merging", {keys[w]: merge_request(models, base, w, f"lambda-{w}") for w in LAMBDAS})
    candidates = {weight: output_of(merges[keys[weight]]) for weight in LAMBDAS}
    runs = hub.run(
        "evaluating",
        {evaluation_key(c, dataset, "validation"): evaluation(c, dataset, "validation") for c in candidates.values()},
    )
    return [
        {
            "lambda": weight,
            "model": candidate,
            "accuracy": metric(record_of(hub, runs[evaluation_key(candidate, dataset, "validation")]), "accuracy"),
        }
        for weight, candidate in candidates.items()
    ]


def evaluation(model: str, dataset: str, split: str) -> dict[str, Any]:
    """The job that evaluates a model on a split."""
    return {"kind": "evaluate", "model": model, "dataset": dataset, "split": split}


def evaluation_key(model: str, dataset: str, split: str) -> str:
    """Names an evaluation job for repeats."""
    return f"evaluate {model} {dataset} {split}"


def record_of(hub: Hub, job: dict[str, Any]) -> dict[str, Any]:
    """The evaluation that a job recorded, with its id."""
    found: dict[str, Any] = hub.call("GET", f"/evaluations/{job['result']['evaluation']}")
    return found


def metric(record: dict[str, Any], name: str) -> dict[str, Any]:
    """One metric of an evaluation: value, n and interval."""
    found: dict[str, Any] = next(one for one in record["results"] if one["metric"] == name)
    return found


def publish_choice(hub: Hub, models: dict[str, str], base: str, chosen: dict[str, Any]) -> str:
    """Merges once more with the chosen λ, onto main; the reference at the commit."""
    weight = chosen["lambda"]
    key = f"publish {models['a']} {models['b']} {weight}"
    reference = output_of(hub.run("publishing", {key: merge_request(models, base, weight, "main")})[key])
    say(f"  {reference.split('@')[0]}@{reference.split('@')[1][:10]}")
    return reference


def test_all(hub: Hub, models: dict[str, str], dataset: str) -> dict[str, dict[str, Any]]:
    """Evaluations on the test split, by the names of the models."""
    keys = {name: evaluation_key(model, dataset, "test") for name, model in models.items()}
    runs = hub.run("testing", {keys[name]: evaluation(model, dataset, "test") for name, model in models.items()})
    return {name: record_of(hub, runs[key]) for name, key in keys.items()}


def correct(hub: Hub, record: dict[str, Any]) -> dict[str, bool]:
    """Sample id → correct, from the per-sample outputs that the hub keeps with an evaluation."""
    response = hub.http.get(f"/evaluations/{record['id']}/samples")
    response.raise_for_status()
    return {row["id"]: row["correct"] for row in map(json.loads, response.text.splitlines())}


def check_download(
    endpoint: str, published: str, chosen: dict[str, Any], record: dict[str, Any], data: Path
) -> dict[str, Any]:
    """Downloads as a visitor without a token; compares digests and recomputes the test score."""
    repo, commit = published.split("@")
    visitor = HfApi(endpoint, token=False)
    folder = Path(snapshot_download(repo, revision=commit, token=False, endpoint=endpoint))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    candidate = weights_digest(visitor, chosen["model"])
    model = load_directory(folder)
    again = evaluate_classifier(model, teams.read_split(data, "test")).record()
    return {
        "sha256": digest,
        "announced_sha256": weights_digest(visitor, published),
        "candidate_sha256": candidate,
        "accuracy": metric({"results": again["metrics"]}, "accuracy")["value"],
        "recorded_accuracy": metric(record, "accuracy")["value"],
    }


def has_verified(hub: Hub, published: str) -> bool:
    """Has the hub compute the published merge again from what its revision records, and compare every file."""
    key = f"verify {published}"
    job = hub.run("verifying", {key: {"kind": "verify", "model": published}})[key]
    return bool(job["result"]["verified"])


def weights_digest(api: HfApi, reference: str) -> str:
    """SHA-256 of a revision's weights, as the hub lists it."""
    repo, commit = reference.split("@")
    [file] = api.get_paths_info(repo, "model.safetensors", revision=commit)
    if not isinstance(file, RepoFile) or file.lfs is None:
        raise DemoError(f"{reference} has no weights")
    return str(file.lfs.sha256)


def interval(one: dict[str, Any]) -> str:
    """A metric with its interval, for a table."""
    return f"{one['value']:.3f} [{one['ci']['lo']:.3f}, {one['ci']['hi']:.3f}]"


def print_sweep(sweep: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
    """λ against validation accuracy, as a bar chart in text."""
    for candidate in sweep:
        one = candidate["accuracy"]
        mark = " ← best" if candidate is chosen else ""
        print(f"  λ = {candidate['lambda']:.1f}  {interval(one)}  {'█' * round(one['value'] * 40)}{mark}")
    print(f"  (accuracy on {sweep[0]['accuracy']['n']} validation images, 95 % intervals)")


def print_test(tested: dict[str, dict[str, Any]], comparisons: dict[str, Comparison]) -> None:
    """All metrics of all models on the test split, and how the merge compares with each parent on the same images."""
    names = {"base": "base", "a": "team A", "b": "team B", "merged": "merged"}
    print("  " + " " * 8 + "".join(f"{name:<24}" for name in METRICS))
    for key, name in names.items():
        print(f"  {name:<8}" + "".join(f"{interval(metric(tested[key], one)):<24}" for one in METRICS))
    print(f"  ({metric(tested['merged'], 'accuracy')['n']} test images, 95 % intervals)")
    for team, one in comparisons.items():
        print(
            f"  merged − team {team.upper()}: {one.difference:+.3f} [{one.lo:+.3f}, {one.hi:+.3f}] on the same images, "
            f"McNemar p = {one.p_value:.2g}"
        )


def print_check(check: dict[str, Any]) -> None:
    """What the downloaded copy shows."""
    same = "as announced" if check["sha256"] == check["announced_sha256"] else "NOT as announced"
    print(f"  sha256 {check['sha256']}: {same}")
    repeat = "the same bytes" if check["sha256"] == check["candidate_sha256"] else "OTHER BYTES"
    print(f"  merged a second time from the same recipe: {repeat}")
    again = "every file the same" if check["verified"] else "FILES DIFFER"
    print(f"  computed again from the record in the revision: {again}")
    print(
        f"  test accuracy of the downloaded copy: {check['accuracy']:.4f}; on record: {check['recorded_accuracy']:.4f}"
    )


def pages(endpoint: str) -> None:
    """Where to look."""
    say("\nPages to open:")
    for path, what in [
        ("", "the hub"),
        (MERGED, "the merged model: card, lineage, files"),
        (f"{MERGED}/evaluations", "its evaluations, with intervals and the λ curve"),
        (TEAM["a"], "team A's model"),
        (TEAM["b"], "team B's model"),
        (f"datasets/{DATASET}", "the data set"),
    ]:
        print(f"  {endpoint}/{path:<32} {what}")


def report(
    sweep: list[dict[str, Any]],
    chosen: dict[str, Any],
    tested: dict[str, dict[str, Any]],
    comparisons: dict[str, Comparison],
    check: dict[str, Any],
) -> None:
    """Leaves the figures as JSON where OWM_DEMO_REPORT says."""
    if path := os.environ.get("OWM_DEMO_REPORT"):
        figures = {
            "sweep": sweep,
            "chosen": chosen,
            "tested": tested,
            "comparisons": {team: asdict(one) for team, one in comparisons.items()},
            "check": check,
        }
        Path(path).write_text(json.dumps(figures))


if __name__ == "__main__":
    try:
        main()
    except DemoError as error:
        sys.exit(f"\nThe demo stopped: {error}")
