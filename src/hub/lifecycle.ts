// The life of a repository: creating it, changing who sees it, deleting it.
import { eq, sql } from "drizzle-orm";
import { authorize, type Caller } from "../access/caller";
import { type Gating, UNGATED } from "../access/policy";
import { commitBatch, type Guard, isUniqueViolation, type Statement } from "../db/client";
import { repos } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { type RepoId, sortableId } from "../ids";
import { condemnObjects } from "../store/objects";
import { findAccount } from "./accounts";
import { type FirstFile, initialCommit } from "./commits";
import { refreshIndex } from "./facts/store";
import { takeName } from "./move";
import { forgetRepository } from "./nearby";
import { findRepo, MAIN, type Repository, repoName, targetOf } from "./repositories";

export type NewRepo = {
  readonly id: RepoId;
  readonly private: boolean;
  readonly gated?: Gating | null;
  readonly license?: string;
  readonly files?: readonly FirstFile[];
};

/** A repository about to exist: `publish` makes it, with all that its batch brings. @throws forbidden | account_not_found */
export async function newRepository(caller: Caller, wanted: Pick<NewRepo, "id" | "private" | "gated">) {
  const { platform } = caller;
  const owner = await findAccount(platform, wanted.id.owner);
  const subject = `${wanted.id.type}:${owner.name}/${wanted.id.name}`;
  authorize(caller, { action: "repo.create", ownerId: owner.id }, { subject, scopeId: owner.id });
  const now = platform.now();
  const repo: Repository = {
    id: sortableId(now),
    type: wanted.id.type,
    ownerId: owner.id,
    owner: owner.name,
    name: wanted.id.name,
    private: wanted.private,
    ...UNGATED,
    gated: wanted.gated ?? null,
    createdAt: now,
    updatedAt: now,
  };
  const rows = [
    platform.db.insert(repos).values({
      id: repo.id,
      type: repo.type,
      ownerId: repo.ownerId,
      name: repo.name,
      nameKey: repo.name.toLowerCase(),
      private: repo.private,
      gated: repo.gated,
      createdAt: now,
      updatedAt: now,
    }),
    takeName(owner.id, repo),
  ];
  const event = eventStatement(
    platform.db,
    allowedEvent(platform, caller.actor, {
      type: "repo.created",
      subject,
      action: "repo.create",
      scopeId: owner.id,
      repoId: repo.id,
      data: { private: repo.private },
    }),
  );
  /** One batch. @throws repo_exists */
  const publish = async (guards: readonly Guard[], statements: readonly Statement[]): Promise<void> => {
    try {
      await commitBatch(platform.db, guards, [...rows, ...statements, event]);
    } catch (error) {
      if (isUniqueViolation(error, "repos.owner_id"))
        throw new HubError("repo_exists", { type: repo.type, repo: repoName(repo) });
      throw error;
    }
  };
  return { repo, publish };
}

/** Creates the repository with its branch `main` and a first commit, in one batch. @throws repo_exists */
export async function createRepo(caller: Caller, wanted: NewRepo): Promise<Repository> {
  const { repo, publish } = await newRepository(caller, wanted);
  const first = await initialCommit(caller, repo, MAIN, wanted);
  // Commit point: the batch. Before it there are at most blobs that nothing names, which the next identical commit uses.
  await publish([], first.statements);
  await refreshIndex(caller.platform, repo);
  return repo;
}

export type RepoSettings = { readonly private?: boolean; readonly gated?: Gating | null };

/** Changes who sees the repository, and who may have its files. What is not named stays. */
export async function changeSettings(caller: Caller, id: RepoId, wanted: RepoSettings): Promise<void> {
  const { platform } = caller;
  const repo = await findRepo(caller, id);
  authorize(caller, { action: "repo.manage", repo }, targetOf(repo));
  const changed = (type: string, data: Record<string, unknown>): Statement =>
    eventStatement(
      platform.db,
      allowedEvent(platform, caller.actor, { type, ...targetOf(repo), action: "repo.manage", data }),
    );
  // Before the change, so that no crash lies between: who asks meanwhile only takes the longer way.
  await forgetRepository(platform, id);
  await commitBatch(
    platform.db,
    [],
    [
      platform.db
        .update(repos)
        .set({ ...wanted, updatedAt: platform.now() })
        .where(eq(repos.id, repo.id)),
      ...(wanted.private === undefined ? [] : [changed("repo.visibility_changed", { private: wanted.private })]),
      ...(wanted.gated === undefined ? [] : [changed("repo.gating_changed", { gated: wanted.gated })]),
    ],
  );
}

/** Tables whose rows go with the repository that they name in `repo_id`. */
const OF_A_REPOSITORY = [
  "refs",
  "tag_objects",
  "discussions",
  "discussion_events",
  "commits",
  "tree_entries",
  "repo_contents",
  "git_packs",
  "tree_facts",
  "repo_index",
  "repo_tags",
  "repo_grams",
  "repo_aliases",
  "access_requests",
  "likes",
  "download_days",
  "download_clients",
];

/** Removes every row of the repository in one batch; bytes that nothing names any more are left to garbage collection. */
export async function deleteRepo(caller: Caller, id: RepoId): Promise<void> {
  const { platform } = caller;
  const repo = await findRepo(caller, id);
  authorize(caller, { action: "repo.delete", repo }, targetOf(repo));
  const { db } = platform;
  // Before the change, so that no crash lies between: who asks meanwhile only takes the longer way.
  await forgetRepository(platform, id);
  await commitBatch(
    db,
    [],
    [
      condemnObjects(sql`select key from git_packs where repo_id = ${repo.id}`, platform.now()),
      ...OF_A_REPOSITORY.map((table) => sql`delete from ${sql.identifier(table)} where repo_id = ${repo.id}`),
      sql`delete from collection_items where type = ${repo.type} and subject_id = ${repo.id}`,
      db.delete(repos).where(eq(repos.id, repo.id)),
      eventStatement(
        db,
        allowedEvent(platform, caller.actor, {
          type: "repo.deleted",
          ...targetOf(repo),
          action: "repo.delete",
          data: { private: repo.private },
        }),
      ),
    ],
  );
}
