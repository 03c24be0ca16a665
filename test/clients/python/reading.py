"""What a client may ask about repositories, their owners and their readers."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_session, snapshot_download
from steps import Arguments, failure, run


def publish(api: HfApi, args: Arguments) -> object:
    """Models and a dataset to be found."""
    owner = args["owner"]
    for name, card in args["models"].items():
        api.create_repo(f"{owner}/{name}")
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=f"{owner}/{name}")
    api.upload_folder(
        repo_id=f"{owner}/bert", folder_path=args["folder"], commit_message="weights", commit_description="*new*"
    )
    api.create_repo(f"{owner}/secret", private=True)
    api.create_repo(f"{owner}/rows", repo_type="dataset")
    data = b"---\ntags: [tables]\nsize_categories: [n<1K]\n---\n"
    api.upload_file(path_or_fileobj=data, path_in_repo="README.md", repo_id=f"{owner}/rows", repo_type="dataset")
    api.create_tag(f"{owner}/bert", tag="v1")
    api.create_pull_request(f"{owner}/bert", title="a change")
    return None


def lists(api: HfApi, args: Arguments) -> object:
    """Models by everything they can be listed by; only their owner sees those that are private."""
    owner = args["owner"]

    def names(**wanted: Any) -> list[str]:
        return [model.id.removeprefix(f"{owner}/") for model in api.list_models(author=owner, **wanted)]

    expanded = next(iter(api.list_models(author=owner, search="bert", expand=["tags", "safetensors", "siblings"])))
    full = next(iter(api.list_models(author=owner, search="bert", full=True, cardData=True, fetch_config=True)))
    return {
        "all": sorted(names()),
        "newest first": names(sort="last_modified"),
        "oldest page": names(sort="created_at")[-1],
        "first two": len(list(islice(api.list_models(author=owner, limit=2), 5))),
        "search": names(search="BER"),
        "tag": sorted(names(filter="sentiment")),
        "two tags": names(filter=["sentiment", "de"]),
        "task": sorted(names(pipeline_tag="text-classification")),
        "library": names(filter="transformers"),
        "trained on": names(trained_dataset="squad"),
        "parameters": names(num_parameters="min:1K,max:1M"),
        "gated": names(gated=True),
        "expanded": [
            sorted(expanded.tags or []) != [],
            expanded.safetensors is not None,
            len(expanded.siblings or []) > 2,
            expanded.sha,
        ],
        "full": [full.sha is not None, full.card_data is not None and full.card_data.license, full.config],
        "datasets": [data.id for data in api.list_datasets(author=owner, filter="size_categories:n<1K")],
        "wrong": failure(lambda: list(api.list_models(author=owner, expand=["nonsense"]))),  # type: ignore[list-item]  # wrong on purpose
        "tags by type": sorted(api.get_model_tags())[:2] != [] and isinstance(api.get_dataset_tags(), dict),
    }


def one(api: HfApi, args: Arguments) -> object:
    """Everything about one model, at its branch, its tag and its commit."""
    repo = args["repo"]
    info = api.model_info(repo, files_metadata=True, securityStatus=True)
    few = api.model_info(
        repo, expand=["downloads", "likes", "usedStorage", "pipeline_tag", "config", "createdAt", "gated"]
    )
    tree = {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True, expand=True)}
    commit = api.list_repo_commits(repo, formatted=True)[0]
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    safetensors = api.get_safetensors_metadata(repo)
    data = info.card_data
    return {
        "info": {
            "library": info.library_name,
            "task": info.pipeline_tag,
            "tags": sorted(info.tags or []),
            "card": None if data is None else data.license,
            "model_type": (info.config or {}).get("model_type"),
            "architectures": (info.config or {}).get("architectures"),
            "parameters": None if info.safetensors is None else dict(info.safetensors.parameters),
            "auto_model": None if info.transformers_info is None else info.transformers_info.auto_model,
            "storage": (info.used_storage or 0) > 100_000,
            "revision": api.model_info(repo, revision="v1").sha == info.sha == api.resolve_revision(repo).resolved,
        },
        "few": [few.downloads, few.likes, few.pipeline_tag, few.gated, few.sha, few.created_at is not None],
        "last commits": {path: entry.last_commit.title for path, entry in tree.items() if entry.last_commit},
        "paths": [
            [entry.path, entry.last_commit is not None]
            for entry in api.get_paths_info(repo, ["config.json", "no.txt", "deep"], expand=True)
        ],
        "commit": [commit.title, commit.message, commit.formatted_title, commit.formatted_message],
        "refs": [
            [ref.name for ref in refs.branches],
            [ref.ref for ref in refs.tags],
            [ref.ref for ref in refs.pull_requests or []],
            refs.converts,
        ],
        "safetensors": {
            name: tensor.shape for name, tensor in safetensors.files_metadata["model.safetensors"].tensors.items()
        },
        "exists": [
            api.repo_exists(repo),
            api.repo_exists(f"{repo}-not"),
            api.revision_exists(repo, "v1"),
            api.revision_exists(repo, "v2"),
            api.file_exists(repo, "config.json"),
            api.file_exists(repo, "no.json"),
            api.file_exists(repo, "config.json", revision="v2"),
            api.repo_exists("gpt2"),
        ],
        "allowed": [
            failure(lambda: api.auth_check(repo))["message"],
            failure(lambda: api.auth_check(repo, write=True))["kinds"][:1],
        ],
    }


def verify(api: HfApi, args: Arguments) -> object:
    """Checks a download against the hub, before and after it was damaged."""
    folder = Path(snapshot_download(args["repo"], local_dir=args["folder"]))
    whole = api.verify_repo_checksums(args["repo"], local_dir=folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x")
    damaged = api.verify_repo_checksums(args["repo"], local_dir=folder)
    return {
        "checked": whole.checked_count,
        "whole": [len(whole.mismatches), len(whole.missing_paths)],
        "damaged": sorted(one["path"] for one in damaged.mismatches),
    }


def people(api: HfApi, args: Arguments) -> object:
    """Owners and readers: who they are, what they like."""
    owner, repo = args["owner"], args["repo"]
    get_session().post(
        f"{constants.ENDPOINT}/api/models/{repo}/like", headers=api._build_hf_headers()
    ).raise_for_status()
    liked = api.list_liked_repos()
    likers = [user.username for user in api.list_repo_likers(repo)]
    likes = api.model_info(repo).likes
    api.unlike(repo)
    overview = api.get_user_overview(owner)
    me = api.whoami()
    return {
        "liked": [liked.total, liked.models, likers, likes],
        "not any more": [api.list_liked_repos().total, api.model_info(repo).likes],
        "overview": [overview.username, overview.fullname, overview.num_models],
        "me": [me["name"], me["type"], me["auth"]["accessToken"]["role"], api.get_full_repo_name("x")],
        "followers": [list(api.list_user_followers(owner)), list(api.list_user_following(owner))],
        "nobody": failure(lambda: api.get_user_overview("nobody-at-all")),
    }


def organization(api: HfApi, args: Arguments) -> object:
    """What an organization shows of itself."""
    overview = asdict(api.get_organization_overview(args["org"]))
    members = [user.username for user in api.list_organization_members(args["org"])]
    return [overview["fullname"], overview["num_users"], members, list(api.list_organization_followers(args["org"]))]


run({"publish": publish, "lists": lists, "one": one, "verify": verify, "people": people, "organization": organization})
