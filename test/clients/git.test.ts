// The real git against the running hub: cloning, fetching, shallow and partial, each checked by git itself and against the API.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as hub from "@huggingface/hub";
import { beforeAll, beforeEach, expect, inject, it, vi } from "vitest";
import * as z from "zod";
import { Git, gitUrl, HAS_LFS } from "./git-client.ts";
import { newPerson, type Person } from "./people.ts";
import { type Sample, sampleFiles, seededBytes } from "./sample-files.ts";
import { scratchFolder, sha256 } from "./scratch.ts";

const scratch = scratchFolder();
const visitor = new Git(scratch("home"), null);
/** Large files are fetched when a test says so. */
const SETTINGS = { GIT_LFS_SKIP_SMUDGE: "1" };
const root = scratch("work");
mkdirSync(root, { recursive: true });

const files: Record<string, Sample> = {
  ...sampleFiles("git"),
  // Read in pieces, as it is too large to be read whole.
  "large.txt": { bytes: Buffer.from("a line of a large text\n".repeat(150_000)), lfs: false },
};
let owner: Person;
let repo: { type: "model"; name: string };
let url: string;

type Ran = { readonly code: number; readonly out: string; readonly err: string };

/** Runs git as a visitor in a folder; a failure is an answer, too. */
async function git(folder: string, ...args: string[]): Promise<Ran> {
  const { code, stdout, stderr } = await visitor.run(folder, args, SETTINGS);
  return { code, out: stdout.trimEnd(), err: stderr };
}

/** With a token as password in the address. */
function urlAs({ name, token }: Pick<Person, "name" | "token">, path: string): string {
  const address = new URL(gitUrl(path));
  address.username = name;
  address.password = token;
  return address.href;
}

const Sha = z.object({ sha: z.string() });
const Entries = z.array(z.object({ type: z.string(), path: z.string(), oid: z.string() }));
const Commits = z.array(z.object({ id: z.string(), title: z.string() }));

async function api<T>(schema: z.ZodType<T>, path: string, as: Person = owner): Promise<T> {
  const headers = { authorization: `Bearer ${as.token}` };
  return schema.parse(await (await fetch(`${inject("endpoint")}${path}`, { headers })).json());
}

const add = (path: string, content: string | Uint8Array<ArrayBuffer>, branch = "main") =>
  hub.uploadFiles({
    hubUrl: inject("endpoint"),
    accessToken: owner.token,
    repo,
    branch,
    files: [{ path, content: new Blob([content]) }],
    commitTitle: `adds ${path}`,
    useXet: false,
  });

/** A git step that must succeed. */
async function ok(ran: Promise<Ran>): Promise<string> {
  const { code, out, err } = await ran;
  expect({ code, err }).toMatchObject({ code: 0 });
  return out;
}

async function clone(from: string, ...options: string[]): Promise<string> {
  const folder = scratch("clone");
  await ok(git(root, "clone", "--quiet", ...options, from, folder));
  return folder;
}

async function expectSound(folder: string): Promise<void> {
  expect(await git(folder, "fsck", "--strict", "--full", "--no-dangling")).toEqual({ code: 0, out: "", err: "" });
}

const commitsOf = async (folder: string, revision = "HEAD") =>
  (await ok(git(folder, "rev-list", revision))).split("\n");

// The client reports every file that it downloads.
beforeEach(() => {
  const debug = vi.spyOn(console, "debug").mockImplementation(() => {});
  return () => debug.mockRestore();
});

beforeAll(async () => {
  owner = await newPerson("git");
  repo = { type: "model", name: `${owner.name}/history` };
  url = gitUrl(repo.name);
  const as = { hubUrl: inject("endpoint"), accessToken: owner.token };
  await hub.createRepo({ ...as, repo });
  await hub.uploadFiles({
    ...as,
    repo,
    files: Object.entries(files).map(([path, { bytes }]) => ({ path, content: new Blob([new Uint8Array(bytes)]) })),
    commitTitle: "the files",
    useXet: false,
  });
  await add("config.json", '{"changed": true}\n');
  await add("a/b/c/new.txt", "new\n");
});

it("clones what the API tells: the same commits, trees and blobs, and every byte", async () => {
  const folder = await clone(url);
  await expectSound(folder);
  const { sha } = await api(Sha, `/api/models/${repo.name}`);
  expect(await ok(git(folder, "rev-parse", "HEAD"))).toBe(sha);
  const told = await api(Commits, `/api/models/${repo.name}/commits/main`);
  expect(await commitsOf(folder)).toEqual(told.map(({ id }) => id));
  const entries = await api(Entries, `/api/models/${repo.name}/tree/main?recursive=true`);
  const listed = await ok(
    git(folder, "-c", "core.quotePath=false", "ls-tree", "-r", "-t", "-z", "--format=%(objectname) %(path)", "HEAD"),
  );
  expect(listed.split("\0").filter(Boolean).sort()).toEqual(entries.map(({ oid, path }) => `${oid} ${path}`).sort());
  for (const [path, { bytes, lfs }] of Object.entries(files))
    if (!lfs && path !== "config.json") expect(sha256(readFileSync(join(folder, path)))).toBe(sha256(bytes));
});

it.each(["0", "1", "2"])("speaks version %s of the protocol", async (version) => {
  const settings = ["-c", `protocol.version=${version}`];
  const folder = scratch("versioned");
  await ok(git(root, ...settings, "clone", "--quiet", "--depth=2", url, folder));
  expect(await commitsOf(folder)).toHaveLength(2);
  await expectSound(folder);
  await ok(git(folder, ...settings, "fetch", "--quiet", "--deepen=1"));
  expect(await commitsOf(folder)).toHaveLength(3);
  await ok(git(folder, ...settings, "fetch", "--quiet", "--unshallow"));
  expect(await commitsOf(folder)).toEqual(await commitsOf(await clone(url)));
  expect(existsSync(join(folder, ".git", "shallow"))).toBe(false);
  await expectSound(folder);
});

it("a private repository opens for a token as password, and for nobody else", async () => {
  const name = `${owner.name}/private`;
  const as = { hubUrl: inject("endpoint"), accessToken: owner.token };
  await hub.createRepo({ ...as, repo: { type: "dataset", name }, private: true });
  const folder = await clone(urlAs(owner, `datasets/${name}.git`));
  await expectSound(folder);
  expect(readFileSync(join(folder, ".gitattributes"), "utf8")).toContain("filter=lfs");
  const failure = async (from: string) => (await git(root, "clone", from, scratch("refused"))).err;
  // git asks for a name and a password, and there is nobody to tell it.
  expect(await failure(gitUrl(`datasets/${name}`))).toContain("could not read Username");
  expect(await failure(urlAs({ name: "x", token: "hf_wrong" }, `datasets/${name}`))).toContain("Authentication failed");
  expect(await failure(urlAs(await newPerson("stranger"), `datasets/${name}`))).toContain("not found");
});

it("fetches what was added, tags, branches and pull requests", async () => {
  const folder = await clone(url);
  const author = await clone(urlAs(owner, repo.name));
  await ok(git(author, "tag", "-a", "v1.0", "-m", "the first version"));
  await ok(git(author, "push", "--quiet", "origin", "v1.0"));
  await add("later.txt", "later\n");
  const { pullRequestUrl } =
    (await hub.uploadFiles({
      hubUrl: inject("endpoint"),
      accessToken: owner.token,
      repo,
      files: [{ path: "proposed.txt", content: new Blob(["proposed\n"]) }],
      isPullRequest: true,
      useXet: false,
    })) ?? {};
  const number = pullRequestUrl?.split("/").at(-1);
  const { err } = await git(folder, "fetch", "--progress");
  // The commit, its root tree and the file; the tag follows the commit that it names, which was there before.
  expect(err).toMatch(/Enumerating objects: [34], done/);
  expect(err).toMatch(/\[new tag\] +v1\.0/);
  expect(await ok(git(folder, "cat-file", "-t", "v1.0"))).toBe("tag");
  expect(await ok(git(folder, "show", "origin/main:later.txt"))).toBe("later");
  expect(await ok(git(folder, "ls-remote", "origin"))).toContain(`refs/tags/v1.0^{}`);
  await ok(git(folder, "fetch", "--quiet", "origin", `refs/pr/${number}:proposal`));
  expect(await ok(git(folder, "show", "proposal:proposed.txt"))).toBe("proposed");
  await expectSound(folder);
});

it("begins a history at a date", async () => {
  const tomorrow = String(Math.floor(Date.now() / 1000) + 86_400);
  const { code, err } = await git(root, "clone", `--shallow-since=${tomorrow}`, url, scratch("none"));
  expect(code).not.toBe(0);
  expect(err).toContain("no commits selected");
  const folder = await clone(url, "--shallow-since=2020-01-01");
  expect(await commitsOf(folder)).toEqual(await commitsOf(await clone(url)));
});

it.each(["blob:none", "blob:limit=100", "tree:0"])(
  "a partial clone by %s fetches the rest when it is used",
  async (filter) => {
    const folder = await clone(url, `--filter=${filter}`, "--no-checkout");
    const missing = async () =>
      (await ok(git(folder, "rev-list", "--objects", "--all", "--missing=print"))).match(/^\?/gm) ?? [];
    expect((await missing()).length).toBeGreaterThan(0);
    await ok(git(folder, "checkout", "--quiet", "main"));
    expect(readFileSync(join(folder, "README.md")).equals(files["README.md"]?.bytes ?? Buffer.alloc(0))).toBe(true);
    await ok(git(folder, "log", "--stat"));
    await expectSound(folder);
  },
);

it("a tree without files is a tree", async () => {
  const name = `${owner.name}/empty`;
  const as = { hubUrl: inject("endpoint"), accessToken: owner.token };
  await hub.createRepo({ ...as, repo: { type: "model", name } });
  await hub.deleteFiles({ ...as, repo: { type: "model", name }, paths: [".gitattributes"] });
  const folder = await clone(gitUrl(name));
  expect(await commitsOf(folder)).toHaveLength(2);
  await expectSound(folder);
});

it("says why there is nothing to fetch", async () => {
  const folder = await clone(url);
  const unknown = await git(folder, "fetch", "origin", "1".repeat(40));
  expect(unknown.code).not.toBe(0);
  expect(unknown.err).toContain(`not our ref ${"1".repeat(40)}`);
  const { err } = await git(root, "clone", urlAs(owner, `${owner.name}/nothing`), scratch("nothing"));
  expect(err).toContain("not found");
});

it.skipIf(!HAS_LFS)("git lfs pull brings the large files", async () => {
  const bytes = seededBytes("git lfs", 300_000);
  await add("pulled.bin", new Uint8Array(bytes));
  const folder = await clone(url);
  expect(readFileSync(join(folder, "pulled.bin"), "utf8")).toContain("size 300000");
  // Not all: one of the samples is a text that looks like a pointer to what nobody has.
  await ok(git(folder, "lfs", "pull", "--include=pulled.bin,model.safetensors"));
  expect(readFileSync(join(folder, "pulled.bin")).equals(bytes)).toBe(true);
  const weights = files["model.safetensors"]?.bytes ?? Buffer.alloc(0);
  expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
});
