// Xorbs: many chunks in one object, found again by an index of 40 bytes a chunk.
import type { XetHash } from "../../ids";

export const MAX_XORB_BYTES = 64 << 20;
export const MAX_XORB_CHUNKS = 8192;

/** Where each chunk of a xorb lies. Chunk ranges are [start, end). */
export class XorbIndex {
  declare readonly count: number;
  /** Bytes of all chunks with their headers, without a footer. */
  declare readonly packedSize: number;
  /** Unpacked bytes of all chunks. */
  declare readonly size: number;
  /** 32 raw bytes, a view. */
  hashAt(_chunk: number): Uint8Array {
    throw new Error("soon");
  }
  /** Raw hashes of a range, concatenated: a view. */
  hashesOf(_start: number, _end: number): Uint8Array {
    throw new Error("soon");
  }
  /** Byte offsets [start, end) in the packed xorb. */
  packedRange(_start: number, _end: number): { start: number; end: number } {
    throw new Error("soon");
  }
  /** Unpacked bytes of the chunks. */
  lengthOf(_start: number, _end: number): number {
    throw new Error("soon");
  }
  /** The chunk that holds the unpacked byte `offset` (0 ≤ offset < size). */
  chunkAt(_offset: number): number {
    throw new Error("soon");
  }
  /** The hash of the xorb: the Merkle root over its chunks. */
  root(): XetHash {
    throw new Error("soon");
  }
  /** 8 + 40 × count bytes. */
  encode(): Uint8Array {
    throw new Error("soon");
  }
  static decode(_bytes: Uint8Array): XorbIndex {
    throw new Error("soon");
  }
}

/** Checks a xorb while it passes. Memory: one chunk and the index. */
export class XorbVerifier {
  /** Where a footer begins, known from its first 8 bytes on: bytes from here on need not be stored. */
  declare footerAt: number | undefined;
  push(_bytes: Uint8Array): void {
    throw new Error("soon");
  }
  finish(_expected: XetHash): XorbIndex {
    throw new Error("soon");
  }
}

/** Unpacks a range of whole chunks while its packed bytes arrive. */
export class ChunkDecoder {
  /** Yields unpacked bytes in order: views of `bytes` where they are stored as is, fresh arrays otherwise. */
  *push(_bytes: Uint8Array): Generator<Uint8Array, void, void> {
    yield new Uint8Array();
    throw new Error("soon");
  }
  /** Throws `xet.xorb_truncated` when the bytes ended inside a chunk. */
  finish(): void {
    throw new Error("soon");
  }
}

/** Builds a xorb from unpacked chunks, packing each one as it comes. */
export class XorbEncoder {
  declare readonly count: number;
  declare readonly packedSize: number;
  declare readonly size: number;
  /** Whether one more chunk of `length` bytes fits, however badly it packs. */
  fits(_length: number): boolean {
    throw new Error("soon");
  }
  /** `hash`: the chunk's raw hash when the caller has it already. Returns the packed bytes (header, body) to append; they may be views of `bytes`. */
  add(_bytes: Uint8Array, _hash?: Uint8Array): readonly Uint8Array[] {
    throw new Error("soon");
  }
  finish(): { hash: XetHash; index: XorbIndex } {
    throw new Error("soon");
  }
}
