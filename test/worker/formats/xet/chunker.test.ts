// The chunker cuts where every other Xet client cuts, however the bytes arrive.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkHash } from "../../../../src/formats/xet/blake3";
import { Chunker, ChunkSplitter, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES } from "../../../../src/formats/xet/chunker";
import { xetHashOf } from "../../../../src/formats/xet/hash";
import vectors from "../../../vectors/xet.json";
import { dice, join, pieces, sampleBytes, splitMix64 } from "./samples";

function endsOf(parts: Iterable<Uint8Array>): number[] {
  const chunker = new Chunker();
  const ends: number[] = [];
  let before = 0;
  for (const part of parts) {
    for (let end = chunker.next(part); end !== -1; end = chunker.next(part, end)) ends.push(before + end);
    before += part.length;
  }
  if (before > 0 && ends.at(-1) !== before) ends.push(before);
  return ends;
}

describe("published cuts", () => {
  test.each(vectors.cuts)("of $size bytes ($kind)", ({ kind, size, ends, seed, byte, sha256, firstChunk }) => {
    const bytes = kind === "byte" ? new Uint8Array(size).fill(byte ?? 0) : splitMix64(size, seed ?? 0);
    if (sha256 !== undefined) expect(createHash("sha256").update(bytes).digest("hex")).toBe(sha256);
    expect(endsOf([bytes])).toEqual(ends);
    expect(endsOf(pieces(bytes, 1, 63, 8192, 100_003))).toEqual(ends);
    if (firstChunk !== undefined) expect(xetHashOf(chunkHash(bytes.subarray(0, ends[0])))).toBe(firstChunk);
  });

  test("around the minimum, with a pattern that would cut often", () => {
    const { pattern, size, ends } = vectors.triggering;
    for (const [padding, expected] of ends.entries()) {
      const unit = join(Uint8Array.fromHex(pattern), new Uint8Array(padding));
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; at += unit.length) bytes.set(unit.subarray(0, size - at), at);
      expect(endsOf([bytes])).toEqual(expected);
    }
  });
});

test("pieces of any size give the same chunks, and the chunks are the file", () => {
  const file = join(splitMix64(300_000, 7), sampleBytes("zeros", 200_000), sampleBytes("text", 200_000));
  const whole = endsOf([file]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 150_000 }), { minLength: 1, maxLength: 6 }), (sizes) => {
      const splitter = new ChunkSplitter();
      const chunks: Uint8Array[] = [];
      for (const part of pieces(file, ...sizes)) for (const chunk of splitter.push(part)) chunks.push(chunk.slice());
      const last = splitter.finish();
      if (last !== undefined) chunks.push(last.slice());
      expect(join(...chunks).every((byte, at) => byte === file[at])).toBe(true);
      let end = 0;
      expect(chunks.map(({ length }) => (end += length))).toEqual(whole);
    }),
    { numRuns: 15 },
  );
});

test("all chunks but the last keep the bounds", () => {
  const roll = dice(5);
  const bytes = Uint8Array.from({ length: 400_000 }, () => roll(4));
  const ends = endsOf([bytes]);
  const lengths = ends.map((end, index) => end - (ends[index - 1] ?? 0));
  expect(lengths.slice(0, -1).every((length) => length >= MIN_CHUNK_BYTES && length <= MAX_CHUNK_BYTES)).toBe(true);
});

test("an empty file has no chunk", () => {
  const splitter = new ChunkSplitter();
  expect([...splitter.push(new Uint8Array())]).toEqual([]);
  expect(splitter.finish()).toBeUndefined();
});
