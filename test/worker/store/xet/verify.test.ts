// What a client says of a file's SHA-256 is believed when the hub has computed it: until then nobody else gets at it, and a lie is found.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { parseSha256 } from "../../../../src/ids";
import { administrator, type Client, lfsLine, uploadLfs, user } from "../../../kit/actors";
import { Backroom, createRepo, digestOf, download, publishFile } from "../../../kit/upkeep";
import { type BuiltFile, buildFile, encodeShard, randomBytes, xorbSpec } from "../../../kit/xet";
import { connect } from "../../../kit/xet-client";

const bytes = randomBytes(1, 2_500_000);
const truth = digestOf(bytes);
const lie = digestOf(randomBytes(2, 1000));
const built = buildFile(bytes, 12);
const claiming = (sha256: string): BuiltFile => ({
  ...built,
  shard: encodeShard({
    files: [{ ...built.file, sha256: parseSha256(sha256, "sha256") }],
    xorbs: built.xorbs.map(xorbSpec),
  }),
});

let back: Backroom;
let alice: Client;
let bob: Client;
// Megabytes are hashed and chunked: half a second alone, many when the machine has other work.
vi.setConfig({ testTimeout: 30_000 });
afterEach(() => vi.restoreAllMocks());
beforeEach(async () => {
  vi.spyOn(console, "error").mockImplementation(() => {});
  back = new Backroom();
  const admin = await administrator();
  alice = await user(admin, "alice");
  bob = await user(admin, "bob");
  await createRepo(alice, "alice/model");
  await createRepo(bob, "bob/model");
});

/** Sends the file by Xet and commits it under this digest. */
async function publish(sha256: string): Promise<number> {
  await (await connect(alice, "alice/model", "write")).upload(claiming(sha256));
  return (await alice.commit("alice/model", [lfsLine("model.bin", sha256, bytes.length)])).status;
}

const Trail = z.object({ events: z.array(z.object({ type: z.string(), subject: z.string(), data: z.unknown() })) });
async function quarantines() {
  const answer = await alice.get("/api/v1/audit?type=content.quarantined");
  return Trail.parse(answer.body).events.map(({ subject, data }) => ({ subject, data }));
}

describe("a claim that is true", () => {
  it("is the repository's own until it is verified, and good for everybody after", async () => {
    expect(await publish(truth)).toBe(200);
    expect(await back.holding("model", truth)).toMatchObject({ state: "claimed", known: null });
    expect((await bob.commit("bob/model", [lfsLine("copy.bin", truth, bytes.length)])).status).toBe(422);
    await back.run();
    expect(await back.holding("model", truth)).toMatchObject({ state: "verified", known: truth });
    expect(await back.tasks()).toEqual([]);
    expect((await bob.commit("bob/model", [lfsLine("copy.bin", truth, bytes.length)])).status).toBe(200);
    expect(digestOf(await download(bob, "bob/model", "copy.bin"))).toBe(truth);
    expect(await quarantines()).toEqual([]);
  });

  it("takes the place of segments that repositories of the same scope hold", async () => {
    await publishFile(bob, "bob/model", "weights.bin", bytes);
    await publish(truth);
    await back.run();
    expect(await back.count("xet_files where state = 'registered'")).toBe(1);
    expect(await back.count(`repo_contents where file_id is null and sha256 = '${truth}'`)).toBe(0);
    expect(digestOf(await download(bob, "bob/model", "weights.bin"))).toBe(truth);
  });
});

describe("a claim that is false", () => {
  it("is quarantined, told in the trail, and mended by the right bytes", async () => {
    expect(await publish(lie)).toBe(200);
    await back.run();
    expect(await back.holding("model", lie)).toMatchObject({ state: "mismatched", known: truth });
    const refused = await alice.raw("GET", "/alice/model/resolve/main/model.bin");
    expect(refused.status).toBe(409);
    expect(refused.headers.get("x-error-message")).toContain("Upload the file again");
    expect(await quarantines()).toEqual([{ subject: "model:alice/model", data: { claimed: lie, actual: truth } }]);
    expect((await bob.commit("bob/model", [lfsLine("copy.bin", lie, bytes.length)])).status).toBe(422);

    expect(await uploadLfs(alice, "alice/model", randomBytes(2, 1000))).toBe(lie);
    expect((await alice.commit("alice/model", [lfsLine("model.bin", lie, 1000)])).status).toBe(200);
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(lie);
  });

  it("is mended by the right bytes of another repository, too", async () => {
    await publish(lie);
    await back.run();
    await publishFile(bob, "bob/model", "right.bin", randomBytes(2, 1000));
    expect((await alice.commit("alice/model", [lfsLine("model.bin", lie, 1000)])).status).toBe(200);
    expect(await back.holding("model", lie)).toMatchObject({ state: "verified", fileId: null });
    expect(digestOf(await download(alice, "alice/model", "model.bin"))).toBe(lie);
  });

  it("beside a true one of the same file: each gets what it deserves", async () => {
    await publish(lie);
    await (await connect(alice, "alice/model", "write")).upload(claiming(truth));
    await back.run();
    expect(await back.holding("model", lie)).toMatchObject({ state: "mismatched" });
    expect(await back.holding("model", truth)).toMatchObject({ state: "verified" });
    expect(await quarantines()).toHaveLength(1);
  });
});

describe("whatever happens meanwhile", () => {
  it("progress survives a crash at any call", async () => {
    await publish(lie);
    const seen = new Set<string | null>();
    let calls = 0;
    for (let tasks = await back.tasks(); tasks.length > 0; tasks = await back.tasks()) {
      seen.add(tasks[0]?.progress ?? null);
      await back.runUntilDeath(calls++);
      back.later();
    }
    // Nothing, one step, two steps, all.
    expect(seen.size).toBe(3);
    expect(await back.holding("model", lie)).toMatchObject({ state: "mismatched" });
    expect(await quarantines()).toHaveLength(1);
  });

  it("two runners tell it once", async () => {
    await publish(lie);
    while ((await back.tasks()).length > 0) {
      const first = back.step();
      back.later();
      await Promise.all([first, back.step()]);
      back.later();
    }
    expect(await quarantines()).toHaveLength(1);
  });

  it("a file whose bytes are damaged stays claimed, and the task says why", async () => {
    await publish(truth);
    const { platform } = back;
    const damaged = { ...platform, blobs: { ...platform.blobs, get: async () => null } };
    await back.run(damaged);
    expect(await back.tasks()).toMatchObject([{ attempts: 1, problem: "Stored bytes are missing or damaged" }]);
    expect(await back.holding("model", truth)).toMatchObject({ state: "claimed" });
  });
});
