// Takes xorbs in: verified while they stream into the bucket, named by a row only when both of their objects are there.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch, type Guard, isUniqueViolation, queryEach, queryRows } from "../../db/client";
import type { StorageScope } from "../../db/schema";
import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import { MAX_XORB_BYTES, MAX_XORB_CHUNKS, XorbIndex, XorbVerifier } from "../../formats/xet/xorb";
import { footerBytes } from "../../formats/xet/xorb-footer";
import { parseXetHash, type XetHash } from "../../ids";
import type { BlobStore, Db, Platform } from "../../platform/platform";
import { readAll, readChunks } from "../../streams/chunks";
import { nextOrInterrupted } from "../../streams/hash";
import { indexKey, newXorbKey, parseXorbKey, XORBS_PREFIX, xorbPrefix } from "../keys";
import { adoptObjects, condemnObjects, objectsUsable, readObject, stageObjects, writeObject } from "../objects";
import { isVisible, PUBLIC, type Scopes } from "../scopes";

/** A xorb and the footer that some clients send behind it. */
const MAX_UPLOAD_BYTES = MAX_XORB_BYTES + footerBytes(MAX_XORB_CHUNKS);
/** More than the 40 bytes a chunk and the few in front that an index has. */
const MAX_INDEX_BYTES = 64 * MAX_XORB_CHUNKS;
/** Indexes kept by one isolate. */
const RECENT_BYTES = 8 << 20;
/** An upload that has not ended by then is taken for dead by one that sends the same xorb again. */
const LEFT_BEHIND_MS = 60_000;
/** When the sweep takes it for dead: no request lasts that long. */
const ABANDONED_MS = 24 * 3600 * 1000;

export type XorbUpload = {
  readonly hash: XetHash;
  readonly body: ReadableStream<Uint8Array> | null;
  /** Bytes of the body as declared; null when they were not. */
  readonly contentLength: number | null;
};
type Source = { readonly hash: XetHash; readonly body: ReadableStream<Uint8Array>; readonly size: number };

/**
 * Takes a xorb. `inserted` is false when the target scope or `public` has it already; the body is verified all the same, so
 * that the answer shows nothing to those who do not have the bytes.
 * @throws length_required | payload_too_large | size_mismatch | body_interrupted; FormatError `xet.…` of `XorbVerifier`
 */
export async function receiveXorb(
  platform: Platform,
  scopes: Scopes,
  { hash, body, contentLength }: XorbUpload,
): Promise<{ readonly inserted: boolean }> {
  if (contentLength === null) throw new HubError("length_required", { expected: "the bytes of the xorb" });
  if (contentLength > MAX_UPLOAD_BYTES)
    throw new HubError("payload_too_large", { problem: `A xorb has at most ${MAX_XORB_BYTES} bytes.` });
  const source = { hash, body: body ?? new Blob([]).stream(), size: contentLength };
  const { isStored, leftBehind } = await findCopies(platform, scopes, hash);
  if (isStored) {
    await verify(source);
    return { inserted: false };
  }
  for (const key of leftBehind) {
    const size = await platform.blobs.size(key);
    if (size === null) continue;
    await verify(source);
    const index = await indexIfWhole(platform.blobs, { key, hash, size });
    if (index === null) {
      // The client sends a xorb again after an answer like this, and then finds nothing in its way.
      await platform.db.run(condemnStaged([key, indexKey(key)], platform.now()));
      throw new HubError("content_damaged", { key });
    }
    const { target: scope, uploaderId } = scopes;
    return { inserted: await publishXorb(platform, { key, hash, scope, uploaderId, index }) };
  }
  return { inserted: await storeXorb(platform, scopes, source) };
}

/**
 * What there is of a xorb where the caller may learn of it. A stored one counts as used from now on: whoever was told that it
 * is there will refer to it.
 */
async function findCopies(
  platform: Platform,
  { target }: Scopes,
  hash: XetHash,
): Promise<{ isStored: boolean; leftBehind: string[] }> {
  const prefix = xorbPrefix(hash, target);
  const [stored, staged] = await queryEach(platform.db, z.object({ key: z.string() }), [
    sql`update xorbs set idle_since = null where hash = ${hash} and scope in (${target}, ${PUBLIC}) returning key`,
    sql`select key from objects where key >= ${prefix} and key < ${`${prefix}~`} and key not like '%.index'
      and state = 'staged' and changed_at < ${platform.now() - LEFT_BEHIND_MS} order by changed_at desc limit 3`,
  ]);
  return { isStored: (stored ?? []).length > 0, leftBehind: (staged ?? []).map((row) => row.key) };
}

/** Reads a body to its end. The last of it goes to `writer` only after everything matched: before, no object can come of it. */
async function verify(
  { hash, body, size }: Source,
  writer?: WritableStreamDefaultWriter<Uint8Array>,
): Promise<XorbIndex> {
  const chunks = readChunks(body, { reuse: writer === undefined });
  const verifier = new XorbVerifier();
  let received = 0;
  let held: Uint8Array | undefined;
  try {
    for (;;) {
      const chunk = await nextOrInterrupted(chunks, received, size);
      if (chunk === undefined) break;
      received += chunk.length;
      if (received > size) throw new HubError("size_mismatch", { actual: `more than ${size}`, expected: size });
      verifier.push(chunk);
      if (held !== undefined) await writer?.write(held);
      held = chunk;
    }
    if (received < size) throw new HubError("size_mismatch", { actual: received, expected: size });
    const index = verifier.finish(hash);
    if (held !== undefined) await writer?.write(held);
    return index;
  } catch (error) {
    await chunks.cancel(error);
    throw error;
  }
}

/** The row of the objects, then the objects, then the row of the xorb. A footer stays behind the chunks, where nothing reads. */
async function storeXorb(platform: Platform, scopes: Scopes, source: Source): Promise<boolean> {
  const { db, blobs } = platform;
  const { hash, size } = source;
  const key = newXorbKey(hash, scopes.target);
  const keys = [key, indexKey(key)];
  await db.run(stageObjects(keys, platform.now()));
  let verified = false;
  let index: XorbIndex;
  try {
    index = await writeObject(blobs, key, size, async (writer) => {
      const read = await verify(source, writer);
      verified = true;
      return read;
    });
  } catch (error) {
    // What the bucket failed to confirm may be there whole: the next upload or the sweep takes it up.
    if (!verified) await db.run(condemnStaged(keys, platform.now()));
    throw error;
  }
  await blobs.put(indexKey(key), index.encode());
  return publishXorb(platform, { key, hash, scope: scopes.target, uploaderId: scopes.uploaderId, index });
}

/** Objects that were never named; those of a key that another request has given a row stay. */
const condemnStaged = (keys: readonly string[], now: number): SQL =>
  condemnObjects(
    sql`select o.key from objects o where o.state = 'staged' and o.key in (select value from json_each(${asJson(keys)}))`,
    now,
  );

export type NewXorb = {
  /** Of the packed chunks; the index lies under `indexKey(key)`. Both objects are there, and staged. */
  readonly key: string;
  readonly hash: XetHash;
  readonly scope: StorageScope;
  /** Null for what the hub built. */
  readonly uploaderId: string | null;
  readonly index: XorbIndex;
};

/**
 * Commit point of a xorb: its row, and its objects in use. False when the scope had it already: then these objects are
 * condemned. @throws content_damaged when the sweep was first
 */
export async function publishXorb(platform: Pick<Platform, "db" | "now">, xorb: NewXorb): Promise<boolean> {
  const { key, hash, scope, uploaderId, index } = xorb;
  const keys = [key, indexKey(key)];
  const now = platform.now();
  const row = sql`insert into xorbs (hash, scope, uploader_id, key, packed_size, size, chunks, created_at)
    values (${hash}, ${scope}, ${uploaderId}, ${key}, ${index.packedSize}, ${index.size}, ${index.count}, ${now})`;
  try {
    await commitBatch(platform.db, [objectsUsable(keys)], [adoptObjects(keys, now), row]);
    return true;
  } catch (error) {
    if (!isUniqueViolation(error, "xorbs.hash, xorbs.scope") && !isUniqueViolation(error, "xorbs.key")) throw error;
    await platform.db.run(condemnStaged(keys, now));
    return false;
  }
}

/** The index of a copy that has no row yet: read, or made once more from the chunks. */
async function indexOfCopy(
  blobs: BlobStore,
  { key, hash, size }: { readonly key: string; readonly hash: XetHash; readonly size: number },
): Promise<XorbIndex> {
  const stored = await blobs.get(indexKey(key));
  if (stored !== null) return XorbIndex.decode(await readAll(stored, MAX_INDEX_BYTES));
  const index = await verify({ hash, body: await readObject(blobs, key), size });
  await blobs.put(indexKey(key), index.encode());
  return index;
}

/** Gives rows to xorbs that a crash left whole, and condemns what it left in pieces. Returns how many it looked at. */
export async function healStaged(platform: Platform, limit: number): Promise<number> {
  const { db, blobs } = platform;
  const rows = await queryRows(
    db,
    z.object({ key: z.string() }),
    sql`select key from objects where state = 'staged' and changed_at < ${platform.now() - ABANDONED_MS}
      and key >= ${XORBS_PREFIX} and key < ${`${XORBS_PREFIX}~`} and key not like '%.index' order by changed_at limit ${limit}`,
  );
  for (const { key } of rows) {
    const place = parseXorbKey(key);
    const size = await blobs.size(key);
    const index = place === null || size === null ? null : await indexIfWhole(blobs, { key, hash: place.hash, size });
    if (place === null || index === null) await db.run(condemnStaged([key, indexKey(key)], platform.now()));
    else await publishXorb(platform, { key, ...place, uploaderId: null, index });
  }
  return rows.length;
}

async function indexIfWhole(blobs: BlobStore, copy: Parameters<typeof indexOfCopy>[1]): Promise<XorbIndex | null> {
  try {
    return await indexOfCopy(blobs, copy);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

export type VisibleXorb = {
  readonly id: number;
  readonly hash: XetHash;
  readonly key: string;
  /** Bytes of all chunks with their headers, without a footer. */
  readonly packedSize: number;
  readonly chunks: number;
};

export const VisibleXorbRow = z.object({
  id: z.number(),
  hash: z.string().transform((text) => parseXetHash(text, "hash")),
  key: z.string(),
  packedSize: z.number(),
  chunks: z.number(),
});

/** The columns of `VisibleXorbRow`, of the row `x` of `xorbs`. */
export const VISIBLE_XORB = sql`x.id, x.hash, x.key, x.packed_size as "packedSize", x.chunks`;

/** Of these xorbs, those that the caller may see: the copy in its target scope before others, then the public one. One query. */
export async function findXorbs(
  db: Db,
  scopes: Scopes,
  hashes: readonly XetHash[],
): Promise<Map<XetHash, VisibleXorb>> {
  const rows = await queryRows(
    db,
    VisibleXorbRow,
    sql`select ${VISIBLE_XORB} from xorbs x where x.hash in (select value from json_each(${asJson(hashes)})) and ${isVisible(scopes)}
      order by case x.scope when ${scopes.target} then 2 when ${PUBLIC} then 1 else 0 end, x.id desc`,
  );
  return new Map(rows.map((row) => [row.hash, row]));
}

/** In the batch that makes a row name them: since when they are idle is forgotten. */
export const touchXorbs = (ids: readonly number[]): SQL =>
  sql`update xorbs set idle_since = null where idle_since is not null and id in (select value from json_each(${asJson(ids)}))`;

/** Beside `touchXorbs`: the sweep has taken none of them. */
export const xorbsExist = (ids: readonly number[], otherwise: Guard["otherwise"]): Guard => ({
  holds: sql`not exists (select 1 from json_each(${asJson(ids)}) j where not exists (select 1 from xorbs x where x.id = j.value))`,
  otherwise,
});

/** Null for one that does not exist or that the caller may not see. `packedSize` in bytes, without a footer. */
export async function findXorb(
  platform: Pick<Platform, "db">,
  scopes: Scopes,
  hash: XetHash,
): Promise<{ readonly packedSize: number } | null> {
  return (await findXorbs(platform.db, scopes, [hash])).get(hash) ?? null;
}

/** Indexes by key, the least recently used first. They never change, so any request may use them. */
const recent = new Map<string, XorbIndex>();
let recentBytes = 0;
/** Reads under way, of one request each: one must not wait for another's, which dies with its client. */
const underWay = new WeakMap<BlobStore, Map<string, Promise<XorbIndex>>>();

const weight = (index: XorbIndex): number => 40 * index.count;

function keep(key: string, index: XorbIndex): void {
  if (!recent.delete(key)) recentBytes += weight(index);
  recent.set(key, index);
  for (const [oldest, old] of recent) {
    if (recentBytes <= RECENT_BYTES) return;
    recent.delete(oldest);
    recentBytes -= weight(old);
  }
}

/** What lies where in a stored xorb. Recently used ones are kept. @throws content_damaged when the index is gone or damaged */
export async function loadIndex(blobs: BlobStore, { key }: { readonly key: string }): Promise<XorbIndex> {
  const known = recent.get(key);
  if (known !== undefined) {
    keep(key, known);
    return known;
  }
  const reads = underWay.get(blobs) ?? new Map<string, Promise<XorbIndex>>();
  underWay.set(blobs, reads);
  let read = reads.get(key);
  if (read === undefined) {
    read = readIndex(blobs, key).finally(() => reads.delete(key));
    reads.set(key, read);
  }
  return read;
}

async function readIndex(blobs: BlobStore, key: string): Promise<XorbIndex> {
  const bytes = await readAll(await readObject(blobs, indexKey(key)), MAX_INDEX_BYTES);
  try {
    const index = XorbIndex.decode(bytes);
    keep(key, index);
    return index;
  } catch (cause) {
    throw new HubError("content_damaged", { key }, { cause });
  }
}
