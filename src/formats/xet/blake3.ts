// BLAKE3 with the keys of Xet; the module is part of the bundle, see cli/wasm.ts.
import { FormatError } from "../format-error";
import blake3 from "./blake3.wasm";
import { HASH_BYTES } from "./hash";
import { WasmHasher } from "./wasm-hasher";

/** Of a chunk: over its unpacked bytes. */
export const DATA_KEY = Uint8Array.of(
  ...[102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28],
  ...[157, 228, 33, 16, 155, 235, 43, 88, 180, 208, 176, 75, 147, 173, 242, 41],
);
/** Of an inner node of a Merkle tree. */
export const NODE_KEY = Uint8Array.of(
  ...[1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230],
  ...[93, 221, 83, 111, 55, 199, 109, 210, 248, 99, 82, 230, 74, 83, 113, 63],
);
/** Of a range of chunks, by which a client shows that it has them. */
export const VERIFICATION_KEY = Uint8Array.of(
  ...[127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243],
  ...[164, 205, 38, 213, 181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195],
);
/** Of a file: over the root of its Merkle tree. */
export const FILE_KEY = new Uint8Array(HASH_BYTES);

/** Made at the first use: loading this file costs nothing where nothing is hashed. */
let hasher: WasmHasher | undefined;

/** 32 raw bytes. Synchronous and whole, so one instance serves everyone. Throws `xet.key` when `key` has not 32 bytes. */
export function keyedHash(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (key.length !== HASH_BYTES)
    throw new FormatError("xet.key", `has ${key.length} bytes; a BLAKE3 key has ${HASH_BYTES}`);
  hasher ??= new WasmHasher(blake3);
  hasher.init(HASH_BYTES, key);
  hasher.update(bytes);
  return hasher.final(HASH_BYTES);
}

/** The hash (raw) of one chunk's unpacked bytes. */
export const chunkHash = (bytes: Uint8Array): Uint8Array => keyedHash(DATA_KEY, bytes);
