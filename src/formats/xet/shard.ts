// Shards: what files are made of and what xorbs hold, as clients upload it and as deduplication answers it.
// Follows the shard format of the Xet protocol specification; lookup tables and footer as in its reference code.
import { parseSha256, type Sha256, type XetHash } from "../../ids";
import { keyedHash } from "./blake3";
import { MAX_CHUNK_BYTES } from "./chunker";
import { HASH_BYTES, isDedupEligible, xetHashBytes, xetHashOf } from "./hash";
import { MAX_SHARD_BYTES, RECORD_BYTES, type Records, rejectShard, ShardReader, viewOf } from "./shard-records";
import { MAX_XORB_CHUNKS, type XorbIndex } from "./xorb-index";

export { MAX_SHARD_BYTES } from "./shard-records";

const TAG = Uint8Array.of(
  ...new TextEncoder().encode("HFRepoMetaData\0"),
  ...[85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169],
);
const VERSION = 2n;
const FOOTER_VERSION = 1n;
const FOOTER_BYTES = 200;
/** Where the fields of a record begin; the hash comes first in all of them. */
const FLAGS_AT = HASH_BYTES;
const SECOND_AT = FLAGS_AT + 4;
const THIRD_AT = SECOND_AT + 4;
const FOURTH_AT = THIRD_AT + 4;
const HAS_VERIFICATION = 0x8000_0000;
const HAS_METADATA = 0x4000_0000;
const DEDUP_CANDIDATE = 0x8000_0000;
/** Bytes of an entry in the lookup tables of files, xorbs and chunks, in that order. */
const LOOKUP_BYTES = [12, 12, 16] as const;
/** Where fields of the footer begin. */
const FILES_AT = 8;
const XORBS_AT = 16;
const LOOKUPS_AT = 24;
const KEY_AT = 72;
const CREATED_AT = 104;
const EXPIRES_AT = 112;
const PACKED_TOTAL_AT = 168;
const STORED_TOTAL_AT = 184;
const FOOTER_OFFSET_AT = 192;

export type ShardTerm = {
  readonly xorb: XetHash;
  /** Unpacked bytes. */
  readonly length: number;
  /** Chunks [start, end) of the xorb. */
  readonly start: number;
  readonly end: number;
  /** 32 raw bytes, a view, or null when the file carries no verification. */
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
  /** Unpacked bytes of all chunks. */
  readonly size: number;
  /** As the client wrote it; hf_xet writes 0. */
  readonly packedSize: number;
  readonly chunks: ShardChunks;
};

const hashOf = (record: Uint8Array): Uint8Array => record.subarray(0, HASH_BYTES);

/** Both sections end with a record of 32 bytes FF and 16 bytes 00. */
function isBookend(record: Uint8Array): boolean {
  if (!hashOf(record).every((byte) => byte === 0xff)) return false;
  if (!record.subarray(HASH_BYTES).every((byte) => byte === 0))
    rejectShard("bookend", "ends a section with a damaged record");
  return true;
}

/** One part of a file, from its record and the one that verifies it. */
function readTerm(record: Uint8Array, verification: Uint8Array | undefined): ShardTerm {
  const view = viewOf(record);
  return {
    xorb: xetHashOf(hashOf(record)),
    length: view.getUint32(SECOND_AT, true),
    start: view.getUint32(THIRD_AT, true),
    end: view.getUint32(FOURTH_AT, true),
    rangeHash: verification === undefined ? null : hashOf(verification),
  };
}

function checkTerm(record: Uint8Array): void {
  const view = viewOf(record);
  const length = view.getUint32(SECOND_AT, true);
  const start = view.getUint32(THIRD_AT, true);
  const end = view.getUint32(FOURTH_AT, true);
  const chunks = end - start;
  if (chunks < 1 || end > MAX_XORB_CHUNKS) rejectShard("term", `has a term with the chunks ${start} to ${end}`);
  if (length < chunks || length > chunks * MAX_CHUNK_BYTES)
    rejectShard("term", `has a term of ${length} bytes in ${chunks} chunks`);
}

/** The digest is stored like a Xet hash: its hex digits are those of the text form, not of the bytes. */
function readSha256(record: Uint8Array): Sha256 | null {
  const digest = hashOf(record);
  // hf_xet writes zeros for the empty file, which has a digest like any other: no claim.
  return digest.every((byte) => byte === 0) ? null : parseSha256(xetHashOf(digest), "sha256");
}

async function readFile(reader: ShardReader, header: Uint8Array): Promise<ShardFile> {
  const view = viewOf(header);
  const flags = view.getUint32(FLAGS_AT, true);
  if ((flags & ~(HAS_VERIFICATION | HAS_METADATA)) !== 0)
    rejectShard("flags", `has a file with the unknown flags 0x${flags.toString(16)}`);
  const count = view.getUint32(SECOND_AT, true);
  const records = await reader.records(count);
  for (let term = 0; term < count; term++) checkTerm(records.at(term));
  let verification: Records | undefined;
  if ((flags & HAS_VERIFICATION) !== 0) verification = await reader.records(count);
  const sha256 = (flags & HAS_METADATA) === 0 ? null : readSha256(await reader.bytes(RECORD_BYTES));
  const terms = { count, at: (index: number) => readTerm(records.at(index), verification?.at(index)) };
  return { kind: "file", hash: xetHashOf(hashOf(header)), terms, sha256 };
}

function readChunk(record: Uint8Array): ShardChunk {
  const view = viewOf(record);
  return { hash: hashOf(record), start: view.getUint32(FLAGS_AT, true), length: view.getUint32(SECOND_AT, true) };
}

async function readXorb(reader: ShardReader, header: Uint8Array): Promise<ShardXorb> {
  const view = viewOf(header);
  const count = view.getUint32(SECOND_AT, true);
  if (count === 0 || count > MAX_XORB_CHUNKS) rejectShard("xorb", `has a xorb of ${count} chunks`);
  const size = view.getUint32(THIRD_AT, true);
  const records = await reader.records(count);
  let end = 0;
  for (let chunk = 0; chunk < count; chunk++) {
    const { start, length } = readChunk(records.at(chunk));
    if (start !== end || length === 0 || length > MAX_CHUNK_BYTES)
      rejectShard("xorb", `has a chunk of ${length} bytes at ${start} where the one before ends at ${end}`);
    end += length;
  }
  if (end !== size) rejectShard("xorb", `has a xorb of ${size} bytes whose chunks have ${end}`);
  return {
    kind: "xorb",
    hash: xetHashOf(hashOf(header)),
    size,
    packedSize: view.getUint32(FOURTH_AT, true),
    chunks: { count, at: (index) => readChunk(records.at(index)) },
  };
}

/** The lookup tables and the footer: read over, but they must lie exactly where the footer says. */
async function checkFooter(reader: ShardReader, xorbsAt: number): Promise<void> {
  const tablesAt = reader.position;
  const footer = await reader.last(FOOTER_BYTES);
  const end = reader.position;
  if (footer.length < FOOTER_BYTES) rejectShard("truncated", "ends inside its footer");
  const view = viewOf(footer);
  const isAt = (field: number, offset: number): boolean => view.getBigUint64(field, true) === BigInt(offset);
  let at = tablesAt;
  let placed = view.getBigUint64(0, true) === FOOTER_VERSION && isAt(FILES_AT, RECORD_BYTES) && isAt(XORBS_AT, xorbsAt);
  for (const [table, bytes] of LOOKUP_BYTES.entries()) {
    const field = LOOKUPS_AT + 16 * table;
    const count = view.getBigUint64(field + 8, true);
    if (count > BigInt(MAX_SHARD_BYTES)) rejectShard("footer", `has a footer that declares ${count} lookups`);
    placed &&= count === 0n || isAt(field, at);
    at += Number(count) * bytes;
  }
  if (!placed || at !== end - FOOTER_BYTES || !isAt(FOOTER_OFFSET_AT, at))
    rejectShard("footer", "has a footer that does not describe it");
}

/**
 * Reads a shard entry by entry from `next` (pieces of any size, undefined at the end; a piece may be overwritten once the
 * following one is asked for). With or without footer. Nothing yielded proves anything before the generator has ended
 * without an error: `xet.shard_tag`, `_version`, `_truncated`, `_too_large`, `_count`, `_flags`, `_term`, `_xorb`, `_bookend`,
 * `_footer`, `_trailing`. Hashes are not checked here. Memory: the entry at hand.
 */
export async function* readShard(
  next: () => Promise<Uint8Array | undefined>,
): AsyncGenerator<ShardFile | ShardXorb, void, void> {
  const reader = new ShardReader(next);
  const prologue = await reader.bytes(RECORD_BYTES);
  if (TAG.some((byte, at) => byte !== prologue[at])) rejectShard("tag", "does not begin like a shard");
  const view = viewOf(prologue);
  const version = view.getBigUint64(TAG.length, true);
  if (version !== VERSION) rejectShard("version", `is a shard of version ${version}; only ${VERSION} is known`);
  const footerBytes = view.getBigUint64(TAG.length + 8, true);
  if (footerBytes !== 0n && footerBytes !== BigInt(FOOTER_BYTES))
    rejectShard("footer", `declares a footer of ${footerBytes} bytes; it has ${FOOTER_BYTES} or is absent`);
  let record = await reader.bytes(RECORD_BYTES);
  for (; !isBookend(record); record = await reader.bytes(RECORD_BYTES)) yield await readFile(reader, record);
  const xorbsAt = reader.position;
  record = await reader.bytes(RECORD_BYTES);
  for (; !isBookend(record); record = await reader.bytes(RECORD_BYTES)) yield await readXorb(reader, record);
  if (footerBytes > 0n) await checkFooter(reader, xorbsAt);
  else if ((await reader.last(1)).length > 0) rejectShard("trailing", "goes on behind its end");
}

/** Whether a shard's chunks are those of the xorb, hash by hash and length by length. */
export function sameChunks(chunks: ShardChunks, index: XorbIndex): boolean {
  if (chunks.count !== index.count) return false;
  for (let chunk = 0; chunk < chunks.count; chunk++) {
    const { hash, length } = chunks.at(chunk);
    const known = index.hashAt(chunk);
    if (length !== index.lengthOf(chunk, chunk + 1) || hash.some((byte, at) => byte !== known[at])) return false;
  }
  return true;
}

export type DedupShard = {
  readonly xorbs: Iterable<{ readonly hash: XetHash; readonly index: XorbIndex }>;
  /** 32 bytes; the answer names chunks only by their hashes under this key. */
  readonly key: Uint8Array;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly expiresAt: number;
};

function writeRecord(hash: Uint8Array, ...fields: readonly number[]): Uint8Array {
  const record = new Uint8Array(RECORD_BYTES);
  record.set(hash);
  const view = viewOf(record);
  for (const [field, value] of fields.entries()) view.setUint32(FLAGS_AT + 4 * field, value, true);
  return record;
}

/**
 * The answer to a deduplication query: no files, the xorbs with their chunk hashes keyed, no lookup tables, the 200-byte
 * footer. Throws `xet.shard_too_large` and, for a key of another length, `xet.key`.
 */
export function encodeDedupShard({ xorbs, key, createdAt, expiresAt }: DedupShard): Uint8Array {
  const known = [...xorbs];
  const records = known.reduce((sum, { index }) => sum + 1 + index.count, 3);
  const footerAt = records * RECORD_BYTES;
  const size = footerAt + FOOTER_BYTES;
  if (size > MAX_SHARD_BYTES) rejectShard("too_large", `would have ${size} bytes, more than ${MAX_SHARD_BYTES}`);
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  const bookend = writeRecord(new Uint8Array(HASH_BYTES).fill(0xff));
  let at = RECORD_BYTES;
  const put = (record: Uint8Array): void => {
    bytes.set(record, at);
    at += RECORD_BYTES;
  };
  bytes.set(TAG);
  view.setBigUint64(TAG.length, VERSION, true);
  view.setBigUint64(TAG.length + 8, BigInt(FOOTER_BYTES), true);
  put(bookend);
  const xorbsAt = at;
  let unpacked = 0;
  let packed = 0;
  for (const { hash, index } of known) {
    put(writeRecord(xetHashBytes(hash), 0, index.count, index.size, index.packedSize));
    for (let chunk = 0; chunk < index.count; chunk++) {
      const raw = index.hashAt(chunk);
      const flags = isDedupEligible(raw) ? DEDUP_CANDIDATE : 0;
      put(writeRecord(keyedHash(key, raw), index.offsetOf(chunk), index.lengthOf(chunk, chunk + 1), flags));
    }
    unpacked += index.size;
    packed += index.packedSize;
  }
  put(bookend);
  const putU64 = (field: number, value: number): void => view.setBigUint64(footerAt + field, BigInt(value), true);
  view.setBigUint64(footerAt, FOOTER_VERSION, true);
  putU64(FILES_AT, RECORD_BYTES);
  putU64(XORBS_AT, xorbsAt);
  for (const table of LOOKUP_BYTES.keys()) putU64(LOOKUPS_AT + 16 * table, footerAt);
  bytes.set(key, footerAt + KEY_AT);
  putU64(CREATED_AT, createdAt);
  putU64(EXPIRES_AT, expiresAt);
  putU64(PACKED_TOTAL_AT, packed);
  putU64(STORED_TOTAL_AT, unpacked);
  putU64(FOOTER_OFFSET_AT, footerAt);
  return bytes;
}
