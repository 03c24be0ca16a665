// What git sees of a repository whose history was rewritten, squashed, or that has another name now.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { Git, gitUrl, HAS_LFS } from "./git-client.ts";
import { newPerson, type Person } from "./people.ts";
import { seededBytes } from "./sample-files.ts";
import { scratchFolder, sha256 } from "./scratch.ts";

const scratch = scratchFolder();
let ada: Person;
let git: Git;

beforeAll(async () => {
  ada = await newPerson("git-history");
  git = new Git(scratch("home"), ada);
});

async function api(method: string, path: string, body: unknown): Promise<void> {
  const response = await fetch(gitUrl(`api/${path}`), {
    method,
    headers: { authorization: `Bearer ${ada.token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path} → ${response.status}: ${await response.text()}`);
}

async function workspace(name: string): Promise<{ repo: string; folder: string }> {
  await api("POST", "repos/create", { name, private: true });
  const repo = `${ada.name}/${name}`;
  const folder = scratch(name);
  await git.ok(".", "clone", "-q", gitUrl(repo), folder);
  return { repo, folder };
}

async function commitFile(folder: string, path: string, content: string | Uint8Array): Promise<void> {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), content);
  await git.ok(folder, "add", ".");
  await git.ok(folder, "commit", "-q", "-m", path);
}

/** A fresh clone that git finds nothing wrong with. */
async function cloned(repo: string): Promise<string> {
  const folder = scratch("clone");
  await git.ok(".", "clone", "-q", gitUrl(repo), folder);
  expect(await git.ok(folder, "fsck", "--strict", "--full")).toBe("");
  return folder;
}

it.skipIf(!HAS_LFS)("finds no file that was deleted for good in any branch, tag or merge, and all others", async () => {
  const { repo, folder } = await workspace("rewritten");
  await commitFile(folder, "keep.bin", seededBytes("kept", 20_000));
  const leak = seededBytes("leaked", 30_000);
  await commitFile(folder, "deep/er/leak.bin", leak);
  await git.ok(folder, "checkout", "-q", "-b", "side");
  await commitFile(folder, "side.txt", "side");
  await git.ok(folder, "checkout", "-q", "main");
  await commitFile(folder, "main.txt", "main");
  await git.ok(folder, "merge", "-q", "-m", "both", "side");
  await git.ok(folder, "tag", "-a", "v1", "-m", "annotated");
  await git.ok(folder, "tag", "-a", "again", "-m", "of a tag", "v1");
  await git.ok(folder, "tag", "before", "HEAD~3");
  const env = { GIT_COMMITTER_DATE: "2020-02-03T04:05:06 +0200" };
  await git.run(folder, ["commit", "-q", "--allow-empty", "-m", "another time zone"], env);
  await git.ok(folder, "push", "-q", "origin", "main", "side", "v1", "again", "before");

  await api("POST", `models/${repo}/lfs-files/batch`, { deletions: { sha: [sha256(leak)], rewriteHistory: true } });

  const clone = await cloned(repo);
  expect(await git.ok(clone, "log", "--all", "--format=%s", "--", "deep")).toBe("");
  const subjects = (at: string): Promise<string> =>
    git.ok(at, "log", "--topo-order", "--format=%an %ad %cd %s", "HEAD");
  expect(await subjects(clone)).toBe(await subjects(folder));
  expect(await git.ok(clone, "rev-parse", "again^{}")).toBe(await git.ok(clone, "rev-parse", "main~1"));
  expect(await git.ok(clone, "cat-file", "-t", "again")).toBe("tag");
  expect(await git.ok(clone, "ls-files")).toBe(".gitattributes\nkeep.bin\nmain.txt\nside.txt");
  // What came before the file is the same commit still, and work goes on from here.
  expect(await git.ok(clone, "rev-parse", "before")).toBe(await git.ok(folder, "rev-parse", "before"));
  expect(await git.ok(clone, "merge-base", "main", "before")).toBe(await git.ok(clone, "rev-parse", "before"));
  await commitFile(clone, "next.txt", "next");
  await git.ok(clone, "push", "-q", "origin", "main");
  // Who builds on what is gone is told so, and nothing of it comes back.
  await commitFile(folder, "late.txt", "late");
  expect((await git.run(folder, ["push", "origin", "HEAD:refs/heads/late"])).code).not.toBe(0);
});

it("sees one commit of a squashed branch, and the whole of the others", async () => {
  const { repo, folder } = await workspace("squashed");
  for (const path of ["a.txt", "b/c.txt", "d.txt"]) await commitFile(folder, path, path);
  await git.ok(folder, "push", "-q", "origin", "main", "main:other");
  await api("POST", `models/${repo}/super-squash/main`, { message: "everything" });
  const clone = await cloned(repo);
  expect(await git.ok(clone, "log", "--format=%s")).toBe("everything");
  expect(await git.ok(clone, "rev-parse", "main^{tree}")).toBe(await git.ok(folder, "rev-parse", "main^{tree}"));
  expect(await git.ok(clone, "rev-parse", "origin/other")).toBe(await git.ok(folder, "rev-parse", "main"));
});

it("fetches and pushes under the name that a repository had", async () => {
  const { repo, folder } = await workspace("renamed");
  await api("POST", "repos/move", { fromRepo: repo, toRepo: `${ada.name}/newer`, type: "model" });
  await commitFile(folder, "a.txt", "a");
  await git.ok(folder, "push", "-q", "origin", "main");
  if (HAS_LFS) {
    await commitFile(folder, "w.bin", seededBytes("moved", 20_000));
    await git.ok(folder, "push", "-q", "origin", "main");
  }
  const head = await git.ok(folder, "rev-parse", "HEAD");
  for (const name of [repo, `${ada.name}/newer`])
    expect(await git.ok(await cloned(name), "rev-parse", "HEAD")).toBe(head);
});
