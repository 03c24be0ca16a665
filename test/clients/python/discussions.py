"""Discussions and pull requests with two people: who owns the repository, and who proposes a change to it."""

from __future__ import annotations

import warnings
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.community import (
    Discussion,
    DiscussionComment,
    DiscussionCommit,
    DiscussionEvent,
    DiscussionStatusChange,
    DiscussionTitleChange,
)
from steps import Arguments, failure, run


def told(event: DiscussionEvent) -> list[Any]:
    """An event in a line."""
    if isinstance(event, DiscussionComment):
        return ["comment", event.author, event.content, event.edited, event.hidden]
    if isinstance(event, DiscussionStatusChange):
        return ["status", event.author, event.new_status]
    if isinstance(event, DiscussionTitleChange):
        return ["title", event.author, event.old_title, event.new_title]
    if isinstance(event, DiscussionCommit):
        return ["commit", event.author, event.summary, event.oid]
    return [event.type]


def listed(one: Discussion) -> list[Any]:
    """A discussion of a list in a line."""
    return [one.num, one.title, one.status, one.author, one.is_pull_request, one.git_reference]


def talk(api: HfApi, args: Arguments) -> object:
    """A discussion from its first word to its end."""
    repo, kind = args["repo"], args["type"]
    guest = HfApi(token=args["guest"])
    api.create_repo(repo, repo_type=kind)
    opened = guest.create_discussion(repo, "  A question  ", description="Is it **so**?", repo_type=kind)
    at: dict[str, Any] = {"repo_id": repo, "repo_type": kind, "discussion_num": opened.num}
    answer = api.comment_discussion(**at, comment="It is.")
    edited = api.edit_discussion_comment(**at, comment_id=answer.id.upper(), new_content="It is so.")
    noise = guest.comment_discussion(**at, comment="noise")
    with warnings.catch_warnings(action="ignore"):
        hidden = api.hide_discussion_comment(**at, comment_id=noise.id)
    renamed = guest.rename_discussion(**at, new_title="A good question")
    closed = api.change_discussion_status(**at, new_status="closed", comment="done")
    after = guest.comment_discussion(**at, comment="thanks")
    refused = {
        "edit of another's": failure(
            lambda: guest.edit_discussion_comment(**at, comment_id=answer.id, new_content="No.")
        ),
        "too short a title": failure(lambda: guest.create_discussion(repo, "no", repo_type=kind)),
        "not there": failure(lambda: guest.get_discussion_details(repo, 99, repo_type=kind)),
    }
    details = api.get_discussion_details(repo, opened.num, repo_type=kind)
    return {
        "opened": listed(opened),
        "url": details.url,
        "edited": [edited.content, edited.number_of_edits, edited.last_edited_by, edited.edit_history[0]["raw"]],
        "rendered": opened.events[0].rendered,  # type: ignore[attr-defined]  # comments have it
        "answers": [told(one) for one in (answer, hidden, renamed, closed, after)],
        "status": details.status,
        "events": [told(one) for one in details.events],
        "pull": [details.conflicting_files, details.target_branch, details.diff],
        "refused": {name: one["kinds"] for name, one in refused.items()},
    }


def propose(api: HfApi, args: Arguments) -> object:
    """Pull requests from their draft to their merge; one that conflicts, one closed."""
    repo = args["repo"]
    guest = HfApi(token=args["guest"])
    api.create_repo(repo)
    first = api.create_commit(
        repo, [CommitOperationAdd("a.txt", b"one\n"), CommitOperationAdd("b.txt", b"b\n")], commit_message="files"
    )
    draft = guest.create_pull_request(repo, "A change", description="for the better")
    at: dict[str, Any] = {"repo_id": repo, "discussion_num": draft.num}
    changes: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd("a.txt", b"two\n"),
        CommitOperationDelete("b.txt"),
    ]
    pushed = guest.create_commit(repo, changes, commit_message="two for one", revision=draft.git_reference)
    early = failure(lambda: api.merge_pull_request(**at))
    opened = guest.change_discussion_status(**at, new_status="open")
    shown = guest.get_discussion_details(repo, draft.num)
    main = api.create_commit(repo, [CommitOperationAdd("c.txt", b"c\n")], commit_message="meanwhile")
    by_guest = failure(lambda: guest.merge_pull_request(**at))
    api.merge_pull_request(**at, comment="welcome")
    merged = api.get_discussion_details(repo, draft.num)
    history = api.list_repo_commits(repo, formatted=True)

    late = guest.create_commit(
        repo, [CommitOperationAdd("a.txt", b"three\n")], commit_message="Another", create_pr=True, revision="main"
    )
    api.create_commit(repo, [CommitOperationAdd("a.txt", b"four\n")], commit_message="no, four")
    conflicts = failure(lambda: api.merge_pull_request(repo, late.pr_num or 0))
    conflicting = api.get_discussion_details(repo, late.pr_num or 0)
    api.change_discussion_status(repo, late.pr_num or 0, "closed")
    queries: dict[str, dict[str, Any]] = {
        "all": {},
        "pull requests": {"discussion_type": "pull_request"},
        "open": {"discussion_status": "open"},
        "closed": {"discussion_status": "closed"},
        "by nobody": {"author": "nobody"},
    }
    from_tag = failure(
        lambda: guest.create_commit(
            repo, [CommitOperationAdd("d.txt", b"d")], commit_message="x", create_pr=True, revision=first.oid
        )
    )
    return {
        "draft": [listed(draft), draft.target_branch, draft.conflicting_files, [told(one) for one in draft.events]],
        "early": early["message"],
        "opened": told(opened),
        "diff": shown.diff,
        "pushed": [shown.status, told(shown.events[1]), pushed.oid],
        "by guest": by_guest["message"],
        "merged": [merged.status, merged.merge_commit_oid, merged.conflicting_files, merged.diff],
        "ends": [told(one) for one in merged.events[2:]],
        "history": [[one.commit_id, one.title, one.message, one.formatted_title, one.authors] for one in history],
        "commits": {"pushed": pushed.oid, "main": main.oid},
        "files": sorted(api.list_repo_files(repo)),
        "conflicts": [conflicts["message"], conflicting.conflicting_files],
        "from a commit": from_tag["kinds"],
        "lists": {
            name: [listed(one) for one in api.get_repo_discussions(repo, **query)] for name, query in queries.items()
        },
        "refs": [one.ref for one in api.list_repo_refs(repo, include_pull_requests=True).pull_requests or []],
    }


def many(api: HfApi, args: Arguments) -> object:
    """More discussions than a page holds."""
    repo = args["repo"]
    api.create_repo(repo)
    for i in range(args["count"]):
        api.create_discussion(repo, f"number {i + 1}")
    return [one.num for one in api.get_repo_discussions(repo)]


run({"talk": talk, "propose": propose, "many": many})
