// An object of the bucket that keeps entries of packs: the entries, one behind another, then 24 bytes for each, its id and its length.
import { Buffer } from "node:buffer";
import type { GitId } from "../../ids";
import { FormatError } from "../format-error";

const ID_BYTES = 20;
export const INDEX_ENTRY_BYTES = ID_BYTES + 4;

export type KeptEntry = { readonly id: GitId; readonly length: number };

export function encodeKeptIndex(entries: readonly KeptEntry[]): Uint8Array {
  const index = Buffer.alloc(entries.length * INDEX_ENTRY_BYTES);
  for (const [i, { id, length }] of entries.entries()) {
    index.write(id, i * INDEX_ENTRY_BYTES, ID_BYTES, "hex");
    index.writeUInt32BE(length, i * INDEX_ENTRY_BYTES + ID_BYTES);
  }
  return index;
}

/** Id in hex, offset and length of each entry. @throws FormatError unless they fill exactly `size` bytes */
export function* decodeKeptIndex(
  index: Uint8Array,
  size: number,
): Generator<{ readonly id: string; readonly offset: number; readonly length: number }, void, void> {
  const bytes = Buffer.from(index.buffer, index.byteOffset, index.byteLength);
  let offset = 0;
  for (let at = 0; at + INDEX_ENTRY_BYTES <= bytes.length; at += INDEX_ENTRY_BYTES) {
    const length = bytes.readUInt32BE(at + ID_BYTES);
    yield { id: bytes.toString("hex", at, at + ID_BYTES), offset, length };
    offset += length;
  }
  if (offset !== size || bytes.length % INDEX_ENTRY_BYTES !== 0)
    throw new FormatError("git.kept_entries", "has an index that does not fit its entries");
}
