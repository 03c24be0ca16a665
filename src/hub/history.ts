// The history of a commit, page by page.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../db/client";
import type { GitId } from "../ids";
import type { Db } from "../platform/platform";
import { gitIdColumn } from "./repositories";

const HistoryRow = z.object({
  total: z.number(),
  id: gitIdColumn.nullable(),
  author_name: z.string().nullable(),
  authored_at: z.number().nullable(),
  message: z.string().nullable(),
});

export type ListedCommit = {
  readonly id: GitId;
  readonly author: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly message: string;
};

/** A page of the commits reachable from one, newest first, and how many there are in all. */
export async function listCommits(
  db: Db,
  repoId: string,
  from: GitId,
  page: { readonly offset: number; readonly limit: number },
): Promise<{ total: number; commits: ListedCommit[] }> {
  const rows = await queryRows(
    db,
    HistoryRow,
    // The queue of the recursion is ordered by date, so a commit comes after one that names it, whatever their clocks said.
    sql`with recursive history (id, at) as materialized (
        select id, coalesce(committed_at, authored_at) from commits where repo_id = ${repoId} and id = ${from}
        union
        select p.id, coalesce(p.committed_at, p.authored_at)
          from history h cross join commits c on c.repo_id = ${repoId} and c.id = h.id
          cross join json_each(c.parents) n cross join commits p on p.repo_id = ${repoId} and p.id = n.value
        order by 2 desc)
      select t.total, l.* from (select count(*) as total from history) t left join (
        select c.id, c.author_name, c.authored_at, c.message
          from (select id from history limit ${page.limit} offset ${page.offset}) h cross join commits c on c.repo_id = ${repoId} and c.id = h.id) l on 1 = 1`,
  );
  const commits = rows.flatMap(({ id, author_name, authored_at, message }) =>
    id === null ? [] : [{ id, author: author_name ?? "", at: (authored_at ?? 0) * 1000, message: message ?? "" }],
  );
  return { total: rows[0]?.total ?? 0, commits };
}
