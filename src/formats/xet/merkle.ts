// The Merkle trees of Xet: one root over the chunks of a xorb or a file, in memory that does not grow with the file.

/** Feeds chunks in order; `root` may be asked at any time. Memory grows with the logarithm of the count. */
export class MerkleBuilder {
  /** `hash`: 32 raw bytes, copied; `length`: unpacked bytes of the chunk. */
  add(_hash: Uint8Array, _length: number): void {
    throw new Error("soon");
  }
  /** 32 raw bytes: zeros for no chunk, the chunk's own hash for one. This is the hash of a xorb with these chunks. */
  root(): Uint8Array {
    throw new Error("soon");
  }
}

/** The hash of a file (raw) from the root over all its chunks; all zeros for the empty file. */
export function fileHash(_root: Uint8Array): Uint8Array {
  throw new Error("soon");
}

/** The hash (raw) by which a client proves that it has a range of chunks: over their raw hashes, concatenated. */
export function rangeHash(_hashes: Uint8Array): Uint8Array {
  throw new Error("soon");
}
