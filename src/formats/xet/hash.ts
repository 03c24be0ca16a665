// Xet hashes: 32 bytes in files, and a text form of their own in addresses and JSON.
import { Buffer } from "node:buffer";
import { parseXetHash, type XetHash } from "../../ids";
import { FormatError } from "../format-error";

export const HASH_BYTES = 32;

/** The hex digits of 32 bytes whose 64-bit words are reversed: little-endian numbers, written the way people write numbers. */
function reversedHex(bytes: Uint8Array): string {
  if (bytes.length !== HASH_BYTES)
    throw new FormatError("xet.hash", `has ${bytes.length} bytes; a Xet hash has ${HASH_BYTES}`);
  return Buffer.from(bytes).swap64().toString("hex");
}

/** The text form of 32 raw bytes: four 64-bit little-endian words, each as 16 hex digits. Throws `xet.hash` on another length. */
export const xetHashOf = (bytes: Uint8Array): XetHash => parseXetHash(reversedHex(bytes), "hash");

/** The 32 raw bytes behind the text form. */
export function xetHashBytes(hash: XetHash): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES);
  bytes.set(Buffer.from(hash, "hex").swap64());
  return bytes;
}

/** Whether the raw hash at `at` may end a group of the Merkle tree: its last 64-bit word is a multiple of 4. */
export const endsGroup = (hashes: Uint8Array, at = 0): boolean => ((hashes[at + 24] ?? 0) & 3) === 0;

/** Whether clients ask for the chunk with the raw hash at `at` when they deduplicate: its last 64-bit word is a multiple of 1024. */
export const isDedupEligible = (hashes: Uint8Array, at = 0): boolean =>
  hashes[at + 24] === 0 && ((hashes[at + 25] ?? 0) & 3) === 0;
