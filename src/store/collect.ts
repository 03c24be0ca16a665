// Garbage collection of stored bytes: what nothing names is marked idle, swept after its grace, and its objects are deleted
// last. Each function is one bounded step that may die anywhere or race with another; docs/gc.md has the interleavings.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import type { Graces } from "../config";
import { asJson, queryEach, queryRows } from "../db/client";
import type { Db, Platform } from "../platform/platform";
import { condemnObjects } from "./objects";
import { sweepUploads } from "./uploads";
import { healStaged } from "./xet/xorbs";

/** Rows that one step looks at, and that it takes away, of each kind. */
const MARK_PAGE = 500;
const SWEEP_PAGE = 50;
const TERMS_PAGE = 2000;
const OBJECTS_PAGE = 500;
/** A round looks at every row once; the next one begins this much later. */
const ROUND_MS = 3_600_000;
/** Longer than it takes to name a staged object or to register an open file. */
const STAGED_MS = 24 * 3_600_000;

/** A kind of row that others name. Conditions are on the row `r`; `due` selects the rowids of rows to be taken away. */
export type Kind = {
  readonly name: "holdings" | "contents" | "files" | "xorbs";
  readonly table: SQL;
  /** Rows that can be idle at all. */
  readonly among: SQL;
  readonly named: SQL;
  readonly grace: keyof Pick<Graces, "rows" | "xorbs">;
  /** Bytes that go with the row. */
  readonly bytes: SQL;
  readonly remove: (due: SQL, now: number) => readonly SQL[];
};

export const files: Kind = {
  name: "files",
  table: sql`xet_files`,
  among: sql`r.state = 'registered'`,
  named: sql`exists (select 1 from repo_contents h where h.file_id = r.id)`,
  grace: "rows",
  bytes: sql`0`,
  // A file may have millions of terms: from here on nothing may name it, and they go page by page.
  remove: (due) => [sql`update xet_files set state = 'removed' where rowid in (${due}) returning 1 as n`],
};

export const xorbs: Kind = {
  name: "xorbs",
  table: sql`xorbs`,
  among: sql`true`,
  named: sql`exists (select 1 from xet_terms t where t.xorb_id = r.id)`,
  grace: "xorbs",
  bytes: sql`r.packed_size`,
  remove: (due, now) => [
    condemnObjects(
      sql`select key from xorbs where rowid in (${due}) union all select key || '.index' from xorbs where rowid in (${due})`,
      now,
    ),
    sql`delete from dedup_chunks where xorb_id in (${due})`,
    sql`delete from xorbs where rowid in (${due}) returning 1 as n`,
  ],
};

const idleFor = ({ named, among }: Kind, cutoff: number): SQL =>
  sql`r.idle_since < ${cutoff} and ${among} and not (${named})`;

const Affected = z.object({ n: z.number() });

/**
 * Takes away rows that have been idle for longer than their grace. Commit point: one batch, whose every statement asks again
 * that the row is idle and unnamed; so whoever names a row has done so before, and it stays, or finds it gone.
 */
async function sweep(platform: Platform, kind: Kind): Promise<number> {
  const now = platform.now();
  const cutoff = now - platform.config.graces[kind.grace];
  const due = sql`select r.rowid from ${kind.table} as r where ${idleFor(kind, cutoff)} order by r.idle_since, r.rowid limit ${SWEEP_PAGE}`;
  const results = await queryEach(platform.db, Affected, kind.remove(due, now));
  return results.flat().length;
}

type Mark = { readonly marked: number; readonly more: boolean };

const RoundRow = z.object({
  position: z.string().nullable(),
  started_at: z.number(),
  finished_at: z.number().nullable(),
});
type Round = z.output<typeof RoundRow>;

async function loadRound(db: Db, kind: string): Promise<Round | undefined> {
  const [round] = await queryRows(
    db,
    RoundRow,
    sql`select position, started_at, finished_at from collection_rounds where kind = ${kind}`,
  );
  return round;
}

/** `position` null ends the round. */
const keepRound = (kind: string, position: string | null, startedAt: number, now: number): SQL => sql`
  insert into collection_rounds (kind, position, started_at, finished_at)
    values (${kind}, ${position}, ${startedAt}, ${position === null ? now : null})
    on conflict do update set position = excluded.position, started_at = excluded.started_at,
      finished_at = coalesce(excluded.finished_at, finished_at)`;

/** Where the page of rows behind `after` ends, and whether there may be another. */
async function pageOf(db: Db, table: SQL, after: number): Promise<{ readonly last: number; readonly more: boolean }> {
  const [page] = await queryRows(
    db,
    z.object({ last: z.number().nullable(), rows: z.number() }),
    sql`select max(id) as last, count(*) as rows from (
      select rowid as id from ${table} where rowid > ${after} order by rowid limit ${MARK_PAGE})`,
  );
  return { last: page?.last ?? after, more: page?.rows === MARK_PAGE };
}

/**
 * Looks at the next page of rows: what nothing names is idle from now on, what is named is not. Two collectors on one page do
 * the same twice; one that dies leaves the page to the next.
 */
async function mark(platform: Platform, kind: Kind): Promise<Mark> {
  const { db } = platform;
  const now = platform.now();
  const round = await loadRound(db, kind.name);
  if (round !== undefined && round.position === null && now - round.started_at < ROUND_MS)
    return { marked: 0, more: false };
  const begins = round === undefined || round.position === null;
  const startedAt = begins ? now : round.started_at;
  const after = begins ? 0 : Number(round.position);
  const { last, more } = await pageOf(db, kind.table, after);
  const inPage = sql`r.rowid > ${after} and r.rowid <= ${last}`;
  const results = await queryEach(db, Affected, [
    sql`update ${kind.table} as r set idle_since = ${now}
      where ${inPage} and r.idle_since is null and ${kind.among} and not (${kind.named}) returning 1 as n`,
    sql`update ${kind.table} as r set idle_since = null where ${inPage} and r.idle_since is not null and ${kind.named}`,
    keepRound(kind.name, more ? String(last) : null, startedAt, now),
  ]);
  return { marked: results.flat().length, more };
}

/** Said as the partial index says it, or SQLite would look through all files. */
const UNREGISTERED = sql`state <> 'registered'`;

/** Files that nobody registered within a day, and the terms of files that are on their way out. */
async function clearFiles({ db, now }: Platform): Promise<number> {
  const results = await queryEach(db, Affected, [
    sql`update xet_files set state = 'removed' where id in (
      select id from xet_files where ${UNREGISTERED} and state = 'open' and created_at < ${now() - STAGED_MS} limit ${SWEEP_PAGE})`,
    sql`delete from xet_terms where rowid in (
      select t.rowid from xet_files f join xet_terms t on t.file_id = f.id where ${UNREGISTERED} and state = 'removed' limit ${TERMS_PAGE}) returning 1 as n`,
    sql`delete from xet_files where id in (
      select id from xet_files f where ${UNREGISTERED} and state = 'removed'
        and not exists (select 1 from xet_terms t where t.file_id = f.id) limit ${SWEEP_PAGE}) returning 1 as n`,
  ]);
  return results.flat().length;
}

/** Objects that were staged and never named. What xorbs consist of is told apart by `healStaged`. */
async function condemnStaged({ db, now }: Platform): Promise<number> {
  const [rows = []] = await queryEach(db, Affected, [
    sql`update objects set state = 'condemned', changed_at = ${now()} where key in (
      select key from objects where state = 'staged' and changed_at < ${now() - STAGED_MS} and key not like 'xorbs/%' limit ${OBJECTS_PAGE})
      returning 1 as n`,
  ]);
  return rows.length;
}

/** The bytes first, then the rows, which find them: a crash in between leaves both to the next step. Nothing names a condemned key again. */
async function deleteCondemned({ db, blobs, now, config }: Platform): Promise<number> {
  const condemned = await queryRows(
    db,
    z.object({ key: z.string() }),
    sql`select key from objects where state = 'condemned' and changed_at < ${now() - config.graces.objects} limit ${OBJECTS_PAGE}`,
  );
  if (condemned.length === 0) return 0;
  const keys = condemned.map(({ key }) => key);
  await blobs.delete(keys);
  await db.run(
    sql`delete from objects where state = 'condemned' and key in (select value from json_each(${asJson(keys)}))`,
  );
  return keys.length;
}

const BUCKET = "bucket";

/**
 * Once in the life of a hub: objects from before objects had rows. A day after the first look, contents are given the rows of
 * theirs; then the bucket is listed, and what is older than the first look and still has no row is condemned.
 */
async function adoptBucket({ db, blobs, now }: Platform): Promise<Mark> {
  const bucket = await loadRound(db, BUCKET);
  const at = now();
  if (bucket === undefined) {
    await db.run(keepRound(BUCKET, "#0", at, at));
    return { marked: 0, more: false };
  }
  const { position, started_at: firstLook } = bucket;
  if (position === null || at - firstLook < STAGED_MS) return { marked: 0, more: false };
  if (position.startsWith("#")) {
    const after = Number(position.slice(1));
    const { last, more } = await pageOf(db, sql`contents`, after);
    await queryEach(db, z.unknown(), [
      sql`insert or ignore into objects (key, state, changed_at)
        select s.value ->> 'key', 'live', c.created_at from contents c, json_each(c.segments) s
          where c.rowid > ${after} and c.rowid <= ${last}`,
      keepRound(BUCKET, more ? `#${last}` : "", firstLook, at),
    ]);
    return { marked: 0, more: true };
  }
  const page = await blobs.list(position === "" ? undefined : position);
  const old = page.filter(({ storedAt }) => storedAt < firstLook).map(({ key }) => key);
  const results = await queryEach(db, Affected, [
    sql`insert or ignore into objects (key, state, changed_at)
      select value, 'condemned', ${at} from json_each(${asJson(old)}) returning 1 as n`,
    keepRound(BUCKET, page.at(-1)?.key ?? null, firstLook, at),
  ]);
  return { marked: results.flat().length, more: page.length > 0 };
}

/** Rows and objects that a step has dealt with, by what it did. */
export type Collected = {
  readonly marked: number;
  readonly holdings: number;
  readonly contents: number;
  readonly files: number;
  readonly xorbs: number;
  readonly terms: number;
  readonly uploads: number;
  readonly condemned: number;
  readonly deleted: number;
};

/** One bounded step over everything. `more`: there is work left that is due now. */
export async function collect(
  platform: Platform,
  kinds: readonly Kind[],
): Promise<{ readonly more: boolean; readonly collected: Collected }> {
  const uploads = await sweepUploads(platform);
  let marked = 0;
  let more = false;
  const swept = { holdings: 0, contents: 0, files: 0, xorbs: 0 };
  for (const kind of kinds) {
    const found = await mark(platform, kind);
    marked += found.marked;
    swept[kind.name] = await sweep(platform, kind);
    more ||= found.more || swept[kind.name] > 0;
  }
  const terms = await clearFiles(platform);
  const healed = await healStaged(platform, SWEEP_PAGE);
  const staged = await condemnStaged(platform);
  const bucket = await adoptBucket(platform);
  const deleted = await deleteCondemned(platform);
  return {
    more: more || bucket.more || [uploads, terms, healed, staged, deleted].some((n) => n > 0),
    collected: { marked, ...swept, terms, uploads, condemned: staged + bucket.marked, deleted },
  };
}

const Waiting = z.object({
  rows: z.number(),
  bytes: z.number().nullable(),
  due_rows: z.number(),
  due_bytes: z.number().nullable(),
  since: z.number().nullable(),
});

export type IdleRows = {
  readonly kind: Kind["name"];
  readonly rows: number;
  readonly bytes: number;
  /** What a step would take away now. */
  readonly dueRows: number;
  readonly dueBytes: number;
  /** When the longest idle row is due; null where none is idle. */
  readonly nextDueAt: number | null;
};

export type CollectionReport = {
  readonly idle: readonly IdleRows[];
  readonly objects: {
    readonly staged: number;
    readonly condemned: number;
    readonly due: number;
    readonly nextDueAt: number | null;
  };
};

/** What is idle and what would go now: nothing is changed. */
export async function reportGarbage(platform: Platform, kinds: readonly Kind[]): Promise<CollectionReport> {
  const { db, config } = platform;
  const now = platform.now();
  const waiting = await queryEach(
    db,
    Waiting,
    kinds.map((kind) => {
      const isDue = sql`r.idle_since < ${now - config.graces[kind.grace]}`;
      return sql`select count(*) as rows, sum(${kind.bytes}) as bytes, count(*) filter (where ${isDue}) as due_rows,
          sum(${kind.bytes}) filter (where ${isDue}) as due_bytes, min(r.idle_since) as since
        from ${kind.table} as r where r.idle_since >= 0 and ${kind.among} and not (${kind.named})`;
    }),
  );
  const [objects] = await queryRows(
    db,
    z.object({ staged: z.number(), condemned: z.number(), due: z.number(), since: z.number().nullable() }),
    sql`select (select count(*) from objects where state = 'staged') as staged, count(*) as condemned,
        count(*) filter (where changed_at < ${now - config.graces.objects}) as due, min(changed_at) as since
      from objects where state = 'condemned'`,
  );
  const after = (since: number | null | undefined, grace: number) => (since == null ? null : since + grace);
  return {
    idle: kinds.map((kind, i) => {
      const row = waiting[i]?.[0];
      return {
        kind: kind.name,
        rows: row?.rows ?? 0,
        bytes: row?.bytes ?? 0,
        dueRows: row?.due_rows ?? 0,
        dueBytes: row?.due_bytes ?? 0,
        nextDueAt: after(row?.since, config.graces[kind.grace]),
      };
    }),
    objects: {
      staged: objects?.staged ?? 0,
      condemned: objects?.condemned ?? 0,
      due: objects?.due ?? 0,
      nextDueAt: after(objects?.since, config.graces.objects),
    },
  };
}
