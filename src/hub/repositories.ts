// Repositories: finding one, at a revision or down to a file of it.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, authorizeSight, type Caller, may } from "../access/caller";
import type { Gate, Purpose } from "../access/policy";
import { asJson, type Guard, queryEach, queryRows } from "../db/client";
import { HubError } from "../errors";
import {
  type AccountName,
  type FilePath,
  type GitId,
  isCommitPrefix,
  isFullCommitId,
  parseAccountName,
  parseGitId,
  parseRefName,
  parseRepoName,
  parseSha256,
  type RepoId,
  type RepoName,
  type RepoType,
  type Revision,
  type Sha256,
} from "../ids";
import type { ByteRange } from "../platform/platform";
import { HeldColumn, type Holding, heldContent, type Source, usable } from "../store/contents";

export const MAIN = parseRefName("refs/heads/main", "ref");
const HEAD = "HEAD";

export type Repository = {
  readonly id: string;
  readonly type: RepoType;
  readonly ownerId: string;
  readonly owner: AccountName;
  readonly name: RepoName;
  readonly private: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
} & Gate;

/** A repository at a commit. */
export type Snapshot = {
  readonly repo: Repository;
  readonly commit: GitId;
  readonly tree: GitId;
  readonly committedAt: number;
};

/** For a batch that writes rows of a repository: it was not deleted meanwhile. */
export const repoExists = ({ id }: Pick<Repository, "id">): Guard => ({
  holds: sql`exists (select 1 from repos where id = ${id})`,
  otherwise: () => new HubError("repo_not_found"),
});

export const repoName = (repo: Pick<Repository, "owner" | "name">): string => `${repo.owner}/${repo.name}`;
export const repoSubject = (repo: Pick<Repository, "type" | "owner" | "name">): string =>
  `${repo.type}:${repoName(repo)}`;
/** For the trail; the id stays when the name changes. */
export const targetOf = (repo: Repository) => ({
  subject: repoSubject(repo),
  scopeId: repo.ownerId,
  repoId: repo.id,
});

const accountNameColumn = z.string().transform((text) => parseAccountName(text, "owner"));
const repoNameColumn = z.string().transform((text) => parseRepoName(text, "name"));
export const gitIdColumn = z.string().transform((text) => parseGitId(text, "id"));
const sha256Column = z.string().transform((text) => parseSha256(text, "sha256"));

const repoColumns = {
  repo_id: z.string(),
  type: z.enum(["model", "dataset"]),
  owner_id: z.string(),
  owner: accountNameColumn,
  name: repoNameColumn,
  private: z.number(),
  created_at: z.number(),
  updated_at: z.number(),
  gated: z.enum(["auto", "manual"]).nullable(),
  asker: z.string().nullable(),
  access: z.enum(["pending", "accepted", "rejected"]).nullable(),
};
export const RepoRow = z.object(repoColumns);
const SnapshotRow = z.object({
  ...repoColumns,
  commit_id: gitIdColumn.nullable(),
  tree: gitIdColumn.nullable(),
  authored_at: z.number().nullable(),
});

export const repoOf = (row: z.output<typeof RepoRow>): Repository => ({
  id: row.repo_id,
  type: row.type,
  ownerId: row.owner_id,
  owner: row.owner,
  name: row.name,
  private: row.private === 1,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  gated: row.gated,
  access: row.asker === null || row.access === null ? null : { accountId: row.asker, status: row.access },
});

/** SQL for the id of whoever wants to use files; null for who has no account. */
export const askerOf = ({ actor }: Caller): SQL => sql`${actor.kind === "user" ? actor.id : null}`;

/** SQL for how far the asker has come with access to the gated repository `r`. */
export const accessOf = (asker: SQL): SQL =>
  sql`iif(r.gated is null, null, (select status from access_requests where repo_id = r.id and account_id = ${asker}))`;

/** Columns of `RepoRow`, of repository `r` and its owner `o`, for who asks. */
export const selectRepo = (asker: SQL): SQL =>
  sql`r.id as repo_id, r.type, r.owner_id, o.name as owner, r.name, r.private, r.created_at, r.updated_at, r.gated, ${asker} as asker, ${accessOf(asker)} as access`;
const whereRepo = (id: RepoId): SQL =>
  sql`o.name_key = ${id.owner.toLowerCase()} and r.type = ${id.type} and r.name_key = ${id.name.toLowerCase()}`;

/** SQL for the commit that a revision names in repository `r`: a commit id, a full ref, a branch, a tag, a unique prefix of a commit id. */
function commitNamed(revision: Revision): SQL {
  if (revision === HEAD) return sql`(select target from refs where repo_id = r.id and name = ${MAIN})`;
  if (isFullCommitId(revision)) return sql`(select id from commits where repo_id = r.id and id = ${revision})`;
  const named = (ref: string): SQL => sql`(select target from refs where repo_id = r.id and name = ${ref})`;
  const tries = [named(`refs/heads/${revision}`), named(`refs/tags/${revision}`)];
  if (revision.startsWith("refs/")) tries.unshift(named(revision));
  if (isCommitPrefix(revision))
    tries.push(
      sql`(select case when count(*) = 1 then min(id) end from commits where repo_id = r.id and id >= ${revision} and id < ${`${revision}g`})`,
    );
  return sql`coalesce(${sql.join(tries, sql`, `)})`;
}

/**
 * The row of a query; what a late replica does not have, or does not let the caller see, is asked of the primary before anyone is
 * told that it does not exist.
 */
async function confirmedRow<T extends z.output<typeof RepoRow>>(
  caller: Caller,
  schema: z.ZodType<T>,
  query: SQL,
  isThere: (row: T) => boolean = () => true,
): Promise<T | undefined> {
  const { db, session } = caller.platform;
  const [row] = await queryRows(db, schema, query);
  if (!session.mayLag()) return row;
  if (row !== undefined && isThere(row) && may(caller, { action: "repo.read", repo: repoOf(row) })) return row;
  session.toPrimary();
  return (await queryRows(db, schema, query))[0];
}

/** A read at a revision, once more on the primary where a late replica has no such entry; at a commit no replica is late. */
export async function confirmedEntry<T>(caller: Caller, revision: Revision, read: () => Promise<T>): Promise<T> {
  const { session } = caller.platform;
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof EntryNotFound) || isFullCommitId(revision) || !session.mayLag()) throw error;
    session.toPrimary();
    return read();
  }
}

/** The repository, if the caller may see it. One query. @throws repo_not_found */
export async function findRepo(caller: Caller, id: RepoId): Promise<Repository> {
  const row = await confirmedRow(
    caller,
    RepoRow,
    sql`select ${selectRepo(askerOf(caller))} from accounts o join repos r on r.owner_id = o.id where ${whereRepo(id)}`,
  );
  return sighted(caller, row && repoOf(row), id);
}

export async function findRepoById(caller: Caller, repoId: string): Promise<Repository> {
  const row = await confirmedRow(
    caller,
    RepoRow,
    sql`select ${selectRepo(askerOf(caller))} from repos r join accounts o on o.id = r.owner_id where r.id = ${repoId}`,
  );
  return sighted(caller, row && repoOf(row), { type: "model" });
}

/** Those that are there, by id, whether the caller may see them or not. One query. */
export async function findReposById(caller: Caller, ids: readonly string[]): Promise<Map<string, Repository>> {
  const rows = await queryRows(
    caller.platform.db,
    RepoRow,
    sql`select ${selectRepo(askerOf(caller))} from repos r join accounts o on o.id = r.owner_id
      where r.id in (select value from json_each(${asJson(ids)}))`,
  );
  return new Map(rows.map((row) => [row.repo_id, repoOf(row)]));
}

function sighted(caller: Caller, repo: Repository | undefined, id: { readonly type: RepoType }): Repository {
  if (repo === undefined) throw new HubError("repo_not_found", { type: id.type });
  authorizeSight(caller, { action: "repo.read", repo }, targetOf(repo));
  return repo;
}

/** A repository at a revision. One query. @throws repo_not_found | revision_not_found */
export async function findSnapshot(caller: Caller, id: RepoId, revision: Revision): Promise<Snapshot> {
  const row = await confirmedRow(
    caller,
    SnapshotRow,
    snapshotQuery(caller, id, revision),
    (one) => one.commit_id !== null,
  );
  return snapshotOf(caller, row, id, revision);
}

export type RevisionQuery = { readonly id: RepoId; readonly revision: Revision; readonly field: string };

/** Several repositories, each at a revision, in one round trip. Errors name the `field` that asked. @throws repo_not_found | revision_not_found */
export async function findSnapshots(caller: Caller, wanted: readonly RevisionQuery[]): Promise<Snapshot[]> {
  const found = await queryEach(
    caller.platform.db,
    SnapshotRow,
    wanted.map(({ id, revision }) => snapshotQuery(caller, id, revision)),
  );
  return wanted.map(({ id, revision, field }, i) => {
    try {
      return snapshotOf(caller, found[i]?.[0], id, revision);
    } catch (error) {
      if (error instanceof HubError) throw new HubError(error.code, { ...error.fields, field }, { cause: error });
      throw error;
    }
  });
}

/** The common table `top`: one row, the repository and the commit that the revision names, or none. */
const topOf = (caller: Caller, id: RepoId, revision: Revision): SQL => sql`found as (
    select ${selectRepo(askerOf(caller))}, ${commitNamed(revision)} as commit_id from accounts o join repos r on r.owner_id = o.id where ${whereRepo(id)}),
  top as (select f.*, c.tree, c.authored_at from found f left join commits c on c.repo_id = f.repo_id and c.id = f.commit_id)`;

const snapshotQuery = (caller: Caller, id: RepoId, revision: Revision): SQL =>
  sql`with ${topOf(caller, id, revision)} select * from top`;

function snapshotOf(
  caller: Caller,
  row: z.output<typeof SnapshotRow> | undefined,
  id: RepoId,
  revision: Revision,
): Snapshot {
  const repo = sighted(caller, row && repoOf(row), id);
  if (row === undefined || row.commit_id === null || row.tree === null)
    throw new HubError("revision_not_found", { revision });
  return { repo, commit: row.commit_id, tree: row.tree, committedAt: (row.authored_at ?? 0) * 1000 };
}

const LocatedRow = SnapshotRow.extend({
  kind: z.enum(["file", "directory"]).nullable(),
  id: gitIdColumn.nullable(),
  sha256: sha256Column.nullable(),
  size: z.number().nullable(),
  lfs: z.number().nullable(),
  content: HeldColumn.nullable(),
});

export type LocatedFile = {
  readonly snapshot: Snapshot;
  readonly path: FilePath;
  /** Git id of the blob; of the pointer for an LFS file. */
  readonly id: GitId;
  readonly sha256: Sha256;
  readonly size: number;
  readonly lfs: boolean;
  readonly source: Source;
  readonly holding: Holding;
};

/** The 404 of a path carries the commit, which clients cache the absence under. */
export class EntryNotFound extends HubError {
  readonly snapshot: Snapshot;

  constructor(snapshot: Snapshot, path: string) {
    super("entry_not_found", { path });
    this.snapshot = snapshot;
  }
}

/** Only LFS files can be taken out of a repository whose trees go on naming them. */
export const missingContent = (path: string, lfs: boolean): HubError =>
  lfs ? new HubError("content_deleted", { path }) : new HubError("content_damaged");

/**
 * A file at a revision, for a purpose: repository, ref, tree walk and content in one query.
 * With the `span` that will be read, reading it needs no further query.
 * @throws repo_not_found | revision_not_found | EntryNotFound | forbidden | content_quarantined
 */
export async function findFile(
  caller: Caller,
  id: RepoId,
  revision: Revision,
  path: FilePath,
  purpose: Purpose,
  span?: ByteRange,
): Promise<LocatedFile> {
  const segments = path.split("/");
  const row = await confirmedRow(
    caller,
    LocatedRow,
    // The order of the joins is pinned: turned round, each folder on the way would be read whole.
    sql`with recursive ${topOf(caller, id, revision)},
      walk (depth, kind, id, sha256, size, lfs) as (
        select 0, 'directory', tree, null, 0, 0 from top where tree is not null
        union all
        select w.depth + 1, e.kind, e.id, e.sha256, e.size, e.lfs
          from walk w cross join json_each(${JSON.stringify(segments)}) s on s.key = w.depth
          cross join tree_entries e on e.repo_id = (select repo_id from top) and e.tree = w.id and e.name = s.value
          where w.kind = 'directory')
      select top.*, w.kind, w.id, w.sha256, w.size, w.lfs, ${heldContent(sql`top.repo_id`, sql`w.sha256`, span)} as content
        from top left join walk w on w.depth = ${segments.length}`,
    // In the tree of a commit nothing is ever missing at first.
    (one) => one.commit_id !== null && (one.kind === "file" || isFullCommitId(revision)),
  );
  const snapshot = snapshotOf(caller, row, id, revision);
  const { repo } = snapshot;
  authorize(caller, { action: "repo.use", repo, purpose }, targetOf(repo));
  if (row === undefined || row.kind !== "file" || row.id === null) throw new EntryNotFound(snapshot, path);
  const { sha256, size, content } = row;
  if (sha256 === null || size === null) throw new HubError("content_damaged");
  if (content === null) throw missingContent(path, row.lfs === 1);
  const { source, holding } = usable(content, path);
  return { snapshot, path, id: row.id, sha256, size, lfs: row.lfs === 1, source, holding };
}

/** Namespaces whose private repositories the caller may be able to read: narrows a query, decides nothing. */
export function ownersOf(caller: Caller): SQL {
  const { actor } = caller;
  const ids = actor.kind === "user" ? [actor.id, ...actor.memberships.map((one) => one.orgId)] : [];
  return sql`select value from json_each(${JSON.stringify(ids)})`;
}
