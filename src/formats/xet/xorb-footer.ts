// The footer that some clients leave behind a xorb's chunks: what the index says, once more.
// Follows the reference code (xet-core, `XorbObjectInfoV1`); the specification leaves it out of uploads.
import type { XetHash } from "../../ids";
import { HASH_BYTES, xetHashBytes } from "./hash";
import type { XorbIndex } from "./xorb-index";

export const FOOTER_TAG = new TextEncoder().encode("XETBLOB");
const HASHES_TAG = new TextEncoder().encode("XBLBHSH");
const BOUNDS_TAG = new TextEncoder().encode("XBLBBND");
const VERSION = 1;
const HASHES_VERSION = 0;
const BOUNDS_VERSION = 1;
const TAGGED_BYTES = 8;
/** At its end: u32 count, two u32 offsets, 16 bytes that anyone may use, u32 length of the footer without this number. */
const FREE_BYTES = 16;
const TRAILER_BYTES = 12 + FREE_BYTES + 4;
const COUNTED_BYTES = TAGGED_BYTES + 4;

/** Bytes of the footer of a xorb with `count` chunks. */
export const footerBytes = (count: number): number =>
  TAGGED_BYTES + HASH_BYTES + 2 * COUNTED_BYTES + (HASH_BYTES + 8) * count + TRAILER_BYTES;

/** The footer that belongs to an index. */
export function encodeXorbFooter(hash: XetHash, index: XorbIndex): Uint8Array {
  const { count } = index;
  const bytes = new Uint8Array(footerBytes(count));
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put = (part: Uint8Array): void => {
    bytes.set(part, at);
    at += part.length;
  };
  const putU32 = (value: number): void => {
    view.setUint32(at, value, true);
    at += 4;
  };
  const putTag = (tag: Uint8Array, version: number): void => {
    put(tag);
    bytes[at++] = version;
  };
  putTag(FOOTER_TAG, VERSION);
  put(xetHashBytes(hash));
  const hashesAt = at;
  putTag(HASHES_TAG, HASHES_VERSION);
  putU32(count);
  put(index.hashesOf(0, count));
  const boundsAt = at;
  putTag(BOUNDS_TAG, BOUNDS_VERSION);
  putU32(count);
  for (let chunk = 1; chunk <= count; chunk++) putU32(index.packedRange(0, chunk).end);
  for (let chunk = 1; chunk <= count; chunk++) putU32(index.offsetOf(chunk));
  const end = bytes.length - 4;
  putU32(count);
  putU32(end - hashesAt);
  putU32(end - boundsAt);
  at += FREE_BYTES;
  putU32(end);
  return bytes;
}

/** Whether `footer` says what the index says; its free bytes may hold anything. */
export function isFooterOf(footer: Uint8Array, hash: XetHash, index: XorbIndex): boolean {
  const right = encodeXorbFooter(hash, index);
  const freeEnd = right.length - 4;
  const freeStart = freeEnd - FREE_BYTES;
  return (
    footer.length === right.length &&
    right.every((byte, at) => byte === footer[at] || (at >= freeStart && at < freeEnd))
  );
}
