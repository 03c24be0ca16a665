// One discussion or pull request: what was said and done, and for a pull request what it changes and how to get it.
import type { DiscussionEvent } from "../../hub/discussions/events";
import { findConflicts, isPullRequest, type PullRequest } from "../../hub/discussions/merging";
import { readPullDiff } from "../../hub/discussions/pull-diff";
import { type Discussion, findDiscussion, readEvents } from "../../hub/discussions/reading";
import { findRepo, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, originOf, repoIdOf } from "../hf/request";
import { commitAddress, discussionsAddress, linkOf, treeAddress } from "./address";
import { Diff } from "./diff";
import { Status } from "./discussions";
import { answer, Time } from "./layout";
import { CommentText } from "./markdown-block";
import { RepoFrame } from "./repo-frame";
import { Snippet } from "./snippets";
import { dateTime, shortId } from "./wording";

export async function discussion(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const found = await findDiscussion(caller, repo, Number(c.req.param("number")));
  const pull = isPullRequest(found) ? found : null;
  const [events, conflicts, diff] = await Promise.all([
    readEvents(caller, found),
    pull === null ? null : findConflicts(caller, pull),
    pull === null ? null : readPullDiff(caller, pull),
  ]);
  const { number, title } = found;
  const link = linkOf(repo);
  const dataset = type === "dataset" ? " --type dataset" : "";
  return answer(c, {
    title: `${title} · #${number} · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision="main" tab="community">
        <p class="small">
          <a href={discussionsAddress(link)}>All discussions</a>
        </p>
        <h2>
          {title} <span class="soft">#{number}</span> <Status of={found} />
        </h2>
        <div class="columns">
          <div>
            {pull === null ? null : <MergeState pull={pull} conflicts={conflicts} />}
            <ol class="talk">
              {events.map((event) => (
                <Happened event={event} of={found} origin={originOf(c)} />
              ))}
            </ol>
            {pull === null ? null : (
              <section aria-labelledby="changes">
                <h2 id="changes">Changes</h2>
                {diff === null ? (
                  <p class="soft">They are shown to those who have access to the files.</p>
                ) : (
                  <Diff text={diff} />
                )}
              </section>
            )}
          </div>
          <div class="side">
            {pull === null ? null : <FetchIt pull={pull} />}
            <Snippet
              title="Take part"
              text={`hf discussions comment ${link.name} ${number}${dataset} \\\n  --body "…"`}
            />
            {pull === null || pull.status === "merged" ? null : (
              <Snippet title="Merge it, as a writer" text={`hf discussions merge ${link.name} ${number}${dataset}`} />
            )}
          </div>
        </div>
      </RepoFrame>
    ),
  });
}

const branchOf = (ref: string): string => ref.replace(/^refs\/heads\//, "");

function MergeState({
  pull,
  conflicts,
}: {
  readonly pull: PullRequest;
  readonly conflicts: readonly string[] | true | null;
}) {
  const link = linkOf(pull.repo);
  const base = <a href={treeAddress(link, branchOf(pull.base))}>{branchOf(pull.base)}</a>;
  const ref = `refs/pr/${pull.number}`;
  const head = (
    <a class="mono" href={treeAddress(link, ref)}>
      {ref}
    </a>
  );
  if (pull.mergeCommit !== null)
    return (
      <p>
        {head} is part of {base} since <CommitLink repo={link} id={pull.mergeCommit} />.
      </p>
    );
  if (conflicts === null || (conflicts !== true && conflicts.length === 0))
    return (
      <p>
        {head} into {base}
        {conflicts === null ? "" : ": nothing conflicts"}
        {pull.status === "draft" ? ". It is a draft: its author opens it when it is ready" : ""}.
      </p>
    );
  return (
    <div class="box pad conflicts">
      <p>
        {head} can't be merged into {base}: both changed{" "}
        {conflicts === true ? "the same files, more than are listed here." : "these files."}
      </p>
      {conflicts === true ? null : (
        <ul class="mono">
          {conflicts.map((path) => (
            <li>{path}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

function CommitLink({ repo, id }: { readonly repo: ReturnType<typeof linkOf>; readonly id: string }) {
  return (
    <a class="mono" href={commitAddress(repo, id)}>
      {shortId(id)}
    </a>
  );
}

type HappenedProps = { readonly event: DiscussionEvent; readonly of: Discussion; readonly origin: string };

function Happened({ event, of, origin }: HappenedProps) {
  const link = linkOf(of.repo);
  const by = <b>{event.author ?? "a deleted user"}</b>;
  const when = <Time ms={event.createdAt} text={dateTime(event.createdAt)} />;
  switch (event.type) {
    case "comment":
      return (
        <li id={event.id} class="box">
          <p class="who small">
            {by}{" "}
            <a class="quiet" href={`#${event.id}`}>
              {when}
            </a>
            {event.data.edits.length > 0 ? <span class="soft"> · edited</span> : null}
          </p>
          {event.data.hidden ? (
            <p class="pad soft bare">This comment has been hidden.</p>
          ) : event.data.text === "" ? (
            <p class="pad soft bare">Nothing was written.</p>
          ) : (
            <CommentText text={event.data.text} repo={link} origin={origin} />
          )}
        </li>
      );
    case "commit":
      return (
        <li class="small">
          {by} pushed <CommitLink repo={link} id={event.data.oid} /> {event.data.subject} · {when}
        </li>
      );
    case "status-change":
      return (
        <li class="small">
          {by} {event.data.status === "open" ? "opened" : event.data.status} this · {when}
        </li>
      );
    case "title-change":
      return (
        <li class="small">
          {by} changed the title from <s>{event.data.from}</s> to {event.data.to} · {when}
        </li>
      );
  }
}

function FetchIt({ pull }: { readonly pull: PullRequest }) {
  const { type, name } = linkOf(pull.repo);
  const ref = `refs/pr/${pull.number}`;
  const kind = type === "dataset" ? " --repo-type dataset" : "";
  return (
    <>
      <Snippet title="Get it in a clone" text={`git fetch origin ${ref}\ngit switch -c pr/${pull.number} FETCH_HEAD`} />
      <Snippet title="Get it with hf" text={`hf download ${name}${kind} \\\n  --revision ${ref}`} />
    </>
  );
}
