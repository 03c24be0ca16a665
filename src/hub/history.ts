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
    sql`with recursive history (id) as materialized (
        select ${from}
        union
        select p.value from history h join commits c on c.repo_id = ${repoId} and c.id = h.id join json_each(c.parents) p)
      select t.total, l.* from (select count(*) as total from history) t left join (
        select c.id, c.author_name, c.authored_at, c.message
          from history h join commits c on c.repo_id = ${repoId} and c.id = h.id
          order by coalesce(c.committed_at, c.authored_at) desc, c.rowid desc limit ${page.limit} offset ${page.offset}) l on 1 = 1`,
  );
  const commits = rows.flatMap(({ id, author_name, authored_at, message }) =>
    id === null ? [] : [{ id, author: author_name ?? "", at: (authored_at ?? 0) * 1000, message: message ?? "" }],
  );
  return { total: rows[0]?.total ?? 0, commits };
}
