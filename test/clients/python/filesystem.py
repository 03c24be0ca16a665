"""`HfFileSystem`, as libraries that know files only use it: written, listed, read in ranges, copied, moved, removed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
from huggingface_hub import HfApi, HfFileSystem, hffs
from steps import Arguments, failure, run


def fresh() -> Any:
    """One that remembers no listing. What it inherits has no types."""
    return HfFileSystem(skip_instance_cache=True)


def tour(api: HfApi, args: Arguments) -> object:
    """Writes into a repository, and looks at it in every way there is."""
    repo, weights = args["repo"], Path(args["weights"])
    root = repo if args["type"] == "model" else f"datasets/{repo}"
    api.create_repo(repo, repo_type=args["type"])
    fs = fresh()
    with fs.open(f"{root}/notes/first.txt", "w") as text:
        text.write("first\nsecond\n")
    with fs.open(f"{root}/weights.bin", "wb", block_size=2**18) as file, weights.open("rb") as source:
        while piece := source.read(2**17):
            file.write(piece)
    fs.put_file(str(weights), f"{root}/notes/deep/copy.bin", commit_message="put")
    fs = fresh()
    commit = api.list_repo_commits(repo, repo_type=args["type"])[0]
    info = fs.info(f"{root}/weights.bin", expand_info=True)
    data, size = weights.read_bytes(), weights.stat().st_size

    def slices(path: str) -> bool:
        with fs.open(path, "rb", block_size=1000) as file:
            file.seek(size - 10)
            end = file.read()
            file.seek(12_345)
            middle = file.read(3_000)
        return bool(end == data[-10:] and middle == data[12_345:15_345])

    return {
        "ls": sorted(path.removeprefix(root) for path in fs.ls(root, detail=False)),
        "types": {
            path.removeprefix(root): entry["type"] for path, entry in fs.find(root, withdirs=True, detail=True).items()
        },
        "glob": sorted(path.removeprefix(root) for path in fs.glob(f"{root}/**/*.bin")),
        "size": info["size"] == size == fs.size(f"{root}/weights.bin"),
        "last_commit": getattr(info["last_commit"], "title", None),
        "modified": isinstance(fs.modified(f"{root}/weights.bin"), datetime),
        "put_by": commit.title,
        "exists": [
            fs.exists(f"{root}/notes"),
            fs.isdir(f"{root}/notes"),
            fs.isfile(f"{root}/notes"),
            fs.exists(f"{root}/no"),
        ],
        "text": fs.read_text(f"{root}/notes/first.txt"),
        "tail": fs.tail(f"{root}/notes/first.txt", 7).decode(),
        "range": fs.cat_file(f"{root}/weights.bin", start=-5) == data[-5:],
        "slices": slices(f"{root}/weights.bin"),
        "fsspec": fsspec.open(f"hf://{root}/notes/first.txt", "r").open().readline(),
        "missing": failure(lambda: fs.info(f"{root}/no/such.txt")),
        "no_repository": failure(lambda: hffs.ls(f"{root}-not", detail=False)),
    }


def change(api: HfApi, args: Arguments) -> object:
    """Copies within and across, moves, and removes; branches stand after an `@`."""
    repo, other = args["repo"], args["other"]
    api.create_repo(other)
    api.create_branch(repo, branch="side/line")
    fs = fresh()

    def paths(root: str) -> list[str]:
        return sorted(path.removeprefix(root) for path in fresh().find(root))

    def write(path: str, text: str) -> None:
        with fs.open(path, "w") as file:
            file.write(text)

    states: dict[str, Any] = {}
    fs.cp_file(f"{repo}/weights.bin", f"{repo}/again.bin")
    fs.cp_file(f"{repo}/notes/first.txt", f"{other}/taken.txt")
    states["copied"] = paths(repo), paths(other)
    fs.mv(f"{repo}/again.bin", f"{repo}/moved.bin")
    fs.rm(f"{repo}/notes/first.txt")
    states["moved"] = paths(repo)
    fs.rm(f"{repo}/notes", recursive=True)
    states["removed"] = paths(repo)
    write(f"{repo}@side%2Fline/notes/side.txt", "aside")
    branch = fresh()
    states["branch"] = sorted(path.split("/", 3)[-1] for path in branch.glob(f"{repo}@side%2Fline/**/*.txt"))
    states["as_revision"] = branch.cat_file(f"{repo}/notes/side.txt", revision="side/line").decode()
    return states


run({"tour": tour, "change": change})
