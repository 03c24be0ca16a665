// Files, xorbs and shards as a Xet client makes them, in memory, for tests that need whole ones or slightly wrong ones.
import { createHash } from "node:crypto";
import { chunkHash } from "../../src/formats/xet/blake3";
import { encodeChunk, encodeChunkHeader } from "../../src/formats/xet/chunk";
import { ChunkSplitter } from "../../src/formats/xet/chunker";
import { isDedupEligible, xetHashBytes, xetHashOf } from "../../src/formats/xet/hash";
import { fileHash, MerkleBuilder, rangeHash } from "../../src/formats/xet/merkle";
import { parseSha256, parseXetHash, type Sha256, type XetHash } from "../../src/ids";
import { concatBytes } from "../../src/streams/chunks";

/** Bytes that do not pack, the same for the same seed (splitmix32). */
export function randomBytes(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = Math.imul(seed + 1, 0x9e3779b1);
  for (let at = 0; at < length; at++) {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    bytes[at] = mixed >>> 24;
  }
  return bytes;
}

/** The chunks that a client cuts a file into. */
export function chunksOf(bytes: Uint8Array): Uint8Array[] {
  const splitter = new ChunkSplitter();
  const chunks = [...splitter.push(bytes)].map((chunk) => chunk.slice());
  const last = splitter.finish();
  return last === undefined ? chunks : [...chunks, last.slice()];
}

export type BuiltChunk = { readonly bytes: Uint8Array; readonly hash: Uint8Array };
export type BuiltXorb = { readonly hash: XetHash; readonly body: Uint8Array; readonly chunks: readonly BuiltChunk[] };

/** A chunk with header and body. `plain`: stored as it is, however well it packs. */
export function packChunk(bytes: Uint8Array, plain = false): Uint8Array {
  const { scheme, body } = plain ? ({ scheme: 0, body: bytes } as const) : encodeChunk(bytes);
  return join([encodeChunkHeader({ scheme, packedLength: body.length, length: bytes.length }), body]);
}

/** A xorb of these chunks. */
export function buildXorb(chunks: readonly Uint8Array[], plain = false): BuiltXorb {
  const tree = new MerkleBuilder();
  const built = chunks.map((bytes) => ({ bytes, hash: chunkHash(bytes) }));
  for (const { bytes, hash } of built) tree.add(hash, bytes.length);
  return { hash: xetHashOf(tree.root()), body: join(chunks.map((bytes) => packChunk(bytes, plain))), chunks: built };
}

export type TermSpec = {
  readonly xorb: XetHash;
  readonly length: number;
  readonly start: number;
  readonly end: number;
  /** Null leaves the verification of the whole file out. */
  readonly rangeHash: Uint8Array | null;
};
export type FileSpec = { readonly hash: XetHash; readonly terms: readonly TermSpec[]; readonly sha256: Sha256 | null };
export type XorbSpec = { readonly hash: XetHash; readonly chunks: readonly { hash: Uint8Array; length: number }[] };

/** The term for chunks [start, end) of a xorb. */
export function termOf(xorb: BuiltXorb, start = 0, end = xorb.chunks.length): TermSpec {
  const chunks = xorb.chunks.slice(start, end);
  return {
    xorb: xorb.hash,
    length: chunks.reduce((sum, { bytes }) => sum + bytes.length, 0),
    start,
    end,
    rangeHash: rangeHash(join(chunks.map(({ hash }) => hash))),
  };
}

/** A file of ranges of xorbs, with the hashes that it really has. */
export function fileOf(ranges: readonly (readonly [xorb: BuiltXorb, start?: number, end?: number])[]): FileSpec & {
  readonly bytes: Uint8Array;
} {
  const chunks = ranges.flatMap(([xorb, start, end]) => xorb.chunks.slice(start, end));
  const tree = new MerkleBuilder();
  for (const { bytes, hash } of chunks) tree.add(hash, bytes.length);
  const bytes = join(chunks.map((chunk) => chunk.bytes));
  return {
    hash: xetHashOf(fileHash(tree.root())),
    terms: ranges.map(([xorb, start, end]) => termOf(xorb, start, end)),
    sha256: sha256Of(bytes),
    bytes,
  };
}

export const sha256Of = (bytes: Uint8Array): Sha256 =>
  parseSha256(createHash("sha256").update(bytes).digest("hex"), "sha256");

/** What a shard says of a xorb that was just uploaded. */
export const xorbSpec = ({ hash, chunks }: BuiltXorb): XorbSpec => ({
  hash,
  chunks: chunks.map((chunk) => ({ hash: chunk.hash, length: chunk.bytes.length })),
});

export type BuiltFile = { readonly file: FileSpec; readonly xorbs: readonly BuiltXorb[]; readonly shard: Uint8Array };

/** Everything that a client sends for one file: at most `perXorb` chunks a xorb. */
export function buildFile(bytes: Uint8Array, perXorb = 1000): BuiltFile {
  const chunks = chunksOf(bytes);
  const xorbs: BuiltXorb[] = [];
  for (let i = 0; i < chunks.length; i += perXorb) xorbs.push(buildXorb(chunks.slice(i, i + perXorb)));
  const file = fileOf(xorbs.map((xorb) => [xorb]));
  return { file, xorbs, shard: encodeShard({ files: [file], xorbs: xorbs.map(xorbSpec) }) };
}

const RECORD = 48;
const FOOTER_BYTES = 200;
const TAG = [
  ...new TextEncoder().encode("HFRepoMetaData\0"),
  ...[85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169],
];

function record(hash: Uint8Array, ...fields: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(RECORD);
  bytes.set(hash);
  const view = new DataView(bytes.buffer);
  for (const [at, field] of fields.entries()) view.setUint32(32 + 4 * at, field, true);
  return bytes;
}

export type ShardSpec = {
  readonly files: readonly FileSpec[];
  readonly xorbs: readonly XorbSpec[];
  /** As huggingface.js sends it; hf_xet leaves it out. */
  readonly footer?: boolean;
};

/** A shard as clients upload it. */
export function encodeShard({ files, xorbs, footer = false }: ShardSpec): Uint8Array {
  const bookend = record(new Uint8Array(32).fill(0xff));
  const header = new Uint8Array(RECORD);
  header.set(TAG);
  const headerView = new DataView(header.buffer);
  headerView.setBigUint64(32, 2n, true);
  headerView.setBigUint64(40, footer ? BigInt(FOOTER_BYTES) : 0n, true);
  const parts: Uint8Array[] = [header];
  for (const { hash, terms, sha256 } of files) {
    const verified = terms.every((term) => term.rangeHash !== null);
    const flags = (verified ? 0x8000_0000 : 0) + (sha256 === null ? 0 : 0x4000_0000);
    parts.push(record(xetHashBytes(hash), flags, terms.length));
    for (const { xorb, length, start, end } of terms) parts.push(record(xetHashBytes(xorb), 0, length, start, end));
    if (verified) for (const { rangeHash: range } of terms) parts.push(record(range ?? new Uint8Array()));
    // The digest has the byte order of a Xet hash.
    if (sha256 !== null) parts.push(record(xetHashBytes(parseXetHash(sha256, "sha256"))));
  }
  parts.push(bookend);
  const xorbsAt = parts.length * RECORD;
  for (const { hash, chunks } of xorbs) {
    const size = chunks.reduce((sum, { length }) => sum + length, 0);
    parts.push(record(xetHashBytes(hash), 0, chunks.length, size, 0));
    let at = 0;
    for (const chunk of chunks) {
      parts.push(record(chunk.hash, at, chunk.length, isDedupEligible(chunk.hash) ? 0x8000_0000 : 0));
      at += chunk.length;
    }
  }
  parts.push(bookend);
  if (footer) parts.push(shardFooter(xorbsAt, parts.length * RECORD));
  return join(parts);
}

function shardFooter(xorbsAt: number, footerAt: number): Uint8Array {
  const bytes = new Uint8Array(FOOTER_BYTES);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  put(0, 1);
  put(8, RECORD);
  put(16, xorbsAt);
  for (const at of [24, 40, 56, 192]) put(at, footerAt);
  return bytes;
}

export const join = (parts: readonly Uint8Array[]): Uint8Array =>
  concatBytes(
    parts,
    parts.reduce((sum, part) => sum + part.length, 0),
  );
