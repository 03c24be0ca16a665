"""What people keep beside repositories: collections, webhooks, whom they follow, and a login from a browser."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

from huggingface_hub import Collection, HfApi, WebhookWatchedItem, hf_hub_download
from huggingface_hub.utils._http import get_session
from steps import Arguments, failure, run


def shown(collection: Collection) -> dict[str, Any]:
    return {
        "slug": collection.slug,
        "title": collection.title,
        "description": collection.description,
        "private": collection.private,
        "theme": collection.theme,
        "items": [[item.item_type, item.item_id, item.note] for item in collection.items],
        "url": collection.url,
    }


def collections(api: HfApi, args: Arguments) -> object:
    """The life of a collection, as the client's own guide tells it."""
    me = args["me"]
    model = api.create_repo(f"{me}/model").repo_id
    dataset = api.create_repo(f"{me}/dataset", repo_type="dataset").repo_id
    hidden = api.create_repo(f"{me}/hidden", private=True).repo_id
    nested = api.create_collection("Nested things").slug
    made = api.create_collection("My cool stuff", description="A lot of it")
    same = api.create_collection("My cool stuff", description="ignored", exists_ok=True)
    taken = failure(lambda: api.create_collection("My cool stuff"))
    api.add_collection_item(made.slug, model, "model", note="This is mine")
    api.add_collection_item(made.slug, dataset, "dataset")
    api.add_collection_item(made.slug, nested, "collection")
    full = api.add_collection_item(made.slug, hidden, "model")
    again = failure(lambda: api.add_collection_item(made.slug, model, "model"))
    api.add_collection_item(made.slug, model, "model", exists_ok=True)
    missing = failure(lambda: api.add_collection_item(made.slug, model, "dataset"))
    paper = failure(lambda: api.add_collection_item(made.slug, "2307.09288", "paper"))
    strangers = api.get_collection(made.slug, token=False)
    api.update_collection_item(made.slug, full.items[0].item_object_id, note="New note", position=1)
    moved = api.get_collection(made.slug)
    api.delete_collection_item(made.slug, full.items[2].item_object_id)
    api.delete_collection_item(made.slug, full.items[2].item_object_id, missing_ok=True)
    updated = api.update_collection_metadata(made.slug, title="Renamed", theme="pink", private=True, position=2)
    listed = [one.title for one in api.list_collections(owner=me, sort="lastModified", limit=1)]
    holding = [one.title for one in api.list_collections(item=f"models/{model}")]
    unseen = [one.title for one in api.list_collections(owner=me, token=False)]
    private = failure(lambda: api.get_collection(made.slug, token=False))
    api.delete_collection(made.slug)
    twice = failure(lambda: api.delete_collection(made.slug))
    api.delete_collection(made.slug, missing_ok=True)
    return {
        "made": shown(made),
        "same": same.slug == made.slug and same.description == "A lot of it",
        "full": shown(full),
        "strangers": shown(strangers)["items"],
        "moved": shown(moved)["items"],
        "updated": shown(updated),
        "by_old_slug": updated.slug.split("-")[-1] == made.slug.split("-")[-1],
        "listed": listed,
        "holding": holding,
        "unseen": unseen,
        "codes": {
            "taken": taken["message"],
            "again": again["message"],
            "missing": missing["kinds"],
            "paper": paper["message"],
            "private": private["message"],
            "twice": twice["message"],
        },
    }


def webhooks(api: HfApi, args: Arguments) -> object:
    """A webhook made, read, changed and deleted; what happens meanwhile is told to its receiver."""
    me = args["me"]
    watched: list[Any] = [WebhookWatchedItem(type="user", name=me), {"type": "org", "name": "nobody"}]
    made = api.create_webhook(url=args["url"], watched=watched, domains=["repo", "discussion"], secret="my-secret")
    read = api.get_webhook(made.id)
    repo = api.create_repo(f"{me}/watched").repo_id
    commit = api.upload_file(path_or_fileobj=b"1", path_in_repo="one.txt", repo_id=repo)
    api.create_discussion(repo, title="A question", description="why")
    off = api.disable_webhook(made.id)
    on = api.enable_webhook(made.id)
    changed = api.update_webhook(made.id, domains=["repo"])
    inner = failure(lambda: api.create_webhook(url="https://169.254.169.254/", watched=watched))
    job = failure(lambda: api.create_webhook(job_id="job", watched=watched))
    return {
        "made": asdict(made),
        "read": asdict(read) == asdict(made),
        "listed": [one.id for one in api.list_webhooks()] == [made.id],
        "disabled": [off.disabled, on.disabled],
        "changed": asdict(changed),
        "commit": commit.oid,
        "inner": inner["message"],
        "job": job["message"],
    }


def end_webhooks(api: HfApi, _args: Arguments) -> object:
    ids = [one.id for one in api.list_webhooks()]
    for one in ids:
        api.delete_webhook(one)
    return failure(lambda: api.get_webhook(ids[0]))["message"]


def people(api: HfApi, args: Arguments) -> object:
    """Who is who, and who follows whom."""
    me, other = args["me"], args["other"]
    follow = get_session().post(f"{api.endpoint}/api/users/{other}/follow", headers=api._build_hf_headers())
    overview = api.get_user_overview(other)
    return {
        "followed": follow.status_code,
        "overview": [overview.username, overview.fullname, overview.user_type, overview.num_followers],
        "following": overview.is_following,
        "picture": get_session().get(overview.avatar_url).headers["content-type"],
        "followers": [one.username for one in api.list_user_followers(other)],
        "mine": [one.username for one in api.list_user_following(me)],
        "organizations": [one.name for one in api.get_user_overview(me).orgs],
        "organization": [
            api.get_organization_overview(args["org"]).name,
            api.get_organization_overview(args["org"]).num_users,
            [one.username for one in api.list_organization_members(args["org"])],
            [one.username for one in api.list_organization_followers(args["org"])],
        ],
        "nobody": failure(lambda: api.get_user_overview("nobody-at-all"))["message"],
    }


def login(_api: HfApi, args: Arguments) -> object:
    """`hf auth login` of an agent: it prints an address and a code, and waits until someone approves."""
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "auth", "login", "--format", "agent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told = running.stdout.readline()
        address = next(word for word in told.split() if word.startswith("http"))
        form = {"code": address.split("=")[1], "token": args["token"], "name": "from a browser", "scope": "write"}
        page = get_session().post(address.split("?")[0], data={**form, "decision": "approve"})
        rest = running.stdout.read()
    # A new process finds the token that was saved.
    api = HfApi()
    mine = api.whoami()
    repo = api.create_repo(f"{mine['name']}/logged-in", private=True).repo_id
    api.upload_file(path_or_fileobj=b"1", path_in_repo="one.txt", repo_id=repo)
    with open(hf_hub_download(repo, "one.txt")) as file:
        content = file.read()
    return {
        "told": told,
        "approved": page.status_code,
        "rest": rest,
        "code": running.returncode,
        "name": mine["name"],
        "token": mine["auth"]["accessToken"]["displayName"],
        "content": content,
    }


run(
    {
        "collections": collections,
        "webhooks": webhooks,
        "end_webhooks": end_webhooks,
        "people": people,
        "login": login,
    }
)
