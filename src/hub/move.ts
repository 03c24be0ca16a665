// Repositories get other names and owners; their former names lead to them until someone else takes one.
import { eq, sql } from "drizzle-orm";
import { authorize, type Caller, may } from "../access/caller";
import { commitBatch, isUniqueViolation, queryRows, type Statement } from "../db/client";
import { repos } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import type { RepoId } from "../ids";
import { findAccount } from "./accounts";
import { forgetRepository } from "./nearby";
import { askerOf, findRepo, RepoRow, type Repository, repoName, repoOf, selectRepo, targetOf } from "./repositories";

/** For the batch that gives a repository this name: whatever it led to, it does no more. */
export const takeName = (ownerId: string, { type, name }: Pick<RepoId, "type" | "name">): Statement =>
  sql`delete from repo_aliases where owner_id = ${ownerId} and type = ${type} and name_key = ${name.toLowerCase()}`;

/**
 * Renames a repository, or gives it to another owner. Bytes stay in the storage scope they were written in: the former owner's people
 * had them before. @throws repo_not_found | forbidden | repo_name_taken
 */
export async function moveRepo(caller: Caller, from: RepoId, to: RepoId): Promise<void> {
  const { platform } = caller;
  const repo = await findRepo(caller, from);
  authorize(caller, { action: "repo.manage", repo }, targetOf(repo));
  const owner = await findAccount(platform, to.owner);
  const moved = { ...repo, ownerId: owner.id, owner: owner.name, name: to.name };
  authorize(caller, { action: "repo.create", ownerId: owner.id }, targetOf(moved));
  const taken = new HubError("repo_name_taken", { type: repo.type, repo: repoName(moved) });
  if (repoName(moved) === repoName(repo)) throw taken;
  const now = platform.now();
  const oldKey = repo.name.toLowerCase();
  const newKey = moved.name.toLowerCase();
  const isElsewhere = owner.id !== repo.ownerId || newKey !== oldKey;
  const told = (subject: Repository, data: Record<string, unknown>): Statement =>
    eventStatement(
      platform.db,
      allowedEvent(platform, caller.actor, { type: "repo.moved", ...targetOf(subject), action: "repo.manage", data }),
    );
  // Before the change, so that no crash lies between: who asks meanwhile only takes the longer way.
  await Promise.all([forgetRepository(platform, from), forgetRepository(platform, to)]);
  try {
    // Commit point: the batch. One name has one repository: the later of two that want it fails on the index.
    await commitBatch(
      platform.db,
      [
        {
          holds: sql`exists (select 1 from repos where id = ${repo.id} and owner_id = ${repo.ownerId} and name_key = ${oldKey})`,
          otherwise: () => new HubError("repo_not_found", { type: repo.type }),
        },
      ],
      [
        takeName(owner.id, to),
        platform.db
          .update(repos)
          .set({ ownerId: owner.id, name: moved.name, nameKey: newKey, updatedAt: now })
          .where(eq(repos.id, repo.id)),
        ...(isElsewhere
          ? [
              sql`insert into repo_aliases (owner_id, type, name_key, repo_id, moved_at)
                values (${repo.ownerId}, ${repo.type}, ${oldKey}, ${repo.id}, ${now})`,
            ]
          : []),
        told(repo, { movedTo: repoName(moved) }),
        ...(owner.id === repo.ownerId ? [] : [told(moved, { movedFrom: repoName(repo) })]),
      ],
    );
  } catch (error) {
    if (isUniqueViolation(error, "repos.owner_id")) throw taken;
    throw error;
  }
}

/** The repository that had this name before, if the caller may see it. */
export async function findMoved(caller: Caller, id: RepoId): Promise<Repository | null> {
  const [row] = await queryRows(
    caller.platform.db,
    RepoRow,
    sql`select ${selectRepo(askerOf(caller))} from accounts f
      join repo_aliases l on l.owner_id = f.id and l.type = ${id.type} and l.name_key = ${id.name.toLowerCase()}
      join repos r on r.id = l.repo_id join accounts o on o.id = r.owner_id where f.name_key = ${id.owner.toLowerCase()}`,
  );
  const repo = row && repoOf(row);
  return repo !== undefined && may(caller, { action: "repo.read", repo }) ? repo : null;
}
