"""Changing a repository: single files, copies, deletions, branches, tags, racing commits, settings, its end."""

from __future__ import annotations

import io
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
)
from steps import Arguments, digest, failure, requests_made, run


def edit(api: HfApi, args: Arguments) -> object:
    """One file at a time: from bytes, from a stream, from disk, replaced, copied, deleted, a folder deleted."""
    repo, kind = args["repo"], args["type"]
    seen = {}

    def state(name: str) -> None:
        files = api.list_repo_files(repo, repo_type=kind)
        seen[name] = {path: digest(hf_hub_download(repo, path, repo_type=kind)) for path in files if path[0] != "."}

    api.create_repo(repo, repo_type=kind)
    for path, content in [
        ("notes.txt", b"first"),
        ("folder/one.txt", io.BytesIO(b"one")),
        ("folder/two.bin", args["weights"]),
    ]:
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo, repo_type=kind)
    state("uploaded")
    api.upload_file(path_or_fileobj=b"second", path_in_repo="notes.txt", repo_id=repo, repo_type=kind)
    state("replaced")
    made = requests_made()
    copies = [
        CommitOperationCopy("folder/two.bin", "copies/two.bin"),
        CommitOperationCopy("notes.txt", "copies/notes.txt"),
    ]
    api.create_commit(repo, copies, commit_message="copy", repo_type=kind)
    uploads = [request for request in made if request.startswith("PUT")]
    state("copied")
    api.delete_file("notes.txt", repo, repo_type=kind)
    api.delete_files(repo, ["copies/*.txt"], repo_type=kind)
    state("deleted")
    api.delete_folder("folder", repo, repo_type=kind)
    state("folder deleted")
    move: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete("copies/", is_folder=True),
        CommitOperationAdd("copies/new.txt", b"after the deletion"),
    ]
    api.create_commit(repo, move, commit_message="replace a folder", repo_type=kind)
    state("folder replaced")
    return {"states": seen, "uploads_of_copies": uploads}


def refs(api: HfApi, args: Arguments) -> object:
    """Branches and tags: made, found, written to, downloaded from, deleted."""
    repo = args["repo"]
    api.create_repo(repo)
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="n.txt", repo_id=repo).oid
    api.create_tag(repo, tag="v1", tag_message="the first")
    api.create_branch(repo, branch="feature/x")
    on_branch = api.upload_file(path_or_fileobj=b"2", path_in_repo="n.txt", repo_id=repo, revision="feature/x").oid
    second = api.upload_file(path_or_fileobj=b"3", path_in_repo="n.txt", repo_id=repo).oid
    api.create_tag(repo, tag="v0", revision=first[:10])
    api.create_branch(repo, branch="old", revision="v1")
    refused = {
        "branch exists": failure(lambda: api.create_branch(repo, branch="old")),
        "tag exists": failure(lambda: api.create_tag(repo, tag="v1")),
        "main is kept": failure(lambda: api.delete_branch(repo, branch="main")),
        "no such tag": failure(lambda: api.delete_tag(repo, tag="v9")),
        "from nowhere": failure(lambda: api.create_branch(repo, branch="z", revision="nowhere")),
        "bad name": failure(lambda: api.create_tag(repo, tag="with space")),
    }
    api.create_branch(repo, branch="old", exist_ok=True)
    api.create_tag(repo, tag="v1", exist_ok=True)
    before = api.list_repo_refs(repo)
    named = ["main", "v1", "v0", "old", "feature/x", "refs/heads/main"]
    revisions = {name: name for name in named} | {"first's id": first, "second's first digits": second[:8]}
    texts = {
        name: Path(hf_hub_download(repo, "n.txt", revision=revision)).read_text()
        for name, revision in revisions.items()
    }
    api.delete_branch(repo, branch="feature/x")
    api.delete_tag(repo, tag="v0")
    after = api.list_repo_refs(repo)
    refused["deleted branch"] = failure(lambda: api.list_repo_files(repo, revision="feature/x"))
    return {
        "commits": {"first": first, "on_branch": on_branch, "second": second},
        "branches": {one.name: one.target_commit for one in before.branches},
        "tags": {one.name: one.target_commit for one in before.tags},
        "texts": texts,
        "messages": {name: one["message"] for name, one in refused.items()},
        "kinds": {name: one["kinds"] for name, one in refused.items()},
        "left": [one.ref for one in [*after.branches, *after.tags]],
    }


def commits(api: HfApi, args: Arguments) -> object:
    """The history as the client reads it, and what becomes of a commit whose parent is no longer the head."""
    repo = args["repo"]
    api.create_repo(repo)
    shas = [
        api.upload_file(
            path_or_fileobj=str(i).encode(),
            path_in_repo="n.txt",
            repo_id=repo,
            commit_message=f"step {i}",
            commit_description=f"why {i}\nin two lines",
        ).oid
        for i in range(3)
    ]

    def late(parent: str) -> str:
        add = CommitOperationAdd("n.txt", b"late")
        return api.create_commit(repo, [add], commit_message="late", parent_commit=parent).oid

    conflict = failure(lambda: late(shas[0]))
    history = api.list_repo_commits(repo)
    head = late(shas[2])
    return {
        "shas": shas,
        "history": [
            {"id": one.commit_id, "title": one.title, "message": one.message, "authors": one.authors} for one in history
        ],
        "of_a_revision": [one.commit_id for one in api.list_repo_commits(repo, revision=shas[1])],
        "conflict": conflict,
        "follows": api.list_repo_commits(repo)[0].commit_id == head,
    }


def long_history(api: HfApi, args: Arguments) -> object:
    """A history of more commits than a page holds."""
    repo = args["repo"]
    api.create_repo(repo)
    made = [
        api.create_commit(repo, [CommitOperationAdd("n.txt", str(i).encode())], commit_message=f"step {i}").oid
        for i in range(args["count"])
    ]
    listed = [one.commit_id for one in api.list_repo_commits(repo)]
    return {"made": made, "listed": listed}


def end(api: HfApi, args: Arguments) -> object:
    """Settings, and the end of a repository."""
    repo, kind = args["repo"], args["type"]
    api.create_repo(repo, repo_type=kind, private=True)
    private = [api.repo_info(repo, repo_type=kind).private]
    for is_private in (False, True):
        api.update_repo_settings(repo, repo_type=kind, private=is_private)
        private.append(api.repo_info(repo, repo_type=kind).private)
    api.delete_repo(repo, repo_type=kind)
    return {
        "private": private,
        "exists": api.repo_exists(repo, repo_type=kind),
        "deleted_twice": failure(lambda: api.delete_repo(repo, repo_type=kind))["kinds"],
        "missing_ok": api.delete_repo(repo, repo_type=kind, missing_ok=True),
        "made_again": api.create_repo(repo, repo_type=kind).repo_id,
        "empty_again": api.list_repo_files(repo, repo_type=kind),
    }


run({"edit": edit, "refs": refs, "commits": commits, "long_history": long_history, "end": end})
