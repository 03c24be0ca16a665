// LZ4 frames: read into memory of a size known before, and written fast.
// Follows the LZ4 frame format 1.6.4 and the LZ4 block format.
import { FormatError } from "../format-error";
import { xxh32 } from "./xxh32";

const MAGIC = 0x184d2204;
/** Of the flags byte. */
const VERSION_MASK = 0b1100_0000;
const VERSION_1 = 0b0100_0000;
const INDEPENDENT = 0b0010_0000;
const BLOCK_CHECKSUM = 0b0001_0000;
const CONTENT_SIZE = 0b0000_1000;
const CONTENT_CHECKSUM = 0b0000_0100;
const RESERVED_OR_DICTIONARY = 0b0000_0011;
/** Codes 4 to 7 in the second byte: 64 KiB, 256 KiB, 1 MiB, 4 MiB. */
const BLOCK_SIZE_SHIFT = 4;
const STORED = 0x8000_0000;

const MIN_MATCH = 4;
/** A copy of at least this many bytes is handed to the runtime; a shorter one costs less as a loop. */
const LONG_COPY = 48;

function reject(problem: string): never {
  throw new FormatError("xet.lz4", `has an LZ4 frame that ${problem}`);
}

/** Unpacks `block` into `output` from `start` to at most `limit`; matches reach back to `floor`. Returns where it ended. */
function decodeBlock(block: Uint8Array, output: Uint8Array, start: number, limit: number, floor: number): number {
  const end = block.length;
  let at = 0;
  let to = start;
  for (;;) {
    if (at >= end) return reject("has a block which does not end in literals");
    const token = block[at++] ?? 0;
    let literals = token >>> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return reject("ends inside a length");
        more = block[at++] ?? 0;
        literals += more;
      }
    }
    if (literals > end - at) return reject("ends inside literals");
    if (literals > limit - to) return reject("unpacks to more bytes than declared");
    if (literals < LONG_COPY) {
      for (const stop = at + literals; at < stop; at++, to++) output[to] = block[at] ?? 0;
    } else {
      output.set(block.subarray(at, at + literals), to);
      at += literals;
      to += literals;
    }
    if (at === end) return to;
    if (end - at < 2) return reject("ends inside an offset");
    const offset = (block[at] ?? 0) | ((block[at + 1] ?? 0) << 8);
    at += 2;
    if (offset === 0 || offset > to - floor) return reject("copies from before its beginning");
    let length = (token & 15) + MIN_MATCH;
    if (length === 15 + MIN_MATCH) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return reject("ends inside a length");
        more = block[at++] ?? 0;
        length += more;
      }
    }
    if (length > limit - to) return reject("unpacks to more bytes than declared");
    const from = to - offset;
    if (length < LONG_COPY) {
      for (let index = 0; index < length; index++) output[to + index] = output[from + index] ?? 0;
    } else if (offset === 1) {
      output.fill(output[from] ?? 0, to, to + length);
    } else {
      // An overlapping match repeats its first `offset` bytes: each copy doubles what may be copied next.
      let done = Math.min(offset, length);
      output.copyWithin(to, from, from + done);
      for (; done < length; done *= 2) output.copyWithin(to + done, to, to + Math.min(done, length - done));
    }
    to += length;
  }
}

/**
 * Fills `output`, whose length is what the frame must unpack to; nothing else is allocated. Checksums are checked, blocks may
 * be linked. Throws `xet.lz4` for anything that is not exactly one frame of exactly that many bytes.
 */
export function decodeLz4Frame(frame: Uint8Array, output: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (frame.length < 7 || view.getUint32(0, true) !== MAGIC) reject("does not begin like one");
  const flags = view.getUint8(4);
  const descriptor = view.getUint8(5);
  if ((flags & VERSION_MASK) !== VERSION_1) reject("is of another version");
  if ((flags & RESERVED_OR_DICTIONARY) !== 0) reject("needs a dictionary or sets a reserved bit");
  const sizeCode = descriptor >>> BLOCK_SIZE_SHIFT;
  if (sizeCode < 4 || sizeCode > 7 || (descriptor & 0xf) !== 0) reject("declares an unknown block size");
  const blockBytes = 1 << (8 + 2 * sizeCode);
  let at = 6;
  if ((flags & CONTENT_SIZE) !== 0) {
    if (frame.length < at + 9) reject("ends inside its header");
    if (view.getBigUint64(at, true) !== BigInt(output.length)) reject("declares another size");
    at += 8;
  }
  if (((xxh32(frame.subarray(4, at)) >>> 8) & 0xff) !== view.getUint8(at)) reject("has a damaged header");
  at++;
  const checksumBytes = (flags & BLOCK_CHECKSUM) === 0 ? 0 : 4;
  let to = 0;
  for (;;) {
    if (frame.length - at < 4) reject("ends before its end mark");
    const word = view.getUint32(at, true);
    at += 4;
    if (word === 0) break;
    const length = word & ~STORED;
    if (length > blockBytes) reject("has a block larger than it declares");
    if (frame.length - at < length + checksumBytes) reject("ends inside a block");
    const block = frame.subarray(at, at + length);
    at += length;
    if (checksumBytes > 0) {
      if (view.getUint32(at, true) !== xxh32(block)) reject("has a damaged block");
      at += checksumBytes;
    }
    if (word >= STORED) {
      if (length > output.length - to) reject("unpacks to more bytes than declared");
      output.set(block, to);
      to += length;
    } else {
      const limit = Math.min(output.length, to + blockBytes);
      to = decodeBlock(block, output, to, limit, (flags & INDEPENDENT) === 0 ? 0 : to);
    }
  }
  if (to !== output.length) reject("unpacks to fewer bytes than declared");
  if ((flags & CONTENT_CHECKSUM) !== 0) {
    if (frame.length - at < 4) reject("ends before its checksum");
    if (view.getUint32(at, true) !== xxh32(output)) reject("has damaged content");
    at += 4;
  }
  if (at !== frame.length) reject("is followed by other bytes");
}

/** What is written: independent blocks of up to 256 KiB, no checksums (a chunk has its hash). */
const FRAME_FLAGS = VERSION_1 | INDEPENDENT;
const WRITTEN_SIZE_CODE = 5;
const WRITTEN_BLOCK_BYTES = 1 << (8 + 2 * WRITTEN_SIZE_CODE);
const HEADER = Uint8Array.of(4, 0x22, 0x4d, 0x18, FRAME_FLAGS, WRITTEN_SIZE_CODE << BLOCK_SIZE_SHIFT, 0);
HEADER[6] = xxh32(HEADER.subarray(4, 6)) >>> 8;

const MAX_OFFSET = 0xffff;
/** The format's rules for the end of a block: no match starts in the last 12 bytes, none reaches into the last 5. */
const NO_MATCH_STARTS = 12;
const LAST_LITERALS = 5;
const TABLE_BITS = 13;
/** How soon the search speeds up where nothing repeats: after 2^6 misses it looks at every second byte. */
const PATIENCE_BITS = 6;

/** Where a hash of four bytes was seen last; kept between calls only to save its allocation. */
const seen = new Int32Array(1 << TABLE_BITS);

/** The largest a packed block of `length` bytes can get. */
const packedBound = (length: number): number => length + Math.floor(length / 255) + 16;

function writeLength(output: Uint8Array, at: number, rest: number): number {
  let end = at;
  let left = rest;
  for (; left >= 255; left -= 255) output[end++] = 255;
  output[end++] = left;
  return end;
}

function writeLiterals(block: Uint8Array, from: number, until: number, match: number, output: Uint8Array, at: number) {
  const count = until - from;
  let end = at;
  output[end++] = (Math.min(count, 15) << 4) | Math.min(match, 15);
  if (count >= 15) end = writeLength(output, end, count - 15);
  if (count < LONG_COPY) for (let index = from; index < until; index++) output[end++] = block[index] ?? 0;
  else {
    output.set(block.subarray(from, until), end);
    end += count;
  }
  return end;
}

/** Packs a block into `output` at `start`, which has room for the bound; returns where it ended. */
function encodeBlock(block: Uint8Array, output: Uint8Array, start: number): number {
  const view = new DataView(block.buffer, block.byteOffset, block.length);
  const lastStart = block.length - NO_MATCH_STARTS;
  const lastEnd = block.length - LAST_LITERALS;
  seen.fill(-1);
  let to = start;
  let literals = 0;
  let at = 0;
  let misses = 1 << PATIENCE_BITS;
  while (at <= lastStart) {
    const word = view.getInt32(at, true);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - TABLE_BITS);
    let from = seen[slot] ?? -1;
    seen[slot] = at;
    if (from < 0 || at - from > MAX_OFFSET || view.getInt32(from, true) !== word) {
      at += misses++ >>> PATIENCE_BITS;
      continue;
    }
    misses = 1 << PATIENCE_BITS;
    const found = at;
    let end = at + MIN_MATCH;
    for (let other = from + MIN_MATCH; end < lastEnd && block[end] === block[other]; other++) end++;
    while (at > literals && from > 0 && block[at - 1] === block[from - 1]) {
      at--;
      from--;
    }
    const length = end - at - MIN_MATCH;
    to = writeLiterals(block, literals, at, length, output, to);
    const offset = at - from;
    output[to++] = offset & 0xff;
    output[to++] = offset >>> 8;
    if (length >= 15) to = writeLength(output, to, length - 15);
    // One position inside the match, so that the next repetition is found early.
    if (end - 2 > found) seen[Math.imul(view.getInt32(end - 2, true), 0x9e3779b1) >>> (32 - TABLE_BITS)] = end - 2;
    at = end;
    literals = end;
  }
  return writeLiterals(block, literals, block.length, 0, output, to);
}

/** Room for one packed block, used within one call. */
let scratch = new Uint8Array();

/** One frame; blocks that do not pack are stored as they are. */
export function encodeLz4Frame(bytes: Uint8Array): Uint8Array {
  const blocks = Math.ceil(bytes.length / WRITTEN_BLOCK_BYTES);
  const bound = HEADER.length + packedBound(bytes.length) + 20 * blocks + 4;
  if (scratch.length < bound) scratch = new Uint8Array(bound);
  const view = new DataView(scratch.buffer);
  scratch.set(HEADER);
  let to = HEADER.length;
  for (let at = 0; at < bytes.length; at += WRITTEN_BLOCK_BYTES) {
    const block = bytes.subarray(at, at + WRITTEN_BLOCK_BYTES);
    const start = to + 4;
    to = encodeBlock(block, scratch, start);
    if (to - start < block.length) view.setUint32(start - 4, to - start, true);
    else {
      view.setUint32(start - 4, block.length + STORED, true);
      scratch.set(block, start);
      to = start + block.length;
    }
  }
  view.setUint32(to, 0, true);
  return scratch.slice(0, to + 4);
}
