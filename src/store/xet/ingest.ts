// Brings contents that are kept as segments into xorbs: chunked, without the chunks that are stored already, and read back before they are trusted.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Guard, queryRows, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { chunkHash } from "../../formats/xet/blake3";
import { HEADER_BYTES } from "../../formats/xet/chunk";
import { Chunker, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES } from "../../formats/xet/chunker";
import { HASH_BYTES, xetHashOf } from "../../formats/xet/hash";
import { fileHash, MerkleBuilder } from "../../formats/xet/merkle";
import { XorbEncoder, type XorbIndex } from "../../formats/xet/xorb";
import { parseSha256, parseXetHash, type Sha256, type XetHash } from "../../ids";
import type { Platform } from "../../platform/platform";
import { CHUNK_BYTES, readChunks } from "../../streams/chunks";
import { type Readable, readContent, SegmentsColumn } from "../contents";
import { indexKey, newXorbKey } from "../keys";
import { stageObjects, writeObject } from "../objects";
import { PUBLIC, SCOPE_OF_REPO, type Scopes } from "../scopes";
import { progressOf, Stale, type Step, type StepEnd } from "../tasks";
import { indexChunks } from "./dedup";
import { findRelatives, findRuns, isEligible, type Run, type StoredXorb, type Tail, Window } from "./known-chunks";
import { insertTerms, type TermRow } from "./terms";
import { hashFurther, replaceSegments } from "./verify";
import { findXorbs, loadIndex, publishXorb, touchXorbs, xorbsExist } from "./xorbs";

/** Smaller files stay as they are: one object read whole costs less than a term, an index and a xorb of one chunk. */
export const MIN_INGESTED_BYTES = 64 << 10;
/** Of the xorbs that held the last chunks, how many the next step looks around. */
const MAX_NEAR = 8;
/** Until the hash of the file is known. */
const UNKNOWN = parseXetHash("0".repeat(64), "hash");

/** Bytes. All but `hash` bound what is in memory at once. */
export type Sizes = {
  /** Read back and hashed by one step. */
  readonly hash: number;
  /** Read and chunked by one step. */
  readonly read: number;
  /** Compared with stored chunks at a time: several MiB, so that a run shows. */
  readonly window: number;
  /** Packed, of a xorb that the hub builds. */
  readonly xorb: number;
};

const Draft = z.object({ fileId: z.number(), scope: z.string() });
const Storing = Draft.extend({
  phase: z.literal("store"),
  /** Bytes of the content that have terms. */
  offset: z.number(),
  tree: z.array(z.object({ hashes: z.string(), lengths: z.array(z.number()), closed: z.boolean() })),
  relatives: z.array(z.number()),
  near: z.array(z.number()),
  tail: z.object({ xorbId: z.number(), chunk: z.number(), isEnd: z.boolean() }).nullable(),
});
type Storing = z.output<typeof Storing>;
const Checking = Draft.extend({
  phase: z.literal("check"),
  hash: z.string().transform((text) => parseXetHash(text, "hash")),
  sha256: z.string().nullable(),
});
type Checking = z.output<typeof Checking>;
const Progress = z.discriminatedUnion("phase", [Storing, Checking]);

type Content = { readonly repoId: string; readonly sha256: Sha256; readonly size: number };

const Row = z.object({
  scope: z.string(),
  size: z.number(),
  segments: SegmentsColumn,
  /** A file of the scope with the same bytes. */
  known: z.number().nullable(),
  is_open: z.number(),
});

/** A step finds where the content stands, stores some of it, or reads some back; the last one swaps. */
export const ingestStep =
  (sizes: Sizes): Step =>
  async (platform, task) => {
    const [repoId = "", digest = ""] = task.subject.split(" ");
    const sha256 = parseSha256(digest, "subject");
    const progress = task.progress === null ? null : Progress.parse(task.progress);
    const [row] = await queryRows(
      platform.db,
      Row,
      sql`select scope, size, segments, (select f.id from repo_contents h join xet_files f on f.id = h.file_id
            where h.sha256 = ${sha256} and f.sha256 = ${sha256} and f.scope = found.scope and f.state = 'registered' limit 1) as known,
          exists (select 1 from xet_files where id = ${progress?.fileId ?? null} and state = 'open') as is_open
        from (select coalesce(${progress?.scope ?? null}, ${SCOPE_OF_REPO}) as scope, k.size, k.segments
          from repo_contents h join repos r on r.id = h.repo_id join contents k on k.sha256 = h.sha256
          where h.repo_id = ${repoId} and h.sha256 = ${sha256} and h.file_id is null) found`,
    );
    const forget = progress === null ? [] : [abandon(progress.fileId)];
    if (row === undefined || row.size < MIN_INGESTED_BYTES) return { kind: "done", statements: forget };
    const content = { repoId, sha256, size: row.size };
    if (row.known !== null) return link(row.known, content, row.scope, forget);
    if (progress === null) return begin(platform, content, row.scope);
    if (row.is_open === 0) return { kind: "restart", problem: "the file that was being written is gone" };
    if (progress.phase === "check") return check(platform, content, progress, sizes);
    const source = { size: row.size, source: { kind: "segments", segments: row.segments } } as const;
    return store(platform, source, progress, sizes);
  };

/** What the hub itself may refer to: a public file shows nothing of a private scope, not even the hash of a xorb. */
const scopesOf = (scope: string): Scopes => ({
  target: scope,
  visible: scope === PUBLIC ? [PUBLIC] : [scope, PUBLIC],
  uploaderId: null,
});

/** The sweep takes its terms. */
const abandon = (fileId: number): Statement =>
  sql`update xet_files set state = 'removed' where id = ${fileId} and state = 'open'`;

const isRegistered = (fileId: number): Guard => ({
  holds: sql`exists (select 1 from xet_files where id = ${fileId} and state = 'registered')`,
  otherwise: () => new Stale(),
});

const isOpen = (fileId: number): Guard => ({
  holds: sql`exists (select 1 from xet_files where id = ${fileId} and state = 'open')`,
  otherwise: () => new Stale(),
});

/** Commit point of an ingestion whose bytes the scope has as a file already. */
const link = (
  fileId: number,
  { repoId, sha256 }: Content,
  scope: string,
  statements: readonly Statement[],
): StepEnd => ({
  kind: "done",
  guards: [isRegistered(fileId)],
  statements: [
    sql`update xet_files set idle_since = null where id = ${fileId}`,
    replaceSegments(fileId, sha256, scope, repoId),
    ...statements,
  ],
});

async function begin(platform: Platform, content: Content, scope: string): Promise<StepEnd> {
  const relatives = await findRelatives(platform, scopesOf(scope), content);
  const progress = { phase: "store", scope, offset: 0, tree: [], relatives, near: [], tail: null };
  return {
    kind: "continue",
    statements: [
      sql`insert into xet_files (hash, scope, size, state, created_at) values (${UNKNOWN}, ${scope}, ${content.size}, 'open', ${platform.now()})`,
    ],
    progress: sql`json_set(${JSON.stringify(progress)}, '$.fileId', last_insert_rowid())`,
  };
}

/** Reads and cuts as much as a window holds. A chunk that may go on behind it is left to the next one. */
async function readWindow(platform: Platform, content: Readable, offset: number, buffer: Uint8Array): Promise<Window> {
  const length = Math.min(buffer.length, content.size - offset);
  const chunks = readChunks(await readContent(platform, content, { offset, length }), { reuse: true });
  let received = 0;
  for (let part = await chunks.next(); part !== undefined; part = await chunks.next()) {
    buffer.set(part, received);
    received += part.length;
  }
  if (received !== length) throw new HubError("content_damaged");
  const bytes = buffer.subarray(0, length);
  const isLast = offset + length === content.size;
  const ends: number[] = [];
  const chunker = new Chunker();
  for (let end = chunker.next(bytes); end !== -1; end = chunker.next(bytes, end)) ends.push(end);
  if (isLast && ends.at(-1) !== length) ends.push(length);
  const hashes = new Uint8Array(ends.length * HASH_BYTES);
  for (const [chunk, end] of ends.entries())
    hashes.set(chunkHash(bytes.subarray(ends[chunk - 1] ?? 0, end)), chunk * HASH_BYTES);
  return new Window(bytes, offset, ends, hashes, isLast);
}

/** Chunks [start, end) of a xorb; `xorb` null: of the one that this step builds. */
type DraftTerm = {
  readonly xorb: { readonly stored: StoredXorb; readonly index: XorbIndex } | null;
  readonly start: number;
  readonly end: number;
  readonly offset: number;
  readonly length: number;
};

/** The xorb that a step builds, in memory until it is whole. */
class XorbDraft {
  readonly #encoder = new XorbEncoder();
  readonly #bytes: Uint8Array;
  readonly eligible: XetHash[] = [];

  /** `limit`: packed bytes at most; `content`: unpacked bytes that may come. */
  constructor(limit: number, content: number) {
    const headers = HEADER_BYTES * (Math.ceil(content / MIN_CHUNK_BYTES) + 1);
    this.#bytes = new Uint8Array(Math.min(limit, content + headers));
  }

  get count(): number {
    return this.#encoder.count;
  }

  fits(length: number): boolean {
    return this.#encoder.fits(length) && this.#encoder.packedSize + HEADER_BYTES + length <= this.#bytes.length;
  }

  add(chunk: Uint8Array, hash: Uint8Array): void {
    let at = this.#encoder.packedSize;
    for (const part of this.#encoder.add(chunk, hash)) {
      this.#bytes.set(part, at);
      at += part.length;
    }
  }

  finish(): { readonly hash: XetHash; readonly index: XorbIndex; readonly bytes: Uint8Array } {
    return { ...this.#encoder.finish(), bytes: this.#bytes.subarray(0, this.#encoder.packedSize) };
  }
}

/** Collects what one step finds out about the content, chunk by chunk. */
class Walk {
  readonly terms: DraftTerm[] = [];
  readonly tree: MerkleBuilder;
  readonly xorb: XorbDraft;
  offset: number;

  constructor({ offset, tree }: Storing, xorb: XorbDraft) {
    this.offset = offset;
    this.tree = MerkleBuilder.resume(tree);
    this.xorb = xorb;
  }

  /** Where the content so far ended in a stored xorb. */
  tail(before: Tail | null): Tail | null {
    const last = this.terms.at(-1);
    if (last === undefined) return before;
    if (last.xorb === null) return null;
    return { xorbId: last.xorb.stored.id, chunk: last.end, isEnd: last.end === last.xorb.index.count };
  }

  refer(window: Window, { start, end, xorb, index, chunk }: Run): void {
    this.#advance(window, start, end, { stored: xorb, index }, chunk);
  }

  /** False when the xorb is full: this chunk is for the next one. */
  keep(window: Window, chunk: number): boolean {
    const bytes = window.chunk(chunk);
    if (!this.xorb.fits(bytes.length)) return false;
    const place = this.xorb.count;
    this.xorb.add(bytes, window.hash(chunk));
    if (isEligible(window, chunk)) this.xorb.eligible.push(xetHashOf(window.hash(chunk)));
    this.#advance(window, chunk, chunk + 1, null, place);
    return true;
  }

  #advance(window: Window, start: number, end: number, xorb: DraftTerm["xorb"], place: number): void {
    for (let chunk = start; chunk < end; chunk++) this.tree.add(window.hash(chunk), window.chunk(chunk).length);
    const length = (window.ends[end - 1] ?? 0) - window.startOf(start);
    const last = this.terms.at(-1);
    if (last !== undefined && last.end === place && last.xorb?.stored.id === xorb?.stored.id)
      this.terms[this.terms.length - 1] = { ...last, end: place + end - start, length: last.length + length };
    else this.terms.push({ xorb, start: place, end: place + end - start, offset: this.offset, length });
    this.offset += length;
  }
}

/** Goes on through the content until enough was read or a xorb is full, and leaves the terms of all that it passed. */
async function store(platform: Platform, content: Readable, progress: Storing, sizes: Sizes): Promise<StepEnd> {
  const { fileId, scope, relatives } = progress;
  const scopes = scopesOf(scope);
  const end = Math.min(content.size, progress.offset + sizes.read);
  const walk = new Walk(progress, new XorbDraft(sizes.xorb, content.size - progress.offset));
  const buffer = new Uint8Array(Math.min(Math.max(sizes.window, 2 * MAX_CHUNK_BYTES), content.size - progress.offset));
  let near = progress.near;
  let full = false;
  while (walk.offset < end && !full) {
    const window = await readWindow(platform, content, walk.offset, buffer);
    const cover = await findRuns(platform, scopes, window, { relatives, near }, walk.tail(progress.tail));
    const runs = new Map(cover.runs.map((run) => [run.start, run]));
    for (let chunk = 0; chunk < cover.decided && !full; ) {
      const run = runs.get(chunk);
      if (run !== undefined) walk.refer(window, run);
      else full = !walk.keep(window, chunk);
      chunk = run?.end ?? chunk + 1;
    }
    near = [...new Set([...cover.runs.map((run) => run.xorb.id).reverse(), ...near])].slice(0, MAX_NEAR);
  }
  const built = walk.xorb.count === 0 ? null : await storeXorb(platform, scopes, walk.xorb);
  const terms = walk.terms.map((term) => rowOf(fileId, term, built));
  const xorbIds = [...new Set(terms.map(([, , , xorbId]) => xorbId))];
  const next: z.input<typeof Progress> =
    walk.offset < content.size
      ? {
          ...progress,
          offset: walk.offset,
          tree: walk.tree.save().map((level) => ({ ...level, lengths: [...level.lengths] })),
          near,
          tail: walk.tail(progress.tail),
        }
      : { phase: "check", fileId, scope, hash: xetHashOf(fileHash(walk.tree.root())), sha256: null };
  return {
    kind: "continue",
    guards: [isOpen(fileId), xorbsExist(xorbIds, () => new Stale())],
    statements: [
      touchXorbs(xorbIds),
      insertTerms(terms),
      // Found by others from now on; the chunk is in the xorb whatever becomes of the file.
      ...(built === null ? [] : [indexChunks(walk.xorb.eligible.map((chunk) => [chunk, built.stored.id]))]),
      // An open file that is not written to for a day is taken for abandoned.
      sql`update xet_files set created_at = ${platform.now()} where id = ${fileId}`,
    ],
    progress: progressOf(next),
  };
}

type Built = { readonly stored: StoredXorb; readonly index: XorbIndex };

function rowOf(fileId: number, { xorb, start, end, offset, length }: DraftTerm, built: Built | null): TermRow {
  const holder = xorb ?? built;
  if (holder === null) throw new HubError("internal");
  const bytes = holder.index.packedRange(start, end);
  return [fileId, offset, length, holder.stored.id, start, end, bytes.start, bytes.end];
}

/**
 * Stores a xorb, or finds the same one. It has its row before the step that needs it is committed: should that never happen, it is idle,
 * and the step's repetition finds it.
 */
async function storeXorb(platform: Platform, scopes: Scopes, draft: XorbDraft): Promise<Built> {
  const { blobs, db } = platform;
  const { hash, index, bytes } = draft.finish();
  const find = async (): Promise<Built | null> => {
    const found = (await findXorbs(db, scopes, [hash])).get(hash);
    // Other bytes may lie there, packed otherwise: what counts is its own index.
    return found === undefined ? null : { stored: found, index: await loadIndex(blobs, found) };
  };
  const known = await find();
  if (known !== null) return known;
  const key = newXorbKey(hash, scopes.target);
  await db.run(stageObjects([key, indexKey(key)], platform.now()));
  // In pieces: the bucket's client would copy one large array whole.
  await writeObject(blobs, key, bytes.length, async (writer) => {
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) await writer.write(bytes.subarray(at, at + CHUNK_BYTES));
  });
  await blobs.put(indexKey(key), index.encode());
  await publishXorb(platform, { key, hash, scope: scopes.target, uploaderId: null, index });
  const stored = await find();
  if (stored === null) throw new Stale();
  return stored;
}

/**
 * Reads the file back through its terms and hashes it: only what is the published content, to the byte, takes the place of the segments,
 * which are then swept.
 */
async function check(platform: Platform, content: Content, progress: Checking, sizes: Sizes): Promise<StepEnd> {
  const { fileId, hash } = progress;
  const file = { id: fileId, hash, size: content.size };
  const sum = await hashFurther(platform, file, progress.sha256, sizes.hash);
  if (sum.size < content.size) return { kind: "continue", progress: progressOf({ ...progress, sha256: sum.save() }) };
  const actual = sum.digest();
  if (actual !== content.sha256)
    return {
      kind: "restart",
      problem: `what was stored of ${content.sha256} reads back as ${actual}`,
      statements: [abandon(fileId)],
    };
  return swap(platform, content, progress);
}

async function swap({ db }: Platform, content: Content, { fileId, hash, scope }: Checking): Promise<StepEnd> {
  const { repoId, sha256 } = content;
  const same = sql`select id from xet_files where hash = ${hash} and scope = ${scope} and state = 'registered'`;
  const [twin] = await queryRows(db, z.object({ id: z.number() }), same);
  if (twin !== undefined) {
    // A client has sent the same file: equal hashes are equal bytes, so its digest is known now.
    const known = sql`update xet_files set sha256 = ${sha256} where id = ${twin.id} and sha256 is null`;
    return link(twin.id, content, scope, [known, abandon(fileId)]);
  }
  // Commit point of an ingestion: the file is registered, and the repositories hold the bytes as that file.
  return {
    kind: "done",
    guards: [isOpen(fileId), { holds: sql`not exists (${same})`, otherwise: () => new Stale() }],
    statements: [
      sql`update xet_files set state = 'registered', hash = ${hash}, sha256 = ${sha256}, idle_since = null where id = ${fileId}`,
      replaceSegments(fileId, sha256, scope, repoId),
    ],
  };
}
