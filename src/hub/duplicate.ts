// Duplicating a repository: the same commits under the same ids, and its bytes held by one repository more, not stored again.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows, type Statement } from "../db/client";
import { HubError } from "../errors";
import type { RepoId } from "../ids";
import { wakeUpkeep } from "../store/tasks";
import { refreshIndex } from "./facts/store";
import { holdAlso } from "./lfs-files";
import { newRepository } from "./lifecycle";
import { findRepo, type Repository, repoExists, targetOf } from "./repositories";

/** What one batch copies: rows of trees, commits and holdings. */
const MAX_ROWS = 200_000;

/**
 * Copies branches and tags with all that they reach; pull requests and what is only in them stay behind, and so do former names,
 * likes and the list of those who were let in. A gate stays where it was. @throws repo_not_found | forbidden | gated_repo | repo_exists | payload_too_large
 */
export async function duplicateRepo(
  caller: Caller,
  from: RepoId,
  to: { readonly id: RepoId; readonly private: boolean | undefined },
): Promise<Repository> {
  const { platform } = caller;
  const { db } = platform;
  const source = await findRepo(caller, from);
  authorize(caller, { action: "repo.use", repo: source, purpose: "download" }, targetOf(source));
  const made = await newRepository(caller, { id: to.id, private: to.private ?? source.private, gated: source.gated });
  const [size] = await queryRows(
    db,
    z.object({ rows: z.number() }),
    sql`select (select count(*) from (select 1 from tree_entries where repo_id = ${source.id} limit ${MAX_ROWS + 1}))
      + (select count(*) from (select 1 from commits where repo_id = ${source.id} limit ${MAX_ROWS + 1}))
      + (select count(*) from (select 1 from repo_contents where repo_id = ${source.id} limit ${MAX_ROWS + 1})) as rows`,
  );
  if ((size?.rows ?? 0) > MAX_ROWS)
    throw new HubError("payload_too_large", {
      problem: `The repository has more than ${MAX_ROWS} commits, files and entries of folders, which is what can be duplicated: clone it and push`,
    });
  // Commit point: the batch. What the source holds at that moment exists, whatever was swept before.
  await made.publish([repoExists(source)], copyRows(source.id, made.repo.id, platform.now()));
  wakeUpkeep(platform);
  await refreshIndex(platform, made.repo);
  return made.repo;
}

function copyRows(from: string, to: string, now: number): Statement[] {
  const isCopied = sql`repo_id = ${from} and name not like 'refs/pr/%'`;
  const reached = sql`history (id) as (
      select target from refs where ${isCopied}
      union
      select p.value from history h join commits c on c.repo_id = ${from} and c.id = h.id join json_each(c.parents) p)`;
  const columns = (table: string, names: string, where: ReturnType<typeof sql>): Statement =>
    sql`insert into ${sql.identifier(table)} (repo_id, ${sql.raw(names)}) ${where}`;
  const commit = "id, tree, parents, author_name, author_email, authored_at, message, committed_at, content";
  const entry = "tree, name, kind, id, sha256, size, lfs, mode";
  const parent = "commit_id, ordinal, relation, parent_repo_id, parent_commit_id, files";
  const list = (alias: string, names: string) =>
    sql.raw(
      names
        .split(", ")
        .map((name) => `${alias}.${name}`)
        .join(", "),
    );
  return [
    columns(
      "refs",
      "name, target, tag_object, updated_at",
      sql`select ${to}, name, target, tag_object, ${now} from refs where ${isCopied}`,
    ),
    columns(
      "tag_objects",
      "id, target, content",
      sql`select ${to}, id, target, content from tag_objects where repo_id = ${from}`,
    ),
    // In the order they were made in, which tells commits of one second apart.
    columns(
      "commits",
      commit,
      sql`with recursive ${reached} select ${to}, ${list("c", commit)}
        from commits c where c.repo_id = ${from} and c.id in (select id from history) order by c.rowid`,
    ),
    columns(
      "tree_entries",
      entry,
      sql`with recursive ${reached}, trees (id) as (
          select c.tree from history h join commits c on c.repo_id = ${from} and c.id = h.id
          union
          select e.id from trees t join tree_entries e on e.repo_id = ${from} and e.tree = t.id and e.kind = 'directory')
        select ${to}, ${list("e", entry)} from trees t join tree_entries e on e.repo_id = ${from} and e.tree = t.id`,
    ),
    columns(
      "lineage",
      parent,
      sql`select ${to}, ${list("l", parent)} from lineage l
        where l.repo_id = ${from} and exists (select 1 from commits c where c.repo_id = ${to} and c.id = l.commit_id)`,
    ),
    ...holdAlso(
      from,
      to,
      sql`sha256 in (select sha256 from tree_entries where repo_id = ${to} and sha256 is not null)`,
      now,
    ),
  ];
}
