// The stock JavaScript client, in Node, by Xet: up, down, in slices, and crosswise with the Python client.
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import * as hub from "@huggingface/hub";
import { beforeAll, beforeEach, expect, it, vi } from "vitest";
import { bytesOf } from "./javascript-client.ts";
import { newPerson, type Person } from "./people.ts";
import type { Session } from "./python-client.ts";
import { recordedHub } from "./recorded-hub.ts";
import { seededBytes, weightsFile } from "./sample-files.ts";
import { fileSha256, scratchFolder, sha256 } from "./scratch.ts";
import { download, upload, xetSession } from "./xet-steps.ts";

const scratch = scratchFolder();
const recorded = recordedHub();
const MB = 1_000_000;

let owner: Person;
let repo: { type: "model"; name: string };
const as = (person: Person) => ({ hubUrl: recorded.endpoint, accessToken: person.token });
const python = (): Session => xetSession(recorded, scratch("home"), { version: "2.4.0", token: owner.token });

const FILES = {
  "weights.safetensors": weightsFile("javascript xet", 1.5 * MB),
  "random.bin": seededBytes("javascript xet random", 2 * MB),
  "sub/one byte.bin": Buffer.from([3]),
};

// The client reports every file that it downloads.
beforeEach(() => {
  const debug = vi.spyOn(console, "debug").mockImplementation(() => {});
  return () => debug.mockRestore();
});

beforeAll(async () => {
  owner = await newPerson("js-xet");
  repo = { type: "model", name: `${owner.name}/model` };
  await hub.createRepo({ ...as(owner), repo });
});

it("uploads files by their parts; the Python client and this one get them back by theirs", async () => {
  recorded.traffic();
  const files = Object.entries(FILES).map(([path, bytes]) => ({ path, content: new Blob([new Uint8Array(bytes)]) }));
  await hub.uploadFiles({ ...as(owner), repo, files, useXet: true });
  const sent = recorded.traffic();
  expect(sent.xorbs).toBeGreaterThan(0);
  expect(sent.shards).toBeGreaterThan(0);
  expect(sent.all.filter(({ method }) => method === "PUT")).toEqual([]);
  for (const [path, bytes] of Object.entries(FILES)) {
    recorded.traffic();
    const blob = await hub.downloadFile({ ...as(owner), repo, path, xet: true });
    expect(blob?.size).toBe(bytes.length);
    expect(sha256(await bytesOf(blob)), path).toBe(sha256(bytes));
    expect(recorded.traffic().reconstructions, path).toBeGreaterThan(0);
    expect(await download(python(), { repo: repo.name, path }), path).toBe(sha256(bytes));
    expect(recorded.traffic().reconstructions, path).toBeGreaterThan(0);
  }
});

it("gives slices of a Xet file without the rest", async () => {
  const path = "random.bin";
  const bytes = FILES[path];
  const blob = await hub.downloadFile({ ...as(owner), repo, path, xet: true });
  for (const [start, end] of [
    [0, 1],
    [65_535, 65_537],
    [777_777, 1_234_567],
    [bytes.length - 10, bytes.length],
  ] as const) {
    recorded.traffic();
    expect(sha256(await bytesOf(blob?.slice(start, end) ?? null))).toBe(sha256(bytes.subarray(start, end)));
    // Whole chunks around the slice: 128 KiB at most on either side.
    expect(recorded.traffic().dataBytes).toBeLessThan(end - start + 300_000);
  }
});

it("gets what the Python client has uploaded, and sends none of it again", async () => {
  // Noise: of other bytes this client cuts chunks now and then where the Python client does not.
  const bytes = seededBytes("from python", 4 * MB);
  const from = scratch("from-python.bin");
  writeFileSync(from, bytes);
  await upload(python(), { repo: repo.name, from, path: "from-python.bin" });
  const blob = await hub.downloadFile({ ...as(owner), repo, path: "from-python.bin", xet: true });
  expect(sha256(await bytesOf(blob))).toBe(sha256(bytes));

  const another = { type: "model" as const, name: `${owner.name}/another` };
  await hub.createRepo({ ...as(owner), repo: another });
  const longer = scratch("longer.bin");
  writeFileSync(longer, Buffer.concat([bytes, Buffer.from("and an end of its own")]));
  recorded.traffic();
  await hub.uploadFile({ ...as(owner), repo: another, file: pathToFileURL(longer), useXet: true });
  // The last chunk, 128 KiB at most, is another.
  expect(recorded.traffic().sentBytes).toBeLessThan(150_000);
  const path = longer.split("/").at(-1) ?? "";
  expect(await download(python(), { repo: another.name, path })).toBe(await fileSha256(longer));
});

it("sends of an edit only what is new", async () => {
  const path = "edited.bin";
  const bytes = seededBytes("javascript edit", 12 * MB);
  const put = async (content: Uint8Array) =>
    hub.uploadFile({ ...as(owner), repo, file: { path, content: new Blob([new Uint8Array(content)]) }, useXet: true });
  await put(bytes);
  const edited = Buffer.from(bytes);
  edited.set(seededBytes("sixteen bytes", 16), 5 * MB);
  recorded.traffic();
  await put(edited);
  expect(recorded.traffic().sentBytes).toBeLessThan(500_000);
  expect(await download(python(), { repo: repo.name, path })).toBe(sha256(edited));
});

it("lets who may not write propose a file, which lies on the pull request's own ref", async () => {
  const stranger = await newPerson("js-xet-stranger");
  const bytes = seededBytes("javascript proposal", 200_000);
  const file = { path: "proposed.bin", content: new Blob([new Uint8Array(bytes)]) };
  recorded.traffic();
  const proposed = await hub.uploadFile({ ...as(stranger), repo, file, useXet: true, isPullRequest: true });
  expect(recorded.traffic().xorbs).toBe(1);
  const [, number] = /\/discussions\/(\d+)$/.exec(proposed?.pullRequestUrl ?? "") ?? [];
  const revision = `refs/pr/${number}`;
  const blob = await hub.downloadFile({ ...as(owner), repo, path: "proposed.bin", revision, xet: true });
  expect(sha256(await bytesOf(blob))).toBe(sha256(bytes));
  await expect(hub.uploadFile({ ...as(stranger), repo, file, useXet: true })).rejects.toThrow();
});
