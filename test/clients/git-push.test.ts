// Pushing with the git and git-lfs of this machine: what is pushed is what a clone and the API give back; what is refused says why.
import { appendFileSync, chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { Git, gitUrl, HAS_LFS } from "./git-client.ts";
import { newPerson, newToken, type Person } from "./people.ts";
import { seededBytes } from "./sample-files.ts";
import { scratchFolder, sha256 } from "./scratch.ts";

const scratch = scratchFolder();
let ada: Person;
let git: Git;

beforeAll(async () => {
  ada = await newPerson("git-push");
  git = new Git(scratch("home"), ada);
});

async function api(method: string, path: string, body?: unknown): Promise<Response> {
  const response = await fetch(gitUrl(path), {
    method,
    headers: { authorization: `Bearer ${ada.token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${path} → ${response.status}: ${await response.text()}`);
  return response;
}

/** A repository of the hub, and a clone of it to work in. */
async function workspace(name: string, type: "model" | "dataset" = "model"): Promise<{ repo: string; folder: string }> {
  await api("POST", "api/repos/create", { name, type, private: true });
  const repo = `${type === "dataset" ? "datasets/" : ""}${ada.name}/${name}`;
  const folder = scratch(name);
  await git.ok(".", "clone", "-q", gitUrl(repo), folder);
  return { repo, folder };
}

async function commitFile(folder: string, path: string, content: string | Uint8Array, message = path): Promise<string> {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), content);
  await git.ok(folder, "add", ".");
  await git.ok(folder, "commit", "-q", "-m", message);
  return git.ok(folder, "rev-parse", "HEAD");
}

/** A fresh clone that git finds nothing wrong with. */
async function cloned(repo: string): Promise<string> {
  const folder = scratch("clone");
  await git.ok(".", "clone", "-q", gitUrl(repo), folder);
  expect(await git.ok(folder, "fsck", "--strict", "--full")).toBe("");
  return folder;
}

describe.each(["model", "dataset"] as const)("a %s", (type) => {
  it("takes branches, merges, tags, links and scripts, and gives them back", async () => {
    const { repo, folder } = await workspace(`whole-${type}`, type);
    writeFileSync(join(folder, "run.sh"), "#!/bin/sh\n");
    chmodSync(join(folder, "run.sh"), 0o755);
    symlinkSync("run.sh", join(folder, "link"));
    await commitFile(folder, "übung/größe ☃.txt", "Größe\n", "Übung macht den Meister");
    await git.ok(folder, "checkout", "-q", "-b", "dev", "HEAD~1");
    await commitFile(folder, "config.json", "{}\n");
    await git.ok(folder, "checkout", "-q", "main");
    await git.ok(folder, "merge", "-q", "-m", "both", "dev");
    await git.ok(folder, "tag", "-a", "v1.0", "-m", "annotated");
    await git.ok(folder, "tag", "plain");
    // So small that git sends the body in chunks, after it has asked whether it may.
    await git.ok(folder, "-c", "http.postBuffer=1024", "push", "-q", "origin", "main", "dev", "v1.0", "plain");

    const clone = await cloned(repo);
    for (const ref of ["main", "origin/dev", "v1.0", "v1.0^{}", "plain"])
      expect(await git.ok(clone, "rev-parse", ref)).toBe(await git.ok(folder, "rev-parse", ref.replace("origin/", "")));
    expect(readFileSync(join(clone, "link"), "utf8")).toBe("#!/bin/sh\n");
    expect(await git.ok(clone, "ls-files", "-s")).toMatch(/^120000 .*link$[\s\S]*^100755 .*run\.sh$/m);

    const path = `api/${type}s/${repo.replace("datasets/", "")}`;
    const commits = await api("GET", `${path}/commits/main`);
    expect(commits.headers.get("x-total-count")).toBe("4");
    const listed = z.array(z.object({ id: z.string() })).parse(await commits.json());
    expect(listed[0]?.id).toBe(await git.ok(folder, "rev-parse", "main"));

    await git.ok(folder, "push", "-q", "origin", ":dev", ":plain");
    await git.ok(folder, "commit", "-q", "--amend", "-m", "otherwise");
    expect((await git.run(folder, ["push", "origin", "main"])).stderr).toContain("non-fast-forward");
    await git.ok(folder, "push", "-q", "--force", "origin", "main");
    const refs = await git.ok(folder, "ls-remote", "origin", "refs/heads/*", "refs/tags/*");
    expect(refs.split("\n").map((line) => line.split("\t")[1])).toEqual([
      "refs/heads/main",
      "refs/tags/v1.0",
      "refs/tags/v1.0^{}",
    ]);
    expect(refs).toContain(await git.ok(folder, "rev-parse", "main"));
  });
});

describe("what is refused", () => {
  it("is printed with its reason, and what else was pushed with it", async () => {
    const { folder } = await workspace("refused");
    const start = await git.ok(folder, "rev-parse", "HEAD");
    const refused = async (reason: RegExp, ...args: string[]) => {
      const { code, stderr } = await git.run(folder, ["push", "origin", ...args]);
      expect(stderr).toMatch(reason);
      expect(code).toBe(1);
    };
    await refused(/remote rejected\] main \(main can't be deleted\)/, ":main");
    await refused(/remote rejected\] .* \(there is no such pull request/, "HEAD:refs/pr/3");
    await refused(/refs\/heads\/main stands in its way/, "HEAD:refs/heads/main/x");
    await refused(
      /new branch\] *HEAD -> fine[\s\S]*remote rejected\] .*this hub keeps/,
      "HEAD:refs/heads/fine",
      "HEAD:refs/odd/x",
    );
    await refused(/remote rejected\] .*atomic/, "--atomic", "HEAD:refs/heads/more", "HEAD:refs/odd/x");
    const content = {
      "large.txt": "0123456789".repeat(1_100_000),
      "noise.dat": seededBytes("noise", 1_200_000),
      "README.md": "---\nlicense: [\n---\n",
    };
    for (const [path, text] of Object.entries(content)) writeFileSync(join(folder, path), text);
    await commitFile(folder, "aux.txt", "a device\n");
    await refused(/aux\.txt.*device name/, "main");
    await git.ok(folder, "rm", "-q", "--cached", "aux.txt");
    await git.ok(folder, "commit", "-q", "--amend", "-m", "wrong files");
    await refused(
      /remote: README\.md: its front matter[\s\S]*remote: large\.txt: has 11000000 bytes.*Git LFS[\s\S]*noise\.dat: is a binary file/,
      "main",
    );
    await git.ok(folder, "reset", "-q", "--hard", start);
    expect(await git.ok(folder, "ls-remote", "origin", "main")).toContain(start);
  });

  it("is who may not", async () => {
    const { repo, folder } = await workspace("mine");
    const stranger = new Git(scratch("stranger"), await newPerson("stranger"));
    expect((await stranger.run(folder, ["push", "origin", "main"])).stderr).toMatch(/not found/i);
    const reader = new Git(scratch("reader"), { name: ada.name, token: await newToken(ada.name, "read") });
    expect((await reader.run(folder, ["push", "origin", "main"])).stderr).toMatch(/403/);
    const nobody = new Git(scratch("nobody"), null);
    expect((await nobody.run(folder, ["push", gitUrl(repo), "main"])).stderr).toMatch(/could not read Username/);
    const wrong = new Git(scratch("wrong"), { name: ada.name, token: "hf_wrong" });
    expect((await wrong.run(folder, ["push", "origin", "main"])).stderr).toMatch(/Authentication failed/);
  });
});

it("meets commits of the API: who is late fetches first, and loses nothing", async () => {
  const { repo, folder } = await workspace("meeting");
  const other = scratch("other");
  await git.ok(".", "clone", "-q", gitUrl(repo), other);
  const lines = [
    { key: "header", value: { summary: "by the API" } },
    { key: "file", value: { path: "api.txt", content: Buffer.from("api\n").toString("base64"), encoding: "base64" } },
  ];
  await api("POST", `api/models/${repo}/commit/main`, lines.map((line) => JSON.stringify(line)).join("\n"));
  await commitFile(folder, "git.txt", "git\n");
  expect((await git.run(folder, ["push", "origin", "main"])).stderr).toContain("fetch first");
  await git.ok(folder, "pull", "-q", "--rebase", "origin", "main");
  // Both at once: git and the API each with a commit on what they saw.
  const racing = [git.run(folder, ["push", "origin", "main"])];
  await commitFile(other, "late.txt", "late\n");
  racing.push(git.run(other, ["push", "origin", "main"]));
  expect((await Promise.all(racing)).map(({ code }) => code).sort()).toEqual([0, 1]);
  await git.ok(other, "pull", "-q", "--rebase", "origin", "main");
  await git.ok(other, "push", "-q", "origin", "main");
  const clone = await cloned(repo);
  expect((await git.ok(clone, "ls-files")).split("\n")).toEqual([".gitattributes", "api.txt", "git.txt", "late.txt"]);
});

it("takes a history of 2,000 commits at once", async () => {
  const { repo, folder } = await workspace("long");
  const stream = Array.from({ length: 2000 }, (_, i) => {
    const text = `line ${i}\n`.repeat(20);
    const from = i === 0 ? "" : `from :${i}\n`;
    return `commit refs/heads/long\nmark :${i + 1}\ncommitter A <a@example.org> ${1_600_000_000 + i} +0000\ndata 2\nc\n${from}M 100644 inline f${i % 10}.txt\ndata ${text.length}\n${text}\n`;
  });
  expect((await git.run(folder, ["fast-import", "--quiet"], {}, stream.join(""))).code).toBe(0);
  await git.ok(folder, "push", "-q", "origin", "long");
  const commits = await api("GET", `api/models/${repo}/commits/long?limit=1`);
  expect(commits.headers.get("x-total-count")).toBe("2000");
  // What comes next is small, and built on what is there.
  await git.ok(folder, "checkout", "-q", "long");
  appendFileSync(join(folder, "f3.txt"), "one more\n");
  await git.ok(folder, "commit", "-q", "-a", "-m", "one more");
  await git.ok(folder, "push", "-q", "origin", "long");
  const file = await fetch(gitUrl(`${repo}/resolve/long/f3.txt`), {
    headers: { authorization: `Bearer ${ada.token}` },
  });
  expect(await file.text()).toBe(readFileSync(join(folder, "f3.txt"), "utf8"));
});

describe.skipIf(!HAS_LFS)("with git-lfs", () => {
  it("files go up with the push and come down with a clone, without a word about locks", async () => {
    const { repo, folder } = await workspace("weights");
    const weights = seededBytes("weights", 3_000_000);
    await git.ok(folder, "lfs", "install", "--local");
    await commitFile(folder, "model.safetensors", weights);
    const { code, stderr } = await git.run(folder, ["push", "origin", "main"]);
    expect([code, stderr]).toEqual([0, expect.not.stringMatching(/lock|consider|warning/i)]);
    const resolved = await fetch(gitUrl(`${repo}/resolve/main/model.safetensors`), {
      headers: { authorization: `Bearer ${ada.token}` },
    });
    expect(resolved.headers.get("x-linked-etag") ?? resolved.headers.get("etag")).toContain(sha256(weights));
    const clone = await cloned(repo);
    expect(sha256(readFileSync(join(clone, "model.safetensors")))).toBe(sha256(weights));
    // Changed, and pushed again from the clone.
    const changed = Buffer.concat([weights, Buffer.from("more")]);
    await git.ok(clone, "lfs", "install", "--local");
    await commitFile(clone, "model.safetensors", changed);
    await git.ok(clone, "push", "-q", "origin", "main");
    await git.ok(folder, "pull", "-q", "origin", "main");
    expect(sha256(readFileSync(join(folder, "model.safetensors")))).toBe(sha256(changed));
  });

  it("a pointer whose bytes were not sent is refused, until they are", async () => {
    const { folder } = await workspace("missing");
    await git.ok(folder, "lfs", "install", "--local");
    await commitFile(folder, "model.safetensors", seededBytes("missing", 5000));
    const { code, stderr } = await git.run(folder, ["push", "origin", "main"], { GIT_LFS_SKIP_PUSH: "1" });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/model\.safetensors: its bytes .* were not uploaded: run `git lfs push/),
    ]);
    await git.ok(folder, "lfs", "push", "--all", "origin");
    expect((await git.run(folder, ["push", "origin", "main"], { GIT_LFS_SKIP_PUSH: "1" })).code).toBe(0);
  });
});
