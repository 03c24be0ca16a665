// Finds which chunks of new content are stored already: candidates by where like content is likely to be, compared hash by hash.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { HASH_BYTES, isDedupEligible, xetHashOf } from "../../formats/xet/hash";
import type { XorbIndex } from "../../formats/xet/xorb";
import type { Platform } from "../../platform/platform";
import { IS_OPEN, isVisible, type Scopes } from "../scopes";
import { loadIndex } from "./xorbs";

/**
 * Fewer stored chunks in a row are stored once more. Each run is a term of the file, and a reader fetches each one with a request of its
 * own: a file of many short runs would cost more to read than the half megabyte that a run saves at least.
 */
const MIN_RUN = 8;
/** Files of each kind of relative that are looked into. */
const MAX_RELATIVES = 16;
/** Repositories of the owner and revisions of lineage that are looked into. */
const MAX_REPOS = 32;
/** Xorbs compared with one window. */
const MAX_CANDIDATES = 32;
/** Places where the same xorb or chunk was used before. */
const MAX_SEEDS = 16;
/** Index reads under way at once. */
const CONCURRENCY = 4;

/** Chunks of new content in memory. */
export class Window {
  readonly bytes: Uint8Array;
  /** Of the first byte in the file. */
  readonly offset: number;
  /** Where each chunk ends in `bytes`. */
  readonly ends: readonly number[];
  /** Raw, one behind the other. */
  readonly hashes: Uint8Array;
  /** Whether the file ends with the last chunk. */
  readonly isLast: boolean;

  constructor(bytes: Uint8Array, offset: number, ends: readonly number[], hashes: Uint8Array, isLast: boolean) {
    this.bytes = bytes;
    this.offset = offset;
    this.ends = ends;
    this.hashes = hashes;
    this.isLast = isLast;
  }

  get count(): number {
    return this.ends.length;
  }

  startOf(chunk: number): number {
    return chunk === 0 ? 0 : (this.ends[chunk - 1] ?? 0);
  }

  chunk(chunk: number): Uint8Array {
    return this.bytes.subarray(this.startOf(chunk), this.ends[chunk]);
  }

  hash(chunk: number): Uint8Array {
    return this.hashes.subarray(chunk * HASH_BYTES, (chunk + 1) * HASH_BYTES);
  }
}

export type StoredXorb = { readonly id: number; readonly key: string };

/** Chunks [start, end) of a window that the xorb holds from its chunk `chunk` on. */
export type Run = {
  readonly start: number;
  readonly end: number;
  readonly xorb: StoredXorb;
  readonly index: XorbIndex;
  readonly chunk: number;
};

/** Where the content before ended in a stored xorb, and whether the xorb ended there too. */
export type Tail = { readonly xorbId: number; readonly chunk: number; readonly isEnd: boolean };

const visibleFile = (scopes: Scopes): SQL =>
  sql`f.state = 'registered' and f.size > 0 and f.scope in (select value from json_each(${asJson(scopes.visible)}))`;

/**
 * Files that may be like this content, those of about its size first: the repository's own, the ones that its lineage names (as far as
 * they are public or the same owner's), and those of the owner's repositories that changed last. One query.
 */
export async function findRelatives(
  { db }: Pick<Platform, "db">,
  scopes: Scopes,
  { repoId, size }: { readonly repoId: string; readonly size: number },
): Promise<number[]> {
  const nearest = sql`order by abs(f.size - ${size}), f.id desc limit ${MAX_RELATIVES}`;
  const rows = await queryRows(
    db,
    z.object({ id: z.number() }),
    sql`with mine as (select id, owner_id from repos where id = ${repoId})
      select id from (select f.id from repo_contents h join xet_files f on f.id = h.file_id
        where h.repo_id = ${repoId} and ${visibleFile(scopes)} ${nearest})
      union select id from (select f.id from (
          select l.parent_repo_id, l.files from lineage l where l.repo_id = ${repoId} order by l.rowid desc limit ${MAX_REPOS}) l
        join json_each(l.files) j join repos r on r.id = l.parent_repo_id and (${IS_OPEN} or r.owner_id = (select owner_id from mine))
        join repo_contents h on h.repo_id = r.id and h.sha256 = j.value ->> 'sha256' join xet_files f on f.id = h.file_id
        where ${visibleFile(scopes)} ${nearest})
      union select id from (select f.id from (
          select r.id from repos r where r.owner_id = (select owner_id from mine) order by r.updated_at desc limit ${MAX_REPOS}) r
        join repo_contents h on h.repo_id = r.id join xet_files f on f.id = h.file_id
        where ${visibleFile(scopes)} ${nearest})`,
  );
  return rows.map((row) => row.id);
}

/** Where the next chunks may be found, besides the index of eligible chunks. */
export type Hints = {
  /** Files that may be like this one at the same offset. */
  readonly relatives: readonly number[];
  /** Xorbs that held the chunks before: what followed them in other files may follow here. */
  readonly near: readonly number[];
};

/** Xorbs that the terms of likely files name around the place where they are likely to agree with the window. One query. */
async function findCandidates(
  { db }: Pick<Platform, "db">,
  scopes: Scopes,
  window: Window,
  { relatives, near }: Hints,
): Promise<StoredXorb[]> {
  const span = window.bytes.length;
  const eligible: string[] = [];
  for (let chunk = 0; chunk < window.count; chunk++)
    if (isEligible(window, chunk)) eligible.push(xetHashOf(window.hash(chunk)));
  return queryRows(
    db,
    z.object({ id: z.number(), key: z.string() }),
    sql`with seeds (likely, file_id, at) as (
        select 0, file_id, at from (select t.file_id, max(t.offset) as at from xet_terms t
          where t.xorb_id in (select value from json_each(${asJson(near)})) group by t.file_id order by t.file_id desc limit ${MAX_SEEDS})
        union all select 1, file_id, at from (select t.file_id, max(t.offset) as at
          from dedup_chunks d join xorbs x on x.id = d.xorb_id join xet_terms t on t.xorb_id = d.xorb_id
          where d.chunk in (select value from json_each(${asJson(eligible)})) and ${isVisible(scopes)}
          group by t.file_id order by t.file_id desc limit ${MAX_SEEDS})
        union all select 2, value, ${window.offset} from json_each(${asJson(relatives)}))
      select x.id, x.key from seeds s
        join xet_terms t on t.file_id = s.file_id and t.offset < s.at + ${2 * span} and t.offset >= coalesce(
          (select max(offset) from xet_terms where file_id = s.file_id and offset <= s.at - ${span}), 0)
        join xorbs x on x.id = t.xorb_id
        where ${isVisible(scopes)} group by x.id order by min(s.likely), min(abs(t.offset - s.at)) limit ${MAX_CANDIDATES}`,
  );
}

/** Chunks by which content is found again wherever it is: those that clients ask for, too. */
export const isEligible = (window: Window, chunk: number): boolean =>
  (window.offset === 0 && chunk === 0) || isDedupEligible(window.hashes, chunk * HASH_BYTES);

/** 52 bits of a hash: enough to sort candidates out, which are then compared whole. */
const shortHash = (hashes: Uint8Array, at: number): number => {
  const byte = (i: number): number => hashes[at + i] ?? 0;
  const low = (byte(0) | (byte(1) << 8) | (byte(2) << 16)) + byte(3) * 2 ** 24;
  return low * 2 ** 20 + (byte(4) | (byte(5) << 8) | ((byte(6) & 15) << 16));
};

const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);

/** All runs of a window in one xorb, as long as they go. `after`: the chunk with which it would go on from before the window. */
function* runsIn(
  window: Window,
  wanted: ReadonlySet<number>,
  xorb: StoredXorb,
  index: XorbIndex,
  after: number | undefined,
): Generator<Run, void, void> {
  const places = new Map<number, number>();
  const hashes = index.hashesOf(0, index.count);
  for (let chunk = index.count - 1; chunk >= 0; chunk--) {
    const short = shortHash(hashes, chunk * HASH_BYTES);
    if (wanted.has(short)) places.set(short, chunk);
  }
  const agrees = (at: number, chunk: number): boolean =>
    at < window.count && chunk < index.count && isSame(window.hash(at), index.hashAt(chunk));
  for (let start = 0; start < window.count; ) {
    const goesOn = start === 0 && after !== undefined && agrees(0, after);
    const chunk = goesOn ? after : places.get(shortHash(window.hashes, start * HASH_BYTES));
    let end = start;
    if (chunk !== undefined) while (agrees(end, chunk + end - start)) end++;
    if (chunk !== undefined && end > start) yield { start, end, xorb, index, chunk };
    start = Math.max(end, start + 1);
  }
}

/** What to do with the chunks of a window: runs to refer to, in order; how many chunks are decided. The rest is for the next window. */
export type Cover = { readonly runs: readonly Run[]; readonly decided: number };

/** Finds the stored runs that are worth a term. Loads at most some dozen indexes, a few at a time. */
export async function findRuns(
  platform: Pick<Platform, "db" | "blobs">,
  scopes: Scopes,
  window: Window,
  hints: Hints,
  tail: Tail | null,
): Promise<Cover> {
  const wanted = new Set<number>();
  for (let chunk = 0; chunk < window.count; chunk++) wanted.add(shortHash(window.hashes, chunk * HASH_BYTES));
  const candidates = await findCandidates(platform, scopes, window, hints);
  /** For each chunk the run that reaches furthest. */
  const best = new Array<Run | undefined>(window.count);
  for (let i = 0; i < candidates.length; i += CONCURRENCY) {
    const some = candidates.slice(i, i + CONCURRENCY);
    const indexes = await Promise.all(some.map((xorb) => loadIndex(platform.blobs, xorb)));
    for (const [j, xorb] of some.entries()) {
      const index = indexes[j];
      if (index === undefined) continue;
      const after = tail?.xorbId === xorb.id ? tail.chunk : undefined;
      for (const run of runsIn(window, wanted, xorb, index, after))
        for (let at = run.start; at < run.end; at++) if (run.end > (best[at]?.end ?? 0)) best[at] = run;
    }
  }
  return choose(window, best, tail);
}

function choose(window: Window, best: readonly (Run | undefined)[], tail: Tail | null): Cover {
  const runs: Run[] = [];
  let last = tail;
  let at = 0;
  while (at < window.count) {
    const run = best[at];
    if (run === undefined) {
      last = null;
      at++;
      continue;
    }
    const chunk = run.chunk + at - run.start;
    const length = run.end - at;
    // A term more where one xorb ends and the next begins is none more than the stored file has there.
    const goesOn =
      last !== null && ((last.xorbId === run.xorb.id && last.chunk === chunk) || (last.isEnd && chunk === 0));
    const isWhole = window.offset === 0 && at === 0 && window.isLast && run.end === window.count;
    if (goesOn || isWhole || length >= MIN_RUN) {
      runs.push({ ...run, start: at, chunk });
      last = { xorbId: run.xorb.id, chunk: chunk + length, isEnd: chunk + length === run.index.count };
      at = run.end;
    } else if (run.end === window.count && !window.isLast && at > 0) {
      // It may go on behind the window: the next one begins here and sees.
      return { runs, decided: at };
    } else {
      last = null;
      at = run.end;
    }
  }
  return { runs, decided: window.count };
}
