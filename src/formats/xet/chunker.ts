// Where the chunks of a file end: content-defined cuts, the same in every Xet client.

export const MIN_CHUNK_BYTES = 8 << 10;
export const MAX_CHUNK_BYTES = 128 << 10;

/** Cuts one file. Pieces may have any size and are not kept. */
export class Chunker {
  /**
   * Reads `bytes` from `from` on and stops behind the first cut: the index where the chunk ends, or -1 when all bytes were
   * read and the chunk goes on in the next piece. The end of the file ends the last chunk.
   */
  next(_bytes: Uint8Array, _from = 0): number {
    throw new Error("soon");
  }
}

/** Cuts one file into whole chunks. */
export class ChunkSplitter {
  /** Yields the chunks that end in this piece. A chunk is valid until the next one is asked for; `bytes` must stay unchanged meanwhile. */
  *push(_bytes: Uint8Array): Generator<Uint8Array, void, void> {
    yield new Uint8Array();
    throw new Error("soon");
  }
  /** The last chunk, or undefined when the file is empty or ended with a cut. */
  finish(): Uint8Array | undefined {
    throw new Error("soon");
  }
}
