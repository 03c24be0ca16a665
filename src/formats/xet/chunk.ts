// One chunk as it lies in a xorb: an 8-byte header and a body that may be compressed.

export const HEADER_BYTES = 8;
/** 0: as is; 1: an LZ4 frame; 2: bytes grouped by position modulo 4, then an LZ4 frame. */
export type Scheme = 0 | 1 | 2;
export type ChunkHeader = { readonly scheme: Scheme; readonly packedLength: number; readonly length: number };

/** Reads and checks the header at `at`. */
export function decodeChunkHeader(_bytes: Uint8Array, _at = 0): ChunkHeader {
  throw new Error("soon");
}

/** The unpacked bytes, exactly `length`; `body` itself under scheme 0, otherwise in `output` (when given: at least `length` bytes, reused by you) or a fresh array. */
export function decodeChunk(_scheme: Scheme, _body: Uint8Array, _length: number, _output?: Uint8Array): Uint8Array {
  throw new Error("soon");
}

/** The smallest form that is worth its time; `body` is `bytes` itself under scheme 0. */
export function encodeChunk(_bytes: Uint8Array): { scheme: Scheme; body: Uint8Array } {
  throw new Error("soon");
}
