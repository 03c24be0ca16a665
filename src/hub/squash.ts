// Super-squash: the history of a branch or a pull request becomes one commit with the files that it has now.
import { and, eq, inArray } from "drizzle-orm";
import type { Caller } from "../access/caller";
import { commitBatch } from "../db/client";
import { commits, refs } from "../db/schema";
import { HubError } from "../errors";
import { commitId } from "../formats/git/commit";
import { type GitId, isCommitPrefix, parseRefName, type RefName, type Revision } from "../ids";
import { authorOf, commitRows, gitCommit, refMovedEvent, refPointsTo } from "./commits";
import { pushToPull } from "./discussions/events";
import { authorizePush } from "./push-rights";
import type { Repository } from "./repositories";

/** Whoever pushes meanwhile is part of what is squashed; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;

/** @throws revision_not_found | invalid_ref for a tag or a commit, which stay what they are | forbidden */
export async function superSquash(
  caller: Caller,
  repo: Repository,
  revision: Revision,
  message: string,
): Promise<GitId> {
  for (let round = 1; ; round++) {
    const { name, target, tree } = await findSquashed(caller, repo, revision);
    await authorizePush(caller, repo, name);
    const { platform } = caller;
    const { db } = platform;
    const now = platform.now();
    const made = gitCommit({ tree, parents: [], author: authorOf(caller), message: `${message}\n`, now });
    const id = commitId(made);
    const push = pushToPull(caller, repo, name, [{ oid: id, subject: message }]);
    try {
      // Commit point: the batch that moves the ref. The old commits stay, for who cites them by id.
      await commitBatch(
        db,
        [refPointsTo(repo, name, target), ...push.guards],
        [
          ...commitRows(db, repo, made, name, now),
          refMovedEvent(caller, repo, { ref: name, oldSha: target, newSha: id }),
          ...push.statements,
        ],
      );
      return id;
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "ref_moved" || round === MAX_ROUNDS) throw error;
    }
  }
}

async function findSquashed(
  { platform }: Caller,
  repo: Repository,
  revision: Revision,
): Promise<{ name: RefName; target: GitId; tree: GitId }> {
  const full = revision.startsWith("refs/");
  const name = parseRefName(full ? revision : `refs/heads/${revision === "HEAD" ? "main" : revision}`, "revision");
  const tag = parseRefName(full ? revision : `refs/tags/${revision}`, "revision");
  const found = await platform.db
    .select({ name: refs.name, target: refs.target, tree: commits.tree })
    .from(refs)
    .innerJoin(commits, and(eq(commits.repoId, refs.repoId), eq(commits.id, refs.target)))
    .where(and(eq(refs.repoId, repo.id), inArray(refs.name, [name, tag])));
  const squashed = found.find((ref) => ref.name === name && !name.startsWith("refs/tags/"));
  if (squashed !== undefined) return squashed;
  if (found.length > 0 || isCommitPrefix(revision))
    throw new HubError("invalid_ref", { kind: "branch", name: revision });
  throw new HubError("revision_not_found", { revision });
}
