// Registers the files of a shard: everything that it claims is checked before one batch makes any of it visible.
import { sql } from "drizzle-orm";
import { asJson, commitBatch, type Guard, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { isDedupEligible, xetHashOf } from "../../formats/xet/hash";
import { fileHash, MerkleBuilder, rangeHash } from "../../formats/xet/merkle";
import {
  MAX_SHARD_BYTES,
  readShard,
  type ShardFile,
  type ShardTerm,
  type ShardXorb,
  sameChunks,
} from "../../formats/xet/shard";
import { MAX_XORB_CHUNKS, type XorbIndex } from "../../formats/xet/xorb";
import type { Sha256, XetHash } from "../../ids";
import type { Platform } from "../../platform/platform";
import { readChunks } from "../../streams/chunks";
import { nextOrInterrupted } from "../../streams/hash";
import type { Scopes } from "../scopes";
import { verifyTasks, wakeUpkeep } from "../tasks";
import { indexChunks } from "./dedup";
import { type DraftFile, FileDrafts } from "./file-drafts";
import { findXorbs, loadIndex, touchXorbs, type VisibleXorb, xorbsExist } from "./xorbs";

/** Together they bound memory and what the last batch carries; a client's own limits are far below. */
const MAX_FILES = 32_768;
const MAX_XORBS = 16_384;
/** About 1 TiB of ordinary chunks. */
const MAX_CHUNKS = 1 << 24;
/** Terms whose xorbs are looked up in one query. */
const WINDOW_TERMS = 500;
/** Records of entries that are gathered before they are checked, so that many small files share a query: less than 1 MiB. */
const GATHERED_RECORDS = 8192;
/** Indexes that are read at once. */
const GROUP_XORBS = 6;
/** More would only help deduplication, and only a hostile client has more. */
const MAX_DEDUP_ROWS = 20_000;
/** Keeps a JSON parameter below the 2 MB of D1. */
const PAGE_ROWS = 8000;

/** Terms and xorbs checked so far. `total` is null as long as the shard has not been read to its end. */
export type ShardProgress = { readonly verified: number; readonly total: number | null };

/**
 * What a shard may do about a claim of another one in the same repository: who may write there gives the newest, while who only
 * proposes a change must not put other bytes under what is committed already.
 */
export type Claims = "replace" | "add";

/**
 * Registers the files of a shard and lets the repository hold them by the SHA-256 that each must name. `existed`: every file was
 * registered in this scope before.
 * @throws xet_xorb_missing | xet_shard_invalid | xet_retry | repo_not_found | payload_too_large | body_interrupted;
 * FormatError `xet.shard_…`
 */
export async function registerShard(
  platform: Platform,
  scopes: Scopes,
  repoId: string,
  body: ReadableStream<Uint8Array> | null,
  report: (progress: ShardProgress) => void | Promise<void>,
  claims: Claims = "replace",
): Promise<{ readonly files: number; readonly existed: boolean }> {
  const chunks = readChunks(body ?? new Blob([]).stream(), { reuse: true });
  let received = 0;
  const next = async (): Promise<Uint8Array | undefined> => {
    const piece = await nextOrInterrupted(chunks, received, "an unknown number of");
    received += piece?.length ?? 0;
    if (received > MAX_SHARD_BYTES)
      throw new HubError("payload_too_large", { problem: `A shard has at most ${MAX_SHARD_BYTES} bytes.` });
    return piece;
  };
  const check = new ShardCheck(platform, scopes, report);
  try {
    for await (const entry of readShard(next)) await check.add(entry);
  } catch (error) {
    await chunks.cancel(error);
    throw error;
  }
  const checked = await check.finish();
  await link(platform, scopes, repoId, checked, claims);
  wakeUpkeep(platform);
  return { files: checked.files.length, existed: checked.files.every(({ id }) => id === null) };
}

function invalid(problem: string): HubError {
  return new HubError("xet_shard_invalid", { problem });
}

type Checked = {
  readonly files: readonly DraftFile[];
  readonly claims: ReadonlyMap<Sha256, XetHash>;
  readonly xorbIds: readonly number[];
  /** Chunks to be found by deduplication, and the id of their xorb. */
  readonly dedup: readonly (readonly [XetHash, number])[];
};

/** Checks entry by entry, and writes terms as drafts that nothing names. */
class ShardCheck {
  readonly #platform: Platform;
  readonly #scopes: Scopes;
  readonly #report: (progress: ShardProgress) => void | Promise<void>;
  readonly #drafts: FileDrafts;
  readonly #claims = new Map<Sha256, XetHash>();
  readonly #xorbs = new Map<XetHash, VisibleXorb>();
  /** Ids of xorbs whose chunks were looked through for eligible ones. */
  readonly #searched = new Set<number>();
  readonly #dedup = new Map<string, readonly [XetHash, number]>();
  #gathered: (ShardFile | ShardXorb)[] = [];
  #records = 0;
  #chunks = 0;
  #verified = 0;

  constructor(platform: Platform, scopes: Scopes, report: (progress: ShardProgress) => void | Promise<void>) {
    this.#platform = platform;
    this.#scopes = scopes;
    this.#report = report;
    this.#drafts = new FileDrafts(platform, scopes.target);
  }

  /** The next entry, to be checked now or with some that follow. */
  async add(entry: ShardFile | ShardXorb): Promise<void> {
    this.#gathered.push(entry);
    this.#records += entry.kind === "file" ? entry.terms.count : entry.chunks.count;
    if (this.#records >= GATHERED_RECORDS || this.#gathered.length >= GATHERED_RECORDS) await this.#checkGathered();
  }

  async #checkGathered(): Promise<void> {
    const entries = this.#gathered;
    this.#gathered = [];
    this.#records = 0;
    const named = entries.flatMap((entry) => {
      if (entry.kind === "xorb") return [entry.hash];
      const { count } = entry.terms;
      return count > WINDOW_TERMS ? [] : Array.from({ length: count }, (_, i) => entry.terms.at(i).xorb);
    });
    const hashes = [...new Set(named)];
    for (let i = 0; i < hashes.length; i += WINDOW_TERMS) await this.#resolve(hashes.slice(i, i + WINDOW_TERMS));
    for (const entry of entries) await (entry.kind === "file" ? this.#file(entry) : this.#xorb(entry));
  }

  async #file(file: ShardFile): Promise<void> {
    this.#claim(file);
    const begun = this.#drafts.begin(file.hash, this.#sizeOf(file));
    const tree = new MerkleBuilder();
    let offset = 0;
    for (let at = 0; at < file.terms.count; at += WINDOW_TERMS) {
      const count = Math.min(WINDOW_TERMS, file.terms.count - at);
      const window = Array.from({ length: count }, (_, i) => file.terms.at(at + i));
      await this.#resolve(window.map((term) => term.xorb));
      for (const { terms, indexes } of groups(window)) {
        await Promise.all([...indexes.keys()].map(async (hash) => indexes.set(hash, await this.#indexOf(hash))));
        for (const term of terms) {
          const index = indexes.get(term.xorb) ?? (await this.#indexOf(term.xorb));
          this.#checkTerm(file, term, index, tree);
          const xorb = this.#known(term.xorb);
          if (offset === 0) this.#remember(index.hashAt(term.start), xorb.id);
          if (begun)
            this.#drafts.add(file.hash, {
              offset,
              term,
              xorbId: xorb.id,
              bytes: index.packedRange(term.start, term.end),
            });
          offset += term.length;
        }
      }
      await this.#drafts.flushIfFull();
      await this.#progress(count);
    }
    const actual = xetHashOf(fileHash(tree.root()));
    if (actual !== file.hash) throw invalid(`the terms of file ${file.hash} make the file ${actual}`);
  }

  /** What a shard says of a xorb is not used: it is compared, so that a client with a wrong view of its own upload learns of it. */
  async #xorb(xorb: ShardXorb): Promise<void> {
    await this.#resolve([xorb.hash]);
    if (!sameChunks(xorb.chunks, await this.#indexOf(xorb.hash)))
      throw invalid(`it lists other chunks for xorb ${xorb.hash} than that has`);
    await this.#progress(1);
  }

  async finish(): Promise<Checked> {
    await this.#checkGathered();
    const files = await this.#drafts.finish();
    await this.#report({ verified: this.#verified, total: this.#verified });
    return {
      files,
      claims: this.#claims,
      xorbIds: [...this.#xorbs.values()].map(({ id }) => id),
      dedup: [...this.#dedup.values()],
    };
  }

  async #progress(more: number): Promise<void> {
    this.#verified += more;
    await this.#report({ verified: this.#verified, total: null });
  }

  /** A file is found by its SHA-256 when it is committed, so one without could never be reached. */
  #claim({ hash, sha256 }: ShardFile): void {
    if (sha256 === null) throw invalid(`file ${hash} has no metadata with its SHA-256`);
    const other = this.#claims.get(sha256);
    if (other !== undefined && other !== hash)
      throw invalid(`the files ${other} and ${hash} can't both have the SHA-256 ${sha256}`);
    this.#claims.set(sha256, hash);
    if (this.#claims.size > MAX_FILES)
      throw new HubError("payload_too_large", { problem: `A shard may name at most ${MAX_FILES} files.` });
  }

  #sizeOf({ terms }: ShardFile): number {
    let size = 0;
    for (let i = 0; i < terms.count; i++) {
      const { start, end, length } = terms.at(i);
      this.#chunks += end - start;
      size += length;
    }
    if (this.#chunks > MAX_CHUNKS)
      throw new HubError("payload_too_large", {
        problem: `The files of a shard may have at most ${MAX_CHUNKS} chunks.`,
      });
    return size;
  }

  /** Looks up those that are new to this shard. One that may not be seen is answered like one that does not exist. */
  async #resolve(hashes: readonly XetHash[]): Promise<void> {
    const unknown = [...new Set(hashes)].filter((hash) => !this.#xorbs.has(hash));
    if (unknown.length === 0) return;
    const found = await findXorbs(this.#platform.db, this.#scopes, unknown);
    for (const hash of unknown) {
      const xorb = found.get(hash);
      if (xorb === undefined) throw new HubError("xet_xorb_missing", { hash });
      this.#xorbs.set(hash, xorb);
    }
    if (this.#xorbs.size > MAX_XORBS)
      throw new HubError("payload_too_large", { problem: `A shard may refer to at most ${MAX_XORBS} xorbs.` });
  }

  #known(hash: XetHash): VisibleXorb {
    const xorb = this.#xorbs.get(hash);
    if (xorb === undefined) throw new HubError("xet_xorb_missing", { hash });
    return xorb;
  }

  async #indexOf(hash: XetHash): Promise<XorbIndex> {
    const xorb = this.#known(hash);
    const index = await loadIndex(this.#platform.blobs, xorb);
    if (!this.#searched.has(xorb.id)) {
      this.#searched.add(xorb.id);
      const hashes = index.hashesOf(0, index.count);
      for (let at = 0; at < hashes.length; at += 32)
        if (isDedupEligible(hashes, at)) this.#remember(hashes.subarray(at, at + 32), xorb.id);
    }
    return index;
  }

  #remember(chunk: Uint8Array, xorbId: number): void {
    if (this.#dedup.size >= MAX_DEDUP_ROWS) return;
    const hash = xetHashOf(chunk);
    this.#dedup.set(`${hash} ${xorbId}`, [hash, xorbId]);
  }

  /** Whoever knows a xorb's hash could name it: the range hash shows that this client has the chunks. */
  #checkTerm(file: ShardFile, term: ShardTerm, index: XorbIndex, tree: MerkleBuilder): void {
    const { xorb, start, end, length } = term;
    if (end > index.count || end > MAX_XORB_CHUNKS)
      throw invalid(`file ${file.hash} needs the chunks ${start} to ${end} of xorb ${xorb}, which has ${index.count}`);
    const actual = index.lengthOf(start, end);
    if (actual !== length)
      throw invalid(`the chunks ${start} to ${end} of xorb ${xorb} have ${actual} bytes, not ${length}`);
    if (term.rangeHash === null) throw invalid(`file ${file.hash} has no verification of its terms`);
    const hashes = index.hashesOf(start, end);
    if (!rangeHash(hashes).every((byte, at) => byte === term.rangeHash?.[at]))
      throw invalid(`the verification of the chunks ${start} to ${end} of xorb ${xorb} is wrong`);
    for (let chunk = start; chunk < end; chunk++) tree.add(index.hashAt(chunk), index.lengthOf(chunk, chunk + 1));
  }
}

type Group = { readonly terms: ShardTerm[]; readonly indexes: Map<XetHash, XorbIndex | undefined> };

/** Consecutive terms that need few indexes in memory. */
function groups(terms: readonly ShardTerm[]): Group[] {
  const all: Group[] = [];
  for (const term of terms) {
    let last = all.at(-1);
    if (last === undefined || (last.indexes.size === GROUP_XORBS && !last.indexes.has(term.xorb))) {
      last = { terms: [], indexes: new Map() };
      all.push(last);
    }
    last.terms.push(term);
    last.indexes.set(term.xorb, undefined);
  }
  return all;
}

function pagesOf<T>(rows: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(rows.length / PAGE_ROWS) }, (_, i) =>
    rows.slice(i * PAGE_ROWS, (i + 1) * PAGE_ROWS),
  );
}

/**
 * Commit point of a shard: all of its files are registered and held by the repository, or none is. A file that someone else
 * registered first is used, and ours dropped.
 */
async function link(
  platform: Platform,
  { target }: Scopes,
  repoId: string,
  checked: Checked,
  mode: Claims,
): Promise<void> {
  const now = platform.now();
  const files = pagesOf(checked.files.map(({ hash, id }) => [hash, id])).map(asJson);
  const claims = pagesOf([...checked.claims]).map(asJson);
  const guards: Guard[] = [
    {
      holds: sql`exists (select 1 from repos where id = ${repoId})`,
      otherwise: () => new HubError("repo_not_found"),
    },
    ...pagesOf(checked.xorbIds).map((ids) => xorbsExist(ids, () => new HubError("xet_retry"))),
    ...files.map(
      (page): Guard => ({
        holds: sql`not exists (select 1 from json_each(${page}) j
          where not exists (select 1 from xet_files f where f.id = j.value ->> 1 and f.state = 'open')
            and not exists (select 1 from xet_files f where f.hash = j.value ->> 0 and f.scope = ${target} and f.state = 'registered'))`,
        otherwise: () => new HubError("xet_retry"),
      }),
    ),
  ];
  if (mode === "add") guards.push(...claims.map((page) => noOtherClaim(repoId, page)));
  await commitBatch(platform.db, guards, [
    ...files.flatMap((page) => registerFiles(page, target)),
    ...claims.flatMap((page) => holdFiles(page, target, repoId, now, mode)),
    ...pagesOf(checked.xorbIds).map(touchXorbs),
    ...pagesOf(checked.dedup).map(indexChunks),
  ]);
}

/**
 * Who may not replace a claim waits until it is settled: neither of two who say different things of one digest can speak for the
 * other's pull request meanwhile. `page`: JSON rows of SHA-256 and file hash.
 */
const noOtherClaim = (repoId: string, page: string): Guard => ({
  holds: sql`not exists (select 1 from json_each(${page}) j cross join repo_contents h on h.repo_id = ${repoId} and h.sha256 = j.value ->> 0
    join xet_files f on f.id = h.file_id where h.state = 'claimed' and f.hash <> j.value ->> 1)`,
  otherwise: () => new HubError("xet_claim_pending"),
});

/** `page`: JSON rows of hash and id of the draft, or null where there is none. */
function registerFiles(page: string, target: string): Statement[] {
  const left = sql`select id from xet_files where state = 'open' and id in (select value ->> 1 from json_each(${page}))`;
  return [
    sql`update xet_files set state = 'registered' where state = 'open' and id in (select value ->> 1 from json_each(${page}))
      and not exists (select 1 from xet_files r where r.hash = xet_files.hash and r.scope = xet_files.scope and r.state = 'registered')`,
    sql`delete from xet_terms where file_id in (${left})`,
    sql`delete from xet_files where id in (${left})`,
    sql`update xet_files set idle_since = null where idle_since is not null and state = 'registered' and scope = ${target}
      and hash in (select value ->> 0 from json_each(${page}))`,
  ];
}

/**
 * `page`: JSON rows of SHA-256 and file hash. What the repository holds as verified stays. Anything else may give way to the new
 * file, unless that is known to be another: sending a file again mends a wrong claim, and never makes one. The cross join keeps
 * SQLite from reading the page once for each file.
 */
function holdFiles(page: string, target: string, repoId: string, now: number, mode: Claims): Statement[] {
  // A wrong claim that a commit names is for the repository's writers to mend: to be seen by all, they must have asked for it.
  const stays =
    mode === "add"
      ? sql`(state <> 'mismatched' or exists (select 1 from tree_entries e where e.repo_id = ${repoId} and e.sha256 = repo_contents.sha256))`
      : sql`(state = 'verified' or excluded.state = 'mismatched')`;
  return [
    sql`insert into repo_contents (repo_id, sha256, file_id, state, created_at)
      select ${repoId}, j.value ->> 0, f.id,
          case when f.sha256 is null then 'claimed' when f.sha256 = j.value ->> 0 then 'verified' else 'mismatched' end, ${now}
        from json_each(${page}) j cross join xet_files f on f.hash = j.value ->> 1 and f.scope = ${target} and f.state = 'registered'
        where true
      on conflict (repo_id, sha256) do update set idle_since = null,
        file_id = iif(${stays}, file_id, excluded.file_id), state = iif(${stays}, state, excluded.state)`,
    verifyTasks(
      sql`select distinct file_id from repo_contents where repo_id = ${repoId} and state = 'claimed' and file_id is not null
        and sha256 in (select value ->> 0 from json_each(${page}))`,
      now,
    ),
  ];
}
