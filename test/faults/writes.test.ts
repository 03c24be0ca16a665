// Uploads, commits and repositories whose connection or hub dies in the middle: they are there whole or not at all, and the next try works.
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request as openRequest } from "node:http";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { commitBody, digest, fileLine, type HubClient, lfsLine } from "./client";
import { type FaultHub, HubPool } from "./fault-hub";
import { PART_BYTES, seeded } from "./materials";

const pool = new HubPool(3);
beforeAll(() => pool.start());
afterAll(() => pool.stop());

const ROUNDS = 4;
const random = seeded(23);
/** Moments in the course of a request: some before its commit point, some after. */
const moments = (longestMs: number) =>
  Array.from({ length: ROUNDS }, (_, round) => ({
    round,
    delayMs: Math.round(((round + random()) * longestMs) / ROUNDS),
  }));

function bytesOf(size: number, seed: number): Uint8Array {
  const next = seeded(seed);
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let i = 0; i < words.length; i++) words[i] = next() * 2 ** 32;
  return new Uint8Array(words.buffer, 0, size);
}

/** A request whose body the test sends piece by piece, and whose end nobody may see. */
function begin(method: string, url: string, headers: Record<string, string>): ClientRequest {
  const request = openRequest(url, { method, headers, agent: false });
  request.on("error", () => undefined);
  return request;
}

async function sent(request: ClientRequest, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve) => request.write(bytes, () => resolve()));
}

/** The status, or null where the connection ended without one. */
async function outcome(request: ClientRequest): Promise<number | null> {
  const answered = new Promise<number | null>((resolve) => {
    request.once("response", (response: IncomingMessage) => {
      response.resume();
      resolve(response.statusCode ?? null);
    });
    request.once("close", () => resolve(null));
  });
  return answered;
}

const Listed = z.array(z.object({ type: z.string(), path: z.string() }));

async function pathsOf(client: HubClient, repo: string): Promise<string[]> {
  const listed = Listed.parse(await client.call("GET", `/api/models/${repo}/tree/main?recursive=true`));
  return listed.flatMap(({ type, path }) => (type === "file" ? [path] : [])).sort();
}

async function expectDownload(client: HubClient, repo: string, path: string, bytes: Uint8Array): Promise<void> {
  const response = await client.raw("GET", `/${repo}/resolve/main/${path}`);
  expect(digest(new Uint8Array(await response.arrayBuffer()))).toBe(digest(bytes));
}

/** Bytes that were uploaded by half are no bytes of the hub: they can't be committed. */
async function expectNotCommittable(client: HubClient, repo: string, bytes: Uint8Array): Promise<void> {
  const answer = await client.raw("POST", `/api/models/${repo}/commit/main`, {
    body: commitBody([lfsLine("half.bin", bytes)]),
    headers: { "content-type": "application/x-ndjson" },
  });
  expect(answer.status).toBe(422);
  expect(await pathsOf(client, repo)).toEqual([".gitattributes"]);
}

const drafts = (hub: FaultHub): string[] =>
  readdirSync(join(hub.hub.state, "edge", "r2", "owm-hub", "blobs")).filter((name) => name.endsWith(".tmp"));

type UploadRow = {
  readonly what: string;
  readonly repo: string;
  readonly size: number;
  /** The part in whose middle it happens. */
  readonly part: number;
  readonly dies: "client" | "worker";
};
const UPLOADS: readonly UploadRow[] = [
  { what: "a single PUT, the client", repo: "one-client", size: 1_500_000, part: 0, dies: "client" },
  { what: "a single PUT, the Worker", repo: "one-worker", size: 1_500_000, part: 0, dies: "worker" },
  {
    what: "the second of three parts, the client",
    repo: "parts-client",
    size: PART_BYTES * 2 + 5,
    part: 1,
    dies: "client",
  },
  {
    what: "the second of three parts, the Worker",
    repo: "parts-worker",
    size: PART_BYTES * 2 + 5,
    part: 1,
    dies: "worker",
  },
];

describe.concurrent("an upload that dies in the middle of a part", () => {
  it.each(UPLOADS.map((row, seed) => ({ ...row, seed })))("$what dies", ({ repo: name, size, part, dies, seed }) =>
    pool.use(async (hub) => {
      const { client } = hub;
      const repo = `faults/${name}`;
      const bytes = bytesOf(size, 100 + seed);
      await client.createRepo(repo);
      const plan = await client.planUpload(repo, bytes);
      for (const before of plan.parts.slice(0, part)) {
        const response = await fetch(before.url, { method: "PUT", body: Buffer.from(before.bytes) });
        expect(response.status).toBe(200);
        await response.body?.cancel();
      }
      const current = plan.parts[part];
      if (current === undefined) throw new Error(`the upload has no part ${part + 1}`);
      const half = Math.floor(current.bytes.length / 2);
      const request = begin("PUT", current.url, { "content-length": String(current.bytes.length) });
      await sent(request, current.bytes.subarray(0, half));
      if (dies === "worker") await hub.kill("worker");
      request.destroy();
      if (dies === "worker") await hub.revive("worker");
      await expectNotCommittable(client, repo, bytes);
      await hub.expectWhole();
      await client.upload(repo, bytes);
      await client.commit(repo, [lfsLine("whole.bin", bytes)]);
      await expectDownload(client, repo, "whole.bin", bytes);
      expect(drafts(hub)).toEqual([]);
    }),
  );

  it.each(moments(60))("the Worker dies $delayMs ms after it was told that all parts are there", ({ round, delayMs }) =>
    pool.use(async (hub) => {
      const { client } = hub;
      const repo = `faults/complete-${round}`;
      const bytes = bytesOf(PART_BYTES * 2 + 7, 200 + round);
      await client.createRepo(repo);
      const { parts, complete } = await client.planUpload(repo, bytes);
      const etags: { partNumber: number; etag: string | null }[] = [];
      for (const [i, part] of parts.entries()) {
        const response = await fetch(part.url, { method: "PUT", body: Buffer.from(part.bytes) });
        await response.body?.cancel();
        etags.push({ partNumber: i + 1, etag: response.headers.get("etag") });
      }
      if (complete === null) throw new Error("the upload has one part only");
      const order = { oid: digest(bytes), parts: etags };
      const first = client.call("POST", complete, order).catch(() => null);
      await pause(delayMs);
      await hub.kill("worker");
      await first;
      await hub.revive("worker");
      await hub.expectWhole();
      // What a client does that got no answer: it asks again.
      await client.call("POST", complete, order);
      await client.commit(repo, [lfsLine("whole.bin", bytes)]);
      await expectDownload(client, repo, "whole.bin", bytes);
    }),
  );
});

describe.concurrent("a commit whose hub dies", () => {
  const FILES = 40;
  const filesOf = (round: number) =>
    Array.from({ length: FILES }, (_, i) => [`d${i % 5}/f${i}.txt`, `${round} ${i} ${"x".repeat(20_000)}`] as const);
  const paths = (round: number): string[] => [".gitattributes", ...filesOf(round).map(([path]) => path)].sort();

  it.each([{ round: ROUNDS, delayMs: null }, ...moments(150)])(
    "$delayMs ms after it was sent (null: by half) is there whole or not at all",
    ({ round, delayMs }) =>
      pool.use(async (hub) => {
        const { client } = hub;
        const repo = `faults/commit-${round}`;
        await client.createRepo(repo);
        const lines = filesOf(round).map(([path, content]) => fileLine(path, content));
        const body = Buffer.from(commitBody(lines));
        const request = begin("POST", `${client.endpoint}/api/models/${repo}/commit/main`, {
          ...client.authorization,
          "content-type": "application/x-ndjson",
          "content-length": String(body.length),
        });
        const status = outcome(request);
        if (delayMs === null) await sent(request, body.subarray(0, body.length / 2));
        else {
          request.end(body);
          await once(request, "finish");
          await pause(delayMs);
        }
        await hub.kill("worker");
        const answered = await status;
        await hub.revive("worker");
        await hub.expectWhole();
        const found = await pathsOf(client, repo);
        if (answered === 200) expect(found).toEqual(paths(round));
        else if (delayMs === null) expect(found).toEqual([".gitattributes"]);
        else expect([[".gitattributes"], paths(round)]).toContainEqual(found);
        await client.commit(repo, lines);
        expect(await pathsOf(client, repo)).toEqual(paths(round));
      }),
  );
});

describe.concurrent("a new repository whose hub dies", () => {
  it.each(moments(40))("$delayMs ms after it was asked for is there whole or not at all", ({ round, delayMs }) =>
    pool.use(async (hub) => {
      const { client } = hub;
      const repo = `faults/new-${round}`;
      const request = client.createRepo(repo).then(
        () => true,
        () => false,
      );
      await pause(delayMs);
      await hub.kill("worker");
      const created = await request;
      await hub.revive("worker");
      await hub.expectWhole();
      const { status } = await client.raw("GET", `/api/models/${repo}`);
      if (created) expect(status).toBe(200);
      if (status !== 200) {
        expect(status).toBe(404);
        await client.createRepo(repo);
      }
      await client.commit(repo, [fileLine("a.txt", "a")]);
      expect(await pathsOf(client, repo)).toEqual([".gitattributes", "a.txt"]);
    }),
  );
});

/** Each in one transaction with all it needs: where the database refuses one of its rows, nothing of it is there. */
const REFUSED = [
  { write: "commit", table: "refs" },
  { write: "commit", table: "events" },
  { write: "repository", table: "refs" },
  { write: "repository", table: "events" },
  { write: "upload", table: "contents" },
] as const;

describe.concurrent("a write of which the database refuses a row", () => {
  it.each(REFUSED)("$write: nothing is there without its row of $table", ({ write, table }) =>
    pool.use(async (hub) => {
      const { client } = hub;
      const repo = `faults/refused-${write}-${table}`;
      const bytes = bytesOf(1000, 300);
      const attempt = (): Promise<void> => {
        if (write === "repository") return client.createRepo(repo);
        return write === "commit" ? client.commit(repo, [fileLine("a/b.txt", "b")]) : client.upload(repo, bytes);
      };
      if (write !== "repository") await client.createRepo(repo);
      const outage = hub.refuseRows(table);
      await expect(attempt()).rejects.toThrow(/answered 5\d\d/);
      await hub.expectWhole();
      outage.mend();
      if (write === "repository") expect((await client.raw("GET", `/api/models/${repo}`)).status).toBe(404);
      else await expectNotCommittable(client, repo, bytes);
      await attempt();
      if (write === "upload") await client.commit(repo, [lfsLine("a/b.txt", bytes)]);
      expect(await pathsOf(client, repo)).toEqual([".gitattributes", ...(write === "repository" ? [] : ["a/b.txt"])]);
    }),
  );
});
