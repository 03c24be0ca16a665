// Opening discussions and pull requests: whoever may read a repository may. A pull request is on a ref of its own, `refs/pr/N`.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, requireUser } from "../../access/caller";
import { commitBatch, isUniqueViolation, queryRows, type Statement } from "../../db/client";
import { discussions } from "../../db/schema";
import { HubError } from "../../errors";
import { type GitId, parseRefName, type RefName, type Revision } from "../../ids";
import { refuseBrokenCard } from "../card-check";
import { authorOf, type CommitRequest, prepareCommit } from "../commits";
import { authorizeProposal } from "../push-rights";
import { createRefStatements } from "../refs";
import { MAIN, type Repository, repoExists, type Snapshot, targetOf } from "../repositories";
import { firstLine, newComment, newEvent, pullRef, type Status, trailStatement } from "./events";

export type NewDiscussion = { readonly title: string; readonly description: string };

/** Two may open the next one at once; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;
/** What a title may hold. Characters. */
export const MAX_TITLE = 200;

/** @throws forbidden */
export async function openDiscussion(caller: Caller, repo: Repository, wanted: NewDiscussion): Promise<number> {
  authorize(caller, { action: "discussion.write", repo }, targetOf(repo));
  return numbered(caller, repo, async (number) => {
    const rows = firstRows(caller, repo, { number, base: null, status: "open", ...wanted });
    await commitBatch(caller.platform.db, [repoExists(repo)], rows);
    return number;
  });
}

/** Opens a draft whose ref points where its base does. @throws forbidden */
export async function openDraft(caller: Caller, base: Snapshot, wanted: NewDiscussion): Promise<number> {
  const { repo, commit } = base;
  authorizeProposal(caller, repo);
  return numbered(caller, repo, async (number) => {
    const { guards, statements } = createRefStatements(caller, repo, pullRef(number), commit);
    await commitBatch(caller.platform.db, guards, [
      ...statements,
      ...firstRows(caller, repo, { number, base: MAIN, status: "draft", ...wanted }),
    ]);
    return number;
  });
}

/** Commits to a new ref that starts from the base, in one batch with the pull request. @throws forbidden */
export async function proposeCommit(
  caller: Caller,
  repo: Repository,
  request: Omit<CommitRequest, "ref"> & { readonly startFrom: RefName },
): Promise<{ number: number; commit: GitId }> {
  authorizeProposal(caller, repo);
  await refuseBrokenCard(caller.platform, repo.type, request.changes);
  const author = authorOf(caller);
  const title = firstLine(request.summary, MAX_TITLE) || "Without a title";
  const wanted = { title, description: request.description ?? "" };
  return numbered(caller, repo, async (number) => {
    const prepared = await prepareCommit(caller, repo, { ...request, ref: pullRef(number) }, author);
    if (prepared.parent === null) throw new HubError("revision_not_found", { revision: request.startFrom });
    await commitBatch(caller.platform.db, prepared.guards, [
      ...firstRows(caller, repo, { number, base: request.startFrom, status: "open", ...wanted }),
      ...prepared.statements,
    ]);
    return { number, commit: prepared.id };
  });
}

/** The branch that a pull request is meant for. @throws revision_not_found for tags, commit ids and what does not exist */
export async function findBase(caller: Caller, repo: Repository, revision: Revision): Promise<RefName> {
  const name = revision === "HEAD" ? MAIN : revision.startsWith("refs/heads/") ? revision : `refs/heads/${revision}`;
  const [found] = await queryRows(
    caller.platform.db,
    z.object({ name: z.string().transform((text) => parseRefName(text, "base")) }),
    sql`select name from refs where repo_id = ${repo.id} and name = ${name}`,
  );
  if (found === undefined) throw new HubError("revision_not_found", { revision });
  return found.name;
}

/** Gives `open` the next number; whoever else took it meanwhile makes it run again. */
async function numbered<T>(caller: Caller, repo: Repository, open: (number: number) => Promise<T>): Promise<T> {
  for (let round = 1; ; round++) {
    const [last] = await queryRows(
      caller.platform.db,
      z.object({ number: z.number() }),
      sql`select coalesce(max(number), 0) as number from discussions where repo_id = ${repo.id}`,
    );
    try {
      return await open((last?.number ?? 0) + 1);
    } catch (error) {
      const taken =
        isUniqueViolation(error, "discussions.repo_id") ||
        (error instanceof HubError && (error.code === "ref_moved" || error.code === "ref_exists"));
      if (!taken || round === MAX_ROUNDS) throw error;
    }
  }
}

/** The rows of a new discussion: itself, and its description as the first comment. */
function firstRows(
  caller: Caller,
  repo: Repository,
  given: NewDiscussion & { readonly number: number; readonly base: RefName | null; readonly status: Status },
): Statement[] {
  const { platform } = caller;
  const { number, title, status, base, description } = given;
  const at = { repo, number };
  const isPull = base !== null;
  return [
    platform.db.insert(discussions).values({
      repoId: repo.id,
      number,
      title,
      status,
      base,
      authorId: requireUser(caller).id,
      createdAt: platform.now(),
    }),
    newEvent(caller, at, newComment(description)).statement,
    trailStatement(caller, at, {
      type: "discussion.created",
      action: isPull ? "pull.create" : "discussion.write",
      data: { title, status, isPull },
    }),
  ];
}
