// Our git objects against the git on this machine: whatever fast-check makes up, both give it the same id.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { commitId, decodeCommit, encodeCommit, gitPerson } from "../../src/formats/git/commit";
import { encodeLfsPointer } from "../../src/formats/git/lfs-pointer";
import { blobId } from "../../src/formats/git/objects";
import { decodeTree, TREE_MODES, treeId } from "../../src/formats/git/tree";
import { parseGitId, parseSha256 } from "../../src/ids";

const directory = mkdtempSync(join(tmpdir(), "git-live-"));
const RUNS = { numRuns: 40 };
const text = fc.string({ unit: "binary", maxLength: 12 }).filter((value) => value.isWellFormed());

function git(args: string[], input: string | Uint8Array, env: Record<string, string> = {}): Buffer {
  // Only these variables: the developer's own git settings must not change an id.
  const own = { PATH: process.env.PATH ?? "", HOME: directory, GIT_CONFIG_NOSYSTEM: "1" };
  return execFileSync("git", args, { cwd: directory, input, env: { ...own, ...env }, stdio: ["pipe", "pipe", "pipe"] });
}
const gitId = (args: string[], input: string | Uint8Array, env?: Record<string, string>) =>
  parseGitId(git(args, input, env).toString().trim(), "id");

beforeAll(() => {
  git(["init", "-q"], "");
});
afterAll(() => rmSync(directory, { recursive: true }));

test("blob ids equal `git hash-object`", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), (bytes) => {
      expect(blobId(bytes)).toBe(gitId(["hash-object", "--stdin"], bytes));
    }),
    RUNS,
  );
});

test("tree ids equal `git mktree`, and git's bytes decode", () => {
  // Names that share prefixes around the bytes below and above "/" are where orders differ.
  const near = fc.array(fc.constantFrom("a", "b", "-", ".", "0", " ", "é", "\uffee", "\u{1f600}"), {
    minLength: 1,
    maxLength: 4,
  });
  const name = fc
    .oneof(
      near.map((parts) => parts.join("")),
      text,
    )
    .filter((value) => !/[/\0]|^\.{0,2}$|^\.git$/i.test(value));
  const entry = fc.record({
    mode: fc.constantFrom(...TREE_MODES),
    name,
    id: fc.uint8Array({ minLength: 20, maxLength: 20 }),
  });
  fc.assert(
    fc.property(fc.uniqueArray(entry, { selector: (row) => row.name, maxLength: 30 }), (rows) => {
      const entries = rows.map((row) => ({ ...row, id: parseGitId(Buffer.from(row.id).toString("hex"), "id") }));
      const input = entries
        .map(({ mode, name: file, id }) => `${mode} ${mode === "40000" ? "tree" : "blob"} ${id}\t${file}\0`)
        .join("");
      const expected = gitId(["mktree", "-z", "--missing"], input);
      expect(treeId(entries)).toBe(expected);
      expect(treeId(decodeTree(git(["cat-file", "tree", expected], "")))).toBe(expected);
    }),
    RUNS,
  );
});

test("commit ids equal `git commit-tree`, names cleaned as git cleans them", () => {
  const tree = gitId(["mktree"], "");
  const parents = [1, 2].map((n) =>
    gitId(
      ["hash-object", "-t", "commit", "-w", "--stdin"],
      encodeCommit({
        tree,
        parents: [],
        author: gitPerson("P", "p", n),
        committer: gitPerson("P", "p", n),
        headers: [],
        message: "p\n",
      }),
    ),
  );
  // git takes noncharacters (U+FFFE and its like) for Latin-1 and re-encodes them.
  const noNul = text.filter((value) => !/[\0\p{Noncharacter_Code_Point}]/u.test(value));
  // git refuses a name that cleaning leaves empty; we write "unknown" for it, so such names are not compared.
  const name = noNul.filter((value) => gitPerson(value, "", 0).name !== "unknown");
  // git parses dates below 100000000 as something else than seconds.
  const seconds = fc.integer({ min: 100_000_000, max: 4_000_000_000 });
  const fields = fc.record({ name, email: noNul, seconds, message: noNul, parents: fc.subarray(parents) });
  fc.assert(
    fc.property(fields, fields, (a, c) => {
      const commit = {
        tree,
        parents: a.parents,
        author: gitPerson(a.name, a.email, a.seconds),
        committer: gitPerson(c.name, c.email, c.seconds),
        headers: [],
        message: a.message,
      };
      const expected = gitId(["commit-tree", tree, ...a.parents.flatMap((parent) => ["-p", parent])], a.message, {
        GIT_AUTHOR_NAME: a.name,
        GIT_AUTHOR_EMAIL: a.email,
        GIT_AUTHOR_DATE: `@${a.seconds} +0000`,
        GIT_COMMITTER_NAME: c.name,
        GIT_COMMITTER_EMAIL: c.email,
        GIT_COMMITTER_DATE: `@${c.seconds} +0000`,
      });
      expect(commitId(commit)).toBe(expected);
      expect(decodeCommit(git(["cat-file", "commit", expected], ""))).toEqual(commit);
    }),
    RUNS,
  );
});

test("git finds nothing wrong with what we write", () => {
  const own = { GIT_DIR: join(directory, "checked") };
  git(["init", "-q"], "", own);
  const pointer = encodeLfsPointer({ sha256: parseSha256("0".repeat(64), "oid"), size: 5 });
  const blob = gitId(["hash-object", "-w", "--stdin"], pointer, own);
  const folder = gitId(["mktree"], `100644 blob ${blob}\tmodel.safetensors\n`, own);
  const tree = gitId(["mktree"], `40000 tree ${folder}\tweights\n100755 blob ${blob}\trun\n`, own);
  const who = gitPerson(" <>;", "", 0);
  const commit = encodeCommit({ tree, parents: [], author: who, committer: who, headers: [], message: "First" });
  const id = gitId(["hash-object", "-t", "commit", "-w", "--stdin"], commit, own);
  git(["update-ref", "refs/heads/main", id], "", own);
  expect(git(["fsck", "--strict", "--full"], "", own).toString()).toBe("");
  expect(git(["log", "--format=%an|%s", "main"], "", own).toString()).toBe("unknown|First\n");
});
