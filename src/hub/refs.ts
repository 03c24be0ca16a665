// Branches and tags: listing, creating and deleting them, each move a compare-and-swap.
import { and, eq, type SQL, sql } from "drizzle-orm";
import { authorize, type Caller } from "../access/caller";
import { asJson, commitBatch, type Guard, type Statement } from "../db/client";
import { refs } from "../db/schema";
import { HubError } from "../errors";
import type { GitId, RefName } from "../ids";
import type { Db } from "../platform/platform";
import { commitExists, initialCommit, refMovedEvent, refPointsTo } from "./commits";
import { MAIN, type Repository, targetOf } from "./repositories";

export const listRefs = (db: Db, repoId: string) =>
  db.select({ name: refs.name, target: refs.target }).from(refs).where(eq(refs.repoId, repoId)).orderBy(refs.name);

export type NewRef = {
  /** `empty` starts a history of its own, without the files of any other branch. */
  readonly target: GitId | "empty";
  /** Whether a ref of that name gives way. */
  readonly overwrite?: boolean;
};

/** @throws ref_exists | protected_ref */
export async function createRef(caller: Caller, repo: Repository, name: RefName, wanted: NewRef): Promise<void> {
  const from = wanted.overwrite === true ? await targetNow(caller, repo, name) : null;
  if (from !== null && name === MAIN) throw new HubError("protected_ref", { ref: name });
  if (wanted.target !== "empty") return moveRef(caller, repo, name, from, wanted.target);
  authorize(caller, { action: "repo.write", repo }, targetOf(repo));
  const { id, statements } = await initialCommit(caller, repo, name);
  await moveRef(caller, repo, name, from, id, statements);
}

/** @throws revision_not_found when there is no such ref */
export async function deleteRef(caller: Caller, repo: Repository, name: RefName): Promise<void> {
  if (name === MAIN) throw new HubError("protected_ref", { ref: name });
  const from = await targetNow(caller, repo, name);
  if (from === null) throw new HubError("revision_not_found", { revision: name });
  await moveRef(caller, repo, name, from, null);
}

async function targetNow(caller: Caller, repo: Repository, name: RefName): Promise<GitId | null> {
  const [row] = await caller.platform.db
    .select({ target: refs.target })
    .from(refs)
    .where(and(eq(refs.repoId, repo.id), eq(refs.name, name)));
  return row?.target ?? null;
}

/** Creates, moves or deletes a ref by compare-and-swap; `before` are the rows that it is to point to. */
async function moveRef(
  caller: Caller,
  repo: Repository,
  name: RefName,
  from: GitId | null,
  to: GitId | null,
  before: readonly Statement[] = [],
): Promise<void> {
  authorize(caller, { action: "repo.write", repo }, targetOf(repo));
  const { guards, statements } = moveStatements(caller, repo, name, from, to);
  const isThere = to === null || before.length > 0 ? [] : [commitExists(repo, to)];
  await commitBatch(caller.platform.db, [...guards, ...isThere], [...before, ...statements]);
}

/** A new ref, for a batch that makes more than that. */
export function createRefStatements(caller: Caller, repo: Repository, name: RefName, target: GitId) {
  const { guards, statements } = moveStatements(caller, repo, name, null, target);
  return { guards: [...guards, commitExists(repo, target)], statements };
}

/** `refs/heads/a` for `refs/heads/a/b`: git keeps refs as files, so one of them can't be a folder of others. */
export function refsAbove(name: string): string[] {
  const parts = name.split("/");
  return parts.slice(3).map((_, i) => parts.slice(0, i + 3).join("/"));
}

/** SQL for whether no ref stands in the way of a new one, but those that go in the same batch. */
export const standsAlone = (repo: Repository, name: RefName, gone: readonly RefName[] = []): SQL =>
  sql`not exists (select 1 from refs where repo_id = ${repo.id}
    and (name in (select value from json_each(${asJson(refsAbove(name))})) or (name >= ${`${name}/`} and name < ${`${name}0`}))
    and name not in (select value from json_each(${asJson(gone)})))`;

function moveStatements(
  caller: Caller,
  repo: Repository,
  name: RefName,
  from: GitId | null,
  to: GitId | null,
): { guards: Guard[]; statements: Statement[] } {
  const { platform } = caller;
  const { db } = platform;
  const unmoved = refPointsTo(repo, name, from, () =>
    from === null ? new HubError("ref_exists", { ref: name }) : new HubError("ref_moved"),
  );
  const alone = {
    holds: standsAlone(repo, name),
    otherwise: () => new HubError("invalid_ref", { kind: "new ref beside those that are there", name }),
  };
  return {
    guards: from === null && to !== null ? [unmoved, alone] : [unmoved],
    statements: [
      to === null
        ? db.delete(refs).where(and(eq(refs.repoId, repo.id), eq(refs.name, name)))
        : db
            .insert(refs)
            .values({ repoId: repo.id, name, target: to, updatedAt: platform.now() })
            .onConflictDoUpdate({
              target: [refs.repoId, refs.name],
              set: { target: to, tagObject: null, updatedAt: platform.now() },
            }),
      refMovedEvent(caller, repo, { ref: name, oldSha: from, newSha: to }),
    ],
  };
}
