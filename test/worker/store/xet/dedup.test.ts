// Deduplication: a chunk finds what is stored around it, for those who may see it, and says no hash of a chunk aloud.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { keyedHash } from "../../../../src/formats/xet/blake3";
import { xetHashOf } from "../../../../src/formats/xet/hash";
import { readShard, type ShardXorb } from "../../../../src/formats/xet/shard";
import type { XetHash } from "../../../../src/ids";
import { cloudflarePlatform } from "../../../../src/platform/cloudflare";
import type { Platform } from "../../../../src/platform/platform";
import type { Scopes } from "../../../../src/store/scopes";
import { findDedup } from "../../../../src/store/xet/dedup";
import { registerShard } from "../../../../src/store/xet/shards";
import { receiveXorb } from "../../../../src/store/xet/xorbs";
import { type BuiltXorb, buildXorb, encodeShard, fileOf, randomBytes } from "../../../kit/xet";

const alice: Scopes = { target: "alice", visible: ["public", "alice"], uploaderId: "alice" };
const bob: Scopes = { target: "bob", visible: ["public", "bob"], uploaderId: "bob" };
const everyone: Scopes = { target: "public", visible: ["public"], uploaderId: "carol" };
const REPO = "repo";
const DAY_MS = 24 * 3600 * 1000;

let time: number;
let platform: Platform;
beforeEach(async () => {
  time = Date.parse("2026-11-22T10:00:00Z");
  platform = {
    ...cloudflarePlatform(env, "test", () => {}),
    upkeep: { wake: async () => {} },
    now: () => time,
  };
  await env.DB.prepare(
    "insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at) values (?, 'model', 'alice', 'repo', 'repo', 1, 0, 0)",
  )
    .bind(REPO)
    .run();
});

async function publish(scopes: Scopes, ...xorbs: readonly BuiltXorb[]): Promise<void> {
  for (const { hash, body } of xorbs)
    await receiveXorb(platform, scopes, { hash, body: new Blob([body]).stream(), contentLength: body.length });
  const shard = encodeShard({ files: [fileOf(xorbs.map((xorb) => [xorb]))], xorbs: [] });
  await registerShard(platform, scopes, REPO, new Blob([shard]).stream(), () => {});
}

const xorbOf = (seed: number): BuiltXorb => buildXorb([randomBytes(seed, 3000), randomBytes(seed + 1000, 2000)]);
const firstChunk = (xorb: BuiltXorb): XetHash => xetHashOf(xorb.chunks[0]?.hash ?? new Uint8Array());

type Found = {
  readonly xorbs: ShardXorb[];
  readonly key: Uint8Array;
  readonly created: number;
  readonly expires: number;
};

async function ask(scopes: Scopes, chunk: XetHash): Promise<Found | null> {
  const bytes = await findDedup(platform, scopes, chunk);
  if (bytes === null) return null;
  const pieces = [bytes];
  const xorbs: ShardXorb[] = [];
  for await (const entry of readShard(async () => pieces.pop())) if (entry.kind === "xorb") xorbs.push(entry);
  const footer = bytes.subarray(bytes.length - 200);
  const view = new DataView(footer.buffer, footer.byteOffset, 200);
  const seconds = (at: number) => Number(view.getBigUint64(at, true));
  return { xorbs, key: footer.slice(72, 104), created: seconds(104), expires: seconds(112) };
}
const hashesOf = (found: Found | null): XetHash[] | null => found?.xorbs.map(({ hash }) => hash) ?? null;

describe("an eligible chunk", () => {
  it("finds its xorb and the rest of the file, with keyed hashes", async () => {
    const xorbs = [xorbOf(1), xorbOf(2), xorbOf(3)];
    const [first, ...rest] = xorbs;
    if (first === undefined) throw new Error("no xorb");
    await publish(alice, ...xorbs);
    const found = await ask(alice, firstChunk(first));
    expect(hashesOf(found)).toEqual([first.hash, ...rest.map(({ hash }) => hash)]);
    expect(found?.key.some((byte) => byte !== 0)).toBe(true);
    for (const [i, { chunks }] of (found?.xorbs ?? []).entries())
      for (let chunk = 0; chunk < chunks.count; chunk++) {
        const raw = xorbs[i]?.chunks[chunk]?.hash ?? new Uint8Array(32);
        expect(chunks.at(chunk).length).toBe(xorbs[i]?.chunks[chunk]?.bytes.length);
        expect(Buffer.compare(chunks.at(chunk).hash, keyedHash(found?.key ?? raw, raw))).toBe(0);
        expect(Buffer.compare(chunks.at(chunk).hash, raw)).not.toBe(0);
      }
    expect((found?.expires ?? 0) - (found?.created ?? 0)).toBeLessThanOrEqual(DAY_MS / 1000);
  });

  it("finds at most 64 xorbs, those that follow it first", async () => {
    const xorbs = Array.from({ length: 68 }, (_, i) => xorbOf(10 + i));
    await publish(alice, ...xorbs);
    const third = xorbs[2];
    if (third === undefined) throw new Error("no xorb");
    // The first chunk of a file that begins in the middle of the other.
    await publish(everyone, xorbOf(199));
    await env.DB.prepare("insert into dedup_chunks (chunk, xorb_id) select ?, id from xorbs where hash = ?")
      .bind(firstChunk(third), third.hash)
      .run();
    expect(hashesOf(await ask(alice, firstChunk(third)))).toEqual(xorbs.slice(2, 66).map(({ hash }) => hash));
  });

  it("finds the newest of its files", async () => {
    const [shared, old, fresh] = [xorbOf(1), xorbOf(2), xorbOf(3)];
    await publish(alice, shared, old);
    await publish(alice, shared, fresh);
    expect(hashesOf(await ask(alice, firstChunk(shared)))).toEqual([shared.hash, fresh.hash]);
  });

  it("that is not stored, or that no one asks for, finds nothing", async () => {
    const xorb = xorbOf(1);
    await publish(alice, xorb);
    expect(await ask(alice, firstChunk(xorbOf(2)))).toBeNull();
    expect(await ask(alice, xetHashOf(xorb.chunks[1]?.hash ?? new Uint8Array()))).toBeNull();
  });
});

describe("what is private", () => {
  it("is found by its owner only, and what is public by everybody", async () => {
    const [secret, open] = [xorbOf(1), xorbOf(2)];
    await publish(alice, secret);
    await publish(everyone, open);
    expect(await ask(bob, firstChunk(secret))).toBeNull();
    expect(await ask(everyone, firstChunk(secret))).toBeNull();
    expect(hashesOf(await ask(alice, firstChunk(secret)))).toEqual([secret.hash]);
    for (const scopes of [alice, bob, everyone])
      expect(hashesOf(await ask(scopes, firstChunk(open)))).toEqual([open.hash]);
  });

  it("does not come along with what is public", async () => {
    const [open, secret] = [xorbOf(1), xorbOf(2)];
    await publish(everyone, open);
    // A private file of both, newer than the public one.
    await publish(alice, open, secret);
    expect(hashesOf(await ask(bob, firstChunk(open)))).toEqual([open.hash]);
    expect(hashesOf(await ask(alice, firstChunk(open)))).toEqual([open.hash, secret.hash]);
  });
});

describe("the key of an answer", () => {
  it("is one for a scope and a day", async () => {
    const xorb = xorbOf(1);
    await publish(everyone, xorb);
    const keyFor = async (scopes: Scopes) =>
      Buffer.from((await ask(scopes, firstChunk(xorb)))?.key ?? []).toString("hex");
    const [a, b] = [await keyFor(alice), await keyFor(bob)];
    expect(a).not.toBe(b);
    time += 3600 * 1000;
    expect(await keyFor(alice)).toBe(a);
    time += DAY_MS;
    expect(await keyFor(alice)).not.toBe(a);
  });
});
