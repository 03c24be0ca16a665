// The commits of a revision, newest first.
import { listCommits } from "../../hub/history";
import { readOverview } from "../../hub/overview";
import { findSnapshot, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, repoIdOf, revisionAndPath } from "../hf/request";
import { commitAddress, commitsAddress, linkOf, treeAddress } from "./address";
import { answer, Time } from "./layout";
import { RepoFrame, RevisionMenu } from "./repo-frame";
import { dateTime, shortId, wholeNumber } from "./wording";

const PAGE = 50;

export async function history(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  const { repo, commit } = snapshot;
  const page = Math.max(0, Math.trunc(Number(c.req.query("p") ?? 0)) || 0);
  const [overview, { total, commits }] = await Promise.all([
    readOverview(caller, snapshot),
    listCommits(caller.platform.db, repo.id, commit, { offset: page * PAGE, limit: PAGE }),
  ]);
  const link = linkOf(repo);
  const pageAddress = (number: number): string => `${commitsAddress(link, revision)}?p=${number}`;
  return answer(c, {
    title: `History · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision={revision} tab="history">
        <div class="bar">
          <span class="soft">
            {wholeNumber(total)} {total === 1 ? "commit" : "commits"}
          </span>
          <RevisionMenu overview={overview} revision={revision} to={(name) => commitsAddress(link, name)} />
        </div>
        <ol class="rows box">
          {commits.map(({ id, message, author, at }) => (
            <li>
              <a href={commitAddress(link, id)}>{message.split("\n", 1)[0]}</a>
              <div class="soft small">
                <span class="mono">{shortId(id)}</span> · {author} · <Time ms={at} text={dateTime(at)} /> ·{" "}
                <a href={treeAddress(link, id)}>Files</a>
              </div>
            </li>
          ))}
        </ol>
        <p class="bar">
          {page > 0 ? <a href={pageAddress(page - 1)}>Newer</a> : <span />}
          {(page + 1) * PAGE < total ? <a href={pageAddress(page + 1)}>Older</a> : null}
        </p>
      </RepoFrame>
    ),
  });
}
