"""Repositories as a whole: gates, other names, duplicates, a history squashed, files deleted for good."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils._http import get_session
from steps import Arguments, failure, run


def gated(api: HfApi, args: Arguments) -> object:
    """A gate, someone who asks, and what the owner answers."""
    repo, other = api.create_repo("gated").repo_id, HfApi(token=args["other_token"])
    api.upload_file(repo_id=repo, path_or_fileobj=b"{}", path_in_repo="config.json")
    api.upload_file(repo_id=repo, path_or_fileobj=b"open", path_in_repo="note.txt")
    open_file = Path(other.hf_hub_download(repo, "note.txt")).read_text()
    ungated = failure(lambda: list(api.list_pending_access_requests(repo)))
    api.update_repo_settings(repo, gated="manual")

    def download(token: Any = args["other_token"]) -> dict[str, Any]:
        with TemporaryDirectory() as cache:
            return failure(lambda: hf_hub_download(repo, "config.json", token=token, cache_dir=cache))

    def ask() -> int:
        url = f"{api.endpoint}/{repo}/ask-access"
        headers = {"authorization": f"Bearer {args['other_token']}"}
        return get_session().post(url, json={}, headers=headers).status_code

    def lists() -> list[list[str | None]]:
        listed = [
            api.list_pending_access_requests(repo),
            api.list_accepted_access_requests(repo),
            api.list_rejected_access_requests(repo),
        ]
        return [[request.username for request in requests] for requests in listed]

    before = {
        "gated": str(other.model_info(repo).gated),
        "files": other.list_repo_files(repo),
        "download": download(),
        "anonymous": download(False),
        "snapshot": failure(lambda: snapshot_download(repo, token=args["other_token"], allow_patterns="*.json")),
        "auth_check": failure(lambda: other.auth_check(repo)),
        "not_for_others": failure(lambda: list(other.list_pending_access_requests(repo))),
    }
    asked, pending = ask(), lists()
    [request] = api.list_pending_access_requests(repo)
    api.accept_access_request(repo, args["other"])
    accepted, content = lists(), Path(other.hf_hub_download(repo, "config.json", force_download=True)).read_text()
    other.auth_check(repo)
    twice = failure(lambda: api.accept_access_request(repo, args["other"]))
    api.reject_access_request(repo, args["other"], rejection_reason="no reason")
    rejected, shut = lists(), download()
    api.cancel_access_request(repo, args["other"])
    cancelled = lists()
    api.grant_access(repo, args["other"])
    granted = lists()
    return {
        "open": open_file,
        "ungated": ungated["kinds"],
        "before": before,
        "asked": asked,
        "request": [request.username, request.fullname, request.status, request.timestamp.year > 2000],
        "lists": [pending, accepted, rejected, cancelled, granted],
        "content": content,
        "shut": shut["kinds"],
        "twice": twice["message"],
        "granted_twice": failure(lambda: api.grant_access(repo, args["other"]))["kinds"],
        "nobody": failure(lambda: api.grant_access(repo, "nobody-of-this-name"))["message"],
    }


def move(api: HfApi, args: Arguments) -> object:
    """Two moves; the first name serves for reads and writes from then on."""
    old = api.create_repo("before").repo_id
    api.create_repo("taken")
    api.upload_file(repo_id=old, path_or_fileobj=b"one", path_in_repo="a.txt")
    taken = failure(lambda: api.move_repo(old, f"{args['me']}/taken"))
    api.move_repo(old, f"{args['me']}/between")
    api.move_repo(f"{args['me']}/between", f"{args['org']}/after")
    api.upload_file(repo_id=old, path_or_fileobj=b"two", path_in_repo="dir/b.txt")
    api.upload_file(repo_id=old, path_or_fileobj=bytes(range(256)) * 40, path_in_repo="c.bin")
    return {
        "taken": taken["message"],
        "id": api.model_info(old).id,
        "files": sorted(api.list_repo_files(old)),
        "content": Path(hf_hub_download(old, "dir/b.txt")).read_text(),
        "binary": Path(hf_hub_download(old, "c.bin")).stat().st_size,
        "exists": api.repo_exists(old),
        "snapshot": len(list(Path(snapshot_download(old)).iterdir())),
        "commits": len(api.list_repo_commits(f"{args['org']}/after")),
    }


def squash(api: HfApi, args: Arguments) -> object:
    repo = api.create_repo("long").repo_id
    for number in range(3):
        api.upload_file(repo_id=repo, path_or_fileobj=str(number).encode(), path_in_repo="a.txt")
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="side")
    before = len(api.list_repo_commits(repo))
    api.super_squash_history(repo, branch="side", commit_message="all of it")
    api.super_squash_history(repo)
    return {
        "before": before,
        "main": [commit.title for commit in api.list_repo_commits(repo)],
        "side": [commit.title for commit in api.list_repo_commits(repo, revision="side")],
        "content": Path(hf_hub_download(repo, "a.txt")).read_text(),
        "tag": failure(lambda: api.super_squash_history(repo, branch="v1"))["kinds"],
    }


def lfs_files(api: HfApi, args: Arguments) -> object:
    repo = api.create_repo("heavy").repo_id
    api.upload_file(repo_id=repo, path_or_fileobj=b"wanted" * 5000, path_in_repo="keep.bin")
    api.upload_file(repo_id=repo, path_or_fileobj=b"secret" * 5000, path_in_repo="dir/leak.bin")
    api.upload_file(repo_id=repo, path_or_fileobj=b"# text", path_in_repo="README.md")
    listed = {file.filename: file for file in api.list_lfs_files(repo)}
    api.permanently_delete_lfs_files(repo, [listed["dir/leak.bin"]])
    return {
        "listed": {name: [file.size, file.ref, file.pushed_at.year > 2000] for name, file in listed.items()},
        "files": sorted(api.list_repo_files(repo)),
        "left": [file.filename for file in api.list_lfs_files(repo)],
        "commits": len(api.list_repo_commits(repo)),
        "kept": Path(hf_hub_download(repo, "keep.bin")).stat().st_size,
        "gone": failure(lambda: hf_hub_download(repo, "dir/leak.bin"))["kinds"],
    }


def duplicate(api: HfApi, args: Arguments) -> object:
    source = api.create_repo("source").repo_id
    api.upload_file(repo_id=source, path_or_fileobj=b"bytes" * 5000, path_in_repo="w.bin")
    url = api.duplicate_repo(source, to_id=f"{args['me']}/copy")
    again = api.duplicate_repo(source, to_id=f"{args['me']}/copy", exist_ok=True)
    return {
        "id": url.repo_id,
        "again": again.repo_id,
        "twice": failure(lambda: api.duplicate_repo(source, to_id=f"{args['me']}/copy"))["message"],
        "size": Path(hf_hub_download(url.repo_id, "w.bin")).stat().st_size,
        "same": api.model_info(source).sha == api.model_info(url.repo_id).sha,
        "owned": sorted(repo.id for repo in api.list_user_repos()),
    }


if __name__ == "__main__":
    run({"gated": gated, "move": move, "squash": squash, "lfs_files": lfs_files, "duplicate": duplicate})
