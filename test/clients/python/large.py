"""One large file, up and down."""

from __future__ import annotations

from huggingface_hub import HfApi, hf_hub_download
from steps import Arguments, digest, requests_made, run


def up(api: HfApi, args: Arguments) -> object:
    """Uploads from disk; how many requests carried the bytes."""
    api.create_repo(args["repo"])
    made = requests_made()
    commit = api.upload_file(path_or_fileobj=args["file"], path_in_repo=args["path"], repo_id=args["repo"])
    return {"commit": commit.oid, "puts": sum(one.startswith("PUT") for one in made)}


def down(api: HfApi, args: Arguments) -> object:
    """Downloads into the cache."""
    return digest(hf_hub_download(args["repo"], args["path"]))


run({"up": up, "down": down})
