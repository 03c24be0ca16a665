// Ingestion: files that came as segments become Xet files, nothing that is stored is stored again, and no byte changes on the way.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { administrator, type Client, user } from "../../../kit/actors";
import { Backroom, createRepo, digestOf, download, publishFile } from "../../../kit/upkeep";
import { join, randomBytes } from "../../../kit/xet";
import { connect } from "../../../kit/xet-client";

const KIB = 1 << 10;
/** The most that a small edit costs: a cut before it and one behind it may move. */
const EDIT_BYTES = 4 * 128 * KIB;
const bytes = randomBytes(1, 3000 * KIB);
const longer = join([bytes, randomBytes(5, 100)]);

let back: Backroom;
let admin: Client;
let alice: Client;
// Megabytes are hashed and chunked: half a second alone, many when the machine has other work.
vi.setConfig({ testTimeout: 30_000 });
afterEach(() => vi.restoreAllMocks());
beforeEach(async () => {
  // Steps that fail are logged.
  vi.spyOn(console, "error").mockImplementation(() => {});
  back = new Backroom();
  admin = await administrator();
  alice = await user(admin, "alice");
});

/** A file that is published and ingested. */
async function ingested(client: Client, repo: string, content: Uint8Array, isPrivate = false): Promise<string> {
  await createRepo(client, repo, isPrivate);
  const digest = await publishFile(client, repo, "model.bin", content);
  await back.run();
  return digest;
}

describe("an LFS upload", () => {
  it("reads the same before, between the steps and after, by HTTP and by Xet", async () => {
    await createRepo(alice, "alice/model");
    const digest = await publishFile(alice, "alice/model", "model.bin", bytes);
    expect(await back.tasks()).toHaveLength(1);
    let steps = 0;
    for (let more = true; more; steps++) {
      const part = await download(alice, "alice/model", "model.bin", "bytes=1500000-2500000");
      expect(digestOf(part)).toBe(digestOf(bytes.slice(1_500_000, 2_500_001)));
      more = await back.step();
    }
    expect(steps).toBeGreaterThan(4);
    const held = await back.holding("model", digest);
    expect(held).toMatchObject({ state: "verified", known: digest, scope: "public" });
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(digestOf(bytes));
    const xet = await connect(alice, "alice/model", "read");
    expect(digestOf(await xet.download(held?.hash ?? ""))).toBe(digest);
    expect(await back.tasks()).toEqual([]);
    expect((await back.xorbs()).every(({ named }) => named === 1)).toBe(true);
  });

  it("too small to be worth it stays as it is", async () => {
    const digest = await ingested(alice, "alice/model", randomBytes(1, 60_000));
    expect(await back.holding("model", digest)).toMatchObject({ fileId: null, state: "verified" });
    expect(await back.tasks()).toEqual([]);
  });

  it("whose segments are damaged keeps them, and the task says why", async () => {
    await createRepo(alice, "alice/model");
    const content = randomBytes(7, 200 * KIB);
    const digest = await publishFile(alice, "alice/model", "model.bin", content);
    const [object] = (await env.BLOBS.list({ prefix: `blobs/${digest.slice(0, 2)}/${digest}` })).objects;
    await env.BLOBS.put(object?.key ?? "", content.toReversed());
    await back.run();
    expect(await back.holding("model", digest)).toMatchObject({ fileId: null });
    const [task] = await back.tasks();
    expect(task).toMatchObject({ attempts: 1, progress: null });
    expect(task?.problem).toContain("reads back as");
    await env.BLOBS.put(object?.key ?? "", content);
    back.later();
    await back.run();
    expect(await back.holding("model", digest)).toMatchObject({ known: digest });
    expect(await back.count("xet_files where state = 'open'")).toBe(0);
  });

  it("of a repository that is deleted meanwhile leaves nothing open", async () => {
    await createRepo(alice, "alice/model");
    await publishFile(alice, "alice/model", "model.bin", bytes);
    await back.step();
    await back.step();
    await alice.send("DELETE", "/api/repos/delete", { name: "model", organization: "alice" });
    await back.run();
    expect(await back.tasks()).toEqual([]);
    expect(await back.count("xet_files where state = 'open'")).toBe(0);
  });
});

describe("what is stored already is not stored again", () => {
  it("a small change of a large file", async () => {
    await ingested(alice, "alice/model", bytes);
    const before = await back.packedBytes();
    const edited = join([bytes.slice(0, 800_000), randomBytes(2, 40), bytes.slice(800_000)]);
    const digest = await publishFile(alice, "alice/model", "model.bin", edited);
    await back.run();
    expect((await back.packedBytes()) - before).toBeLessThan(EDIT_BYTES);
    expect(await back.holding("model", digest)).toMatchObject({ known: digest });
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(digestOf(edited));
  });

  it("unchanged parts of a base in a fine-tune of the same owner, private as both are", async () => {
    await ingested(alice, "alice/base", bytes, true);
    const before = await back.packedBytes();
    const tuned = join([
      randomBytes(3, 300),
      bytes.slice(0, 1_400_000),
      randomBytes(4, 300_000),
      bytes.slice(1_700_000),
    ]);
    await ingested(alice, "alice/tuned", tuned, true);
    expect((await back.packedBytes()) - before).toBeLessThan(300_000 + 3 * EDIT_BYTES);
    expect(digestOf(await download(alice, "alice/tuned", "model.bin"))).toBe(digestOf(tuned));
  });

  it("public content of somebody else, found by its first chunk", async () => {
    await ingested(alice, "alice/model", bytes);
    const before = await back.packedBytes();
    const bob = await user(admin, "bob");
    await ingested(bob, "bob/copy", longer);
    expect((await back.packedBytes()) - before).toBeLessThan(EDIT_BYTES);
    expect(await download(bob, "bob/copy", "model.bin")).toHaveLength(longer.length);
  });

  it("but never private content of another owner, nor private content in a public file", async () => {
    await ingested(alice, "alice/model", bytes, true);
    const before = await back.packedBytes();
    const bob = await user(admin, "bob");
    await ingested(bob, "bob/model", bytes, true);
    expect(await back.packedBytes()).toBe(2 * before);
    await ingested(alice, "alice/shown", longer);
    expect(await back.packedBytes()).toBeGreaterThan(3 * before);
    expect(new Set((await back.xorbs()).map(({ scope }) => scope)).size).toBe(3);
    expect((await back.xorbs()).filter(({ scope }) => scope === "public").length).toBeGreaterThan(0);
  });

  it("private content that is public: the owner's scope refers to it", async () => {
    await ingested(alice, "alice/model", bytes);
    const before = await back.packedBytes();
    const digest = await ingested(alice, "alice/hidden", longer, true);
    expect((await back.packedBytes()) - before).toBeLessThan(EDIT_BYTES);
    expect((await back.holding("hidden", digest))?.scope).not.toBe("public");
  });

  it("one ingestion serves every repository of the scope", async () => {
    await createRepo(alice, "alice/one");
    await createRepo(alice, "alice/two");
    await publishFile(alice, "alice/one", "model.bin", bytes);
    const digest = await publishFile(alice, "alice/two", "weights.bin", bytes);
    expect(await back.tasks()).toHaveLength(2);
    await back.run();
    const one = await back.holding("one", digest);
    expect(one?.fileId).not.toBeNull();
    expect(await back.holding("two", digest)).toEqual(one);
    expect(await back.count("xet_files where state = 'registered'")).toBe(1);
    expect(digestOf(await download(alice, "alice/two", "weights.bin"))).toBe(digestOf(bytes));
  });

  it("chunks that repeat and bytes that pack", async () => {
    const text = new TextEncoder().encode("all work and no play makes a dull file\n".repeat(60_000));
    const content = join([text, new Uint8Array(1_000_000), text]);
    const digest = await ingested(alice, "alice/model", content);
    expect(await back.holding("model", digest)).toMatchObject({ known: digest });
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(digestOf(content));
    expect(await back.packedBytes()).toBeLessThan(content.length / 10);
  });
});

describe("whatever happens meanwhile", () => {
  it("a crash at any call leaves a file that reads, and the rest is made up for", async () => {
    const content = randomBytes(9, 300 * KIB);
    await createRepo(alice, "alice/model");
    const digest = await publishFile(alice, "alice/model", "model.bin", content);
    let calls = 0;
    for (; (await back.tasks()).length > 0; calls++) {
      await back.runUntilDeath(calls);
      expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(digestOf(content));
      back.later();
    }
    expect(calls).toBeGreaterThan(10);
    expect(await back.holding("model", digest)).toMatchObject({ known: digest });
    expect((await back.xorbs()).filter(({ named }) => named === 1)).toHaveLength(1);
  });

  it("runners side by side do each step once", async () => {
    await createRepo(alice, "alice/model");
    const digest = await publishFile(alice, "alice/model", "model.bin", bytes);
    while ((await back.tasks()).length > 0) {
      const first = back.step();
      // The first one's lease is over while it still works.
      back.later();
      await Promise.all([first, back.step()]);
      back.later();
    }
    expect(await back.holding("model", digest)).toMatchObject({ known: digest });
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(digestOf(bytes));
    expect(await back.count("xet_files where state = 'registered'")).toBe(1);
  });
});
