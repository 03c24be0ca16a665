// File contents: bytes by digest, kept as segments (whole objects) or as a Xet file (ranges of xorbs), read the same way.
import { createHash } from "node:crypto";
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch } from "../db/client";
import type { Segment } from "../db/schema";
import { HubError } from "../errors";
import { parseSha256, parseXetHash, type Sha256, type XetHash } from "../ids";
import type { BlobStore, ByteRange, Platform } from "../platform/platform";
import { concatStreams } from "../streams/concat";
import { newBlobKey } from "./keys";
import { objectsUsable, readObject, settleObjects, stageObjects } from "./objects";
import { readXetFile } from "./xet/reader";
import { type Term, Terms, termsOf } from "./xet/terms";

/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;

export type Source =
  | { readonly kind: "segments"; readonly segments: readonly Segment[] }
  /** `terms`: the first ones from the range asked for, as far as they were loaded with the file; the reader finds the rest. */
  | { readonly kind: "xet"; readonly fileId: number; readonly hash: XetHash; readonly terms: readonly Term[] };

export type StoredContent = { readonly sha256: Sha256; readonly size: number; readonly source: Source };

/** A row of `contents`, ready to be read. */
export const segmented = ({ sha256, size, segments }: NewContent): StoredContent => ({
  sha256,
  size,
  source: { kind: "segments", segments },
});
export type Readable = Pick<StoredContent, "size" | "source">;

export type HoldingState = "verified" | "claimed" | "mismatched";
/** How a repository holds bytes, as another one would have to hold them to link them. */
export type Holding = { readonly fileId: number | null; readonly state: HoldingState };
export const STORED: Holding = { fileId: null, state: "verified" };

/** Bytes that a repository holds. */
export type HeldContent = Readable & { readonly holding: Holding };

export const sha256Of = (bytes: Uint8Array | string): Sha256 =>
  parseSha256(createHash("sha256").update(bytes).digest("hex"), "sha256");

const Segments = z.array(
  z.object({ key: z.string(), size: z.number(), sha256: z.string().transform((text) => parseSha256(text, "sha256")) }),
);
export const SegmentsColumn = z.string().transform((text) => Segments.parse(JSON.parse(text)));

/**
 * SQL for the bytes that a repository holds under a digest, to be read by `HeldColumn`; null where it holds none. With `span`,
 * the terms of a Xet file that cover those bytes come along, so that reading needs no further query.
 */
export const heldContent = (repoId: SQL, sha256: SQL, span?: ByteRange): SQL =>
  contentOf(sql`repo_contents h`, sql`h.repo_id = ${repoId} and h.sha256 = ${sha256}`, span);

/** The same for bytes that were stored for a repository which does not hold them yet; null where they are gone. */
export const heldContentOf = ({ fileId, state }: Holding, sha256: Sha256 | SQL, span?: ByteRange): SQL =>
  contentOf(
    sql`(select ${sha256} as sha256, ${fileId} as file_id, ${state} as state) h`,
    sql`coalesce(f.size, k.size) is not null`,
    span,
  );

/** `holding`: the rows `h`, each with a digest, a file or null, and a state. */
const contentOf = (holding: SQL, where: SQL, span?: ByteRange): SQL => sql`(
  select json_object('state', h.state, 'file', h.file_id, 'hash', f.hash, 'size', coalesce(f.size, k.size), 'segments', k.segments,
      'terms', ${span === undefined ? sql`null` : sql`json((${termsOf(sql`h.file_id`, span)}))`})
    from ${holding} left join xet_files f on f.id = h.file_id
    left join contents k on h.file_id is null and k.sha256 = h.sha256
    where ${where})`;

const Held = z.object({
  state: z.enum(["verified", "claimed", "mismatched"]),
  file: z.number().nullable(),
  hash: z
    .string()
    .transform((text) => parseXetHash(text, "hash"))
    .nullable(),
  size: z.number().nullable(),
  segments: SegmentsColumn.nullable(),
  terms: Terms.nullable(),
});

/** @throws content_damaged when the file or content that the repository holds is gone */
export const HeldColumn = z.string().transform((text): HeldContent => {
  const { state, file, hash, size, segments, terms } = Held.parse(JSON.parse(text));
  const holding = { fileId: file, state };
  if (size !== null && file !== null && hash !== null)
    return { size, holding, source: { kind: "xet", fileId: file, hash, terms: terms ?? [] } };
  if (size === null || segments === null) throw new HubError("content_damaged");
  return { size, holding, source: { kind: "segments", segments } };
});

/** The bytes, unless they turned out not to be what they were published as. @throws content_quarantined */
export function usable<T extends { readonly holding: Holding }>(content: T, path: string): T {
  if (content.holding.state === "mismatched") throw new HubError("content_quarantined", { path });
  return content;
}

/**
 * Stores small files that are in memory anyway; the rows of all in one batch. What is stored already is sent all the same: to be sooner
 * done would tell the caller that somebody has it.
 */
export async function storeBytes(
  platform: Platform,
  files: readonly Uint8Array[],
): Promise<Pick<StoredContent, "sha256" | "size">[]> {
  const { db, blobs } = platform;
  const stored = files.map((bytes) => ({ sha256: sha256Of(bytes), size: bytes.byteLength, bytes }));
  const distinct = [...new Map(stored.map((one) => [one.sha256, one])).values()].map((one) => ({
    ...one,
    key: newBlobKey(one.sha256),
  }));
  if (distinct.length === 0) return [];
  const keys = distinct.map(({ key }) => key);
  await db.run(stageObjects(keys, platform.now()));
  for (let i = 0; i < distinct.length; i += CONCURRENCY)
    await Promise.all(
      distinct.slice(i, i + CONCURRENCY).map(({ key, bytes, sha256 }) => blobs.put(key, bytes, sha256)),
    );
  const rows = distinct.map(({ sha256, size, key }) => ({ sha256, size, segments: [{ key, size, sha256 }] }));
  // Commit point: the rows, each with its object. Before it there are staged objects, which a day later are condemned.
  await commitBatch(db, [objectsUsable(keys)], contentStatements(rows, keys, platform.now()));
  return stored.map(({ sha256, size }) => ({ sha256, size }));
}

/** Whoever is about to name contents: from now on they are not idle, and the grace begins anew if nobody does. */
const touchContents = (digests: SQL): SQL =>
  sql`update contents set idle_since = null where idle_since is not null and sha256 in (${digests})`;

export type NewContent = { readonly sha256: Sha256; readonly size: number; readonly segments: readonly Segment[] };

/**
 * The rows of contents whose objects are stored, beside the guard `objectsUsable(keys)`. Where a content was there before, it
 * stays as it is, no longer idle, and the new objects are condemned.
 */
export function contentStatements(contents: readonly NewContent[], keys: readonly string[], now: number): SQL[] {
  const digests = contents.map(({ sha256 }) => sha256);
  return [
    touchContents(sql`select value from json_each(${asJson(digests)})`),
    sql`insert or ignore into contents (sha256, size, segments, created_at)
      select value ->> 'sha256', value ->> 'size', value ->> 'segments', ${now} from json_each(${asJson(contents)})`,
    settleObjects(sql`select value from json_each(${asJson(keys)})`, digests, now),
  ];
}

/**
 * The bytes of a content, whole or a range (offset and length in bytes, within its size), never held in memory.
 * @throws content_damaged when an object is missing
 */
export async function readContent(
  platform: Pick<Platform, "db" | "blobs">,
  content: Readable,
  range: ByteRange = { offset: 0, length: content.size },
): Promise<ReadableStream<Uint8Array>> {
  return content.source.kind === "xet"
    ? readXetFile(platform, content.source, range)
    : readSegments(platform.blobs, content.source.segments, range);
}

async function readSegments(
  blobs: BlobStore,
  segments: readonly Segment[],
  range: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  const pieces: (() => Promise<ReadableStream<Uint8Array>>)[] = [];
  let start = 0;
  for (const segment of segments) {
    const from = Math.max(range.offset, start) - start;
    const to = Math.min(range.offset + range.length, start + segment.size) - start;
    if (from < to) {
      const piece = from === 0 && to === segment.size ? undefined : { offset: from, length: to - from };
      pieces.push(() => readObject(blobs, segment.key, piece));
    }
    start += segment.size;
  }
  const [only] = pieces;
  if (only === undefined) return new Blob([]).stream();
  return pieces.length === 1 ? only() : concatStreams(pieces, range.length);
}
