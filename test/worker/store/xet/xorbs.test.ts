// Xorbs on their way in: what is kept, what is refused and leaves nothing, who is told what, and what becomes of crashes.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { encodeChunkHeader } from "../../../../src/formats/xet/chunk";
import { encodeLz4Frame } from "../../../../src/formats/xet/lz4";
import { XorbVerifier } from "../../../../src/formats/xet/xorb";
import { encodeXorbFooter } from "../../../../src/formats/xet/xorb-footer";
import type { XetHash } from "../../../../src/ids";
import { cloudflarePlatform } from "../../../../src/platform/cloudflare";
import type { BlobStore, Platform } from "../../../../src/platform/platform";
import type { Scopes } from "../../../../src/store/scopes";
import { findXorb, healStaged, loadIndex, receiveXorb } from "../../../../src/store/xet/xorbs";
import { readAll } from "../../../../src/streams/chunks";
import { type BuiltXorb, buildXorb, join, packChunk, randomBytes } from "../../../kit/xet";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 3600 * 1000;

const alice: Scopes = { target: "alice", visible: ["public", "alice"], uploaderId: "alice" };
const bob: Scopes = { target: "bob", visible: ["public", "bob"], uploaderId: "bob" };
const everyone: Scopes = { target: "public", visible: ["public"], uploaderId: "carol" };

let time: number;
let crashesAt: "after put" | "before index" | "before commit" | null;
let platform: Platform;
beforeEach(() => {
  time = Date.now();
  crashesAt = null;
  const real = cloudflarePlatform(env, "test", () => {});
  const blobs: BlobStore = {
    ...real.blobs,
    async put(key, body, sha256) {
      if (crashesAt === "before index" && key.endsWith(".index")) throw new Error("crash");
      await real.blobs.put(key, body, sha256);
      if (crashesAt === "after put" || (crashesAt === "before commit" && key.endsWith(".index")))
        throw new Error("crash");
    },
  };
  platform = { ...real, blobs, now: () => time };
});

const xorb = buildXorb([randomBytes(1, 9000), new Uint8Array(70_000).fill(7), randomBytes(2, 131_072)]);

const send = (
  scopes: Scopes,
  hash: XetHash,
  body: Uint8Array | ReadableStream<Uint8Array>,
  contentLength: number | null = body instanceof Uint8Array ? body.length : null,
) =>
  receiveXorb(platform, scopes, {
    hash,
    body: body instanceof Uint8Array ? new Blob([body]).stream() : body,
    contentLength,
  });
const upload = (scopes: Scopes, built: BuiltXorb = xorb) => send(scopes, built.hash, built.body);

const keys = async (): Promise<string[]> => (await env.BLOBS.list()).objects.map(({ key }) => key).sort();
async function rows(): Promise<Record<string, unknown>[]> {
  const { results } = await env.DB.prepare(
    "select hash, scope, uploader_id, key, idle_since from xorbs order by scope",
  ).all();
  return results;
}
async function objects(): Promise<Record<string, string>> {
  const { results } = await env.DB.prepare("select key, state from objects order by key").all();
  return Object.fromEntries(results.map((row) => [String(row.key), String(row.state)]));
}
const stored = async (key: string): Promise<Uint8Array> => {
  const body = await platform.blobs.get(key);
  return body === null ? new Uint8Array() : readAll(body, 1 << 27);
};

async function expectOneCopy(scope: string, built: BuiltXorb = xorb): Promise<string> {
  const found = (await rows()).filter((row) => row.scope === scope && row.hash === built.hash);
  expect(found).toHaveLength(1);
  const key = String(found[0]?.key);
  expect(Buffer.compare(await stored(key), built.body)).toBe(0);
  const index = await loadIndex(platform.blobs, { key });
  expect(index.root()).toBe(built.hash);
  expect(index.packedSize).toBe(built.body.length);
  expect(await objects()).toMatchObject({ [key]: "live", [`${key}.index`]: "live" });
  return key;
}

describe("a xorb", () => {
  it("is stored with an index, and a row that finds both", async () => {
    expect(await upload(alice)).toEqual({ inserted: true });
    const key = await expectOneCopy("alice");
    expect(await keys()).toEqual([key, `${key}.index`]);
    expect(await rows()).toMatchObject([{ hash: xorb.hash, scope: "alice", uploader_id: "alice", idle_since: null }]);
    expect(await findXorb(platform, alice, xorb.hash)).toMatchObject({ packedSize: xorb.body.length });
  });

  it("may end with a footer, which is not counted", async () => {
    const verifier = new XorbVerifier();
    verifier.push(xorb.body);
    const footer = encodeXorbFooter(xorb.hash, verifier.finish(xorb.hash));
    expect(await send(alice, xorb.hash, join([xorb.body, footer]))).toEqual({ inserted: true });
    expect(await findXorb(platform, alice, xorb.hash)).toMatchObject({ packedSize: xorb.body.length });
  });

  it("sent again is verified again and not stored again", async () => {
    await upload(alice);
    await env.DB.prepare("update xorbs set idle_since = 5").run();
    const before = await keys();
    expect(await upload(alice)).toEqual({ inserted: false });
    expect(await keys()).toEqual(before);
    expect(await rows()).toMatchObject([{ idle_since: null }]);
    const wrong = buildXorb([randomBytes(3, 500)]);
    await expect(send(alice, xorb.hash, wrong.body)).rejects.toMatchObject({ code: "xet.xorb_hash" });
  });

  it("that is public already is not stored for an owner", async () => {
    expect(await upload(everyone)).toEqual({ inserted: true });
    expect(await upload(alice)).toEqual({ inserted: false });
    expect(await rows()).toHaveLength(1);
  });

  it("of one owner is neither seen nor told of to another", async () => {
    expect(await upload(alice)).toEqual({ inserted: true });
    expect(await findXorb(platform, bob, xorb.hash)).toBeNull();
    expect(await upload(bob)).toEqual({ inserted: true });
    expect(await upload(everyone)).toEqual({ inserted: true });
    const [a, b, c] = [await expectOneCopy("alice"), await expectOneCopy("bob"), await expectOneCopy("public")];
    expect(new Set([a, b, c]).size).toBe(3);
  });

  it("sent twice at once is kept once", async () => {
    const answers = await Promise.all([upload(alice), upload(alice), upload(alice)]);
    expect(answers.filter(({ inserted }) => inserted)).toHaveLength(1);
    const key = await expectOneCopy("alice");
    const others = Object.entries(await objects()).filter(([one]) => !one.startsWith(key));
    for (const [, state] of others) expect(state).toBe("condemned");
  });
});

describe("a body that is not the xorb it is sent as, or can't be kept,", () => {
  const chunk = randomBytes(4, 20_000);
  const good = buildXorb([chunk]);
  const header = (scheme: 0 | 1 | 2, packedLength: number, length: number) =>
    encodeChunkHeader({ scheme, packedLength, length });
  const bomb = encodeLz4Frame(new Uint8Array(100_000));
  const many = join(Array.from({ length: 8193 }, () => packChunk(Uint8Array.of(1), true)));
  const version = good.body.slice();
  version[0] = 9;
  const flipped = good.body.slice();
  flipped[1000] = (flipped[1000] ?? 0) ^ 1;

  it.each<[string, XetHash, Uint8Array, string]>([
    ["of another version", good.hash, version, "xet.chunk_version"],
    ["with a byte changed", good.hash, flipped, "xet.xorb_hash"],
    ["with another hash", xorb.hash, good.body, "xet.xorb_hash"],
    ["that unpacks to more than it says", good.hash, join([header(1, bomb.length, 1000), bomb]), "xet.lz4"],
    ["that ends inside a chunk", good.hash, good.body.slice(0, -1), "xet.xorb_truncated"],
    ["that ends inside a header", good.hash, good.body.slice(0, 5), "xet.xorb_truncated"],
    ["with too large a chunk", good.hash, header(1, 100, 131_073), "xet.chunk_length"],
    ["with too many chunks", good.hash, many, "xet.xorb_chunks"],
    ["that is empty", good.hash, new Uint8Array(), "xet.xorb_empty"],
    ["with bytes behind it", good.hash, join([good.body, Uint8Array.of(0, 1)]), "xet.xorb_truncated"],
  ])("%s leaves nothing", async (_, hash, body, code) => {
    await expect(send(alice, hash, body)).rejects.toSatisfy((error: { code: string }) => error.code.startsWith(code));
    await expectNothing();
  });

  async function expectNothing(): Promise<void> {
    expect(await keys()).toEqual([]);
    expect(await rows()).toEqual([]);
    for (const state of Object.values(await objects())) expect(state).toBe("condemned");
  }

  it("by its length is refused before it is read, or at the byte where it is", async () => {
    await expect(send(alice, good.hash, good.body, null)).rejects.toMatchObject({ status: 411 });
    await expect(send(alice, good.hash, good.body, 70 << 20)).rejects.toMatchObject({ status: 413 });
    await expect(send(alice, good.hash, good.body, good.body.length + 1)).rejects.toMatchObject({
      code: "size_mismatch",
    });
    await expect(send(alice, good.hash, good.body, good.body.length - 1)).rejects.toMatchObject({
      code: "size_mismatch",
    });
    await expectNothing();
  });

  it("of which the bucket wants no more fails with what the bucket said", async () => {
    const full: Platform = {
      ...platform,
      blobs: { ...platform.blobs, put: () => Promise.reject(new Error("the bucket is full")) },
    };
    const large = buildXorb(Array.from({ length: 20 }, (_, i) => randomBytes(40 + i, 131_072)));
    const body = new Blob([large.body]).stream();
    await expect(
      receiveXorb(full, alice, { hash: large.hash, body, contentLength: large.body.length }),
    ).rejects.toThrow("the bucket is full");
    await expectNothing();
  });

  it("because it broke off leaves nothing", async () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(good.body.slice(0, 1000)),
      pull: (controller) => controller.error(new Error("gone")),
    });
    await expect(send(alice, good.hash, body, good.body.length)).rejects.toMatchObject({ code: "body_interrupted" });
    await expectNothing();
  });
});

describe("an upload that died", () => {
  it.each(["after put", "before index", "before commit"] as const)("%s is mended by the next one", async (where) => {
    crashesAt = where;
    await expect(upload(alice)).rejects.toThrow("crash");
    crashesAt = null;
    expect(await rows()).toEqual([]);
    const [left] = (await keys()).filter((key) => !key.endsWith(".index"));
    time += 2 * MINUTE_MS;
    expect(await upload(alice)).toEqual({ inserted: true });
    expect(await expectOneCopy("alice")).toBe(left);
    expect(await keys()).toEqual([left, `${left}.index`]);
  });

  it("is not mended by one with other bytes, nor by another owner", async () => {
    crashesAt = "before index";
    await expect(upload(alice)).rejects.toThrow("crash");
    crashesAt = null;
    const [left] = await keys();
    time += 2 * MINUTE_MS;
    await expect(send(alice, xorb.hash, randomBytes(5, 100))).rejects.toThrow();
    expect(await upload(bob)).toEqual({ inserted: true });
    expect(await expectOneCopy("bob")).not.toBe(left);
    expect(await rows()).toHaveLength(1);
  });

  it("is left alone while it may still be running", async () => {
    crashesAt = "before index";
    await expect(upload(alice)).rejects.toThrow("crash");
    crashesAt = null;
    const [left] = await keys();
    expect(await upload(alice)).toEqual({ inserted: true });
    expect(await expectOneCopy("alice")).not.toBe(left);
    time += 2 * DAY_MS;
    await healStaged(platform, 10);
    await expectOneCopy("alice");
    expect((await objects())[String(left)]).toBe("condemned");
  });

  it("is mended by the sweep where it is whole, and condemned where it is not", async () => {
    crashesAt = "before index";
    await expect(upload(alice)).rejects.toThrow("crash");
    crashesAt = null;
    const torn = buildXorb([randomBytes(6, 3000)]);
    const { put } = platform.blobs;
    const dying: Platform = {
      ...platform,
      blobs: {
        ...platform.blobs,
        put: async (key, body, sha256) => {
          await put(key, body, sha256);
          await env.BLOBS.delete(key);
          throw new Error("crash");
        },
      },
    };
    await expect(
      receiveXorb(dying, alice, {
        hash: torn.hash,
        body: new Blob([torn.body]).stream(),
        contentLength: torn.body.length,
      }),
    ).rejects.toThrow("crash");
    expect(await healStaged(platform, 10)).toBe(0);
    time += 2 * DAY_MS;
    expect(await healStaged(platform, 10)).toBe(2);
    await expectOneCopy("alice");
    expect(await rows()).toMatchObject([{ hash: xorb.hash, uploader_id: null }]);
    expect(Object.values(await objects()).sort()).toEqual(["condemned", "condemned", "live", "live"]);
    expect(await healStaged(platform, 10)).toBe(0);
  });
});

describe("indexes", () => {
  it("are read once for all who ask at once, and again from memory", async () => {
    await upload(alice);
    const [row] = await rows();
    const key = String(row?.key);
    let reads = 0;
    const blobs: BlobStore = {
      ...platform.blobs,
      get: (...args) => {
        reads++;
        return platform.blobs.get(...args);
      },
    };
    await Promise.all([loadIndex(blobs, { key }), loadIndex(blobs, { key }), loadIndex(blobs, { key })]);
    await loadIndex({ ...blobs }, { key });
    expect(reads).toBe(1);
  });

  it("that are gone are told of", async () => {
    await expect(loadIndex(platform.blobs, { key: "xorbs/none" })).rejects.toMatchObject({ code: "content_damaged" });
  });
});
