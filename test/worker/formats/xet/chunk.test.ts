// LZ4 frames, byte groups and chunk headers: round trips, frames of other writers, and everything a frame may lie about.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { joinBg4, splitBg4 } from "../../../../src/formats/xet/bg4";
import {
  decodeChunk,
  decodeChunkHeader,
  encodeChunk,
  encodeChunkHeader,
  MAX_BODY_BYTES,
} from "../../../../src/formats/xet/chunk";
import { MAX_CHUNK_BYTES } from "../../../../src/formats/xet/chunker";
import { decodeLz4Frame, encodeLz4Frame } from "../../../../src/formats/xet/lz4";
import { xxh32 } from "../../../../src/formats/xet/xxh32";
import { codeOf, dice, join, patched, sampleBytes } from "./samples";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const unpack = (frame: Uint8Array, length: number): Uint8Array => {
  const output = new Uint8Array(length);
  decodeLz4Frame(frame, output);
  return output;
};
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

type FrameOptions = { flags?: number; size?: number; contentSize?: number; tail?: Uint8Array };
/** A frame around blocks, each with its length word before it. */
function frameOf(blocks: readonly Uint8Array[], { flags = 0x60, size = 0x40, contentSize, tail }: FrameOptions = {}) {
  const declared = contentSize === undefined ? [] : [u32(contentSize), u32(0)];
  const descriptor = join(Uint8Array.of(flags | (contentSize === undefined ? 0 : 8), size), ...declared);
  const check = Uint8Array.of((xxh32(descriptor) >>> 8) & 0xff);
  return join(u32(0x184d2204), descriptor, check, ...blocks, u32(0), tail ?? new Uint8Array());
}
const packed = (...bytes: number[]): Uint8Array => join(u32(bytes.length), Uint8Array.from(bytes));
const stored = (bytes: Uint8Array): Uint8Array => join(u32((bytes.length | 0x8000_0000) >>> 0), bytes);

const bytesOfAnyKind = fc
  .tuple(
    fc.constantFrom("random" as const, "text" as const, "floats" as const, "zeros" as const),
    fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: MAX_CHUNK_BYTES })),
    fc.integer({ min: 1, max: 1000 }),
  )
  .map(([kind, size, seed]) => sampleBytes(kind, size, seed));

test("XXH32 has its published values", () => {
  expect(xxh32(utf8(""))).toBe(0x02cc5d05);
  expect(xxh32(utf8("a"))).toBe(0x550d7456);
  expect(xxh32(utf8("abc"))).toBe(0x32d153ff);
  expect(xxh32(utf8("Nobody inspects the spammish repetition"))).toBe(0xe2293b2f);
});

describe("round trips", () => {
  test("of LZ4 frames, linked pieces and large ones included", () => {
    fc.assert(
      fc.property(bytesOfAnyKind, (bytes) => {
        expect(unpack(encodeLz4Frame(bytes), bytes.length)).toEqual(bytes);
      }),
      { numRuns: 60 },
    );
    const large = sampleBytes("text", 600_000);
    const frame = encodeLz4Frame(large);
    expect(frame.length).toBeLessThan(large.length / 2);
    expect(unpack(frame, large.length)).toEqual(large);
    expect(unpack(encodeLz4Frame(new Uint8Array()), 0)).toEqual(new Uint8Array());
  });

  test("of byte groups", () => {
    for (let size = 0; size < 70; size++) {
      // Above 127 too, where a byte is the sign of a word.
      const bytes = Uint8Array.from({ length: size }, (_, at) => at * 37);
      const groups = new Uint8Array(size);
      splitBg4(bytes, groups);
      expect([...groups]).toEqual([0, 1, 2, 3].flatMap((group) => [...bytes].filter((_, at) => at % 4 === group)));
      // Wherever both lie in memory: words of 32 bits have places of their own.
      for (const at of [0, 1, 4]) {
        const joined = new Uint8Array(at + size).subarray(at);
        joinBg4(join(new Uint8Array(at), groups).subarray(at), joined);
        expect(joined).toEqual(bytes);
      }
    }
  });

  test("of chunks", () => {
    fc.assert(
      fc.property(bytesOfAnyKind, (bytes) => {
        const { scheme, body } = encodeChunk(bytes);
        expect(body.length).toBeLessThanOrEqual(bytes.length);
        const header = { scheme, packedLength: body.length, length: bytes.length };
        expect(decodeChunkHeader(encodeChunkHeader(header))).toEqual(header);
        expect(decodeChunk(scheme, body, bytes.length)).toEqual(bytes);
        expect(decodeChunk(scheme, body, bytes.length, new Uint8Array(MAX_CHUNK_BYTES).fill(7))).toEqual(bytes);
      }),
      { numRuns: 60 },
    );
  });

  test("each kind of bytes is packed as suits it", () => {
    const scheme = (kind: "random" | "text" | "floats") => encodeChunk(sampleBytes(kind, 65_536)).scheme;
    expect([scheme("random"), scheme("text"), scheme("floats")]).toEqual([0, 1, 2]);
    const random = sampleBytes("random", 65_536);
    expect(encodeChunk(random).body).toBe(random);
  });
});

describe("frames of other writers", () => {
  const text = utf8("abcabcabcabc-abcabcabcabc");
  // Literals "abc", then 9 bytes from 3 back, then literals "-abcabcabcabc".
  const half = packed(0x35, 97, 98, 99, 3, 0, 0xd0, 45, 97, 98, 99, 97, 98, 99, 97, 98, 99, 97, 98, 99);
  // Literals "-", 12 bytes from 13 back (before this block), no more literals.
  const linkedEnd = packed(0x18, 45, 13, 0, 0x00);
  const linkedStart = packed(0x35, 97, 98, 99, 3, 0, 0x00);

  test("with a content size, checksums, and stored blocks", () => {
    const block = half.subarray(4);
    const flags = 0x60 | 0x10 | 0x04;
    const blocks = [half, u32(xxh32(block))];
    const frame = frameOf(blocks, { flags, contentSize: text.length, tail: u32(xxh32(text)) });
    expect(unpack(frame, text.length)).toEqual(text);
    expect(unpack(frameOf([stored(text.subarray(0, 5)), stored(text.subarray(5))]), text.length)).toEqual(text);
  });

  test("with linked blocks, which independent ones must not be", async () => {
    const blocks = [linkedStart, linkedEnd];
    expect(unpack(frameOf(blocks, { flags: 0x40 }), text.length)).toEqual(text);
    expect(await codeOf(() => unpack(frameOf(blocks), text.length))).toBe("xet.lz4");
  });

  const good = frameOf([half]);
  const cases: Record<string, Uint8Array> = {
    "another magic": patched(good, 0, 5),
    "another version": frameOf([half], { flags: 0xa0 }),
    "a reserved flag": frameOf([half], { flags: 0x62 }),
    "a dictionary": frameOf([half], { flags: 0x61 }),
    "an unknown block size": frameOf([half], { size: 0x30 }),
    "a reserved bit beside the block size": frameOf([half], { size: 0x41 }),
    "a damaged header": patched(good, 6, (good[6] ?? 0) ^ 1),
    "another content size": frameOf([half], { contentSize: text.length + 1 }),
    "a header cut short": frameOf([half], { contentSize: text.length }).subarray(0, 9),
    "no end mark": good.subarray(0, -4),
    "half an end mark": good.subarray(0, -2),
    "a block cut short": join(good.subarray(0, 7), u32(200), half.subarray(4)),
    "a damaged block": frameOf([half, u32(1)], { flags: 0x70 }),
    "no room for a block's checksum": frameOf([half], { flags: 0x70 }).subarray(0, -4),
    "damaged content": frameOf([half], { flags: 0x64, tail: u32(1) }),
    "no content checksum": frameOf([half], { flags: 0x64 }),
    "bytes behind it": join(good, Uint8Array.of(0)),
    "a second frame behind it": join(good, good),
    "too few bytes": frameOf([stored(text.subarray(1))]),
    "too many stored bytes": frameOf([stored(join(text, text))]),
    "too many bytes by literals": frameOf([half, packed(0x10, 97)]),
    "too many bytes by a match": frameOf([packed(0x1f, 97, 1, 0, 255, 255, 255, 0, 0x00)]),
    "a block larger than declared": frameOf([stored(new Uint8Array(65_537))]),
    "an offset of zero": frameOf([packed(0x15, 97, 0, 0, 0x00)]),
    "an offset before the start": frameOf([packed(0x15, 97, 2, 0, 0x00)]),
    "half an offset": frameOf([packed(0x15, 97, 1)]),
    "literals cut short": frameOf([packed(0x50, 97)]),
    "a length of literals cut short": frameOf([packed(0xf0, 255)]),
    "a length of a match cut short": frameOf([packed(0x1f, 97, 1, 0, 255)]),
    "no literals at the end": frameOf([packed(0x15, 97, 1, 0)]),
    "an empty block": frameOf([stored(text), packed()]),
    nothing: new Uint8Array(),
  };
  test.each(Object.entries(cases))("refused: %s", async (_, frame) => {
    expect(await codeOf(() => unpack(frame, text.length))).toBe("xet.lz4");
  });

  test("a bomb costs no more than what was declared", async () => {
    // 64 KiB of 255s ask for 16 MiB.
    const bomb = frameOf([packed(0x1f, 97, 1, 0, ...new Array<number>(65_000).fill(255), 0, 0x00)], { size: 0x70 });
    expect(await codeOf(() => unpack(bomb, MAX_CHUNK_BYTES))).toBe("xet.lz4");
  });
});

describe("chunk headers", () => {
  const header = encodeChunkHeader({ scheme: 1, packedLength: 100, length: 1000 });
  const cases: [string, Uint8Array, string][] = [
    ["too short", header.subarray(0, 7), "xet.chunk_header"],
    ["of another version", patched(header, 0, 1), "xet.chunk_version"],
    ["of an unknown scheme", patched(header, 4, 3), "xet.chunk_scheme"],
    ["of the scheme that no file has", patched(header, 4, 99), "xet.chunk_scheme"],
    ["of no bytes", patched(header, 5, 0, 0, 0), "xet.chunk_length"],
    ["of too many bytes", patched(header, 5, 1, 0, 2), "xet.chunk_length"],
    ["of too large a body", patched(header, 1, 1, 0, 4), "xet.chunk_length"],
    ["stored with two lengths", patched(header, 4, 0), "xet.chunk_length"],
  ];
  test.each(cases)("refused: %s", async (_, bytes, code) => {
    expect(await codeOf(() => decodeChunkHeader(bytes))).toBe(code);
  });

  test("at their limits and inside other bytes", () => {
    const largest = { scheme: 2 as const, packedLength: MAX_BODY_BYTES, length: MAX_CHUNK_BYTES };
    expect(decodeChunkHeader(join(header, encodeChunkHeader(largest), header), 8)).toEqual(largest);
  });

  test("a stored body of another length is refused", async () => {
    expect(await codeOf(() => decodeChunk(0, new Uint8Array(5), 6))).toBe("xet.chunk_length");
  });
});

test("a damaged frame is refused or unpacks to the declared length, whatever the damage", async () => {
  const roll = dice(1);
  const frames = (["text", "floats", "zeros"] as const).map((kind) => encodeLz4Frame(sampleBytes(kind, 3000)));
  const output = new Uint8Array(3000);
  const codes = new Set<string>();
  for (let round = 0; round < 3000; round++) {
    const frame = (frames[round % frames.length] ?? new Uint8Array()).slice(
      0,
      round % 7 === 0 ? roll(3000) : undefined,
    );
    for (let change = roll(4); change >= 0; change--) frame[roll(frame.length)] = roll(256);
    codes.add(await codeOf(() => decodeLz4Frame(frame, output)));
  }
  expect([...codes].sort()).toEqual(["accepted", "xet.lz4"]);
});
