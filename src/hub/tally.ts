// What lists are sorted by: uses and likes are counted as they come, and summed up again in the background as days pass.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch, queryEach } from "../db/client";
import type { Db, Platform, RepoUse } from "../platform/platform";

const DAY_MS = 86_400_000;
/** Sums are shown this late at most after a use, so that what is used much is not summed up with every use. */
const TALLY_DELAY_MS = 5 * 60_000;
const TALLIED_AT_ONCE = 100;
const FORGOTTEN_AT_ONCE = 2000;
/** `downloads` and recent likes are those of so many days, today included; `trending` looks at the last week. */
const SHOWN_DAYS = 30;
const TRENDING_DAYS = 7;
/** `trending` = this × the likes of a week + the downloads of a week. A download is one client on one day. */
const LIKE_WEIGHT = 10;

export const dayOf = (ms: number): number => Math.floor(ms / DAY_MS);

/** SQL for the new `tally_at` of a repository whose counts have changed. */
export const tallyBy = (now: number): SQL =>
  sql`min(coalesce(tally_at, ${now + TALLY_DELAY_MS}), ${now + TALLY_DELAY_MS})`;

/**
 * Counts uses, each client once a day, kind and repository: those that were counted before, by a batch that is repeated, say, count
 * nothing. Of days whose clients may be forgotten already nothing is taken.
 */
export async function countUses(db: Db, uses: readonly RepoUse[], now: number): Promise<void> {
  const used = sql`select distinct r.id as repo_id, u.value ->> 'day' as day, u.value ->> 'kind' as kind, u.value ->> 'client' as client
    from json_each(${asJson(uses)}) u cross join repos r on r.id = u.value ->> 'repoId' where u.value ->> 'day' >= ${dayOf(now) - 1}`;
  const fresh = sql`select * from (${used}) u where not exists (select 1 from download_clients c
    where c.day = u.day and c.repo_id = u.repo_id and c.kind = u.kind and c.client = u.client)`;
  await commitBatch(
    db,
    [],
    [
      sql`insert into download_days (repo_id, day, fetches, looks, ci)
        select repo_id, day, sum(kind = 'fetch'), sum(kind = 'look'), sum(kind = 'ci') from (${fresh}) where true group by repo_id, day
        on conflict (repo_id, day) do update
          set fetches = fetches + excluded.fetches, looks = looks + excluded.looks, ci = ci + excluded.ci`,
      sql`update repos set downloads_all_time = downloads_all_time + f.n, tally_at = ${tallyBy(now)}
        from (select repo_id, count(*) as n from (${fresh}) where kind = 'fetch' group by repo_id) f where f.repo_id = repos.id`,
      sql`insert or ignore into download_clients (repo_id, day, kind, client) select repo_id, day, kind, client from (${used})`,
    ],
  );
}

/** Sums up again what is due, some repositories at a time, and forgets the clients of past days. @returns whether more is due */
export async function tallyStep({ db, now }: Platform): Promise<boolean> {
  const at = now();
  const today = dayOf(at);
  const fetches = (days: number): SQL =>
    sql`(select coalesce(sum(fetches), 0) from download_days d where d.repo_id = repos.id and d.day > ${today - days})`;
  const likes = (days: number): SQL =>
    sql`(select count(*) from likes l where l.repo_id = repos.id and l.created_at > ${at - days * DAY_MS})`;
  // The day after, windows have moved on; what nothing counts for any more needs no further look.
  const tallied = await db.run(sql`update repos set
      downloads = ${fetches(SHOWN_DAYS)},
      recent_likes = ${likes(SHOWN_DAYS)},
      trending = ${LIKE_WEIGHT} * ${likes(TRENDING_DAYS)} + ${fetches(TRENDING_DAYS)},
      tally_at = case when ${fetches(SHOWN_DAYS)} + ${likes(SHOWN_DAYS)} > 0 then ${(today + 1) * DAY_MS} end
    where id in (select id from repos where tally_at <= ${at} order by tally_at limit ${TALLIED_AT_ONCE})`);
  const forgotten = await db.run(sql`delete from download_clients
    where rowid in (select rowid from download_clients where day < ${today - 1} limit ${FORGOTTEN_AT_ONCE})`);
  return tallied.meta.changes >= TALLIED_AT_ONCE || forgotten.meta.changes >= FORGOTTEN_AT_ONCE;
}

const SumsRow = z.object({ downloads: z.number(), downloads_all_time: z.number() });
const DayRow = z.object({ day: z.number(), fetches: z.number(), looks: z.number(), ci: z.number() });

/** The uses of the last days, newest first, and the sums that are shown. One round trip. */
export async function readUsage({ db, now }: Platform, repoId: string, days: number) {
  const [sums, rows] = await queryEach(db, z.looseObject({}), [
    sql`select downloads, downloads_all_time from repos where id = ${repoId}`,
    sql`select day, fetches, looks, ci from download_days where repo_id = ${repoId} and day > ${dayOf(now()) - days} order by day desc`,
  ]);
  const { downloads, downloads_all_time: downloadsAllTime } = SumsRow.parse(
    sums?.[0] ?? { downloads: 0, downloads_all_time: 0 },
  );
  return { downloads, downloadsAllTime, days: z.array(DayRow).parse(rows ?? []) };
}
