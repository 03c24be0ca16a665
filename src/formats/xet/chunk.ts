// One chunk as it lies in a xorb: an 8-byte header and a body that may be compressed.
// Follows the xorb format of the Xet protocol specification; "LZ4" there means LZ4 frames.
import { FormatError } from "../format-error";
import { joinBg4, splitBg4 } from "./bg4";
import { MAX_CHUNK_BYTES } from "./chunker";
import { decodeLz4Frame, encodeLz4Frame } from "./lz4";

export const HEADER_BYTES = 8;
/** The reference code's bound for a body. */
export const MAX_BODY_BYTES = 256 << 10;
const VERSION = 0;

/** 0: as it is; 1: an LZ4 frame; 2: bytes grouped by position modulo 4, then an LZ4 frame. */
export type Scheme = 0 | 1 | 2;
/** `packedLength`: bytes of the body; `length`: bytes it unpacks to. */
export type ChunkHeader = { readonly scheme: Scheme; readonly packedLength: number; readonly length: number };

function reject(code: string, problem: string): never {
  throw new FormatError(`xet.chunk_${code}`, `has a chunk ${problem}`);
}

function schemeOf(byte: number): Scheme {
  if (byte === 0 || byte === 1 || byte === 2) return byte;
  return reject("scheme", `of the unknown compression scheme ${byte}`);
}

const u24 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);

/**
 * Reads the header at `at`. Throws `xet.chunk_header` when there are fewer than 8 bytes, `xet.chunk_version`,
 * `xet.chunk_scheme`, and `xet.chunk_length` for lengths that no chunk has.
 */
export function decodeChunkHeader(bytes: Uint8Array, at = 0): ChunkHeader {
  if (bytes.length - at < HEADER_BYTES) reject("header", "that ends inside its header");
  if (bytes[at] !== VERSION) reject("version", `of version ${bytes[at]}; only ${VERSION} is known`);
  const packedLength = u24(bytes, at + 1);
  const scheme = schemeOf(bytes[at + 4] ?? 0);
  const length = u24(bytes, at + 5);
  if (length === 0 || length > MAX_CHUNK_BYTES)
    reject("length", `of ${length} bytes; a chunk has 1 to ${MAX_CHUNK_BYTES}`);
  if (packedLength > MAX_BODY_BYTES)
    reject("length", `packed into ${packedLength} bytes; a body has at most ${MAX_BODY_BYTES}`);
  if (scheme === 0 && packedLength !== length)
    reject("length", `stored as it is, but declared with ${length} bytes and ${packedLength} packed`);
  return { scheme, packedLength, length };
}

export function encodeChunkHeader({ scheme, packedLength, length }: ChunkHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  // The three-byte numbers are written as four, in an order in which the next field replaces the fourth.
  view.setUint32(1, packedLength, true);
  view.setUint32(4, length << 8, true);
  view.setUint8(4, scheme);
  return bytes;
}

/** Where grouped bytes lie between the two steps of scheme 2, within one call. */
const grouped = new Uint8Array(MAX_CHUNK_BYTES);

/**
 * The unpacked bytes, exactly `length` of them: `body` itself under scheme 0, otherwise the start of `output`, or a fresh
 * array. Throws `xet.chunk_length` or `xet.lz4` when the body unpacks to anything else.
 */
export function decodeChunk(
  scheme: Scheme,
  body: Uint8Array,
  length: number,
  output: Uint8Array = scheme === 0 ? body : new Uint8Array(length),
): Uint8Array {
  if (scheme === 0) {
    if (body.length !== length) reject("length", `stored as it is in ${body.length} bytes instead of ${length}`);
    return body;
  }
  const unpacked = output.subarray(0, length);
  if (scheme === 1) decodeLz4Frame(body, unpacked);
  else {
    const groups = grouped.subarray(0, length);
    decodeLz4Frame(body, groups);
    joinBg4(groups, unpacked);
  }
  return unpacked;
}

/** A taste from the middle tells whether packing pays: most weights do not pack, and trying costs more than hashing. */
const SAMPLE_BYTES = 8 << 10;
/** Unpacking costs every reader time: less than this part saved is not worth it. */
const MIN_SAVING = 1 / 32;

function sampleOf(bytes: Uint8Array): Uint8Array {
  // A multiple of 4, so that the groups are those of the whole.
  const start = (Math.max(0, bytes.length - SAMPLE_BYTES) >> 3) << 2;
  return bytes.subarray(start, start + SAMPLE_BYTES);
}

function pack(scheme: 1 | 2, bytes: Uint8Array): Uint8Array {
  if (scheme === 1) return encodeLz4Frame(bytes);
  const groups = grouped.subarray(0, bytes.length);
  splitBg4(bytes, groups);
  return encodeLz4Frame(groups);
}

/** The form of a chunk (1 to 131072 bytes) that is worth its time; `body` is `bytes` itself under scheme 0. */
export function encodeChunk(bytes: Uint8Array): { scheme: Scheme; body: Uint8Array } {
  const sample = sampleOf(bytes);
  const plain = pack(1, sample).length;
  const byGroups = pack(2, sample).length;
  if (Math.min(plain, byGroups) <= sample.length * (1 - MIN_SAVING)) {
    const scheme = byGroups < plain ? 2 : 1;
    const body = pack(scheme, bytes);
    if (body.length <= bytes.length * (1 - MIN_SAVING)) return { scheme, body };
  }
  return { scheme: 0, body: bytes };
}
