// The commit that last changed each of some paths: first parents are walked backwards, in windows, until all are found or it costs too much.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import type { GitId } from "../ids";
import type { Db } from "../platform/platform";
import { gitIdColumn, type Snapshot } from "./repositories";

export type LastCommit = {
  readonly id: GitId;
  readonly title: string;
  /** Milliseconds since 1970. */
  readonly at: number;
};

/** Entries looked at in each window: paths times commits. Most files of a page were changed lately; the rest is worth a longer look. */
const WINDOWS = [2000, 16_000, 100_000];
/** However many paths are asked for. */
const MIN_COMMITS = 8;

const Row = z.object({
  w: z.number(),
  /** Null where the entry is the same in all commits of the window, and history goes on. */
  id: gitIdColumn.nullable(),
  message: z.string().nullable(),
  authored_at: z.number().nullable(),
  oldest: gitIdColumn,
});

/** Paths that were not changed for longer than is looked back are left out. */
export async function lastCommits(
  db: Db,
  snapshot: Pick<Snapshot, "repo" | "commit">,
  paths: readonly string[],
  windows: readonly number[] = WINDOWS,
): Promise<Map<string, LastCommit>> {
  const found = new Map<string, LastCommit>();
  let from = snapshot.commit;
  let left = [...paths];
  for (const budget of windows) {
    if (left.length === 0) break;
    const commits = Math.max(MIN_COMMITS, Math.floor(budget / left.length));
    const rows = await changesIn(db, snapshot.repo.id, from, left, commits);
    const unchanged: string[] = [];
    for (const { w, id, message, authored_at: at } of rows) {
      const path = left[w];
      if (path === undefined) continue;
      if (id === null || message === null || at === null) unchanged.push(path);
      else found.set(path, { id, title: message.split("\n", 1)[0] ?? "", at: at * 1000 });
    }
    left = unchanged;
    from = rows[0]?.oldest ?? from;
  }
  return found;
}

const changesIn = (db: Db, repoId: string, from: GitId, paths: readonly string[], commits: number) =>
  queryRows(
    db,
    Row,
    sql`with recursive chain (n, id, tree, parent) as (
        select 0, id, tree, parents ->> 0 from commits where repo_id = ${repoId} and id = ${from}
        union all
        select k.n + 1, c.id, c.tree, c.parents ->> 0 from chain k join commits c on c.repo_id = ${repoId} and c.id = k.parent
          where k.n < ${commits}),
      wanted as (select key as w, value as names, json_array_length(value) as depth from json_each(${asJson(paths.map((path) => path.split("/")))})),
      walk (w, n, level, depth, names, kind, id) as (
        select w.w, k.n, 0, w.depth, w.names, 'directory', k.tree from wanted w cross join chain k
        union all
        select x.w, x.n, x.level + 1, x.depth, x.names, e.kind, e.id from walk x
          join tree_entries e on e.repo_id = ${repoId} and e.tree = x.id and e.name = json_extract(x.names, '$[' || x.level || ']')
          where x.kind = 'directory' and x.level < x.depth),
      states as (select w, n, id, lead(n) over older as older_n, lead(id) over older as older_id
        from walk where level = depth window older as (partition by w order by n)),
      last as (select max(n) as n from chain),
      changed as (select w, min(n) as n from states where older_n is not n + 1 or older_id <> id group by w)
      select h.w, c.id, c.message, c.authored_at, (select id from chain where n = (select n from last)) as oldest
        from changed h left join chain k on k.n = h.n and (h.n < (select n from last) or k.parent is null)
        left join commits c on c.repo_id = ${repoId} and c.id = k.id`,
  );
