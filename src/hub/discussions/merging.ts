// Merging a pull request: three-way, by trees, into a commit of two parents; and telling beforehand what would conflict.
import { and, eq, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../../access/caller";
import { commitBatch, type Guard, queryRows } from "../../db/client";
import { discussions } from "../../db/schema";
import { HubError } from "../../errors";
import type { GitId, RefName } from "../../ids";
import type { Db } from "../../platform/platform";
import { afterPush, mergedCommit, refPointsTo } from "../commits";
import { mergeBases, pastOf } from "../merge-base";
import { gitIdColumn, type Repository, targetOf } from "../repositories";
import { type MergedTree, mergeTrees } from "../tree-merge";
import { treesOf } from "../trees";
import { newComment, newEvent, notOpen, pullRef, trailStatement } from "./events";
import { type Discussion, findDiscussion } from "./reading";

export type PullRequest = Discussion & { readonly base: RefName };
export const isPullRequest = (discussion: Discussion): discussion is PullRequest => discussion.base !== null;

/** The base and the pull request may both move meanwhile; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;
/** Conflicting files that a message names. */
const MAX_NAMED = 10;
/** More than these are not listed. */
const MAX_LISTED = 1000;

type Tip = { readonly commit: GitId; readonly tree: GitId };
export type Tips = { readonly base: Tip; readonly head: Tip };

const TipRow = z.object({ side: z.enum(["base", "head"]), commit_id: gitIdColumn, tree: gitIdColumn });

/** Where the base and the pull request are, or were when it was merged; null when one of them is gone. */
export async function readTips(db: Db, { repo, number, base, mergeCommit }: PullRequest): Promise<Tips | null> {
  const target = (name: RefName) => sql`(select target from refs where repo_id = ${repo.id} and name = ${name})`;
  const head = target(pullRef(number));
  const into =
    mergeCommit === null
      ? target(base)
      : sql`(select iif(parents ->> 1 = ${head}, parents ->> 0, id) from commits where repo_id = ${repo.id} and id = ${mergeCommit})`;
  const rows = await queryRows(
    db,
    TipRow,
    sql`select 'base' as side, id as commit_id, tree from commits where repo_id = ${repo.id} and id = ${into}
      union all select 'head', id, tree from commits where repo_id = ${repo.id} and id = ${head}`,
  );
  const tip = (side: "base" | "head"): Tip | undefined => {
    const row = rows.find((one) => one.side === side);
    return row && { commit: row.commit_id, tree: row.tree };
  };
  const [to, from] = [tip("base"), tip("head")];
  return to === undefined || from === undefined ? null : { base: to, head: from };
}

/** What merging makes of the base; null where the base contains the pull request already. @throws payload_too_large */
async function mergeTips(db: Db, repo: Repository, { base, head }: Tips): Promise<MergedTree | null> {
  const past = await mergeBases(pastOf(db, repo.id), base.commit, head.commit);
  if (past.some(({ id }) => id === head.commit)) return null;
  const load = treesOf(db, repo.id);
  // Histories that crossed have several bases: what they do not all agree on is for people to decide.
  const merges: MergedTree[] = [];
  for (const tree of past.length === 0 ? [null] : past.map((one) => one.tree))
    merges.push(await mergeTrees(load, { base: tree, ours: base.tree, theirs: head.tree }));
  const [first, ...others] = merges;
  if (first === undefined) throw new HubError("internal");
  const conflicts = new Set(merges.flatMap((one) => one.conflicts));
  if (conflicts.size === 0 && others.some(({ root }) => root !== first.root)) conflicts.add("");
  return { ...first, conflicts: [...conflicts].sort() };
}

/** Paths that keep a pull request from being merged as it is now; `true` where that takes too long to tell, null where it has no meaning. */
export async function findConflicts(caller: Caller, pull: PullRequest): Promise<readonly string[] | true | null> {
  if (pull.status === "closed" || pull.status === "merged") return null;
  const { db } = caller.platform;
  const tips = await readTips(db, pull);
  if (tips === null) return null;
  try {
    const merged = await mergeTips(db, pull.repo, tips);
    const conflicts = merged?.conflicts ?? [];
    return conflicts.length > MAX_LISTED || conflicts.includes("") ? true : conflicts;
  } catch (error) {
    if (error instanceof HubError && error.code === "payload_too_large") return true;
    throw error;
  }
}
/** @throws discussion_not_open | merge_conflicts | forbidden | revision_not_found where the base or the ref is gone */
export async function mergePull(caller: Caller, given: PullRequest, comment?: string): Promise<void> {
  const { repo } = given;
  authorize(caller, { action: "pull.merge", repo }, targetOf(repo));
  let pull = given;
  for (let round = 1; ; round++) {
    if (pull.status !== "open") throw notOpen(pull.status);
    try {
      await mergeOnce(caller, pull, comment);
      return;
    } catch (error) {
      const stale = error instanceof HubError && (error.code === "ref_moved" || error.code === "discussion_changed");
      if (!stale || round === MAX_ROUNDS) throw error;
      const now = await findDiscussion(caller, repo, pull.number);
      if (!isPullRequest(now)) throw error;
      pull = now;
    }
  }
}

async function mergeOnce(caller: Caller, pull: PullRequest, comment: string | undefined): Promise<void> {
  const { db } = caller.platform;
  const { repo, number, title, base } = pull;
  const tips = await readTips(db, pull);
  if (tips === null) throw new HubError("revision_not_found", { revision: base });
  const merged = await mergeTips(db, repo, tips);
  if (merged !== null && merged.conflicts.length > 0) throw conflictsOf(pull, merged.conflicts);
  // What the base contains already is merged without another commit.
  const made =
    merged === null
      ? { id: tips.base.commit, statements: [] }
      : mergedCommit(caller, repo, base, {
          tree: merged.root,
          rows: merged.rows,
          parents: [tips.base.commit, tips.head.commit],
          message: comment === undefined ? `${title} (#${number})\n` : `${title} (#${number})\n\n${comment}\n`,
        });
  const unchanged: Guard = {
    holds: sql`exists (select 1 from discussions where repo_id = ${repo.id} and number = ${number} and title = ${title} and status = 'open')`,
    otherwise: () => new HubError("discussion_changed"),
  };
  // Commit point: what was merged is what both refs point to at this moment, and nobody else has merged it.
  await commitBatch(
    db,
    [refPointsTo(repo, base, tips.base.commit), refPointsTo(repo, pullRef(number), tips.head.commit), unchanged],
    [
      ...made.statements,
      db
        .update(discussions)
        .set({ status: "merged", mergeCommit: made.id })
        .where(and(eq(discussions.repoId, repo.id), eq(discussions.number, number))),
      ...(comment === undefined ? [] : [newEvent(caller, pull, newComment(comment)).statement]),
      newEvent(caller, pull, { type: "status-change", data: { status: "merged" } }).statement,
      trailStatement(caller, pull, {
        type: "pull.merged",
        action: "pull.merge",
        data: { title, status: "merged", isPull: true, base, mergeCommit: made.id },
      }),
    ],
  );
  if (merged !== null) await afterPush(caller.platform, repo, { refs: [base], bringsLfs: true });
}

function conflictsOf({ base, number }: PullRequest, conflicts: readonly string[]): HubError {
  const named = conflicts.slice(0, MAX_NAMED).map((path) => path || "files that both histories had merged before");
  const more = conflicts.length - named.length;
  return new HubError("merge_conflicts", {
    files: `${named.join(", ")}${more > 0 ? ` and ${more} more` : ""}`,
    base,
    ref: pullRef(number),
  });
}
