// LFS files as a whole: listed with a name, taken out for good with or without their traces, and held by another repository too.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import {
  type Answer,
  administrator,
  anonymous,
  type Client,
  fileLine,
  lfsLine,
  uploadLfs,
  user,
} from "../../kit/actors";
import { digestOf } from "../../kit/upkeep";
import { buildFile, randomBytes } from "../../kit/xet";
import { connect } from "../../kit/xet-client";

const REPO = "ada/big";
const API = `/api/models/${REPO}`;
const bytesOf = (text: string) => new TextEncoder().encode(text);
const GOOD = bytesOf("good weights");
const BAD = bytesOf("bad weights");
const [good, bad] = [digestOf(GOOD), digestOf(BAD)];

let ada: Client;
let bob: Client;

const File = z.object({
  fileOid: z.string(),
  filename: z.string(),
  oid: z.string(),
  pushedAt: z.iso.datetime(),
  size: z.number(),
  ref: z.string().optional(),
});
async function listed(query = "") {
  const files: z.output<typeof File>[] = [];
  for (let path: string | undefined = `${API}/lfs-files${query}`; path !== undefined; ) {
    const answer: Answer = await ada.get(path);
    files.push(...z.array(File).parse(answer.body));
    path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
  }
  return files;
}
const remove = (sha: string[], rewriteHistory: boolean, by = ada) =>
  by.post(`${API}/lfs-files/batch`, { deletions: { sha, rewriteHistory } });
const Commits = z.array(z.object({ id: z.string(), title: z.string() }));
const commits = async (revision: string) =>
  Commits.parse((await ada.get(`${API}/commits/${encodeURIComponent(revision)}`)).body);
const Entries = z.array(z.object({ path: z.string() }));
const paths = async (revision: string) =>
  Entries.parse((await ada.get(`${API}/tree/${encodeURIComponent(revision)}?recursive=true`)).body).map(
    ({ path }) => path,
  );
const count = async (what: string) =>
  (await env.DB.prepare(`select count(*) as n from ${what}`).first<{ n: number }>())?.n;

beforeEach(async () => {
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "big" });
  await uploadLfs(ada, REPO, GOOD);
  await uploadLfs(ada, REPO, BAD);
  // Good before, bad in the middle, deep down, and out of main again.
  await ada.commit(REPO, [lfsLine("good.bin", good, GOOD.length)], { summary: "one" });
  await ada.commit(REPO, [lfsLine("deep/er/bad.bin", bad, BAD.length), fileLine("deep/note.txt", "n")], {
    summary: "two",
  });
  await ada.post(`${API}/branch/side`, {});
  await ada.post(`${API}/tag/main`, { tag: "v1" });
  await ada.commit(REPO, [{ key: "deletedFile", value: { path: "deep/er/bad.bin" } }], { summary: "three" });
  await bob.post(`${API}/discussions`, { title: "a draft", description: "why", pullRequest: true });
  await bob.commit(REPO, [lfsLine("again.bin", bad, BAD.length)], { branch: "refs/pr/1", summary: "back" });
});

describe("the list of LFS files", () => {
  it("has each once, by what it is called and how large it is, on one page as on many", async () => {
    const files = await listed();
    expect(files).toHaveLength(2);
    expect(files).toEqual(await listed("?limit=1"));
    const byName = new Map(files.map((file) => [file.fileOid, file]));
    expect(byName.get(good)).toMatchObject({ filename: "good.bin", size: GOOD.length, ref: "refs/heads/main" });
    expect(byName.get(bad)).toMatchObject({ filename: "again.bin", size: BAD.length });
    expect(byName.get(bad)?.ref).toBeUndefined();
    await ada.commit(REPO, [lfsLine("x/y/z.bin", bad, BAD.length)]);
    expect((await listed()).find(({ fileOid }) => fileOid === bad)).toMatchObject({
      filename: "x/y/z.bin",
      ref: "refs/heads/main",
    });
    expect((await ada.get(`${API}/lfs-files?cursor=Ing`)).status).toBe(400);
  });
});

describe("deleting LFS files", () => {
  it("with their traces leaves no revision that names them, and everything else as it was", async () => {
    const before = await commits("main");
    expect((await remove([bad, digestOf(bytesOf("never seen"))], true)).body).toEqual({});
    const after = await commits("main");
    expect(after.map(({ title }) => title)).toEqual(before.map(({ title }) => title));
    // What came before the first revision with the file keeps its id.
    expect(after.slice(-2)).toEqual(before.slice(-2));
    expect(after[0]?.id).not.toBe(before[0]?.id);
    for (const revision of ["main", "side", "v1", "refs/pr/1"]) {
      const all = await paths(revision);
      expect([revision, all.filter((path) => path.endsWith("bad.bin") || path === "again.bin")]).toEqual([
        revision,
        [],
      ]);
      expect(all).toEqual(expect.arrayContaining([".gitattributes", "deep", "deep/note.txt", "good.bin"]));
      expect(all).not.toContain("deep/er");
    }
    expect((await anonymous.get(`/${REPO}/resolve/main/good.bin`)).text).toBe("good weights");
    for (const { id } of before.slice(0, 2)) expect((await ada.get(`${API}/revision/${id}`)).status).toBe(404);
    expect(await count(`tree_entries where sha256 = '${bad}'`)).toBe(0);
    expect(await count(`repo_contents where sha256 = '${bad}'`)).toBe(0);
    expect((await listed()).map(({ fileOid }) => fileOid)).toEqual([good]);
    // Every commit and tree that is left leads to what is there.
    expect(
      await count(
        `commits c, json_each(c.parents) p where not exists (select 1 from commits x where x.repo_id = c.repo_id and x.id = p.value)`,
      ),
    ).toBe(0);
    expect(
      await count(
        `tree_entries e where e.kind = 'directory' and not exists (select 1 from tree_entries x where x.repo_id = e.repo_id and x.tree = e.id)`,
      ),
    ).toBe(0);
    // Life goes on.
    expect((await ada.commit(REPO, [fileLine("deep/er/new.txt", "new")])).status).toBe(200);
    expect((await ada.commit(REPO, [lfsLine("bad.bin", bad, BAD.length)])).status).toBe(422);
    expect((await remove([bad], true)).status).toBe(200);
  });

  it("can leave no file at all", async () => {
    await ada.post("/api/repos/create", { name: "only" });
    await uploadLfs(ada, "ada/only", GOOD);
    const lines = [lfsLine("a/b.bin", good, GOOD.length), { key: "deletedFile", value: { path: ".gitattributes" } }];
    await ada.commit("ada/only", lines);
    const removal = { deletions: { sha: [good], rewriteHistory: true } };
    expect((await ada.post("/api/models/ada/only/lfs-files/batch", removal)).status).toBe(200);
    expect((await ada.get("/api/models/ada/only/tree/main")).body).toEqual([]);
  });

  it("without leaves the pointers, and says to readers that the bytes are gone", async () => {
    const before = await commits("side");
    expect((await remove([bad], false)).status).toBe(200);
    expect(await commits("side")).toEqual(before);
    expect(await paths("side")).toContain("deep/er/bad.bin");
    const answer = await anonymous.get(`/${REPO}/resolve/side/deep/er/bad.bin`);
    expect([answer.status, answer.headers.get("x-error-code")]).toEqual([404, "EntryNotFound"]);
    expect(answer.body).toMatchObject({ error: expect.stringContaining("permanently deleted") });
    expect((await anonymous.get(`/${REPO}/raw/side/deep/er/bad.bin`)).status).toBe(404);
    expect((await anonymous.get(`/${REPO}/blob/side/deep/er/bad.bin`)).status).toBe(404);
    expect((await anonymous.get(`/${REPO}.git/info/lfs/objects/${bad}`)).status).toBe(404);
    // The same bytes, uploaded again, are there again.
    await uploadLfs(ada, REPO, BAD);
    await ada.commit(REPO, [lfsLine("back.bin", bad, BAD.length)]);
    expect((await anonymous.get(`/${REPO}/resolve/side/deep/er/bad.bin`)).text).toBe("bad weights");
  });

  it("is for writers, and names what it does not understand", async () => {
    expect((await remove([bad], true, bob)).status).toBe(403);
    expect((await remove([bad], true, anonymous)).status).toBe(401);
    expect((await remove(["xyz"], true)).status).toBe(422);
    expect(
      (await ada.post(`${API}/lfs-files/batch`, { deletions: { sha: Array.from({ length: 1001 }, () => bad) } }))
        .status,
    ).toBe(422);
    await ada.commit(REPO, [fileLine("same.txt", GOOD)]);
    expect((await remove([good], true)).status).toBe(422);
    expect((await anonymous.get(`/${REPO}/resolve/main/same.txt`)).text).toBe("good weights");
  });

  it("and pushes at the same time lose nothing and leave no trace", async () => {
    const [removed, ...pushed] = await Promise.all([
      remove([bad], true),
      ada.commit(REPO, [fileLine("one.txt", "1")]),
      ada.commit(REPO, [fileLine("two.txt", "2")], { branch: "side" }),
      ada.post(`${API}/branch/third`, { startingPoint: "v1" }),
    ]);
    expect(pushed.map(({ status }) => status).filter((status) => status >= 500)).toEqual([]);
    expect([200, 412]).toContain(removed?.status);
    expect((await remove([bad], true)).status).toBe(200);
    if (pushed[0]?.status === 200) expect(await paths("main")).toContain("one.txt");
    if (pushed[1]?.status === 200) expect(await paths("side")).toContain("two.txt");
    expect(await count(`tree_entries where sha256 = '${bad}'`)).toBe(0);
    expect(
      await count(`refs r where not exists (select 1 from commits c where c.repo_id = r.repo_id and c.id = r.target)`),
    ).toBe(0);
  });
});

describe("copying LFS files to another repository", () => {
  const file = buildFile(randomBytes(3, 150_000));
  const sha256 = file.file.sha256 ?? "";
  const xetHash = file.file.hash;
  const copy = (by: Client, from = REPO, hash: string = xetHash) =>
    by.post(`/api/models/${from}/lfs-files/duplicate`, {
      target: { type: "dataset", name: "bob/data" },
      files: [{ sha256, xetHash: hash, filename: "x.bin" }],
    });
  beforeEach(async () => {
    await (await connect(ada, REPO, "write")).upload(file);
    await ada.commit(REPO, [lfsLine("x.bin", sha256, 150_000)]);
    await bob.post("/api/repos/create", { name: "data", type: "dataset" });
  });

  it("lets a commit there name them", async () => {
    const commit = () => bob.commit("bob/data", [lfsLine("copy.bin", sha256, 150_000)], { type: "datasets" });
    expect((await commit()).status).toBe(422);
    expect((await copy(bob)).body).toEqual({ failed: [] });
    expect((await copy(bob)).body).toEqual({ failed: [] });
    expect((await commit()).status).toBe(200);
    const answer = await anonymous.raw("GET", "/datasets/bob/data/resolve/main/copy.bin");
    expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(sha256);
  });

  it("names those that can't be copied, and needs both rights", async () => {
    expect((await copy(bob, REPO, "f".repeat(64))).body).toMatchObject({ failed: [{ sha256 }] });
    expect((await copy(bob, "bob/nothing")).status).toBe(404);
    await bob.post("/api/repos/create", { name: "empty" });
    expect((await copy(bob, "bob/empty")).body).toMatchObject({
      failed: [{ sha256, error: expect.stringContaining("no such file") }],
    });
    await ada.send("PUT", `${API}/settings`, { gated: "manual" });
    expect((await copy(bob)).headers.get("x-error-code")).toBe("GatedRepo");
    await ada.send("PUT", `${API}/settings`, { gated: false, private: true });
    expect((await copy(bob)).status).toBe(404);
    await ada.send("PUT", `${API}/settings`, { private: false });
    expect((await copy(anonymous)).status).toBe(401);
  });
});
