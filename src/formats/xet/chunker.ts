// Where the chunks of a file end: content-defined cuts by a rolling "gear" hash, the same in every Xet client.
import { GEAR_HIGH, GEAR_LOW } from "./gear-table";

export const MIN_CHUNK_BYTES = 8 << 10;
export const MAX_CHUNK_BYTES = 128 << 10;
/** A byte is shifted out of the 64-bit hash after this many more: what lies further back has no say. */
const WINDOW_BYTES = 64;
/** A cut follows the byte after which the upper 16 bits are zero: every 64 KiB on average. */
const CUT_MASK = 0xffff0000;

/** Cuts one file. Pieces may have any size and are not kept. */
export class Chunker {
  /** The hash in two halves; see `GEAR_LOW`. */
  #low = 0;
  #high = 0;
  /** Bytes of the open chunk. */
  #length = 0;

  /**
   * Reads `bytes` from `from` on and stops behind the first cut: the index where the chunk ends, or -1 when all bytes were
   * read and the chunk goes on in the next piece. The end of the file ends the last chunk.
   */
  next(bytes: Uint8Array, from = 0): number {
    // No cut can come before the minimum, and then only the window before it matters: the rest is skipped unread.
    const quiet = Math.max(0, Math.min(MIN_CHUNK_BYTES - WINDOW_BYTES - this.#length, bytes.length - from));
    const start = from + quiet;
    const chunkStart = from - this.#length;
    const earliest = chunkStart + MIN_CHUNK_BYTES - 1;
    const end = Math.min(bytes.length, chunkStart + MAX_CHUNK_BYTES);
    const lowTable = GEAR_LOW;
    const highTable = GEAR_HIGH;
    let low = this.#low;
    let high = this.#high;
    for (let at = start; at < end; at++) {
      const byte = bytes[at] ?? 0;
      const doubled = low << 1;
      const added = lowTable[byte] ?? 0;
      const sum = (doubled + added) | 0;
      // The carry out of the lower half, from the sign bits of what was added and of the sum.
      const carry = ((doubled & added) | ((doubled | added) & ~sum)) >>> 31;
      high = ((high << 1) + (low >>> 31) + (highTable[byte] ?? 0) + carry) | 0;
      low = sum;
      if ((high & CUT_MASK) === 0 && at >= earliest) return this.#cut(at + 1);
    }
    if (end - chunkStart === MAX_CHUNK_BYTES) return this.#cut(end);
    this.#low = low;
    this.#high = high;
    this.#length = end - chunkStart;
    return -1;
  }

  #cut(at: number): number {
    this.#low = 0;
    this.#high = 0;
    this.#length = 0;
    return at;
  }
}

/** Cuts one file into whole chunks. */
export class ChunkSplitter {
  readonly #chunker = new Chunker();
  /** The beginning of a chunk that ends in a later piece. */
  readonly #held = new Uint8Array(MAX_CHUNK_BYTES);
  #heldLength = 0;

  /** Yields the chunks that end in this piece. A chunk is valid until the next one is asked for; `bytes` must stay unchanged meanwhile. */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, void> {
    let start = 0;
    for (let end = this.#chunker.next(bytes); end !== -1; end = this.#chunker.next(bytes, start)) {
      const part = bytes.subarray(start, end);
      start = end;
      yield this.#heldLength === 0 ? part : this.#complete(part);
    }
    this.#hold(bytes.subarray(start));
  }

  /** The last chunk, or undefined when the file is empty or ended with a cut. */
  finish(): Uint8Array | undefined {
    return this.#heldLength === 0 ? undefined : this.#complete(new Uint8Array());
  }

  #hold(part: Uint8Array): void {
    this.#held.set(part, this.#heldLength);
    this.#heldLength += part.length;
  }

  #complete(part: Uint8Array): Uint8Array {
    this.#hold(part);
    const chunk = this.#held.subarray(0, this.#heldLength);
    this.#heldLength = 0;
    return chunk;
  }
}
