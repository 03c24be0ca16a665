// BLAKE3 with the keys of Xet, from a module that is part of the bundle.

export const DATA_KEY = new Uint8Array(32);
export const NODE_KEY = new Uint8Array(32);
export const VERIFICATION_KEY = new Uint8Array(32);
export const FILE_KEY = new Uint8Array(32);

/** 32 raw bytes. `key` has 32 bytes. Synchronous. */
export function keyedHash(_key: Uint8Array, _bytes: Uint8Array): Uint8Array {
  throw new Error("soon");
}

/** The hash (raw) of one chunk's unpacked bytes. */
export const chunkHash = (bytes: Uint8Array): Uint8Array => keyedHash(DATA_KEY, bytes);
