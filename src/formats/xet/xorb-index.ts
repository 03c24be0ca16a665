// The index of a xorb: where each chunk lies and what its hash is, in 40 bytes a chunk.
import type { XetHash } from "../../ids";
import { FormatError } from "../format-error";
import { HEADER_BYTES, MAX_BODY_BYTES } from "./chunk";
import { MAX_CHUNK_BYTES } from "./chunker";
import { HASH_BYTES, xetHashOf } from "./hash";
import { MerkleBuilder } from "./merkle";

export const MAX_XORB_CHUNKS = 8192;
const MAGIC = Uint8Array.of(0x4f, 0x58, 0x49, 1); // "OXI", version 1
const PROLOGUE_BYTES = MAGIC.length + 4;
const ENTRY_BYTES = HASH_BYTES + 8;

function reject(problem: string): never {
  throw new FormatError("xet.index", `is no index of a xorb: it ${problem}`);
}

/** Chunk ranges are [start, end), 0 ≤ start < end ≤ count; anything else throws a RangeError. */
export class XorbIndex {
  readonly count: number;
  readonly #hashes: Uint8Array;
  /** Where each chunk ends, headers included. */
  readonly #packedEnds: Uint32Array;
  /** Where each chunk ends once unpacked. */
  readonly #ends: Uint32Array;

  /** The arrays are kept, not copied; all describe the same chunks. */
  constructor(hashes: Uint8Array, packedEnds: Uint32Array, ends: Uint32Array) {
    this.count = ends.length;
    this.#hashes = hashes;
    this.#packedEnds = packedEnds;
    this.#ends = ends;
  }

  /** Bytes of all chunks with their headers, without a footer. */
  get packedSize(): number {
    return this.#packedEnds[this.count - 1] ?? 0;
  }

  /** Unpacked bytes of all chunks. */
  get size(): number {
    return this.#ends[this.count - 1] ?? 0;
  }

  /** Raw hash of one chunk: a view. */
  hashAt(chunk: number): Uint8Array {
    return this.hashesOf(chunk, chunk + 1);
  }

  /** Raw hashes of a range, concatenated: a view. */
  hashesOf(start: number, end: number): Uint8Array {
    this.#check(start, end);
    return this.#hashes.subarray(start * HASH_BYTES, end * HASH_BYTES);
  }

  /** Byte offsets [start, end) in the packed xorb. */
  packedRange(start: number, end: number): { readonly start: number; readonly end: number } {
    this.#check(start, end);
    return { start: this.#packedEnds[start - 1] ?? 0, end: this.#packedEnds[end - 1] ?? 0 };
  }

  /** Byte offset of a chunk (or, for `count`, of the end) in the unpacked xorb. */
  offsetOf(chunk: number): number {
    this.#check(0, Math.max(chunk, 1));
    return this.#ends[chunk - 1] ?? 0;
  }

  /** Unpacked bytes of the chunks. */
  lengthOf(start: number, end: number): number {
    this.#check(start, end);
    return (this.#ends[end - 1] ?? 0) - (this.#ends[start - 1] ?? 0);
  }

  /** The chunk that holds the unpacked byte `offset`, 0 ≤ offset < size. */
  chunkAt(offset: number): number {
    if (!(offset >= 0 && offset < this.size)) throw new RangeError(`no chunk holds byte ${offset} of ${this.size}`);
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The hash of the xorb: the Merkle root over its chunks. */
  root(): XetHash {
    const tree = new MerkleBuilder();
    for (let chunk = 0; chunk < this.count; chunk++) tree.add(this.hashAt(chunk), this.lengthOf(chunk, chunk + 1));
    return xetHashOf(tree.root());
  }

  /** 8 + 40 × count bytes: "OXI", version, u32 count; all hashes; u32 packed ends; u32 unpacked ends. Little-endian. */
  encode(): Uint8Array {
    const bytes = new Uint8Array(PROLOGUE_BYTES + ENTRY_BYTES * this.count);
    const view = new DataView(bytes.buffer);
    bytes.set(MAGIC);
    view.setUint32(MAGIC.length, this.count, true);
    bytes.set(this.#hashes, PROLOGUE_BYTES);
    let at = PROLOGUE_BYTES + this.#hashes.length;
    for (const end of this.#packedEnds) {
      view.setUint32(at, end, true);
      at += 4;
    }
    for (const end of this.#ends) {
      view.setUint32(at, end, true);
      at += 4;
    }
    return bytes;
  }

  /** Reads what `encode` wrote; the hashes stay a view of `bytes`. Throws `xet.index`. */
  static decode(bytes: Uint8Array): XorbIndex {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < PROLOGUE_BYTES || MAGIC.some((byte, at) => byte !== bytes[at])) reject("begins otherwise");
    const count = view.getUint32(MAGIC.length, true);
    if (count === 0 || count > MAX_XORB_CHUNKS) reject(`declares ${count} chunks`);
    if (bytes.length !== PROLOGUE_BYTES + ENTRY_BYTES * count) reject("has another length than its count says");
    const packedAt = PROLOGUE_BYTES + HASH_BYTES * count;
    const packedEnds = readEnds(view, packedAt, count, HEADER_BYTES + 1, HEADER_BYTES + MAX_BODY_BYTES);
    const ends = readEnds(view, packedAt + 4 * count, count, 1, MAX_CHUNK_BYTES);
    return new XorbIndex(bytes.subarray(PROLOGUE_BYTES, packedAt), packedEnds, ends);
  }

  #check(start: number, end: number): void {
    if (!(start >= 0 && start < end && end <= this.count))
      throw new RangeError(`the xorb has no chunks ${start} to ${end} of ${this.count}`);
  }
}

/** Ends that each lie `least` to `most` behind the one before. */
function readEnds(view: DataView, at: number, count: number, least: number, most: number): Uint32Array {
  const ends = new Uint32Array(count);
  let before = 0;
  for (let chunk = 0; chunk < count; chunk++) {
    const end = view.getUint32(at + 4 * chunk, true);
    if (end - before < least || end - before > most) reject(`has a chunk of ${end - before} bytes`);
    ends[chunk] = end;
    before = end;
  }
  return ends;
}

/** Collects an index chunk by chunk; its memory grows with the chunks that really came. */
export class XorbIndexBuilder {
  readonly #tree = new MerkleBuilder();
  #hashes = new Uint8Array(64 * HASH_BYTES);
  readonly #packedEnds: number[] = [];
  readonly #ends: number[] = [];
  #packedSize = 0;
  #size = 0;

  get count(): number {
    return this.#ends.length;
  }

  get packedSize(): number {
    return this.#packedSize;
  }

  get size(): number {
    return this.#size;
  }

  /** `hash`: raw, copied; `packedLength`: bytes of the body. */
  add(hash: Uint8Array, packedLength: number, length: number): void {
    const at = this.count * HASH_BYTES;
    if (at === this.#hashes.length) {
      const grown = new Uint8Array(2 * at);
      grown.set(this.#hashes);
      this.#hashes = grown;
    }
    this.#hashes.set(hash, at);
    this.#packedSize += HEADER_BYTES + packedLength;
    this.#size += length;
    this.#packedEnds.push(this.#packedSize);
    this.#ends.push(this.#size);
    this.#tree.add(hash, length);
  }

  /** The hash of a xorb with the chunks so far. */
  root(): XetHash {
    return xetHashOf(this.#tree.root());
  }

  build(): XorbIndex {
    return new XorbIndex(
      this.#hashes.slice(0, this.count * HASH_BYTES),
      Uint32Array.from(this.#packedEnds),
      Uint32Array.from(this.#ends),
    );
  }
}
