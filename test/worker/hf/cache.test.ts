// The edge's cache: what it saves, that it changes no answer, and that nothing private ever gets into it or out of it.

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { cachePuts, countRoundTrips } from "../../kit/round-trips";
import { headersOf, settled } from "../../kit/settled";
import { buildFile } from "../../kit/xet";
import { connect } from "../../kit/xet-client";

const REPO = "ada/digits";
const WEIGHTS = new TextEncoder().encode("0123456789");
let ada: Client;
let sha: string;
/** At a full commit id, where answers never change. */
let weights: string;
let config: string;

async function publish(isPrivate: boolean): Promise<void> {
  await ada.post("/api/repos/create", { name: "digits", private: isPrivate });
  const oid = await uploadLfs(ada, REPO, WEIGHTS);
  const answer = await ada.commit(REPO, [lfsLine("model.safetensors", oid), fileLine("deep/config.json", "{}")]);
  sha = z.object({ commitOid: z.string() }).parse(answer.body).commitOid;
  weights = `/${REPO}/resolve/${sha}/model.safetensors`;
  config = `/${REPO}/resolve/${sha}/deep/config.json`;
}

beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await publish(false);
  // The token's day of last use is written once a day.
  await settled(ada, "/api/whoami-v2");
});

const setPrivate = (isPrivate: boolean) => ada.send("PUT", `/api/models/${REPO}/settings`, { private: isPrivate });

describe("what it saves", () => {
  it("answers a public file at a commit without a query once somebody near asked for it", async () => {
    for (const path of [weights, config]) {
      expect((await countRoundTrips(() => settled(anonymous, path))).d1).toBe(1);
      for (const method of ["GET", "HEAD"])
        expect(await countRoundTrips(() => settled(anonymous, path, { method }))).toMatchObject({ d1: 0, r2: 0 });
    }
  });

  it("asks once by the name of a branch, and once for a token", async () => {
    await settled(anonymous, weights);
    const byBranch = `/${REPO}/resolve/main/model.safetensors`;
    expect(await countRoundTrips(() => settled(anonymous, byBranch))).toMatchObject({ d1: 1, r2: 0 });
    expect(await countRoundTrips(() => settled(ada, weights))).toMatchObject({ d1: 1, r2: 0 });
  });

  it("answers listings and missing files at a commit without a query", async () => {
    const tree = `/api/models/${REPO}/tree/${sha}?recursive=true`;
    const missing = `/${REPO}/resolve/${sha}/missing.json`;
    for (const path of [tree, missing]) {
      const first = await settled(anonymous, path);
      const again = await countRoundTrips(() => settled(anonymous, path));
      expect(again.d1).toBe(0);
      expect(headersOf(again.result)).toEqual(headersOf(first));
      expect(again.result.bytes).toEqual(first.bytes);
    }
  });
});

describe("an answer from it", () => {
  const ASKED: [string, Record<string, string>][] = [
    ["GET", {}],
    ["HEAD", {}],
    ["GET", { range: "bytes=2-4" }],
    ["GET", { range: "bytes=-3" }],
    ["GET", { range: "bytes=10-" }],
    ["GET", { range: "bytes=0-0" }],
  ];
  for (const [method, headers] of ASKED)
    it(`is the same as one without it: ${method} ${JSON.stringify(headers)}`, async () => {
      const without = await settled(anonymous, weights, { method, headers, settings: { EDGE_CACHE: "off" } });
      await settled(anonymous, weights);
      const from = await countRoundTrips(() => settled(anonymous, weights, { method, headers }));
      expect(from).toMatchObject({ d1: 0, r2: 0 });
      expect(from.result.status).toBe(without.status);
      expect(headersOf(from.result)).toEqual(headersOf(without));
      expect(from.result.bytes).toEqual(without.bytes);
    });

  it("is 304 to who has the file, and a whole one where If-Range names another", async () => {
    const etag = (await settled(anonymous, weights)).headers.get("etag") ?? "";
    const ask = async (headers: Record<string, string>) => (await settled(anonymous, weights, { headers })).status;
    expect(await ask({ "if-none-match": etag })).toBe(304);
    expect(await ask({ range: "bytes=2-4", "if-range": etag })).toBe(206);
    expect(await ask({ range: "bytes=2-4", "if-range": '"other"' })).toBe(200);
  });

  it("is noted in the trail like every other download", async () => {
    await settled(anonymous, weights);
    await settled(anonymous, weights);
    await runInDurableObject(env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")), (buffer) => buffer.flush());
    const trail = await ada.get("/api/v1/audit?type=content.used");
    const events = z.object({ events: z.array(z.object({ subject: z.string() })) }).parse(trail.body).events;
    expect(events.map((event) => event.subject)).toEqual([`model:${REPO}`, `model:${REPO}`]);
  });
});

describe("what is gated", () => {
  const gate = (gated: string | false) => ada.send("PUT", `/api/models/${REPO}/settings`, { gated });

  it("is refused at once when it was open and cached a moment ago, and told of as before", async () => {
    const tree = `/api/models/${REPO}/tree/${sha}`;
    for (const path of [weights, config, tree]) await settled(anonymous, path);
    await gate("auto");
    for (const path of [weights, config]) expect((await settled(anonymous, path)).status).toBe(401);
    expect((await settled(anonymous, tree)).status).toBe(200);
    expect((await settled(ada, weights)).headers.get("cache-control")).toMatch(/^private, /);
  });

  it("never gets into it", async () => {
    await gate("manual");
    const tree = `/api/models/${REPO}/tree/${sha}?recursive=true`;
    const kept = await cachePuts(async () => {
      for (const path of [weights, config, tree]) await settled(ada, path);
    });
    expect(kept).toEqual([]);
  });
});

describe("what moved", () => {
  it("is found by its new name at once, and no longer answered by the old one", async () => {
    await settled(anonymous, weights);
    await ada.post("/api/repos/move", { fromRepo: REPO, toRepo: "ada/numbers" });
    const moved = await settled(anonymous, weights);
    expect([moved.status, moved.headers.get("location")]).toEqual([307, weights.replace("digits", "numbers")]);
    // Made again under the old name it is another repository, and cached as that.
    await publish(false);
    expect((await settled(anonymous, weights)).status).toBe(200);
    await setPrivate(true);
    expect((await settled(anonymous, weights)).status).toBe(401);
  });
});

describe("what is not public", () => {
  it("is refused at once when it was public and cached a moment ago", async () => {
    const tree = `/api/models/${REPO}/tree/${sha}`;
    for (const path of [weights, config, tree]) await settled(anonymous, path);
    await setPrivate(true);
    for (const path of [weights, config, tree]) expect((await settled(anonymous, path)).status).toBe(401);
    expect((await settled(ada, weights)).bytes).toEqual(WEIGHTS);
    await setPrivate(false);
    expect((await settled(anonymous, weights)).bytes).toEqual(WEIGHTS);
  });

  it("is refused at once when it was deleted", async () => {
    await settled(anonymous, weights);
    await ada.send("DELETE", "/api/repos/delete", { name: "digits", organization: "ada" });
    expect((await settled(anonymous, weights)).status).toBe(401);
    // A namesake that is private: not taken for the one before.
    await publish(true);
    expect((await settled(anonymous, weights)).status).toBe(401);
  });

  it("never gets into it", async () => {
    await setPrivate(true);
    const paths = [weights, config, `/${REPO}/resolve/main/model.safetensors`, `/api/models/${REPO}/tree/${sha}`];
    const puts = await cachePuts(async () => {
      for (const path of paths) {
        expect((await settled(ada, path)).status).toBe(200);
        expect((await settled(anonymous, path)).status).toBe(401);
      }
    });
    expect(puts).toEqual([]);
  });

  it("may be kept by nobody but its reader", async () => {
    expect((await settled(anonymous, weights)).headers.get("cache-control")).toBe(
      "public, no-transform, max-age=31536000, immutable",
    );
    await setPrivate(true);
    const { headers } = await settled(ada, weights);
    expect(headers.get("cache-control")).toMatch(/^private, /);
    expect(headers.get("vary")).toContain("authorization");
  });
});

it("keeps nothing of a file whose digest is only claimed, and rebuilds of it that never change", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(50_000));
  const built = buildFile(bytes, 2);
  await (await connect(ada, REPO, "write")).upload(built);
  const oid = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
  const answer = await ada.commit(REPO, [lfsLine("claimed.bin", oid, bytes.length)]);
  const commit = z.object({ commitOid: z.string() }).parse(answer.body).commitOid;
  await env.DB.prepare("update repo_contents set state = 'claimed' where sha256 = ?").bind(oid).run();
  const path = `/${REPO}/resolve/${commit}/claimed.bin`;
  const puts = await cachePuts(async () => {
    for (let i = 0; i < 2; i++) expect((await settled(anonymous, path)).bytes).toEqual(bytes);
  });
  expect(puts).toEqual([]);

  const reader = await connect(anonymous, REPO, "read");
  const rebuild = new URL(`${reader.casUrl}/v2/reconstructions/${built.file.hash}`).pathname;
  const first = await countRoundTrips(() => settled(reader, rebuild));
  const again = await countRoundTrips(() => settled(reader, rebuild));
  expect([first.d1, again.d1]).toEqual([2, 1]);
  expect(again.result.bytes).toEqual(first.result.bytes);
  await env.DB.prepare("update repo_contents set state = 'mismatched' where sha256 = ?").bind(oid).run();
  expect((await settled(anonymous, path)).status).toBe(409);
  expect((await settled(reader, rebuild)).status).toBe(404);
});

it("finds a file afresh when the place that was remembered is gone", async () => {
  await settled(anonymous, weights, { method: "HEAD" });
  const [content] = (await env.DB.prepare("select sha256, segments from contents where size = 10").all()).results;
  const { sha256, segments } = z.object({ sha256: z.string(), segments: z.string() }).parse(content);
  const [segment] = z.array(z.object({ key: z.string() })).parse(JSON.parse(segments));
  const moved = `${segment?.key}-moved`;
  await env.BLOBS.put(moved, WEIGHTS);
  await env.BLOBS.delete(segment?.key ?? "");
  await env.DB.prepare("update contents set segments = ? where sha256 = ?")
    .bind(segments.replaceAll(segment?.key ?? "", moved), sha256)
    .run();
  expect((await settled(anonymous, weights)).bytes).toEqual(WEIGHTS);
});
