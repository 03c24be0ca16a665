// Branches and tags: listing, creating and deleting them, each move a compare-and-swap.
import { and, eq, sql } from "drizzle-orm";
import { authorize, type Caller } from "../access/caller";
import { commitBatch } from "../db/client";
import { refs } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import type { GitId, RefName } from "../ids";
import type { Db } from "../platform/platform";
import { MAIN, type Repository, targetOf } from "./repositories";

export const listRefs = (db: Db, repoId: string) =>
  db.select({ name: refs.name, target: refs.target }).from(refs).where(eq(refs.repoId, repoId)).orderBy(refs.name);

/** @throws ref_exists */
export async function createRef(caller: Caller, repo: Repository, name: RefName, target: GitId): Promise<void> {
  await moveRef(caller, repo, name, null, target);
}

/** @throws revision_not_found when there is no such ref */
export async function deleteRef(caller: Caller, repo: Repository, name: RefName): Promise<void> {
  if (name === MAIN) throw new HubError("protected_ref", { ref: name });
  const { db } = caller.platform;
  const [row] = await db
    .select({ target: refs.target })
    .from(refs)
    .where(and(eq(refs.repoId, repo.id), eq(refs.name, name)));
  if (row === undefined) throw new HubError("revision_not_found", { revision: name });
  await moveRef(caller, repo, name, row.target, null);
}

/** Creates, moves or deletes a ref by compare-and-swap. */
async function moveRef(
  caller: Caller,
  repo: Repository,
  name: RefName,
  from: GitId | null,
  to: GitId | null,
): Promise<void> {
  const { platform, actor } = caller;
  const { db } = platform;
  const target = targetOf(repo);
  authorize(caller, { action: "repo.write", repo }, target);
  const unmoved = {
    holds: sql`(select target from refs where repo_id = ${repo.id} and name = ${name}) is ${from}`,
    otherwise: () => (from === null ? new HubError("ref_exists", { ref: name }) : new HubError("ref_moved")),
  };
  const event = allowedEvent(platform, actor, {
    ...target,
    type: "ref.moved",
    action: "repo.write",
    data: { ref: name, oldSha: from, newSha: to },
  });
  await commitBatch(
    db,
    [unmoved],
    [
      to === null
        ? db.delete(refs).where(and(eq(refs.repoId, repo.id), eq(refs.name, name)))
        : db.insert(refs).values({ repoId: repo.id, name, target: to, updatedAt: platform.now() }),
      eventStatement(db, event),
    ],
  );
}
