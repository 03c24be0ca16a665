"""Publishing folders and reading them back in every way that the stock client knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    HfFileSystem,
    ModelCard,
    RepoFile,
    hf_hub_download,
    snapshot_download,
)
from steps import Arguments, digest, digests, failure, requests_made, run


def publish(api: HfApi, args: Arguments) -> object:
    """Creates the repository, twice, and uploads a folder, twice: the second time of each changes nothing."""
    repo, kind, folder = args["repo"], args["type"], args["folder"]
    url = api.create_repo(repo, repo_type=kind)
    again = api.create_repo(repo, repo_type=kind, exist_ok=True)
    taken = failure(lambda: api.create_repo(repo, repo_type=kind))
    first = api.list_repo_commits(repo, repo_type=kind)[0].commit_id
    commit = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="the folder")
    api.create_tag(repo, tag="v1.0", repo_type=kind)
    unchanged = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="the same again")
    return {
        "repo_id": url.repo_id,
        "again": again.repo_id,
        "taken": taken["kinds"],
        "first": first,
        "commit": commit.oid,
        "commit_url": commit.commit_url,
        "unchanged": unchanged.oid,
        "commits": len(api.list_repo_commits(repo, repo_type=kind)),
    }


def look(api: HfApi, args: Arguments) -> object:
    """Everything the client can ask about a repository's files without downloading one."""
    repo, kind = args["repo"], args["type"]
    tree = list(api.list_repo_tree(repo, repo_type=kind, recursive=True))
    files = [entry for entry in tree if isinstance(entry, RepoFile)]
    top = list(api.list_repo_tree(repo, repo_type=kind))
    below = list(api.list_repo_tree(repo, args["directory"], repo_type=kind))
    info = (api.model_info if kind == "model" else api.dataset_info)(repo, files_metadata=True)
    siblings = info.siblings or []
    found = api.get_paths_info(repo, [*args["paths"], "no/such/file"], repo_type=kind)
    return {
        "files": api.list_repo_files(repo, repo_type=kind),
        "tree": {
            file.path: {"size": file.size, "id": file.blob_id, "lfs": file.lfs and file.lfs.sha256} for file in files
        },
        "directories": [entry.path for entry in tree if not isinstance(entry, RepoFile)],
        "top": [entry.path for entry in top],
        "below": [entry.path for entry in below],
        "paths_info": [entry.path for entry in found],
        "siblings": {
            one.rfilename: {"size": one.size, "id": one.blob_id, "lfs": one.lfs and one.lfs.sha256} for one in siblings
        },
        "info": {"id": info.id, "sha": info.sha, "private": info.private, "author": info.author},
        "listed": [one.id for one in listing(api, kind, args["author"])],
        "repo_exists": [api.repo_exists(repo, repo_type=kind), api.repo_exists(f"{repo}-not", repo_type=kind)],
        "file_exists": [api.file_exists(repo, path, repo_type=kind) for path in (args["paths"][0], "no/such/file")],
        "revision_exists": [api.revision_exists(repo, rev, repo_type=kind) for rev in ("main", "no-such-branch")],
    }


def listing(api: HfApi, kind: str, author: str) -> list[Any]:
    """The author's repositories of one type."""
    return list(api.list_models(author=author) if kind == "model" else api.list_datasets(author=author))


def download(api: HfApi, args: Arguments) -> object:
    """A whole revision, through the cache and into a folder."""
    repo, kind, revision = args["repo"], args["type"], args["revision"]
    cached = Path(snapshot_download(repo, repo_type=kind, revision=revision))
    placed = Path(snapshot_download(repo, repo_type=kind, revision=revision, local_dir=args["into"]))
    verified = api.verify_repo_checksums(repo, repo_type=kind, revision=revision)
    return {
        "commit": cached.name,
        "cached": digests(cached),
        "placed": digests(placed),
        "verified": verified.checked_count,
        "mismatches": [*verified.mismatches, *verified.missing_paths, *verified.extra_paths],
    }


def card(api: HfApi, args: Arguments) -> object:
    """A model card as the client reads it; files that `.gitignore` names stay at home."""
    repo = args["repo"]
    api.create_repo(repo)
    files = {
        "README.md": "---\nlicense: mit\ntags: [größe]\n---\n# Card\n",
        ".gitignore": "*.log\n",
        "kept.txt": "kept",
        "logs/left.log": "left out",
    }
    additions = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    api.create_commit(repo, additions, commit_message="with a .gitignore")
    return {
        "data": ModelCard.load(repo, ignore_metadata_errors=False).data.to_dict(),
        "files": api.list_repo_files(repo),
    }


def cache(api: HfApi, args: Arguments) -> object:
    """Which requests one file costs: the first time, a second time, and once the commit is known."""
    repo, path = args["repo"], args["path"]
    made = requests_made()
    answers = []
    for revision in ("main", "main", args["commit"]):
        made.clear()
        file = hf_hub_download(repo, path, revision=revision)
        answers.append({"requests": [request.split()[0] for request in made], "sha256": digest(file)})
    return answers


def read_parts(api: HfApi, args: Arguments) -> object:
    """Ranges of a file through the file system interface, and what else that interface offers."""
    files: Any = HfFileSystem()
    place = f"{args['repo']}/{args['path']}"
    with files.open(place, "rb", block_size=args["block"]) as file:
        parts = []
        for start, length in args["ranges"]:
            file.seek(start)
            parts.append(file.read(length).hex())
    return {
        "parts": parts,
        "tail": files.cat_file(place, start=-16).hex(),
        "size": files.info(place)["size"],
        "glob": sorted(files.glob(f"{args['repo']}/**/*.txt")),
        "exists": [files.exists(place), files.exists(f"{place}.not")],
    }


def tensors(api: HfApi, args: Arguments) -> object:
    """The header of the weights, read without the weights."""
    metadata = api.get_safetensors_metadata(args["repo"])
    found = metadata.files_metadata["model.safetensors"]
    return {
        "tensors": {name: {"dtype": one.dtype, "shape": one.shape} for name, one in found.tensors.items()},
        "parameters": metadata.parameter_count,
    }


def many(api: HfApi, args: Arguments) -> object:
    """A repository of more files than one page of the listing holds."""
    repo, count = args["repo"], args["count"]
    api.create_repo(repo)
    paths = [f"shard-{i % 7}/part-{i:05d}.txt" for i in range(count)]
    additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=path.encode()) for path in paths]
    api.create_commit(repo, additions, commit_message="many")
    made = requests_made()
    listed = [entry.path for entry in api.list_repo_tree(repo, recursive=True) if isinstance(entry, RepoFile)]
    pages = len(made)
    return {
        "missing": sorted(set(paths) - set(listed)),
        "listed": len(listed),
        "distinct": len(set(listed)),
        "pages": pages,
        "found": len(api.get_paths_info(repo, paths[:1000])),
    }


run(
    {
        "publish": publish,
        "look": look,
        "download": download,
        "card": card,
        "cache": cache,
        "read_parts": read_parts,
        "tensors": tensors,
        "many": many,
    }
)
