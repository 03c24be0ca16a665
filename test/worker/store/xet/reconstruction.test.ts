// Reconstructions: what a client is told to fetch gives exactly the bytes it asked for, of any range of any file.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { decodeChunk } from "../../../../src/formats/xet/chunk";
import { cloudflarePlatform } from "../../../../src/platform/cloudflare";
import type { ByteRange, Platform } from "../../../../src/platform/platform";
import { indexKey } from "../../../../src/store/keys";
import { reconstruct, reconstructionV1, reconstructionV2, type UrlOf } from "../../../../src/store/xet/reconstruction";
import { readAll } from "../../../../src/streams/chunks";
import { type Part, type StoredFile, type StoredXorb, storeFile, storeXorb, watched } from "../../../kit/stored-xet";
import { join, randomBytes } from "../../../kit/xet";
import { expectBytes, filePlan, layOut, rangesOf } from "./files";

let platform: Platform;
beforeEach(() => {
  platform = cloudflarePlatform(env, "test", () => {});
});

const urlOf: UrlOf = async ({ key }, { start, end }) => `${key}?${start}-${end}`;

const u24 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) & 0xffffff;

/** Every chunk of a packed range. */
function unpack(bytes: Uint8Array): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const packed = u24(bytes, at + 1);
    const scheme = bytes[at + 4];
    if (scheme !== 0 && scheme !== 1 && scheme !== 2) throw new Error("no such scheme");
    chunks.push(
      decodeChunk(
        scheme,
        bytes.subarray(at + 8, at + 8 + packed),
        u24(join([bytes.subarray(at + 5, at + 8), new Uint8Array(1)]), 0),
      ),
    );
    at += 8 + packed;
  }
  return chunks;
}

type Span = { readonly start: number; readonly end: number };
type Listed = { readonly chunks: Span; readonly bytes: Span; readonly url: string };
type Answer = {
  readonly offset_into_first_range: number;
  readonly terms: readonly { readonly hash: string; readonly unpacked_length: number; readonly range: Span }[];
};

/** What a client makes of an answer: fetches each range once, as its URL says, and cuts the terms out of them. */
async function rebuild(
  answer: Answer,
  listed: (hash: string) => readonly Listed[],
  length: number,
): Promise<Uint8Array> {
  const fetched = new Map<string, Uint8Array[]>();
  const pieces: Uint8Array[] = [];
  for (const { hash, unpacked_length, range } of answer.terms) {
    const from = listed(hash).find(({ chunks }) => chunks.start <= range.start && range.end <= chunks.end);
    if (from === undefined) throw new Error("a term that no range covers");
    expect(from.url.endsWith(`?${from.bytes.start}-${from.bytes.end + 1}`)).toBe(true);
    let chunks = fetched.get(from.url);
    if (chunks === undefined) {
      const [key = ""] = from.url.split("?");
      const body = await platform.blobs.get(key, {
        offset: from.bytes.start,
        length: from.bytes.end + 1 - from.bytes.start,
      });
      chunks = unpack(await readAll(body, 1 << 24));
      expect(chunks).toHaveLength(from.chunks.end - from.chunks.start);
      fetched.set(from.url, chunks);
    }
    const piece = join(chunks.slice(range.start - from.chunks.start, range.end - from.chunks.start));
    expect(piece).toHaveLength(unpacked_length);
    pieces.push(piece);
  }
  const offset = answer.offset_into_first_range;
  return join(pieces).subarray(offset, offset + length);
}

async function check(file: StoredFile, range: ByteRange): Promise<void> {
  const expected = file.bytes.subarray(range.offset, range.offset + range.length);
  const answer = await reconstruct(platform, file, range);
  const v2 = await reconstructionV2(answer, urlOf);
  expect(
    Object.values(v2.xorbs)
      .flat()
      .every(({ ranges }) => ranges.length === 1),
  ).toBe(true);
  const listedV2 = (hash: string): Listed[] =>
    Object.entries(v2.xorbs).flatMap(([of, entries]) =>
      of === hash ? entries.flatMap(({ url, ranges }) => ranges.map((one) => ({ ...one, url }))) : [],
    );
  expectBytes(await rebuild(v2, listedV2, range.length), expected);
  const v1 = await reconstructionV1(answer, urlOf);
  const listedV1 = (hash: string): Listed[] =>
    Object.entries(v1.fetch_info).flatMap(([of, entries]) =>
      of === hash ? entries.map((one) => ({ chunks: one.range, bytes: one.url_range, url: one.url })) : [],
    );
  expectBytes(await rebuild(v1, listedV1, range.length), expected);
  // No chunk is fetched twice, and none that lies wholly outside the range.
  for (const entries of Object.values(v1.fetch_info))
    for (const [i, { range: next }] of entries.entries())
      if (i > 0) expect(next.start).toBeGreaterThan(entries[i - 1]?.range.end ?? 0);
  const first = answer.terms[0];
  const last = answer.terms.at(-1);
  if (first === undefined || last === undefined) throw new Error("a range is covered by at least one term");
  const lengths = (term: typeof first) => unpackedLengths.get(term.xorb.id)?.slice(term.chunks.start, term.chunks.end);
  expect(answer.offsetIntoFirstRange).toBeLessThan(lengths(first)?.[0] ?? 0);
  const surplus = last.offset + last.length - (range.offset + range.length);
  expect(surplus).toBeLessThan(lengths(last)?.at(-1) ?? 0);
}

const unpackedLengths = new Map<number, number[]>();
const remember = (xorb: StoredXorb): StoredXorb => {
  unpackedLengths.set(
    xorb.id,
    xorb.chunks.map(({ bytes }) => bytes.length),
  );
  return xorb;
};

/** A xorb of chunks of these lengths, stored as they are. */
const plainXorb = async (seed: number, lengths: readonly number[]): Promise<StoredXorb> =>
  remember(
    await storeXorb(
      platform,
      lengths.map((length, i) => ({ bytes: randomBytes(seed * 1000 + i, length), scheme: 0 })),
    ),
  );

describe("a reconstruction", () => {
  it("gives every range of files of any shape", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(filePlan, async (plan) => {
        unpackedLengths.clear();
        const { file, parts } = await layOut(platform, plan);
        for (const [xorb] of parts) remember(xorb);
        for (const range of rangesOf(file, parts, plan.seed)) await check(file, range);
      }),
      { seed: 3, numRuns: 12 },
    );
  });

  it("joins ranges that touch or overlap, and leaves those apart that do not", async () => {
    const a = await plainXorb(1, [100, 100, 100, 100, 100, 100, 100, 100]);
    const b = await plainXorb(2, [50]);
    const file = await storeFile(platform, [
      [a, 4, 6],
      [b, 0, 1],
      [a, 0, 2],
      [a, 1, 3],
      [b, 0, 1],
      [a, 5, 7],
    ]);
    const { fetches } = await reconstruct(platform, file, null);
    const at = (xorb: StoredXorb, start: number, end: number) => ({
      xorb: { id: xorb.id, hash: xorb.hash, key: xorb.key },
      chunks: { start, end },
      bytes: { start: start * 108, end: xorb === b ? 58 : end * 108 },
    });
    expect(fetches).toEqual([at(a, 0, 3), at(a, 4, 7), at(b, 0, 1)]);
  });

  it("takes two stored copies of one xorb for one, however differently they are packed", async () => {
    const bytes = [1, 2, 3].map((seed) => randomBytes(seed, 500));
    const plain = remember(
      await storeXorb(
        platform,
        bytes.map((one) => ({ bytes: one, scheme: 0 })),
      ),
    );
    await platform.db.run(sql`update xorbs set scope = 'somebody' where id = ${plain.id}`);
    const packed = await storeXorb(
      platform,
      bytes.map((one) => ({ bytes: one, scheme: 1 })),
    );
    expect(packed.hash).toBe(plain.hash);
    const file = await storeFile(platform, [
      [plain, 0, 2],
      [packed, 0, 3],
    ]);
    await check(file, { offset: 0, length: file.size });
    const { fetches } = await reconstruct(platform, file, null);
    expect(fetches.map(({ xorb, chunks }) => [xorb.id, chunks])).toEqual([[plain.id, { start: 0, end: 3 }]]);
  });

  it("speaks the field names of both versions, with both ends of byte ranges included", async () => {
    const xorb = await plainXorb(1, [100, 100, 100]);
    const file = await storeFile(platform, [[xorb, 0, 3]]);
    const answer = await reconstruct(platform, file, { offset: 110, length: 5 });
    const shared = {
      offset_into_first_range: 10,
      terms: [{ hash: xorb.hash, unpacked_length: 100, range: { start: 1, end: 2 } }],
    };
    const url = `${xorb.key}?108-216`;
    const bytes = { start: 108, end: 215 };
    expect(await reconstructionV2(answer, urlOf)).toEqual({
      ...shared,
      xorbs: { [xorb.hash]: [{ url, ranges: [{ chunks: { start: 1, end: 2 }, bytes }] }] },
    });
    expect(await reconstructionV1(answer, urlOf)).toEqual({
      ...shared,
      fetch_info: { [xorb.hash]: [{ range: { start: 1, end: 2 }, url, url_range: bytes }] },
    });
  });

  it("reads no index where the range begins and ends with terms, and each one it needs once", async () => {
    const a = await plainXorb(1, [100, 100, 100]);
    const b = await plainXorb(2, [100, 100, 100]);
    const parts: Part[] = [
      [a, 0, 3],
      [b, 0, 2],
      [b, 2, 3],
      [a, 1, 3],
    ];
    const file = await storeFile(platform, parts);
    const reads = async (offset: number, length: number): Promise<string[]> => {
      const seen = watched(platform);
      await reconstruct(seen.platform, file, { offset, length });
      return seen.reads;
    };
    expect(await reads(0, 800)).toEqual([]);
    expect(await reads(300, 200)).toEqual([]);
    expect(await reads(510, 10)).toEqual([]);
    expect((await reads(350, 300)).toSorted()).toEqual([indexKey(b.key), indexKey(a.key)].toSorted());
    const c = await plainXorb(3, [100, 100, 100]);
    const twice = await storeFile(platform, [
      [c, 0, 3],
      [a, 0, 1],
      [c, 0, 3],
    ]);
    const seen = watched(platform);
    await reconstruct(seen.platform, twice, { offset: 150, length: 300 });
    expect(seen.reads).toEqual([indexKey(c.key)]);
  });

  it("answers windows as hf_xet asks for them: cut at the end of the file, 416 beyond it", async () => {
    const xorb = await plainXorb(1, [100, 100, 55]);
    const file = await storeFile(platform, [[xorb, 0, 3]]);
    const window = await reconstruct(platform, file, { offset: 0, length: 256_000_000 });
    expect(window).toEqual(await reconstruct(platform, file, null));
    await check(file, { offset: 254, length: 1 });
    for (const offset of [255, 256, 256_000_000])
      await expect(reconstruct(platform, file, { offset, length: 1 })).rejects.toMatchObject({
        code: "range_not_satisfiable",
      });
  });

  it("is empty for an empty file, whose first byte is beyond its end", async () => {
    const file = await storeFile(platform, []);
    expect(await reconstruct(platform, file, null)).toEqual({ offsetIntoFirstRange: 0, terms: [], fetches: [] });
    await expect(reconstruct(platform, file, { offset: 0, length: 1 })).rejects.toMatchObject({
      code: "range_not_satisfiable",
    });
  });

  it("is whole over many queries' terms, and refused where there are too many for one answer", {
    timeout: 60_000,
  }, async () => {
    const xorb = await plainXorb(1, [10, 20]);
    const file = await storeFile(
      platform,
      Array.from({ length: 9000 }, (_, i): Part => [xorb, i % 2, (i % 2) + 1]),
    );
    const answer = await reconstruct(platform, file, { offset: 15, length: file.size - 30 });
    expect(answer.terms).toHaveLength(8999);
    expect(answer.terms.reduce((sum, term) => sum + term.length, 0)).toBe(file.size - 10);
    expect(answer.fetches).toHaveLength(1);
    await platform.db.run(sql`
      with recursive i (n) as (select 1 union all select n + 1 from i where n < 65537)
      insert into xet_terms select 1000000, 10 * (n - 1), 10, ${xorb.id}, 0, 1, 0, 18 from i`);
    const many = { fileId: 1_000_000, size: 655_370 };
    await expect(reconstruct(platform, many, null)).rejects.toMatchObject({ code: "invalid_request" });
    expect((await reconstruct(platform, many, { offset: 10, length: 655_360 })).terms).toHaveLength(65_536);
  });

  it("says so when terms or an index are missing or of other chunks", async () => {
    const xorb = await plainXorb(1, [100, 100, 100]);
    const parts: Part[] = [
      [xorb, 0, 3],
      [xorb, 0, 1],
      [xorb, 1, 3],
    ];
    const gap = await storeFile(platform, parts);
    await platform.db.run(sql`delete from xet_terms where file_id = ${gap.fileId} and offset = 300`);
    const damaged = { code: "content_damaged" };
    await expect(reconstruct(platform, gap, null)).rejects.toMatchObject(damaged);
    await expect(reconstruct(platform, gap, { offset: 350, length: 10 })).rejects.toMatchObject(damaged);
    await check(gap, { offset: 410, length: 150 });
    const other = await plainXorb(2, [100, 100, 100]);
    const file = await storeFile(platform, [[other, 0, 3]]);
    await platform.db.run(sql`update xet_terms set chunk_end = 2 where file_id = ${file.fileId}`);
    await expect(reconstruct(platform, file, { offset: 0, length: 10 })).rejects.toMatchObject(damaged);
    const gone = await plainXorb(3, [100, 100, 100]);
    const without = await storeFile(platform, [[gone, 0, 3]]);
    await platform.blobs.delete([indexKey(gone.key)]);
    await expect(reconstruct(platform, without, { offset: 0, length: 10 })).rejects.toMatchObject(damaged);
  });
});
