// Garbage collection as the hub sees it: which rows the trees of repositories and the jobs name, and one step over all of it.
import { sql } from "drizzle-orm";
import { authorize, type Caller } from "../access/caller";
import type { Platform } from "../platform/platform";
import {
  type Collected,
  type CollectionReport,
  collect,
  files,
  type Kind,
  reportGarbage,
  xorbs,
} from "../store/collect";
import { condemnObjects } from "../store/objects";

/**
 * Commits and trees stay as long as their repository, whether a ref reaches them or not: lineage, evaluations and jobs cite
 * commits by id, and one that is answered must have its bytes. So a holding is named by any tree of its repository.
 */
const holdings: Kind = {
  name: "holdings",
  table: sql`repo_contents`,
  among: sql`true`,
  named: sql`exists (select 1 from tree_entries e where e.repo_id = r.repo_id and e.sha256 = r.sha256)`,
  grace: "rows",
  bytes: sql`0`,
  remove: (due) => [sql`delete from repo_contents where rowid in (${due}) returning 1 as n`],
};

/** What a job uploaded is kept while it runs; of an evaluation that succeeded for good: the record names its samples. */
const contents: Kind = {
  name: "contents",
  table: sql`contents`,
  among: sql`true`,
  named: sql`(exists (select 1 from repo_contents h where h.sha256 = r.sha256 and h.file_id is null)
    or exists (select 1 from job_contents c join jobs j on j.id = c.job_id where c.sha256 = r.sha256
      and (j.state in ('queued', 'running', 'publishing') or (j.kind = 'evaluate' and j.state = 'succeeded'))))`,
  grace: "rows",
  bytes: sql`r.size`,
  remove: (due, now) => [
    condemnObjects(
      sql`select s.value ->> 'key' from contents c, json_each(c.segments) s where c.rowid in (${due})`,
      now,
    ),
    sql`delete from job_contents where sha256 in (select sha256 from contents where rowid in (${due}))`,
    sql`delete from contents where rowid in (${due}) returning 1 as n`,
  ],
};

/** In this order what falls free in one kind is found in the next. */
const kinds = [holdings, contents, files, xorbs] as const;

/** One bounded step, for the clock. Racing steps and dead ones do no harm. */
export const collectStep = (platform: Platform): Promise<{ readonly more: boolean; readonly collected: Collected }> =>
  collect(platform, kinds);

const HUB = { subject: "hub", scopeId: null };

/** @throws authentication_required | forbidden: the hub's administrators only, here and below */
export async function readCollection(caller: Caller): Promise<CollectionReport> {
  authorize(caller, { action: "storage.collect" }, HUB);
  return reportGarbage(caller.platform, kinds);
}

export async function runCollection(
  caller: Caller,
): Promise<{ readonly more: boolean; readonly collected: Collected }> {
  authorize(caller, { action: "storage.collect" }, HUB);
  return collectStep(caller.platform);
}
