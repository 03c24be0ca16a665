// The discussions and pull requests of a repository, newest first.
import { type Discussion, listDiscussions } from "../../hub/discussions/reading";
import { findRepo, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, repoIdOf } from "../hf/request";
import { discussionAddress, discussionsAddress, linkOf } from "./address";
import { answer, Time } from "./layout";
import { RepoFrame } from "./repo-frame";
import { Snippet } from "./snippets";
import { day, wholeNumber } from "./wording";

const PAGE = 50;
const VIEWS = ["open", "closed", "all"] as const;

export async function discussionList(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const view = VIEWS.find((one) => one === c.req.query("status")) ?? "open";
  const page = Math.min(1e6, Math.max(0, Math.trunc(Number(c.req.query("p") ?? 0)) || 0));
  const { count, discussions } = await listDiscussions(caller, repo, {
    status: view === "all" ? undefined : view,
    offset: page * PAGE,
    limit: PAGE,
  });
  const link = linkOf(repo);
  const at = (status: string, number: number): string =>
    `${discussionsAddress(link)}?status=${status}${number === 0 ? "" : `&p=${number}`}`;
  const dataset = type === "dataset" ? " --type dataset" : "";
  return answer(c, {
    title: `Community · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision="main" tab="community">
        <div class="columns">
          <div>
            <div class="bar">
              <span class="soft">
                {wholeNumber(count)} {count === 1 ? "discussion or pull request" : "discussions and pull requests"}
              </span>
              <nav class="places" aria-label="Status">
                {VIEWS.map((one) => (
                  <a class="quiet" href={at(one, 0)} aria-current={one === view ? "true" : undefined}>
                    {one === "all" ? "All" : one === "open" ? "Open" : "Closed"}
                  </a>
                ))}
              </nav>
            </div>
            {discussions.length === 0 ? (
              <p class="box pad soft">{view === "all" ? "Nothing was discussed yet." : `None is ${view}.`}</p>
            ) : (
              <ol class="rows box">
                {discussions.map((one) => (
                  <li>
                    <a href={discussionAddress(link, one.number)}>{one.title}</a> <Status of={one} />
                    <div class="soft small">
                      #{one.number} · {one.base === null ? "Discussion" : "Pull request"} by{" "}
                      {one.author ?? "a deleted user"} · <Time ms={one.createdAt} text={day(one.createdAt)} />
                    </div>
                  </li>
                ))}
              </ol>
            )}
            <p class="bar">
              {page > 0 ? <a href={at(view, page - 1)}>Newer</a> : <span />}
              {(page + 1) * PAGE < count ? <a href={at(view, page + 1)}>Older</a> : null}
            </p>
          </div>
          <div class="side">
            <Snippet
              title="Ask or report something"
              text={`hf discussions create ${link.name}${dataset} \\\n  --title "A question" \\\n  --body "…"`}
            />
            <Snippet
              title="Propose a change"
              text={`hf upload ${link.name} . .${dataset.replace("type", "repo-type")} \\\n  --create-pr \\\n  --commit-message "What changes"`}
            />
          </div>
        </div>
      </RepoFrame>
    ),
  });
}

const WORDS = { draft: "Draft", open: "Open", closed: "Closed", merged: "Merged" } as const;

export function Status({ of: { status } }: { readonly of: Discussion }) {
  const kind = status === "open" || status === "merged" ? " on" : status === "closed" ? " bad" : "";
  return <span class={`badge${kind}`}>{WORDS[status]}</span>;
}
