// Xorbs: built, checked and unpacked again in pieces of any size, and refused for every way in which they can be wrong.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkHash } from "../../../../src/formats/xet/blake3";
import { encodeChunkHeader } from "../../../../src/formats/xet/chunk";
import { MAX_CHUNK_BYTES } from "../../../../src/formats/xet/chunker";
import { xetHashBytes, xetHashOf } from "../../../../src/formats/xet/hash";
import { encodeLz4Frame } from "../../../../src/formats/xet/lz4";
import {
  ChunkDecoder,
  MAX_XORB_BYTES,
  MAX_XORB_CHUNKS,
  XorbEncoder,
  XorbIndex,
  XorbVerifier,
} from "../../../../src/formats/xet/xorb";
import { encodeXorbFooter, footerBytes } from "../../../../src/formats/xet/xorb-footer";
import type { XetHash } from "../../../../src/ids";
import { codeOf, dice, join, patched, pieces, sampleBytes } from "./samples";

type Built = { bytes: Uint8Array; hash: XetHash; index: XorbIndex; content: Uint8Array };

function build(chunks: readonly Uint8Array[]): Built {
  const encoder = new XorbEncoder();
  const bytes = join(...chunks.flatMap((chunk) => encoder.add(chunk)));
  return { bytes, ...encoder.finish(), content: join(...chunks) };
}

function verify(bytes: Iterable<Uint8Array>, expected: XetHash): { index: XorbIndex; footerAt: number | undefined } {
  const verifier = new XorbVerifier();
  for (const piece of bytes) verifier.push(piece);
  return { index: verifier.finish(expected), footerAt: verifier.footerAt };
}

function unpack(bytes: Iterable<Uint8Array>): Uint8Array {
  const decoder = new ChunkDecoder();
  const parts: Uint8Array[] = [];
  for (const piece of bytes) parts.push(...decoder.push(piece));
  decoder.finish();
  return join(...parts);
}

const sample = build([
  sampleBytes("random", 9000),
  sampleBytes("text", 20_000),
  sampleBytes("floats", 16_384),
  sampleBytes("zeros", MAX_CHUNK_BYTES),
  sampleBytes("random", 1, 5),
]);
const sizes = fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 1, maxLength: 4 });

describe("a xorb in pieces of any size", () => {
  test("is found right, with and without a footer", () => {
    const footer = encodeXorbFooter(sample.hash, sample.index);
    const withFooter = join(sample.bytes, footer);
    fc.assert(
      fc.property(sizes, fc.boolean(), (turns, hasFooter) => {
        const { index, footerAt } = verify(pieces(hasFooter ? withFooter : sample.bytes, ...turns), sample.hash);
        expect(index.encode()).toEqual(sample.index.encode());
        expect(footerAt).toBe(hasFooter ? sample.bytes.length : undefined);
      }),
      { numRuns: 30 },
    );
    expect(verify(pieces(withFooter, 1), sample.hash).footerAt).toBe(sample.bytes.length);
  });

  test("unpacks to its chunks, whole and by ranges", () => {
    fc.assert(
      fc.property(sizes, fc.nat({ max: 4 }), fc.nat({ max: 4 }), (turns, one, other) => {
        const [first, last] = one < other ? [one, other] : [other, one];
        const { start, end } = sample.index.packedRange(first, last + 1);
        const from = sample.index.offsetOf(first);
        const expected = sample.content.subarray(from, from + sample.index.lengthOf(first, last + 1));
        expect(unpack(pieces(sample.bytes.subarray(start, end), ...turns))).toEqual(expected);
      }),
      { numRuns: 30 },
    );
    expect(unpack(pieces(sample.bytes, 1))).toEqual(sample.content);
  });

  test("hands stored chunks on without a copy", () => {
    const { bytes, content } = build([sampleBytes("random", 50_000), sampleBytes("random", 60_000, 2)]);
    const parts = [...new ChunkDecoder().push(bytes)];
    expect(parts.map(({ length }) => length)).toEqual([50_000, 60_000]);
    expect(parts.every(({ buffer }) => buffer === bytes.buffer)).toBe(true);
    expect(join(...parts)).toEqual(content);
  });
});

describe("the index", () => {
  const { index } = sample;

  test("says where everything is", () => {
    expect(index.count).toBe(5);
    expect(index.size).toBe(sample.content.length);
    expect(index.packedSize).toBe(sample.bytes.length);
    expect(index.root()).toBe(sample.hash);
    expect(index.packedRange(0, 5)).toEqual({ start: 0, end: sample.bytes.length });
    expect(index.packedRange(0, 1)).toEqual({ start: 0, end: 9008 });
    expect(index.lengthOf(1, 3)).toBe(36_384);
    expect([0, 1, 5].map((chunk) => index.offsetOf(chunk))).toEqual([0, 9000, sample.content.length]);
    expect([0, 8999, 9000, 28_999, 29_000, index.size - 1].map((at) => index.chunkAt(at))).toEqual([0, 0, 1, 1, 2, 4]);
    expect(index.hashAt(1)).toEqual(chunkHash(sampleBytes("text", 20_000)));
    expect(index.hashesOf(0, 2)).toEqual(join(index.hashAt(0), index.hashAt(1)));
    expect(index.hashesOf(0, 2).buffer).toBe(index.hashesOf(2, 3).buffer);
  });

  test("has no other chunks and no other bytes", () => {
    for (const [start, end] of [
      [0, 6],
      [-1, 1],
      [2, 2],
      [3, 2],
      [Number.NaN, 1],
    ] as const)
      expect(() => index.hashesOf(start, end)).toThrow(RangeError);
    for (const offset of [-1, index.size, Number.NaN]) expect(() => index.chunkAt(offset)).toThrow(RangeError);
  });

  const encoded = index.encode();
  test("comes back from its bytes, wherever they lie", () => {
    expect(encoded.length).toBe(8 + 40 * 5);
    const decoded = XorbIndex.decode(join(Uint8Array.of(0), encoded).subarray(1));
    expect(decoded.encode()).toEqual(encoded);
    expect(decoded.root()).toBe(sample.hash);
  });

  const endsAt = 8 + 32 * 5;
  const cases: Record<string, Uint8Array> = {
    "another magic": patched(encoded, 0, 0),
    "another version": patched(encoded, 3, 2),
    "no chunk": patched(encoded, 4, 0).subarray(0, 8),
    "a count larger than its bytes": patched(encoded, 4, 6),
    "a count that no xorb has": patched(encoded, 4, 255, 255, 255, 255),
    "bytes behind it": join(encoded, Uint8Array.of(0)),
    "a chunk cut off": encoded.subarray(0, -4),
    "a packed end before the one before": patched(encoded, endsAt + 4, 0, 0, 0, 0),
    "too long a body": patched(encoded, endsAt + 16, 0, 0, 0, 255),
    "an empty chunk": patched(encoded, endsAt + 20, 0, 0, 0, 0),
    "too long a chunk": patched(encoded, endsAt + 36, 0, 0, 0, 255),
    nothing: new Uint8Array(),
  };
  test.each(Object.entries(cases))("refused: %s", async (_, bytes) => {
    expect(await codeOf(() => XorbIndex.decode(bytes))).toBe("xet.index");
  });
});

describe("a xorb is refused", () => {
  const { bytes, hash, index } = sample;
  const footer = encodeXorbFooter(hash, index);
  const boundsAt = 40 + 12 + 32 * 5 + 12;
  const secondChunk = index.packedRange(1, 2);
  const lying = (length: number, content: Uint8Array): Uint8Array => {
    const body = encodeLz4Frame(content);
    return join(encodeChunkHeader({ scheme: 1, packedLength: body.length, length }), body);
  };
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(), "xet.xorb_empty"],
    ["only a footer", join(footer.subarray(0, 8), new Uint8Array(footerBytes(0) - 8)), "xet.xorb_empty"],
    ["cut inside a header", bytes.subarray(0, secondChunk.start + 5), "xet.xorb_truncated"],
    ["cut behind a header", bytes.subarray(0, secondChunk.start + 8), "xet.xorb_truncated"],
    ["cut inside its last chunk", bytes.subarray(0, -1), "xet.xorb_truncated"],
    ["a chunk missing", bytes.subarray(secondChunk.end), "xet.xorb_hash"],
    ["a chunk twice", join(bytes, bytes.subarray(0, secondChunk.start)), "xet.xorb_hash"],
    ["one stored byte changed", patched(bytes, 100, (bytes[100] ?? 0) ^ 1), "xet.xorb_hash"],
    ["another version", patched(bytes, secondChunk.start, 1), "xet.chunk_version"],
    ["a scheme nobody knows", patched(bytes, secondChunk.start + 4, 9), "xet.chunk_scheme"],
    ["bytes behind it that are no chunk", join(bytes, new Uint8Array(8).fill(1)), "xet.chunk_version"],
    ["a few bytes behind it", join(bytes, new Uint8Array(3)), "xet.xorb_truncated"],
    ["a chunk longer than declared", lying(999, new Uint8Array(1000)), "xet.lz4"],
    ["a chunk shorter than declared", lying(1001, new Uint8Array(1000)), "xet.lz4"],
    ["a chunk that unpacks to a megabyte", lying(MAX_CHUNK_BYTES, new Uint8Array(1 << 20)), "xet.lz4"],
    ["a footer cut short", join(bytes, footer.subarray(0, -1)), "xet.xorb_footer"],
    ["bytes behind its footer", join(bytes, footer, Uint8Array.of(0)), "xet.xorb_footer"],
    ["a footer of another xorb", join(bytes, patched(footer, 8, 0, 1, 2, 3)), "xet.xorb_footer"],
    ["a footer with other bounds", join(bytes, patched(footer, boundsAt, 1)), "xet.xorb_footer"],
    ["a footer with another count", join(bytes, patched(footer, 48, 6)), "xet.xorb_footer"],
    ["a footer with another length", join(bytes, patched(footer, footer.length - 4, 0)), "xet.xorb_footer"],
    ["a footer before its last chunk", join(bytes.subarray(0, -9), footer, bytes.subarray(-9)), "xet.xorb_footer"],
  ];
  test.each(cases)("%s", async (_, wrong, code) => {
    expect(await codeOf(() => verify([wrong], hash))).toBe(code);
    expect(await codeOf(() => verify(pieces(wrong, 700, 1), hash))).toBe(code);
  });

  test("under another name", async () => {
    expect(await codeOf(() => verify([bytes], xetHashOf(new Uint8Array(32))))).toBe("xet.xorb_hash");
  });

  test("with more chunks than a xorb has", async () => {
    const one = join(encodeChunkHeader({ scheme: 0, packedLength: 1, length: 1 }), Uint8Array.of(7));
    const full = join(...new Array<Uint8Array>(MAX_XORB_CHUNKS).fill(one));
    const verifier = new XorbVerifier();
    verifier.push(full);
    expect(await codeOf(() => verifier.push(one))).toBe("xet.xorb_chunks");
  });

  test("with more bytes than a xorb has", async () => {
    const body = new Uint8Array(MAX_CHUNK_BYTES);
    const one = join(encodeChunkHeader({ scheme: 0, packedLength: body.length, length: body.length }), body);
    const verifier = new XorbVerifier();
    for (let sent = 0; sent + one.length <= MAX_XORB_BYTES; sent += one.length) verifier.push(one);
    expect(await codeOf(() => verifier.push(one))).toBe("xet.xorb_too_large");
  });

  test("its footer's free bytes may hold anything", () => {
    const marked = patched(footer, footer.length - 20, 1, 2, 3, 4);
    expect(verify([join(bytes, marked)], hash).footerAt).toBe(bytes.length);
  });
});

describe("unpacking", () => {
  test("notices a cut anywhere but between chunks", async () => {
    const ends = new Set([0, 1, 2, 3, 4].map((chunk) => sample.index.packedRange(0, chunk + 1).end).concat(0));
    for (const cut of [0, 1, 7, 8, 9, 9007, 9008, 9012, 9016, 9100, sample.bytes.length - 1, sample.bytes.length])
      expect(await codeOf(() => unpack([sample.bytes.subarray(0, cut)]))).toBe(
        ends.has(cut) ? "accepted" : "xet.xorb_truncated",
      );
  });
});

describe("building", () => {
  test("knows what fits", () => {
    const encoder = new XorbEncoder();
    expect(encoder.fits(MAX_CHUNK_BYTES)).toBe(true);
    expect(() => encoder.finish()).toThrow(RangeError);
    expect(() => encoder.add(new Uint8Array())).toThrow(RangeError);
    expect(() => encoder.add(new Uint8Array(MAX_CHUNK_BYTES + 1))).toThrow(RangeError);
    const hash = xetHashBytes(sample.hash);
    const byte = Uint8Array.of(1);
    for (let chunk = 0; chunk < MAX_XORB_CHUNKS; chunk++) encoder.add(byte, hash);
    expect(encoder.fits(1)).toBe(false);
    expect(() => encoder.add(byte, hash)).toThrow(RangeError);
  });

  test("stops before 64 MiB", () => {
    const encoder = new XorbEncoder();
    const chunk = sampleBytes("random", MAX_CHUNK_BYTES);
    const hash = chunkHash(chunk);
    while (encoder.fits(chunk.length)) encoder.add(chunk, hash);
    expect(encoder.count).toBe(511);
    expect(encoder.packedSize).toBe(511 * (MAX_CHUNK_BYTES + 8));
    expect(encoder.size).toBe(511 * MAX_CHUNK_BYTES);
  });
});

test("a damaged xorb is refused in bounded time, whatever the damage", async () => {
  const roll = dice(2);
  const small = build([sampleBytes("text", 1500), sampleBytes("floats", 1600), sampleBytes("random", 200)]);
  const whole = join(small.bytes, encodeXorbFooter(small.hash, small.index));
  const codes = new Set<string>();
  for (let round = 0; round < 1500; round++) {
    const bytes = whole.slice(0, round % 5 === 0 ? roll(whole.length) : undefined);
    for (let change = roll(3); change >= 0; change--) bytes[roll(bytes.length)] = roll(256);
    codes.add(await codeOf(() => verify(pieces(bytes, 1 + roll(900)), small.hash)));
    expect(await codeOf(() => unpack([bytes]))).toMatch(/^(accepted|xet\.(lz4|chunk_\w+|xorb_truncated))$/);
    expect(await codeOf(() => XorbIndex.decode(bytes.subarray(0, 200)))).toBe("xet.index");
  }
  for (const code of codes) expect(code).toMatch(/^(accepted|xet\.(lz4|chunk_\w+|xorb_\w+))$/);
  expect(codes).toContain("xet.xorb_hash");
});
