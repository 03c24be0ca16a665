// Xet files as plain bytes: any range is the slice it should be, and what is missing or damaged never passes for a whole file.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import type { Scheme } from "../../../../src/formats/xet/chunk";
import { parseXetHash } from "../../../../src/ids";
import { cloudflarePlatform } from "../../../../src/platform/cloudflare";
import type { BlobStore, ByteRange, Platform } from "../../../../src/platform/platform";
import { type Readable, readContent } from "../../../../src/store/contents";
import { indexKey } from "../../../../src/store/keys";
import { loadTerms, type Term } from "../../../../src/store/xet/terms";
import { readAll } from "../../../../src/streams/chunks";
import { serveContent } from "../../../../src/surfaces/serve-content";
import { type Part, type StoredFile, type StoredXorb, storeFile, storeXorb, watched } from "../../../kit/stored-xet";
import { randomBytes } from "../../../kit/xet";
import { expectBytes, filePlan, layOut, rangesOf } from "./files";

let platform: Platform;
beforeEach(() => {
  platform = cloudflarePlatform(env, "test", () => {});
});

const MIB = 1 << 20;
const HASH = parseXetHash("0".repeat(64), "hash");
const contentOf = ({ fileId, size }: StoredFile, terms: readonly Term[] = []): Readable => ({
  size,
  source: { kind: "xet", fileId, hash: HASH, terms },
});

async function read(file: StoredFile, range?: ByteRange, from: Platform = platform): Promise<Uint8Array> {
  return readAll(await readContent(from, contentOf(file), range), file.size);
}

const plainXorb = (seed: number, lengths: readonly number[], scheme: Scheme = 0): Promise<StoredXorb> =>
  storeXorb(
    platform,
    lengths.map((length, i) => ({ bytes: randomBytes(seed * 1000 + i, length), scheme })),
  );

/** As many chunks of 128 KiB. */
const chunks = (count: number): number[] => Array.from({ length: count }, () => 131_072);

/** Another store, in whose answers to `get` something is changed. */
const reading = (
  get: (body: ReadableStream<Uint8Array>, key: string) => ReadableStream<Uint8Array> | null,
): Platform => {
  const { blobs } = platform;
  const changed: BlobStore = {
    ...blobs,
    get: async (key, range) => {
      const body = await blobs.get(key, range);
      return body === null ? null : get(body, key);
    },
  };
  return { ...platform, blobs: changed };
};

describe("a Xet file as plain bytes", () => {
  it("is the same in every range of files of any shape", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(filePlan, async (plan) => {
        const { file, parts } = await layOut(platform, plan);
        for (const range of rangesOf(file, parts, plan.seed))
          expectBytes(await read(file, range), file.bytes.subarray(range.offset, range.offset + range.length));
      }),
      { seed: 5, numRuns: 8 },
    );
  });

  it("is read in one piece an object where terms follow each other, and looks up nothing that it was given", async () => {
    const a = await plainXorb(1, [100, 100, 100, 100]);
    const b = await plainXorb(2, [100, 100]);
    const parts: Part[] = [
      [a, 0, 1],
      [a, 1, 3],
      [b, 0, 2],
      [a, 3, 4],
    ];
    const file = await storeFile(platform, parts);
    const terms = await loadTerms(platform.db, file.fileId, { offset: 0, length: file.size });
    const { platform: seen, reads } = watched(platform);
    await platform.db.run(sql`delete from xet_terms`);
    expectBytes(await readAll(await readContent(seen, contentOf(file, terms)), file.size), file.bytes);
    expect(reads).toEqual([`${a.key} 0+324`, `${b.key} 0+216`, `${a.key} 324+108`]);
    // Terms that were loaded for the beginning serve what comes later, too.
    expectBytes(
      await readAll(await readContent(seen, contentOf(file, terms), { offset: 350, length: 100 }), 100),
      file.bytes.subarray(350, 450),
    );
  });

  it("leaves out the chunks before the range, by the index where there are many", async () => {
    const xorb = await plainXorb(1, chunks(8));
    const file = await storeFile(platform, [[xorb, 0, 8]]);
    const { platform: seen, reads } = watched(platform);
    const range = { offset: 5 * 131_072 + 10, length: 131_072 };
    expectBytes(await read(file, range, seen), file.bytes.subarray(range.offset, range.offset + range.length));
    const packed = 131_072 + 8;
    expect(reads.filter((one) => one !== indexKey(xorb.key))).toEqual([`${xorb.key} ${5 * packed}+${2 * packed}`]);
  });

  it("goes on behind the terms that one query gives", async () => {
    const xorb = await plainXorb(1, [10, 20, 30]);
    const file = await storeFile(
      platform,
      Array.from({ length: 2500 }, (_, i): Part => [xorb, i % 3, 3]),
    );
    // Every term is an object read of its own: only those around a page's end are worth the time.
    const [first] = (await loadTerms(platform.db, file.fileId, { offset: 0, length: file.size })).slice(-5);
    if (first === undefined) throw new Error("the file has terms");
    const range = { offset: first.offset, length: 600 };
    const known = await loadTerms(platform.db, file.fileId, { offset: 0, length: file.size });
    expect(known).toHaveLength(1000);
    const body = await readContent(platform, contentOf(file, known), range);
    expectBytes(await readAll(body, 600), file.bytes.subarray(range.offset, range.offset + 600));
  });

  it("is served with its length, by HTTP ranges", async () => {
    const xorb = await plainXorb(1, [...chunks(3), 77]);
    const file = await storeFile(platform, [
      [xorb, 1, 4],
      [xorb, 0, 4],
    ]);
    const ask = (range?: string): Promise<Response> => {
      const request = new Request("http://hub.test/file", range === undefined ? {} : { headers: { range } });
      return serveContent(request, platform, contentOf(file), { etag: '"x"', headers: {} });
    };
    const whole = await ask();
    expect([whole.status, whole.headers.get("content-length")]).toEqual([200, String(file.size)]);
    expectBytes(await readAll(whole.body, file.size), file.bytes);
    const last = await ask("bytes=-1");
    expect([last.status, last.headers.get("content-length")]).toEqual([206, "1"]);
    expectBytes(await readAll(last.body, 1), file.bytes.subarray(-1));
  });

  it("of no bytes is empty", async () => {
    expect(await read(await storeFile(platform, []))).toHaveLength(0);
  });
});

describe("damage", () => {
  const damaged = { code: "content_damaged" };

  it("is told before the first byte where the first object is missing", async () => {
    const xorb = await plainXorb(1, [100]);
    const file = await storeFile(platform, [[xorb, 0, 1]]);
    await platform.blobs.delete([xorb.key]);
    await expect(readContent(platform, contentOf(file))).rejects.toMatchObject(damaged);
    await platform.db.run(sql`delete from xet_terms`);
    await expect(readContent(platform, contentOf(file))).rejects.toMatchObject(damaged);
  });

  it("breaks the stream off where a later object or term is missing", async () => {
    const a = await plainXorb(1, [100]);
    const b = await plainXorb(2, [100]);
    const file = await storeFile(platform, [
      [a, 0, 1],
      [b, 0, 1],
    ]);
    await platform.blobs.delete([b.key]);
    await expect(read(file)).rejects.toMatchObject(damaged);
    expectBytes(await read(file, { offset: 0, length: 100 }), file.bytes.subarray(0, 100));
    const known = await loadTerms(platform.db, file.fileId, { offset: 0, length: 50 });
    await platform.db.run(sql`delete from xet_terms where offset = 100`);
    await expect(
      readContent(platform, contentOf(file, known)).then((body) => readAll(body, 200)),
    ).rejects.toMatchObject(damaged);
  });

  it("breaks the stream off where an object is shorter than its terms say", async () => {
    const xorb = await plainXorb(1, [100, 100]);
    for (const length of [216 - 50, 108, 4]) {
      const short = { ...xorb, key: `${xorb.key}${length}` };
      await platform.blobs.put(short.key, xorb.body.subarray(0, length));
      await platform.db.run(sql`update xorbs set key = ${short.key} where id = ${xorb.id}`);
      const file = await storeFile(platform, [[short, 0, 2]]);
      await expect(read(file)).rejects.toMatchObject(damaged);
    }
  });

  it("breaks the stream off where a chunk can't be unpacked, or unpacks to another length", async () => {
    const xorb = await plainXorb(1, [100, 3000, 100], 1);
    const file = await storeFile(platform, [[xorb, 0, 3]]);
    const changed = (at: number): Uint8Array => xorb.body.map((byte, i) => (i === at ? byte ^ 0x55 : byte));
    const second = xorb.index.packedRange(1, 2).start;
    // The version, the scheme, the length, the frame's magic number, its checksum of the header.
    for (const at of [0, 4, 5, second, second + 8, second + 14].values()) {
      const key = `${xorb.key}-${at}`;
      await platform.blobs.put(key, changed(at));
      await platform.db.run(sql`update xorbs set key = ${key} where id = ${xorb.id}`);
      await expect(read(file)).rejects.toMatchObject(damaged);
    }
  });

  it("of the bucket's connection reaches the reader", async () => {
    const xorb = await plainXorb(1, chunks(20));
    const file = await storeFile(platform, [[xorb, 0, 20]]);
    const breaking = reading((body) => {
      const reader = body.getReader();
      let left = MIB;
      return new ReadableStream<Uint8Array>({
        async pull(controller) {
          const { value } = await reader.read();
          if (value === undefined || left <= 0) {
            await reader.cancel("broken");
            return controller.error(new Error("the connection broke"));
          }
          left -= value.length;
          controller.enqueue(value);
        },
        cancel: (reason) => reader.cancel(reason),
      });
    });
    await expect(read(file, undefined, breaking)).rejects.toThrow("the connection broke");
  });
});

describe("a reader that goes away", () => {
  /** Bodies of the bucket that are open; whether one was ever read to its end does not matter. */
  function counting(): { readonly from: Platform; readonly open: () => number; readonly opened: () => number } {
    let open = 0;
    let opened = 0;
    const from = reading((body) => {
      const reader = body.getReader();
      open++;
      opened++;
      return new ReadableStream<Uint8Array>({
        async pull(controller) {
          const { value, done } = await reader.read();
          if (!done) return controller.enqueue(value);
          open--;
          controller.close();
        },
        async cancel(reason) {
          open--;
          await reader.cancel(reason);
        },
      });
    });
    return { from, open: () => open, opened: () => opened };
  }

  async function settled(holds: () => boolean): Promise<void> {
    for (let i = 0; i < 1000 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(holds()).toBe(true);
  }

  it("closes every object, those opened ahead too", async () => {
    const xorbs = await Promise.all([1, 2, 3, 4, 5].map((seed) => plainXorb(seed, chunks(10))));
    const file = await storeFile(
      platform,
      xorbs.map((xorb): Part => [xorb, 0, 10]),
    );
    const { from, open, opened } = counting();
    const body = (await readContent(from, contentOf(file))).getReader();
    await body.read();
    await settled(() => open() > 1);
    await body.cancel("no longer wanted");
    await settled(() => open() === 0);
    expect(opened()).toBeLessThan(5);
  });

  it("is not read ahead for: what it does not take is not fetched", async () => {
    const xorbs = await Promise.all([1, 2, 3, 4].map((seed) => plainXorb(seed, chunks(40))));
    const file = await storeFile(
      platform,
      xorbs.map((xorb): Part => [xorb, 0, 40]),
    );
    const { from, open, opened } = counting();
    const body = await readContent(from, contentOf(file));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(opened()).toBe(1);
    await body.cancel("no longer wanted");
    await settled(() => open() === 0);
  });

  it("leaves nothing open when it has all it asked for", async () => {
    const xorb = await plainXorb(1, chunks(40));
    const file = await storeFile(platform, [[xorb, 0, 40]]);
    const { from, open } = counting();
    expectBytes(await read(file, { offset: 3, length: 8 }, from), file.bytes.subarray(3, 11));
    await settled(() => open() === 0);
  });
});
