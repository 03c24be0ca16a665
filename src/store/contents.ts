// File contents: bytes by digest, kept as an ordered list of segments, each one object of the bucket.
import { createHash } from "node:crypto";
import { type SQL, sql } from "drizzle-orm";
import { asJson } from "../db/client";
import type { Segment } from "../db/schema";
import { HubError } from "../errors";
import { parseSha256, type Sha256 } from "../ids";
import type { BlobStore, ByteRange, Platform } from "../platform/platform";
import { concatStreams } from "../streams/concat";
import { blobKey } from "./keys";

/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;

export type StoredContent = { readonly sha256: Sha256; readonly size: number; readonly segments: readonly Segment[] };

export const sha256Of = (bytes: Uint8Array | string): Sha256 =>
  parseSha256(createHash("sha256").update(bytes).digest("hex"), "sha256");

/** Stores small files that are in memory anyway; the rows of all in one statement. */
export async function storeBytes(platform: Platform, files: readonly Uint8Array[]): Promise<StoredContent[]> {
  const stored = files.map((bytes) => {
    const sha256 = sha256Of(bytes);
    return { sha256, size: bytes.byteLength, segments: [{ key: blobKey(sha256), size: bytes.byteLength, sha256 }] };
  });
  for (let i = 0; i < files.length; i += CONCURRENCY)
    await Promise.all(
      stored.slice(i, i + CONCURRENCY).map(async ({ sha256 }, j) => {
        const bytes = files[i + j];
        if (bytes !== undefined) await platform.blobs.put(blobKey(sha256), bytes, sha256);
      }),
    );
  if (stored.length > 0) await platform.db.run(insertContents(stored, platform.now()));
  return stored;
}

export function insertContents(contents: readonly StoredContent[], now: number): SQL {
  return sql`insert or ignore into contents (sha256, size, segments, created_at)
      select value ->> 'sha256', value ->> 'size', value ->> 'segments', ${now} from json_each(${asJson(contents)})`;
}

/**
 * The bytes of a content, whole or a range (offset and length in bytes, within its size), never held in memory.
 * @throws content_damaged when an object is missing
 */
export async function readContent(
  blobs: BlobStore,
  content: Pick<StoredContent, "segments" | "size">,
  range: ByteRange = { offset: 0, length: content.size },
): Promise<ReadableStream<Uint8Array>> {
  const pieces: (() => Promise<ReadableStream<Uint8Array>>)[] = [];
  let start = 0;
  for (const segment of content.segments) {
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

async function readObject(blobs: BlobStore, key: string, range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
  const body = await blobs.get(key, range);
  if (body === null) throw new HubError("content_damaged");
  return body;
}
