// Xorbs: many chunks in one object. Checked while they pass, unpacked while they pass, and built.
// Follows the xorb format of the Xet protocol specification.
import type { XetHash } from "../../ids";
import { FormatError } from "../format-error";
import { chunkHash } from "./blake3";
import {
  type ChunkHeader,
  decodeChunk,
  decodeChunkHeader,
  encodeChunk,
  encodeChunkHeader,
  HEADER_BYTES,
  MAX_BODY_BYTES,
} from "./chunk";
import { MAX_CHUNK_BYTES } from "./chunker";
import { FOOTER_TAG, footerBytes, isFooterOf } from "./xorb-footer";
import { MAX_XORB_CHUNKS, type XorbIndex, XorbIndexBuilder } from "./xorb-index";

export { MAX_XORB_CHUNKS, XorbIndex } from "./xorb-index";

/** What a xorb is built up to. */
export const TARGET_XORB_BYTES = 64 << 20;
/** What is accepted: clients fill a xorb with 64 MiB of content, and headers come on top where nothing packs. */
export const MAX_XORB_BYTES = TARGET_XORB_BYTES + HEADER_BYTES * MAX_XORB_CHUNKS;

function reject(code: string, problem: string): never {
  throw new FormatError(`xet.xorb_${code}`, problem);
}

/** Cuts pieces of any size into the lengths asked for: views where a piece holds them whole, copies where it does not. */
class Gatherer {
  #piece: Uint8Array = new Uint8Array();
  #at = 0;
  #held = new Uint8Array();
  #heldLength = 0;

  feed(piece: Uint8Array): void {
    this.#piece = piece;
    this.#at = 0;
  }

  /** Whether bytes wait for the rest of what was asked for. */
  get isHolding(): boolean {
    return this.#heldLength > 0;
  }

  /** `length` bytes (at most one body), valid until the next call, or undefined until more is fed. */
  take(length: number): Uint8Array | undefined {
    if (this.#heldLength === 0 && this.#piece.length - this.#at >= length) return this.takeUpTo(length);
    if (this.#held.length === 0) this.#held = new Uint8Array(MAX_BODY_BYTES);
    const part = this.takeUpTo(length - this.#heldLength);
    this.#held.set(part, this.#heldLength);
    this.#heldLength += part.length;
    if (this.#heldLength < length) return undefined;
    this.#heldLength = 0;
    return this.#held.subarray(0, length);
  }

  /** A view of what the piece still has, at most `length` bytes; empty at its end. */
  takeUpTo(length: number): Uint8Array {
    const part = this.#piece.subarray(this.#at, this.#at + length);
    this.#at += part.length;
    return part;
  }
}

const isFooterTag = (bytes: Uint8Array): boolean => FOOTER_TAG.every((byte, at) => byte === bytes[at]);

/**
 * Checks a whole xorb while it passes. Memory: one chunk, the index, and a footer where there is one. After an error it must
 * not be used further.
 */
export class XorbVerifier {
  readonly #gatherer = new Gatherer();
  readonly #index = new XorbIndexBuilder();
  /** One chunk, unpacked. */
  readonly #unpacked = new Uint8Array(MAX_CHUNK_BYTES);
  #header: ChunkHeader | undefined;
  #footer: Uint8Array | undefined;
  #footerLength = 0;
  #footerAt: number | undefined;

  /** Where a footer begins, known once its first 8 bytes have passed: bytes from here on need not be stored. */
  get footerAt(): number | undefined {
    return this.#footerAt;
  }

  /**
   * The next bytes, in pieces of any size. Throws what `decodeChunkHeader` and `decodeChunk` throw, `xet.xorb_too_large` and
   * `xet.xorb_chunks` for too many bytes or chunks, `xet.xorb_footer`.
   */
  push(bytes: Uint8Array): void {
    this.#gatherer.feed(bytes);
    for (;;) {
      if (this.#footer !== undefined) {
        const rest = this.#gatherer.takeUpTo(bytes.length);
        if (rest.length > this.#footer.length - this.#footerLength)
          reject("footer", "goes on behind the footer of its chunks");
        this.#footer.set(rest, this.#footerLength);
        this.#footerLength += rest.length;
        return;
      }
      if (this.#header === undefined) {
        const start = this.#gatherer.take(HEADER_BYTES);
        if (start === undefined) return;
        if (isFooterTag(start)) this.#beginFooter(start);
        else this.#beginChunk(decodeChunkHeader(start));
      } else {
        const body = this.#gatherer.take(this.#header.packedLength);
        if (body === undefined) return;
        const { scheme, packedLength, length } = this.#header;
        const chunk = decodeChunk(scheme, body, length, this.#unpacked);
        this.#index.add(chunkHash(chunk), packedLength, length);
        this.#header = undefined;
      }
    }
  }

  #beginChunk(header: ChunkHeader): void {
    if (this.#index.count === MAX_XORB_CHUNKS) reject("chunks", `has more than ${MAX_XORB_CHUNKS} chunks`);
    if (this.#index.packedSize + HEADER_BYTES + header.packedLength > MAX_XORB_BYTES)
      reject("too_large", `has more than ${MAX_XORB_BYTES} bytes`);
    this.#header = header;
  }

  #beginFooter(start: Uint8Array): void {
    this.#footerAt = this.#index.packedSize;
    this.#footer = new Uint8Array(footerBytes(this.#index.count));
    this.#footer.set(start);
    this.#footerLength = start.length;
  }

  /**
   * All bytes have passed. Throws `xet.xorb_truncated` when they ended inside a chunk, `xet.xorb_empty` when there was none,
   * `xet.xorb_hash` when the chunks make another xorb than `expected`, `xet.xorb_footer` when a footer says otherwise.
   */
  finish(expected: XetHash): XorbIndex {
    if (this.#header !== undefined || this.#gatherer.isHolding) reject("truncated", "ends inside a chunk");
    if (this.#index.count === 0) reject("empty", "has no chunk");
    const actual = this.#index.root();
    if (actual !== expected) reject("hash", `holds the chunks of ${actual}, not of ${expected}`);
    const index = this.#index.build();
    if (this.#footer !== undefined && !isFooterOf(this.#footer.subarray(0, this.#footerLength), actual, index))
      reject("footer", "has a footer that does not describe its chunks");
    return index;
  }
}

/** Unpacks a range of whole chunks, stored and checked before, while its packed bytes arrive. */
export class ChunkDecoder {
  readonly #gatherer = new Gatherer();
  #header: ChunkHeader | undefined;
  /** Bytes of a chunk stored as it is that are still to come. */
  #stored = 0;

  /**
   * Yields the unpacked bytes in order: views of `bytes` where they are stored as they are (in parts, without waiting for the
   * whole chunk), fresh arrays otherwise. Each is unpacked when it is asked for; go through to the end before the next `push`.
   */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, void> {
    this.#gatherer.feed(bytes);
    for (;;) {
      if (this.#stored > 0) {
        const part = this.#gatherer.takeUpTo(this.#stored);
        if (part.length === 0) return;
        this.#stored -= part.length;
        yield part;
      } else if (this.#header === undefined) {
        const start = this.#gatherer.take(HEADER_BYTES);
        if (start === undefined) return;
        const header = decodeChunkHeader(start);
        if (header.scheme === 0) this.#stored = header.length;
        else this.#header = header;
      } else {
        const { scheme, packedLength, length } = this.#header;
        const body = this.#gatherer.take(packedLength);
        if (body === undefined) return;
        this.#header = undefined;
        yield decodeChunk(scheme, body, length);
      }
    }
  }

  /** All bytes have passed. Throws `xet.xorb_truncated` when they ended inside a chunk. */
  finish(): void {
    if (this.#header !== undefined || this.#stored > 0 || this.#gatherer.isHolding)
      reject("truncated", "ends inside a chunk");
  }
}

/** Builds a xorb from unpacked chunks, packing each one as it comes. */
export class XorbEncoder {
  readonly #index = new XorbIndexBuilder();

  get count(): number {
    return this.#index.count;
  }

  get packedSize(): number {
    return this.#index.packedSize;
  }

  get size(): number {
    return this.#index.size;
  }

  /** Whether one more chunk of `length` bytes fits, however badly it packs. */
  fits(length: number): boolean {
    return this.count < MAX_XORB_CHUNKS && this.packedSize + HEADER_BYTES + length <= TARGET_XORB_BYTES;
  }

  /**
   * Takes one chunk (1 to 131072 bytes that `fits`) and returns what to append to the xorb: header and body, the latter a
   * view of `bytes` when it does not pack. `hash`: the chunk's raw hash, where the caller has it already.
   */
  add(bytes: Uint8Array, hash: Uint8Array = chunkHash(bytes)): readonly [Uint8Array, Uint8Array] {
    if (bytes.length === 0 || bytes.length > MAX_CHUNK_BYTES || !this.fits(bytes.length))
      throw new RangeError(`a chunk of ${bytes.length} bytes does not fit`);
    const { scheme, body } = encodeChunk(bytes);
    this.#index.add(hash, body.length, bytes.length);
    return [encodeChunkHeader({ scheme, packedLength: body.length, length: bytes.length }), body];
  }

  /** The xorb of the chunks so far; there must be one. */
  finish(): { readonly hash: XetHash; readonly index: XorbIndex } {
    if (this.count === 0) throw new RangeError("a xorb has at least one chunk");
    return { hash: this.#index.root(), index: this.#index.build() };
  }
}
