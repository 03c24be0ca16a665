// Where two histories part: the newest commits that both contain, found by walking back from both until nothing else can come.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import type { GitId } from "../ids";
import type { Db } from "../platform/platform";
import { gitIdColumn } from "./repositories";

export type PastCommit = {
  readonly id: GitId;
  readonly parents: readonly GitId[];
  readonly tree: GitId;
  readonly time: number;
};

/** These commits and the newest of those before them, so many in all. */
export type LoadPast = (from: readonly GitId[], most: number) => Promise<readonly PastCommit[]>;

/** The first query is for this many commits, which is mostly enough; each further one for twice as many. */
const FIRST = 400;
const LARGEST = 10_000;
/** Commits that are looked at before the search is given up. */
const MAX_COMMITS = 50_000;

const PastRow = z.object({
  id: gitIdColumn,
  tree: gitIdColumn,
  parents: z.string().transform((text) => z.array(gitIdColumn).parse(JSON.parse(text))),
  time: z.number(),
});

export const pastOf =
  (db: Db, repoId: string): LoadPast =>
  (from, most) =>
    queryRows(
      db,
      PastRow,
      // The recursion takes the newest commit first, so that its limit leaves out the oldest.
      sql`with recursive past (id, time, tree, parents) as (
          select id, coalesce(committed_at, authored_at), tree, parents from commits
            where repo_id = ${repoId} and id in (select value from json_each(${asJson(from)}))
          union
          select c.id, coalesce(c.committed_at, c.authored_at), c.tree, c.parents
            from past p cross join json_each(p.parents) j cross join commits c on c.repo_id = ${repoId} and c.id = j.value
          order by 2 desc limit ${most})
        select id, time, tree, parents from past`,
    );

const OURS = 1;
const THEIRS = 2;
const BOTH = OURS | THEIRS;
/** An ancestor of a common one: common too, but no newest. */
const STALE = 4;

/**
 * The newest common commits: none where the histories have nothing in common, several where they crossed. The search is that of git:
 * newest commits first, each passing on to its parents which sides contain it. @throws payload_too_large
 */
export async function mergeBases(load: LoadPast, ours: GitId, theirs: GitId): Promise<PastCommit[]> {
  const known = new Map<GitId, PastCommit>();
  let most = FIRST;
  const need = async (ids: readonly GitId[]): Promise<PastCommit[]> => {
    const missing = ids.filter((id) => !known.has(id));
    if (missing.length > 0) {
      for (const commit of await load(missing, missing.length + most)) known.set(commit.id, commit);
      most = Math.min(2 * most, LARGEST);
    }
    if (known.size > MAX_COMMITS)
      throw new HubError("payload_too_large", {
        problem: `The histories part more than ${MAX_COMMITS} commits ago: merge with git and push`,
      });
    return ids.flatMap((id) => known.get(id) ?? []);
  };
  const flags = new Map<GitId, number>();
  const queue: PastCommit[] = [];
  const mark = (commit: PastCommit, added: number): void => {
    const before = flags.get(commit.id) ?? 0;
    if ((before & added) === added) return;
    flags.set(commit.id, before | added);
    enqueue(queue, commit);
  };
  for (const commit of await need([...new Set([ours, theirs])])) {
    if (commit.id === ours) mark(commit, OURS);
    if (commit.id === theirs) mark(commit, THEIRS);
  }
  const found = new Map<GitId, PastCommit>();
  const isStale = ({ id }: PastCommit): boolean => ((flags.get(id) ?? 0) & STALE) !== 0;
  const oldest = (): number => Math.min(...[...found.values()].map(({ time }) => time));
  for (let commit = queue.pop(); commit !== undefined; commit = queue.pop()) {
    // Of one second or with clocks that are wrong, an older common commit may have come first: what is left tells it stale.
    if (isStale(commit) && !queue.some((one) => !isStale(one)) && (found.size <= 1 || commit.time < oldest())) break;
    let passed = flags.get(commit.id) ?? 0;
    if (passed === BOTH) {
      found.set(commit.id, commit);
      passed |= STALE;
    }
    for (const parent of await need(commit.parents)) mark(parent, passed);
  }
  return [...found.values()].filter((commit) => !isStale(commit));
}

/** Into a queue by time, the newest at its end. */
function enqueue(queue: PastCommit[], commit: PastCommit): void {
  let from = 0;
  let to = queue.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((queue[middle]?.time ?? 0) < commit.time) from = middle + 1;
    else to = middle;
  }
  queue.splice(from, 0, commit);
}
