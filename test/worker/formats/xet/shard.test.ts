// Shards: read entry by entry from pieces of any size, refused for every way in which they can be wrong, and written for dedup.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { keyedHash } from "../../../../src/formats/xet/blake3";
import { xetHashBytes, xetHashOf } from "../../../../src/formats/xet/hash";
import {
  encodeDedupShard,
  MAX_SHARD_BYTES,
  readShard,
  type ShardFile,
  type ShardXorb,
  sameChunks,
} from "../../../../src/formats/xet/shard";
import { XorbEncoder } from "../../../../src/formats/xet/xorb";
import type { XetHash } from "../../../../src/ids";
import { bookend, codeOf, dice, join, patched, prologue, record, sampleBytes, sourceOf, splitMix64 } from "./samples";

const VERIFIED = 0x8000_0000;
const WITH_SHA256 = 0x4000_0000;
const hash = (seed: number): Uint8Array => splitMix64(32, seed);
const name = (seed: number): XetHash => xetHashOf(hash(seed));

async function readAll(bytes: Uint8Array, size?: number): Promise<(ShardFile | ShardXorb)[]> {
  const entries: (ShardFile | ShardXorb)[] = [];
  for await (const entry of readShard(sourceOf(bytes, size))) entries.push(entry);
  return entries;
}

const plain = (entry: ShardFile | ShardXorb): unknown =>
  entry.kind === "file"
    ? { ...entry, terms: Array.from({ length: entry.terms.count }, (_, at) => entry.terms.at(at)) }
    : { ...entry, chunks: Array.from({ length: entry.chunks.count }, (_, at) => entry.chunks.at(at)) };

const SHA256 = "f41255b252f776125f2b657136654e4d4d5d2ccf8ef4db0ec186bd1981b69734";
// The digest lies there with the bytes of each word reversed.
const sha256Record = (): Uint8Array => {
  const bytes = Uint8Array.fromHex(SHA256);
  for (let word = 0; word < 32; word += 8) bytes.subarray(word, word + 8).reverse();
  return record(bytes);
};

const fileSection = join(
  record(hash(1), VERIFIED | WITH_SHA256, 2),
  record(hash(11), 0, 70_000, 0, 2),
  record(hash(12), 0, 500, 7, 8),
  record(hash(21)),
  record(hash(22)),
  sha256Record(),
  record(hash(2), 0, 1),
  record(hash(11), 0, 1, 1, 2),
  bookend,
);
const xorbSection = join(
  record(hash(11), 0, 2, 70_000, 0),
  record(hash(31), 0, 65_000, VERIFIED),
  record(hash(32), 65_000, 5000),
  bookend,
);
const shard = join(prologue(), fileSection, xorbSection);

const expected = [
  {
    kind: "file",
    hash: name(1),
    terms: [
      { xorb: name(11), length: 70_000, start: 0, end: 2, rangeHash: hash(21) },
      { xorb: name(12), length: 500, start: 7, end: 8, rangeHash: hash(22) },
    ],
    sha256: SHA256,
  },
  {
    kind: "file",
    hash: name(2),
    terms: [{ xorb: name(11), length: 1, start: 1, end: 2, rangeHash: null }],
    sha256: null,
  },
  {
    kind: "xorb",
    hash: name(11),
    size: 70_000,
    packedSize: 0,
    chunks: [
      { hash: hash(31), start: 0, length: 65_000 },
      { hash: hash(32), start: 65_000, length: 5000 },
    ],
  },
];

type FooterOptions = { lookups?: readonly (readonly [at: number, count: number])[]; patch?: Record<number, number> };
/** A footer for `shard` with lookup tables of `extra` bytes before it. */
function footer(extra: number, { lookups = [], patch = {} }: FooterOptions = {}): Uint8Array {
  const bytes = new Uint8Array(200);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  put(0, 1);
  put(8, 48);
  put(16, 48 + fileSection.length);
  for (const table of [0, 1, 2]) {
    const [at, count] = lookups[table] ?? [shard.length + extra, 0];
    put(24 + 16 * table, at);
    put(32 + 16 * table, count);
  }
  put(192, shard.length + extra);
  for (const [at, value] of Object.entries(patch)) put(Number(at), value);
  return bytes;
}
const withFooter = (extra: Uint8Array, options?: FooterOptions): Uint8Array =>
  join(prologue(200), fileSection, xorbSection, extra, footer(extra.length, options));
const tables = new Uint8Array(2 * 12 + 1 * 12 + 2 * 16).fill(9);
const lookups = [
  [shard.length, 2],
  [shard.length + 24, 1],
  [shard.length + 36, 2],
] as const;

describe("a shard", () => {
  test("is read entry by entry, whatever the pieces", async () => {
    for (const size of [1, 47, 48, 49, 1000, 1e6]) expect((await readAll(shard, size)).map(plain)).toEqual(expected);
  });

  test("may have a footer, and lookup tables before it", async () => {
    expect((await readAll(withFooter(new Uint8Array()))).map(plain)).toEqual(expected);
    for (const size of [7, 150, 1e6])
      expect((await readAll(withFooter(tables, { lookups }), size)).map(plain)).toEqual(expected);
  });

  test("may have no files, no xorbs, or neither", async () => {
    expect(await readAll(join(prologue(), bookend, bookend))).toEqual([]);
    expect((await readAll(join(prologue(), fileSection, bookend))).map(plain)).toEqual(expected.slice(0, 2));
    expect((await readAll(join(prologue(), bookend, xorbSection))).map(plain)).toEqual(expected.slice(2));
  });

  test("claims nothing of a file with a SHA-256 of zeros", async () => {
    const empty = record(new Uint8Array(32), WITH_SHA256, 0);
    const [file] = await readAll(join(prologue(), empty, new Uint8Array(48), bookend, bookend));
    expect(file).toMatchObject({ kind: "file", hash: "0".repeat(64), terms: { count: 0 }, sha256: null });
  });

  test("knows no terms and chunks but its own", async () => {
    const [file, , xorb] = await readAll(shard);
    if (file?.kind !== "file" || xorb?.kind !== "xorb") throw new Error("read above");
    for (const at of [-1, 2, 0.5 + 2, Number.NaN]) expect(() => file.terms.at(at)).toThrow(RangeError);
    expect(() => xorb.chunks.at(2)).toThrow(RangeError);
  });

  test("may hold files of more terms than are kept in one piece of memory", async () => {
    const count = 40_000;
    const terms = new Uint8Array(48 * count);
    for (let term = 0; term < count; term++)
      terms.set(record(hash(11), 0, term + 1, term % 8000, (term % 8000) + 1), 48 * term);
    const [file] = await readAll(join(prologue(), record(hash(1), 0, count), terms, bookend, bookend), 65_536);
    if (file?.kind !== "file") throw new Error("no file was read");
    for (const at of [0, 16_383, 16_384, 39_999])
      expect(file.terms.at(at)).toMatchObject({ length: at + 1, start: at % 8000, xorb: name(11) });
  });
});

describe("a shard is refused", () => {
  const fileAt = 48;
  const xorbAt = 48 + fileSection.length;
  const counted = (at: number, ...count: number[]): Uint8Array => patched(shard, at + 36, ...count);
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(), "xet.shard_truncated"],
    ["cut inside its beginning", shard.subarray(0, 40), "xet.shard_truncated"],
    ["with another tag", patched(shard, 31, 0), "xet.shard_tag"],
    ["of another version", join(prologue(0, 3), fileSection, xorbSection), "xet.shard_version"],
    ["with a footer of another size", join(prologue(199), fileSection, xorbSection), "xet.shard_footer"],
    ["cut behind its beginning", shard.subarray(0, 48), "xet.shard_truncated"],
    ["cut inside a file", shard.subarray(0, 48 + 100), "xet.shard_truncated"],
    ["cut before its xorbs", shard.subarray(0, xorbAt), "xet.shard_truncated"],
    ["cut inside a xorb", shard.subarray(0, xorbAt + 100), "xet.shard_truncated"],
    ["without its last record", shard.subarray(0, -48), "xet.shard_truncated"],
    ["cut inside its last record", shard.subarray(0, -1), "xet.shard_truncated"],
    ["with a damaged end of its files", patched(shard, xorbAt - 1, 1), "xet.shard_bookend"],
    ["with a damaged end of its xorbs", patched(shard, shard.length - 16, 1), "xet.shard_bookend"],
    ["with a count of terms that no shard holds", counted(fileAt, 255, 255, 255, 255), "xet.shard_count"],
    ["with a count of terms larger than what comes", counted(fileAt, 0, 0, 1, 0), "xet.shard_truncated"],
    [
      "with a count of terms of which nothing comes",
      join(prologue(), record(hash(1), 0, 1_000_000)),
      "xet.shard_truncated",
    ],
    ["with unknown flags", patched(shard, fileAt + 32, 1), "xet.shard_flags"],
    ["with a term that ends before it starts", patched(shard, fileAt + 48 + 44, 0), "xet.shard_term"],
    ["with a term behind any xorb's end", patched(shard, fileAt + 48 + 44, 1, 32), "xet.shard_term"],
    ["with a term of no bytes", patched(shard, fileAt + 48 + 36, 0, 0, 0, 0), "xet.shard_term"],
    ["with a term of too many bytes", patched(shard, fileAt + 48 + 36, 0, 0, 5, 0), "xet.shard_term"],
    ["with a xorb of no chunks", counted(xorbAt, 0), "xet.shard_xorb"],
    ["with a xorb of too many chunks", counted(xorbAt, 1, 32), "xet.shard_xorb"],
    ["with a xorb of another size", patched(shard, xorbAt + 40, 1), "xet.shard_xorb"],
    ["with a gap between chunks", patched(shard, xorbAt + 96 + 32, 1), "xet.shard_xorb"],
    ["with an empty chunk", patched(shard, xorbAt + 48 + 36, 0, 0), "xet.shard_xorb"],
    ["with too long a chunk", patched(shard, xorbAt + 48 + 38, 3), "xet.shard_xorb"],
    ["with bytes behind it", join(shard, Uint8Array.of(0)), "xet.shard_trailing"],
    ["with a footer that it does not announce", join(shard, footer(0)), "xet.shard_trailing"],
    ["without the footer that it announces", join(prologue(200), fileSection, xorbSection), "xet.shard_truncated"],
    ["with half a footer", withFooter(new Uint8Array()).subarray(0, -100), "xet.shard_truncated"],
    ["with bytes behind its footer", join(withFooter(new Uint8Array()), Uint8Array.of(0)), "xet.shard_footer"],
    ["with bytes between it and its footer", withFooter(tables), "xet.shard_footer"],
    ["with a footer of another version", withFooter(tables, { lookups, patch: { 0: 2 } }), "xet.shard_footer"],
    [
      "with a footer that puts its files elsewhere",
      withFooter(tables, { lookups, patch: { 8: 96 } }),
      "xet.shard_footer",
    ],
    [
      "with a footer that puts its xorbs elsewhere",
      withFooter(tables, { lookups, patch: { 16: 0 } }),
      "xet.shard_footer",
    ],
    [
      "with a footer that puts itself elsewhere",
      withFooter(tables, { lookups, patch: { 192: 0 } }),
      "xet.shard_footer",
    ],
    ["with a lookup table elsewhere", withFooter(tables, { lookups, patch: { 40: 0 } }), "xet.shard_footer"],
    ["with a lookup table too long", withFooter(tables, { lookups, patch: { 64: 3 } }), "xet.shard_footer"],
    [
      "with a lookup table beyond all bounds",
      withFooter(tables, { lookups, patch: { 64: 2 ** 52 } }),
      "xet.shard_footer",
    ],
  ];
  test.each(cases)("%s", async (_, bytes, code) => {
    expect(await codeOf(() => readAll(bytes))).toBe(code);
    expect(await codeOf(() => readAll(bytes, 13))).toBe(code);
  });

  test("when it goes on for more than 64 MiB", async () => {
    const piece = new Uint8Array(1 << 20);
    const start = withFooter(new Uint8Array()).subarray(0, shard.length);
    let sent = 0;
    const endless = async (): Promise<Uint8Array> => {
      sent += piece.length;
      return sent === piece.length ? start : piece;
    };
    const read = async (): Promise<void> => {
      for await (const _ of readShard(endless));
    };
    expect(await codeOf(read)).toBe("xet.shard_too_large");
    expect(sent).toBeLessThan(MAX_SHARD_BYTES + 2 * piece.length);
  });
});

describe("a shard for deduplication", () => {
  const builders = [1, 2].map((seed) => {
    const encoder = new XorbEncoder();
    for (const kind of ["random", "text", "floats"] as const) encoder.add(sampleBytes(kind, 9000 * seed, seed));
    // A hash that clients ask for: its last word is a multiple of 1024.
    encoder.add(sampleBytes("random", 700, seed), patched(hash(seed), 24, 0, 4, 0, 0, 0, 0, 0, 0));
    return encoder.finish();
  });
  const key = hash(99);
  const createdAt = 1_760_000_000;
  const expiresAt = createdAt + 86_400;
  const bytes = encodeDedupShard({ xorbs: builders, key, createdAt, expiresAt });
  const view = new DataView(bytes.buffer);
  const footerAt = bytes.length - 200;
  const u64 = (at: number): number => Number(view.getBigUint64(footerAt + at, true));

  test("names the xorbs, and their chunks under the key", async () => {
    const entries = await readAll(bytes);
    expect(entries.map(({ hash }) => hash)).toEqual(builders.map(({ hash }) => hash));
    for (const [at, entry] of entries.entries()) {
      const index = builders[at]?.index;
      if (entry.kind !== "xorb" || index === undefined) throw new Error("it holds xorbs only");
      expect([entry.size, entry.packedSize, entry.chunks.count]).toEqual([index.size, index.packedSize, index.count]);
      for (let chunk = 0; chunk < index.count; chunk++)
        expect(entry.chunks.at(chunk)).toEqual({
          hash: keyedHash(key, index.hashAt(chunk)),
          start: index.offsetOf(chunk),
          length: index.lengthOf(chunk, chunk + 1),
        });
    }
  });

  test("marks the chunks that clients ask for, and has the footer they need", () => {
    const flagsOf = (chunk: number): number => view.getUint32(48 * (3 + chunk) + 40, true);
    expect([0, 1, 2, 3].map(flagsOf)).toEqual([0, 0, 0, 0x8000_0000]);
    expect([u64(0), u64(8), u64(16), u64(24), u64(32), u64(192)]).toEqual([1, 48, 96, footerAt, 0, footerAt]);
    expect(bytes.slice(footerAt + 72, footerAt + 104)).toEqual(key);
    expect([u64(104), u64(112)]).toEqual([createdAt, expiresAt]);
    expect(footerAt).toBe(48 * (1 + 1 + 2 * 5 + 1));
  });

  test("may be empty", async () => {
    const empty = encodeDedupShard({ xorbs: [], key, createdAt, expiresAt });
    expect(empty.length).toBe(3 * 48 + 200);
    expect(await readAll(empty)).toEqual([]);
  });

  test("needs a whole key", async () => {
    const short = { xorbs: builders, key: new Uint8Array(31), createdAt, expiresAt };
    expect(await codeOf(() => encodeDedupShard(short))).toBe("xet.key");
  });

  test("compares with the index of a xorb", async () => {
    const [one, other] = builders;
    if (one === undefined || other === undefined) throw new Error("built above");
    const chunksOf = (mine: Uint8Array, length: number) =>
      join(prologue(), bookend, record(one.hash, 0, 1, length), record(mine, 0, length), bookend);
    const encoder = new XorbEncoder();
    const chunk = sampleBytes("text", 5000);
    encoder.add(chunk, hash(3));
    const { index } = encoder.finish();
    const same = async (bytes: Uint8Array): Promise<boolean> => {
      const [xorb] = await readAll(bytes);
      return xorb?.kind === "xorb" && sameChunks(xorb.chunks, index);
    };
    expect(await same(chunksOf(hash(3), 5000))).toBe(true);
    expect(await same(chunksOf(hash(3), 4999))).toBe(false);
    expect(await same(chunksOf(hash(4), 5000))).toBe(false);
    expect(await same(shard.subarray())).toBe(false);
    expect(xetHashBytes(one.hash)).not.toEqual(xetHashBytes(other.hash));
  });
});

test("any shard of files comes back as it was written", async () => {
  const term = fc.record({
    xorb: fc.nat(50),
    start: fc.nat(8000),
    chunks: fc.integer({ min: 1, max: 100 }),
    seed: fc.nat(),
  });
  const file = fc.record({ terms: fc.array(term, { maxLength: 5 }), verified: fc.boolean(), digest: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(file, { maxLength: 5 }), fc.integer({ min: 1, max: 200 }), async (files, size) => {
      const parts = files.flatMap(({ terms, verified, digest }, at) => [
        record(hash(at), (verified ? VERIFIED : 0) + (digest ? WITH_SHA256 : 0), terms.length),
        ...terms.map(({ xorb, start, chunks }) => record(hash(xorb), 0, chunks * 9, start, start + chunks)),
        ...(verified ? terms.map(({ seed }) => record(hash(seed))) : []),
        ...(digest ? [sha256Record()] : []),
      ]);
      const entries = await readAll(join(prologue(), ...parts, bookend, bookend), size);
      expect(entries.map(plain)).toEqual(
        files.map(({ terms, verified, digest }, at) => ({
          kind: "file",
          hash: name(at),
          terms: terms.map(({ xorb, start, chunks, seed }) => ({
            xorb: name(xorb),
            length: chunks * 9,
            start,
            end: start + chunks,
            rangeHash: verified ? hash(seed) : null,
          })),
          sha256: digest ? SHA256 : null,
        })),
      );
    }),
    { numRuns: 40 },
  );
});

test("a damaged shard is refused in bounded time, whatever the damage", async () => {
  const roll = dice(3);
  const whole = withFooter(tables, { lookups });
  const codes = new Set<string>();
  for (let round = 0; round < 2000; round++) {
    const bytes = whole.slice(0, round % 5 === 0 ? roll(whole.length) : undefined);
    for (let change = roll(3); change >= 0; change--) bytes[roll(bytes.length)] = roll(256);
    codes.add(await codeOf(() => readAll(bytes, 1 + roll(500))));
  }
  for (const code of codes) expect(code).toMatch(/^(accepted|xet\.shard_\w+)$/);
});
