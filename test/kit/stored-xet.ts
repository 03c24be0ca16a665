// Xet files put straight into the store, of any shape: for tests of the ways that lead out of it.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../src/db/client";
import { splitBg4 } from "../../src/formats/xet/bg4";
import { chunkHash } from "../../src/formats/xet/blake3";
import { encodeChunkHeader, type Scheme } from "../../src/formats/xet/chunk";
import { xetHashOf } from "../../src/formats/xet/hash";
import { encodeLz4Frame } from "../../src/formats/xet/lz4";
import { MerkleBuilder } from "../../src/formats/xet/merkle";
import { type XorbIndex, XorbVerifier } from "../../src/formats/xet/xorb";
import type { XetHash } from "../../src/ids";
import type { Platform } from "../../src/platform/platform";
import { indexKey, newXorbKey } from "../../src/store/keys";
import { PUBLIC } from "../../src/store/scopes";
import { join } from "./xet";

export type Chunk = { readonly bytes: Uint8Array; readonly scheme: Scheme };

function bodyOf({ bytes, scheme }: Chunk): Uint8Array {
  if (scheme === 0) return bytes;
  if (scheme === 1) return encodeLz4Frame(bytes);
  const groups = new Uint8Array(bytes.length);
  splitBg4(bytes, groups);
  return encodeLz4Frame(groups);
}

export type StoredXorb = {
  readonly id: number;
  readonly hash: XetHash;
  readonly key: string;
  readonly body: Uint8Array;
  readonly index: XorbIndex;
  readonly chunks: readonly Chunk[];
};

const Id = z.object({ id: z.number() });

async function insertedId(platform: Platform, statement: ReturnType<typeof sql>): Promise<number> {
  const [row] = await queryRows(platform.db, Id, statement);
  if (row === undefined) throw new Error("nothing was inserted");
  return row.id;
}

/** A xorb with its two objects and its row. */
export async function storeXorb(platform: Platform, chunks: readonly Chunk[]): Promise<StoredXorb> {
  const tree = new MerkleBuilder();
  for (const { bytes } of chunks) tree.add(chunkHash(bytes), bytes.length);
  const hash = xetHashOf(tree.root());
  const body = join(
    chunks.flatMap((chunk) => {
      const packed = bodyOf(chunk);
      const { scheme, bytes } = chunk;
      return [encodeChunkHeader({ scheme, packedLength: packed.length, length: bytes.length }), packed];
    }),
  );
  const verifier = new XorbVerifier();
  verifier.push(body);
  const index = verifier.finish(hash);
  const key = newXorbKey(hash, PUBLIC);
  await Promise.all([platform.blobs.put(key, body), platform.blobs.put(indexKey(key), index.encode())]);
  const id = await insertedId(
    platform,
    sql`insert into xorbs (hash, scope, key, packed_size, size, chunks, created_at)
      values (${hash}, ${PUBLIC}, ${key}, ${index.packedSize}, ${index.size}, ${index.count}, 0) returning id`,
  );
  return { id, hash, key, body, index, chunks };
}

/** Chunks [start, end) of a xorb. */
export type Part = readonly [xorb: StoredXorb, start: number, end: number];
export type StoredFile = { readonly fileId: number; readonly size: number; readonly bytes: Uint8Array };

/** A file that is made of these parts, a term each. */
export async function storeFile(platform: Platform, parts: readonly Part[]): Promise<StoredFile> {
  const bytes = join(parts.flatMap(([xorb, start, end]) => xorb.chunks.slice(start, end).map((chunk) => chunk.bytes)));
  const hash = xetHashOf(crypto.getRandomValues(new Uint8Array(32)));
  const fileId = await insertedId(
    platform,
    sql`insert into xet_files (hash, scope, size, state, created_at)
      values (${hash}, ${PUBLIC}, ${bytes.length}, 'registered', 0) returning id`,
  );
  let offset = 0;
  const rows = parts.map(([{ id, index }, start, end]) => {
    const length = index.lengthOf(start, end);
    const packed = index.packedRange(start, end);
    offset += length;
    return [offset - length, length, id, start, end, packed.start, packed.end];
  });
  await platform.db.run(sql`
    insert into xet_terms (file_id, offset, length, xorb_id, chunk_start, chunk_end, byte_start, byte_end)
      select ${fileId}, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        from json_each(${asJson(rows)})`);
  return { fileId, size: bytes.length, bytes };
}

/** The store that a platform has, with a list of what was read from it. */
export function watched(platform: Platform): { readonly platform: Platform; readonly reads: string[] } {
  const reads: string[] = [];
  const { blobs } = platform;
  const get: typeof blobs.get = (key, range) => {
    reads.push(range === undefined ? key : `${key} ${range.offset}+${range.length}`);
    return blobs.get(key, range);
  };
  return { platform: { ...platform, blobs: { ...blobs, get } }, reads };
}
