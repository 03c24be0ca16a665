// The stock JavaScript client, in Node: publishing, listing, downloading, editing and deleting.
import { mkdirSync, openAsBlob } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as hub from "@huggingface/hub";
import { beforeAll, beforeEach, describe, expect, inject, it, vi } from "vitest";
import { bytesOf, recordingFetch } from "./javascript-client.ts";
import { newPerson, type Person } from "./people.ts";
import { digestsOf, gitBlobId, lfsPointer, sampleFiles, TENSORS, writeFiles, writeSeededFile } from "./sample-files.ts";
import { fileSha256, folderDigests, scratchFolder, sha256 } from "./scratch.ts";

const scratch = scratchFolder();
const MIB = 1024 * 1024;

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of items) all.push(one);
  return all;
}

/** What every call takes: where the hub is, and who asks. */
const as = (person: Person) => ({ hubUrl: inject("endpoint"), accessToken: person.token });

async function rejection(promise: Promise<unknown>): Promise<hub.HubApiError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof hub.HubApiError) return error;
  throw new Error(`not an error of the hub: ${error}`);
}

// The client reports every file that it downloads.
beforeEach(() => {
  const debug = vi.spyOn(console, "debug").mockImplementation(() => {});
  return () => debug.mockRestore();
});

describe.each(["model", "dataset"] as const)("a %s repository", (type) => {
  let owner: Person;
  let repo: { type: "model" | "dataset"; name: string };
  let commit: string;
  // This client does not encode the characters that end or escape a path in an address.
  const files = Object.fromEntries(
    Object.entries(sampleFiles(`javascript ${type}`)).map(([path, file]) => [path.replace(/[%#?]/g, ""), file]),
  );
  const digests = digestsOf(files);

  beforeAll(async () => {
    owner = await newPerson("js-owner");
    repo = { type, name: `${owner.name}/Sample` };
    const { repoUrl } = await hub.createRepo({ ...as(owner), repo });
    expect(repoUrl).toBe(`${inject("endpoint")}/${type === "model" ? "" : "datasets/"}${repo.name}`);
    const answer = await hub.uploadFiles({
      ...as(owner),
      repo,
      files: Object.entries(files).map(([path, { bytes }]) => ({ path, content: new Blob([new Uint8Array(bytes)]) })),
      commitTitle: "the files",
      commitDescription: "all of them",
      useXet: false,
    });
    commit = answer?.commit.oid ?? "";
    expect(answer?.commit.url).toBe(`${repoUrl}/commit/${commit}`);
  });

  it("lists every file with its size, git id and digest", async () => {
    const entries = await collect(hub.listFiles({ ...as(owner), repo, recursive: true }));
    const listed = entries.filter((entry) => entry.type === "file" && entry.path !== ".gitattributes");
    const expected = Object.entries(files).map(([path, { bytes, lfs }]) => ({
      path,
      size: bytes.length,
      oid: gitBlobId(lfs ? lfsPointer(bytes) : bytes),
      lfs: lfs ? digests[path] : undefined,
    }));
    const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1);
    expect(listed.map(({ path, size, oid, lfs }) => ({ path, size, oid, lfs: lfs?.oid })).sort(byPath)).toEqual(
      expected.sort(byPath),
    );
    const below = await collect(hub.listFiles({ ...as(owner), repo, path: "checkpoints/step 10", revision: commit }));
    expect(below.map((entry) => entry.path).sort()).toEqual([
      "checkpoints/step 10/optimizer.pt",
      "checkpoints/step 10/state.json",
    ]);
  });

  it("downloads every file with the bytes that were uploaded", async () => {
    for (const [path, digest] of Object.entries(digests)) {
      expect(await hub.fileExists({ ...as(owner), repo, path }), path).toBe(true);
      const info = await hub.fileDownloadInfo({ ...as(owner), repo, path, revision: commit });
      const { bytes, lfs } = files[path] ?? { bytes: Buffer.alloc(0), lfs: false };
      expect(info, path).toMatchObject({ size: bytes.length, etag: `"${lfs ? digest : gitBlobId(bytes)}"` });
      const blob = await hub.downloadFile({ ...as(owner), repo, path });
      expect(blob?.size, path).toBe(bytes.length);
      expect(sha256(await bytesOf(blob)), path).toBe(digest);
    }
    expect(await hub.fileExists({ ...as(owner), repo, path: "no/such/file" })).toBe(false);
    expect(await hub.downloadFile({ ...as(owner), repo, path: "no/such/file" })).toBeNull();
  });

  it("downloads a snapshot into its cache", async () => {
    const folder = await hub.snapshotDownload({ ...as(owner), repo, cacheDir: scratch("cache") });
    expect(folderDigests(folder)).toEqual(digests);
    expect(folder.endsWith(commit)).toBe(true);
  });

  it("knows the repository", async () => {
    const name = repo.name;
    const info =
      type === "model" ? await hub.modelInfo({ ...as(owner), name }) : await hub.datasetInfo({ ...as(owner), name });
    expect(info).toMatchObject({ name, private: false, gated: false });
    expect(info.updatedAt.getTime()).toBeLessThanOrEqual(Date.now() + 1000);
    expect(await hub.repoExists({ ...as(owner), repo })).toBe(true);
    expect(await hub.repoExists({ ...as(owner), repo: { type, name: `${name}-not` } })).toBe(false);
    const search = { owner: owner.name };
    const found = await collect(
      type === "model" ? hub.listModels({ ...as(owner), search }) : hub.listDatasets({ ...as(owner), search }),
    );
    expect(found.map((one) => one.name)).toEqual([name]);
  });
});

describe("one model", () => {
  let owner: Person;
  let count = 0;
  const newRepo = async () => {
    const repo = { type: "model" as const, name: `${owner.name}/model-${++count}` };
    await hub.createRepo({ ...as(owner), repo });
    return repo;
  };

  beforeAll(async () => {
    owner = await newPerson("js-editor");
  });

  it("takes a file from disk in parts by LFS, and gives slices without the rest", async () => {
    const repo = await newRepo();
    const path = scratch("large.bin");
    const size = 130 * MIB + 12_345;
    const digest = await writeSeededFile(path, "javascript multipart", size);
    const { fetch, made } = recordingFetch();
    await hub.uploadFiles({
      ...as(owner),
      repo,
      files: [{ path: "large.bin", content: pathToFileURL(path) }],
      useXet: false,
      fetch,
    });
    const parts = made.filter(({ method }) => method === "PUT");
    expect(parts.length).toBeGreaterThan(1);
    expect(new Set(parts.map((part) => part.path)).size).toBe(parts.length);
    expect(made.filter((one) => one.path.includes("xet"))).toEqual([]);
    const [listed] = await hub.pathsInfo({ ...as(owner), repo, paths: ["large.bin"] });
    expect(listed).toMatchObject({ size, lfs: { oid: digest, size } });

    const local = await openAsBlob(path);
    const blob = await hub.downloadFile({ ...as(owner), repo, path: "large.bin", xet: false });
    expect(blob?.size).toBe(size);
    for (const [start, end] of [
      [0, 1],
      [64 * MIB - 3, 64 * MIB + 3],
      [size - 10, size],
    ] as const)
      expect(await bytesOf(blob?.slice(start, end) ?? null)).toEqual(await bytesOf(local.slice(start, end)));

    const cacheDir = scratch("cache");
    mkdirSync(cacheDir);
    const whole = await hub.downloadFileToCacheDir({ ...as(owner), repo, path: "large.bin", cacheDir });
    expect(await fileSha256(whole)).toBe(digest);
  });

  it("sends bytes that the hub holds already only once", async () => {
    const content = new Blob([new Uint8Array(sampleFiles("javascript twice")["model.safetensors"]?.bytes ?? [])]);
    const [first, second] = [await newRepo(), await newRepo()];
    const puts = [];
    for (const repo of [first, second]) {
      const { fetch, made } = recordingFetch();
      await hub.uploadFiles({
        ...as(owner),
        repo,
        files: [{ path: "model.safetensors", content }],
        fetch,
        useXet: false,
      });
      puts.push(made.filter(({ method }) => method === "PUT").length);
      const blob = await hub.downloadFile({ ...as(owner), repo, path: "model.safetensors" });
      expect(sha256(await bytesOf(blob))).toBe(sha256(await bytesOf(content)));
    }
    expect(puts).toEqual([1, 0]);
  });

  it("reads the tensors' names and shapes without the weights", async () => {
    const repo = await newRepo();
    const folder = scratch("folder");
    writeFiles(folder, sampleFiles("javascript tensors"));
    const content = await openAsBlob(join(folder, "model.safetensors"));
    await hub.uploadFiles({ ...as(owner), repo, files: [{ path: "model.safetensors", content }] });
    const { header, parameterCount } = await hub
      .parseSafetensorsMetadata({
        ...as(owner),
        repo,
        computeParametersCount: true,
      })
      .then((parsed) => {
        if (parsed.sharded) throw new Error("the weights are one file");
        return parsed;
      });
    for (const [name, shape] of Object.entries(TENSORS)) expect(header[name]).toMatchObject({ dtype: "F32", shape });
    expect(parameterCount).toEqual({ F32: 128 * 256 + 256 });
  });

  it("edits, deletes and lists the history; a commit on an old parent is refused", async () => {
    const repo = await newRepo();
    const upload = (path: string, text: string, title: string) =>
      hub.uploadFile({ ...as(owner), repo, file: { path, content: new Blob([text]) }, commitTitle: title });
    const oids = [
      (await upload("a.txt", "1", "one"))?.commit.oid,
      (await upload("b/c.txt", "2", "two"))?.commit.oid,
      (await hub.deleteFile({ ...as(owner), repo, path: "a.txt", commitTitle: "three" }))?.commit.oid,
    ];
    const error = await rejection(
      hub.commit({
        ...as(owner),
        repo,
        title: "late",
        operations: [{ operation: "addOrUpdate", path: "late.txt", content: new Blob(["late"]) }],
        parentCommit: oids[0] ?? "",
      }),
    );
    expect(error).toMatchObject({ statusCode: 412, requestId: expect.any(String) });
    expect(error.message).toContain("The branch was updated since you opened this page");
    const files = await collect(hub.listFiles({ ...as(owner), repo, recursive: true }));
    expect(files.filter(({ type }) => type === "file").map(({ path }) => path)).toEqual([".gitattributes", "b/c.txt"]);
    const history = await collect(hub.listCommits({ ...as(owner), repo, batchSize: 2 }));
    expect(history.map(({ title }) => title)).toEqual(["three", "two", "one", "initial commit"]);
    expect(history.map(({ oid }) => oid).slice(0, 3)).toEqual(oids.toReversed());
    expect(history[0]?.authors).toEqual([expect.objectContaining({ username: owner.name })]);
    expect(await hub.countCommits({ ...as(owner), repo })).toBe(4);
    const old = await hub.downloadFile({ ...as(owner), repo, path: "a.txt", revision: oids[1] ?? "" });
    expect((await bytesOf(old)).toString()).toBe("1");
  });

  it("creates a repository with files and a licence, and branches with and without files", async () => {
    const repo = { type: "model" as const, name: `${owner.name}/with-files` };
    await hub.createRepo({
      ...as(owner),
      repo,
      license: "mit",
      files: [{ path: "hello.txt", content: new Blob(["hello"]) }],
    });
    const paths = async (revision: string) =>
      (await collect(hub.listFiles({ ...as(owner), repo, recursive: true, revision }))).map(({ path }) => path);
    expect(await paths("main")).toEqual([".gitattributes", "README.md", "hello.txt"]);
    await hub.createBranch({ ...as(owner), repo, branch: "copy" });
    await hub.uploadFile({
      ...as(owner),
      repo,
      branch: "copy",
      file: { path: "more.txt", content: new Blob(["more"]) },
    });
    expect(await paths("copy")).toEqual([".gitattributes", "README.md", "hello.txt", "more.txt"]);
    expect((await rejection(hub.createBranch({ ...as(owner), repo, branch: "copy" }))).statusCode).toBe(409);
    await hub.createBranch({ ...as(owner), repo, branch: "copy", overwrite: true });
    expect(await paths("copy")).toEqual([".gitattributes", "README.md", "hello.txt"]);
    await hub.createBranch({ ...as(owner), repo, branch: "bare", empty: true });
    expect(await paths("bare")).toEqual([".gitattributes"]);
    const main = await rejection(
      hub.createBranch({ ...as(owner), repo, branch: "main", overwrite: true, empty: true }),
    );
    expect(main.statusCode).toBe(400);
    await hub.deleteBranch({ ...as(owner), repo, branch: "bare" });
    expect((await rejection(paths("bare"))).statusCode).toBe(404);
  });

  it("is private to its owner, and gone when deleted", async () => {
    const repo = { type: "model" as const, name: `${owner.name}/private` };
    const stranger = await newPerson("js-stranger");
    await hub.createRepo({ ...as(owner), repo, private: true });
    expect((await rejection(hub.createRepo({ ...as(owner), repo }))).statusCode).toBe(409);
    expect(await hub.whoAmI(as(stranger))).toMatchObject({ type: "user", name: stranger.name });
    expect(await hub.repoExists({ ...as(stranger), repo })).toBe(false);
    expect((await rejection(hub.checkRepoAccess({ ...as(stranger), repo }))).statusCode).toBe(404);
    expect((await rejection(hub.checkRepoAccess({ hubUrl: inject("endpoint"), repo }))).statusCode).toBe(401);
    await hub.checkRepoAccess({ ...as(owner), repo });
    expect((await rejection(hub.deleteRepo({ ...as(stranger), repo }))).statusCode).toBe(404);
    await hub.deleteRepo({ ...as(owner), repo });
    expect(await hub.repoExists({ ...as(owner), repo })).toBe(false);
  });
});
