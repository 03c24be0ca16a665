"""Files that travel by their parts: up, as a proposal, and down, the way the stock client does it with nothing set."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, hf_hub_download, snapshot_download
from steps import Arguments, digest, digests, failure, run


def up(api: HfApi, args: Arguments) -> object:
    """Uploads a file or a folder, as one commit; `private` is for a repository that does not exist yet."""
    api.create_repo(args["repo"], exist_ok=True, private=args.get("private", False))
    return {"commit": _commit(api, args).oid, "hf_xet": version("hf-xet")}


def propose(api: HfApi, args: Arguments) -> object:
    """The same as a pull request."""
    commit = _commit(api, args)
    return {"commit": commit.oid, "revision": commit.pr_revision}


def _commit(api: HfApi, args: Arguments) -> CommitInfo:
    place, propose_it = Path(args["from"]), args.get("propose", False)
    if place.is_dir():
        return api.upload_folder(repo_id=args["repo"], folder_path=place, create_pr=propose_it)
    return api.upload_file(repo_id=args["repo"], path_or_fileobj=place, path_in_repo=args["path"], create_pr=propose_it)


def down(api: HfApi, args: Arguments) -> object:
    """One file through the cache."""
    return digest(hf_hub_download(args["repo"], args["path"], revision=args.get("revision")))


def snapshot(api: HfApi, args: Arguments) -> object:
    """A whole revision through the cache."""
    return digests(snapshot_download(args["repo"], revision=args.get("revision")))


def refused(api: HfApi, args: Arguments) -> object:
    """What a download and an upload end with that must not succeed."""
    place = args["from"]
    return {
        "download": failure(lambda: hf_hub_download(args["repo"], args["path"])),
        "upload": failure(
            lambda: api.upload_file(repo_id=args["repo"], path_or_fileobj=place, path_in_repo=args["path"])
        ),
    }


run({"up": up, "propose": propose, "down": down, "snapshot": snapshot, "refused": refused})
