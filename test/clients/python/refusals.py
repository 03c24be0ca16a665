"""What the stock client raises when the hub refuses: its users' code catches these classes."""

from __future__ import annotations

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from steps import Arguments, failure, run


def prepare(api: HfApi, args: Arguments) -> object:
    """A repository with a folder in it."""
    api.create_repo(args["repo"], private=args["private"])
    api.upload_folder(repo_id=args["repo"], folder_path=args["folder"])
    return None


def reading(api: HfApi, args: Arguments) -> object:
    """Names that lead nowhere, asked for by whoever the environment says."""
    repo, private = args["repo"], args["private"]
    return {
        "missing file": failure(lambda: hf_hub_download(repo, "no/such/file")),
        "missing file, without asking": failure(lambda: hf_hub_download(repo, "no/such/file", local_files_only=True)),
        "missing revision": failure(lambda: hf_hub_download(repo, "README.md", revision="nowhere")),
        "missing revision, snapshot": failure(lambda: snapshot_download(repo, revision="nowhere")),
        "missing commit": failure(lambda: api.repo_info(repo, revision="0" * 40)),
        "missing folder": failure(lambda: list(api.list_repo_tree(repo, "no/such/folder"))),
        "missing repository": failure(lambda: api.model_info(f"{repo}-not")),
        "missing namespace": failure(lambda: hf_hub_download("nobody-at-all/nothing", "README.md")),
        "single name": failure(lambda: api.model_info("nothing")),
        "wrong type": failure(lambda: api.dataset_info(repo)),
        "private": failure(lambda: api.model_info(private)),
        "private file": failure(lambda: hf_hub_download(private, "README.md")),
        "private listing": failure(lambda: api.list_repo_files(private)),
        "private refs": failure(lambda: api.list_repo_refs(private)),
        "private commits": failure(lambda: api.list_repo_commits(private)),
        "private exists": [api.repo_exists(private), api.file_exists(private, "README.md")],
        "listed": [one.id for one in api.list_models(author=private.split("/")[0])],
    }


def writing(api: HfApi, args: Arguments) -> object:
    """Changes that the caller may not make, or nobody may."""
    theirs, mine, namespace = args["theirs"], args["mine"], args["namespace"]
    api.create_repo(mine, exist_ok=True)

    def add(repo: str, path: str, revision: str = "main") -> None:
        api.create_commit(repo, [CommitOperationAdd(path, b"x")], commit_message="x", revision=revision)

    return {
        "upload to theirs": failure(lambda: add(theirs, "x.txt")),
        "LFS to theirs": failure(lambda: add(theirs, "x.bin")),
        "delete theirs": failure(lambda: api.delete_repo(theirs)),
        "branch on theirs": failure(lambda: api.create_branch(theirs, branch="x")),
        "settings of theirs": failure(lambda: api.update_repo_settings(theirs, private=True)),
        "create in their namespace": failure(lambda: api.create_repo(f"{namespace}/mine-now")),
        "missing branch": failure(lambda: add(mine, "x.txt", "nowhere")),
        "missing repository": failure(lambda: add(f"{mine}-not", "x.txt")),
        "path of git": failure(lambda: add(mine, "a/.GIT/config")),
        "path of a device": failure(lambda: add(mine, "a/con.txt")),
        "delete a missing file": failure(lambda: api.delete_file("no/such/file", mine)),
        "pull request against nothing": failure(
            lambda: api.create_commit(
                mine, [CommitOperationAdd("x.txt", b"x")], commit_message="x", create_pr=True, revision="nowhere"
            )
        ),
        "space": failure(lambda: api.create_repo(f"{mine}-space", repo_type="space", space_sdk="static")),
        "bad front matter": failure(
            lambda: api.upload_file(
                path_or_fileobj=b"---\ntags: [unclosed\n---\n", path_in_repo="README.md", repo_id=mine
            )
        ),
        "files of mine": api.list_repo_files(mine),
    }


def write_one(api: HfApi, args: Arguments) -> object:
    """The smallest change."""
    return failure(lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=args["repo"]))


def who(api: HfApi, args: Arguments) -> object:
    """Who the hub takes the caller for."""
    answer = api.whoami()
    return {
        "name": answer["name"],
        "type": answer["type"],
        "orgs": [one["name"] for one in answer["orgs"]],
        "role": answer["auth"]["accessToken"]["role"],
    }


def bad_token(api: HfApi, args: Arguments) -> object:
    """A token that the hub never gave out."""
    return {
        "whoami": failure(api.whoami),
        "public": failure(lambda: api.model_info(args["repo"])),
        "create": failure(lambda: api.create_repo(args["create"])),
    }


run(
    {
        "prepare": prepare,
        "reading": reading,
        "writing": writing,
        "write_one": write_one,
        "who": who,
        "bad_token": bad_token,
    }
)
