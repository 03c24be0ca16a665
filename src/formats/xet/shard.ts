// Shards: what files are made of and what xorbs hold, as clients upload it and as deduplication answers it.
import type { Sha256, XetHash } from "../../ids";
import type { XorbIndex } from "./xorb";

export const MAX_SHARD_BYTES = 64 << 20;

export type ShardTerm = {
  readonly xorb: XetHash;
  /** Unpacked bytes. */
  readonly length: number;
  /** Chunks [start, end) of the xorb. */
  readonly start: number;
  readonly end: number;
  /** 32 raw bytes, or null when the file carries no verification. */
  readonly rangeHash: Uint8Array | null;
};
export interface ShardTerms {
  readonly count: number;
  at(index: number): ShardTerm;
}
export type ShardChunk = {
  /** 32 raw bytes, a view. */
  readonly hash: Uint8Array;
  /** Unpacked bytes. */
  readonly start: number;
  readonly length: number;
};
export interface ShardChunks {
  readonly count: number;
  at(index: number): ShardChunk;
}
export type ShardFile = {
  readonly kind: "file";
  readonly hash: XetHash;
  readonly terms: ShardTerms;
  /** What the client says that the whole file's SHA-256 is; unproven. */
  readonly sha256: Sha256 | null;
};
export type ShardXorb = {
  readonly kind: "xorb";
  readonly hash: XetHash;
  readonly size: number;
  /** As the client wrote it; hf_xet writes 0. */
  readonly packedSize: number;
  readonly chunks: ShardChunks;
};

/**
 * Reads a shard entry by entry from `next` (pieces of any size, undefined at the end; a piece may be overwritten once the
 * following one is asked for). Nothing yielded proves anything before the generator has ended without an error.
 */
export async function* readShard(
  _next: () => Promise<Uint8Array | undefined>,
): AsyncGenerator<ShardFile | ShardXorb, void, void> {
  yield* [];
  throw new Error("soon");
}

/** Whether a shard's chunks are those of the xorb, hash by hash and length by length. */
export function sameChunks(_chunks: ShardChunks, _index: XorbIndex): boolean {
  throw new Error("soon");
}

export type DedupShard = {
  readonly xorbs: Iterable<{ readonly hash: XetHash; readonly index: XorbIndex }>;
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly expiresAt: number;
};

/** The answer to a deduplication query: no files, the xorbs with keyed chunk hashes, the 200-byte footer. */
export function encodeDedupShard(_shard: DedupShard): Uint8Array {
  throw new Error("soon");
}
