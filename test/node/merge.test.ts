// Our three-way merge, our search for merge bases and our diffs against the git on this machine, on whatever fast-check makes up.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changedRuns } from "../../src/formats/git/changed-lines";
import { type DiffSide, fileDiff } from "../../src/formats/git/diff";
import { blobId } from "../../src/formats/git/objects";
import { mergeBases, type PastCommit } from "../../src/hub/merge-base";
import { diffTrees } from "../../src/hub/tree-diff";
import { type FileEntry, sealTree, type TreeNode, type TreeRow, type WorkingNode } from "../../src/hub/tree-edit";
import { mergeTrees } from "../../src/hub/tree-merge";
import { type GitId, parseGitId, parseSha256 } from "../../src/ids";

const directory = mkdtempSync(join(tmpdir(), "merge-live-"));

function git(args: string[], input = ""): string {
  // Only these variables: the developer's own git settings must not change an answer.
  const env = { PATH: process.env.PATH ?? "", HOME: directory, GIT_CONFIG_NOSYSTEM: "1" };
  return execFileSync("git", args, { cwd: directory, input, env, stdio: ["pipe", "pipe", "pipe"] }).toString();
}

beforeAll(() => {
  git(["init", "-q"]);
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Path → mode and content. */
type Files = Readonly<Record<string, readonly ["100644" | "100755" | "120000", string]>>;
type Commit = { readonly files: Files; readonly parents: readonly number[]; readonly time: number };

/** Makes the commits, which refer to each other by their place, and tells their ids. */
function imported(commits: readonly Commit[]): GitId[] {
  const lines = commits.map(({ files, parents: [first, ...more], time }, i) => {
    const data = (text: string) => `data ${Buffer.byteLength(text)}\n${text}\n`;
    return [
      `commit refs/heads/at-${i}\nmark :${i + 1}\ncommitter a <a@b> ${time} +0000\n${data(String(i))}`,
      first === undefined ? "" : `from :${first + 1}\n`,
      ...more.map((parent) => `merge :${parent + 1}\n`),
      "deleteall\n",
      ...Object.entries(files).map(([path, [mode, content]]) => `M ${mode} inline ${path}\n${data(content)}`),
    ].join("");
  });
  const start = commits.map((_, i) => `reset refs/heads/at-${i}\n`).join("");
  const marks = join(directory, "marks");
  git(["fast-import", "--quiet", "--force", `--export-marks=${marks}`], start + lines.join(""));
  const ids = new Map(
    readFileSync(marks, "utf8")
      .trim()
      .split("\n")
      .map((line) => line.slice(1).split(" "))
      .map(([mark, id = ""]) => [Number(mark), parseGitId(id, "id")]),
  );
  return commits.map((_, i) => ids.get(i + 1) ?? parseGitId("", "id"));
}

/** The trees of these files as the hub stores them: the root's id, and the entries of each. */
function stored(files: Files, trees: Map<GitId, Map<string, TreeNode>>): GitId {
  const root = new Map<string, WorkingNode>();
  for (const [path, [mode, content]] of Object.entries(files)) {
    const names = path.split("/");
    const last = names.pop() ?? "";
    let at = root;
    for (const name of names) {
      const next = at.get(name);
      const children = (next?.kind === "directory" ? next.children : null) ?? new Map<string, WorkingNode>();
      at.set(name, { kind: "directory", id: null, children });
      at = children;
    }
    const bytes = Buffer.from(content);
    const sha256 = parseSha256(createHash("sha256").update(bytes).digest("hex"), "sha256");
    const kept = mode === "100644" ? null : mode;
    at.set(last, { kind: "file", id: blobId(bytes), sha256, size: bytes.length, lfs: false, mode: kept });
  }
  const rows: TreeRow[] = [];
  const id = sealTree(root, rows);
  for (const { tree, name, node } of rows) {
    const entries = trees.get(tree) ?? new Map<string, TreeNode>();
    entries.set(name, node);
    trees.set(tree, entries);
  }
  return id;
}

// Few names in few places, so that files meet directories. One line of text, so that two edits always conflict; of another text on each
// path, so that git takes nothing for a rename.
const path = fc.constantFrom("a", "b", "d", "d/x", "d/y", "d/e", "d/e/z", "d/e/w", "k/x", "k");
const file = fc.tuple(fc.constantFrom("100644", "100755", "120000"), fc.constantFrom("one", "two", "three"));
const entries = fc.dictionary(path, file, { maxKeys: 7 });

/** Without files that stand where another has a directory. */
const consistent = (all: Record<string, readonly ["100644" | "100755" | "120000", string]>): Files =>
  Object.fromEntries(Object.entries(all).filter(([one]) => !Object.keys(all).some((two) => two.startsWith(`${one}/`))));
const hashed = (files: Files): Files =>
  Object.fromEntries(
    Object.entries(files).map(([one, [mode, text]]) => [
      one,
      [mode, createHash("sha1").update(`${one} ${text}`).digest("hex")],
    ]),
  );

const side = fc.record({ deleted: fc.array(path, { maxLength: 3 }), put: fc.dictionary(path, file, { maxKeys: 3 }) });
const scene = fc.record({ base: entries, ours: side, theirs: side }).map(({ base, ours, theirs }) => {
  const before = consistent(base);
  const after = ({ deleted, put }: { deleted: string[]; put: typeof base }) => {
    const kept = Object.entries(before).filter(
      // A file that takes a directory's place takes the place of all below it, and the other way round.
      ([one]) =>
        !deleted.includes(one) &&
        !Object.keys(put).some((two) => one.startsWith(`${two}/`) || two.startsWith(`${one}/`)),
    );
    return consistent({ ...Object.fromEntries(kept), ...put });
  };
  return { base: hashed(before), ours: hashed(after(ours)), theirs: hashed(after(theirs)) };
});

/** What git makes of merging each pair: the tree, or the paths in conflict. */
function mergedByGit(pairs: readonly (readonly [GitId, GitId])[]): ({ tree: string } | { conflicts: string[] })[] {
  const input = pairs.map(([ours, theirs]) => `${ours} ${theirs}\n`).join("");
  const fields = git(["merge-tree", "--write-tree", "--name-only", "--no-messages", "--stdin"], input).split("\0");
  return pairs.map(() => {
    const clean = fields.shift() === "1";
    const tree = fields.shift() ?? "";
    const paths: string[] = [];
    for (let one = fields.shift(); one !== undefined && one !== ""; one = fields.shift()) paths.push(one);
    // A file beside a directory of its name is put aside as `name~commit`.
    return clean ? { tree } : { conflicts: [...new Set(paths.map((one) => one.replace(/~[0-9a-f]{40}$/, "")))].sort() };
  });
}

describe("merging trees", () => {
  it("gives what git gives: the tree, or the paths in conflict", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(scene, { minLength: 1, maxLength: 40 }), async (scenes) => {
        const commits = scenes.flatMap(({ base, ours, theirs }, i): Commit[] => [
          { files: base, parents: [], time: 1 },
          { files: ours, parents: [3 * i], time: 2 },
          { files: theirs, parents: [3 * i], time: 2 },
        ]);
        const ids = imported(commits);
        const pairs = scenes.map((_, i) => [ids[3 * i + 1], ids[3 * i + 2]] as [GitId, GitId]);
        const expected = mergedByGit(pairs);
        for (const [i, { base, ours, theirs }] of scenes.entries()) {
          const trees = new Map<GitId, Map<string, TreeNode>>();
          const sides = { base: stored(base, trees), ours: stored(ours, trees), theirs: stored(theirs, trees) };
          const { root, conflicts } = await mergeTrees(async () => trees, sides);
          const made = conflicts.length === 0 ? { tree: root } : { conflicts };
          expect(made, JSON.stringify(scenes[i])).toEqual(expected[i]);
        }
      }),
      { numRuns: 12 },
    );
  });
});

describe("merge bases", () => {
  /** Histories in which a child is no older than its parents, and often just as old. */
  const history = fc
    .array(fc.record({ parents: fc.array(fc.nat(), { maxLength: 2 }), later: fc.nat({ max: 1 }) }), {
      minLength: 2,
      maxLength: 24,
    })
    .map((rows) => {
      const commits: Commit[] = [];
      for (const [i, { parents, later }] of rows.entries()) {
        // Near ones, so that histories cross.
        const before = i === 0 ? [] : [...new Set(parents.map((one) => i - 1 - (one % Math.min(i, 4))))];
        const time = Math.max(1, ...before.map((one) => commits[one]?.time ?? 0)) + later;
        commits.push({ files: { at: ["100644", String(i)] }, parents: before, time });
      }
      return commits;
    });

  it("are those that git finds, however little of the past comes at once", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        history,
        fc.nat(),
        fc.nat(),
        fc.integer({ min: 1, max: 5 }),
        async (commits, one, two, chunk) => {
          const ids = imported(commits);
          const past = new Map(
            commits.map(({ parents, time }, i): [string, PastCommit] => {
              const id = ids[i] ?? parseGitId("", "id");
              return [id, { id, tree: id, time, parents: parents.flatMap((parent) => ids[parent] ?? []) }];
            }),
          );
          const load = async (from: readonly GitId[]): Promise<PastCommit[]> => {
            const loaded = new Set<string>(from);
            for (const id of loaded)
              if (loaded.size < from.length + chunk)
                for (const parent of past.get(id)?.parents ?? []) loaded.add(parent);
            return [...loaded].flatMap((id) => past.get(id) ?? []);
          };
          const [ours, theirs] = [ids[one % ids.length], ids[two % ids.length]];
          if (ours === undefined || theirs === undefined) return;
          const found = (await mergeBases(load, ours, theirs)).map(({ id }) => id).sort();
          let expected: string[] = [];
          try {
            expected = git(["merge-base", "--all", ours, theirs]).split("\n").filter(Boolean).sort();
          } catch {
            // git's way to say that there is none.
          }
          expect(found).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("diffs", () => {
  const line = fc.constantFrom("a", "b", "c", "d", "", "two words");
  const text = fc
    .tuple(fc.array(line, { maxLength: 30 }), fc.boolean())
    .map(([lines, ends]) => lines.map((one) => `${one}\n`).join("") + (ends ? "" : "at the end"));
  const name = fc.constantFrom("x", "with space", 'quo"te', "tab\there", "d/é", "d/e/f", "back\\slash");
  const version = fc.dictionary(name, fc.tuple(fc.constantFrom("100644", "100755", "120000"), text), { maxKeys: 4 });

  it("are what `git apply` makes the second tree of the first with", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(version, version, async (one, two) => {
        const trees = new Map<GitId, Map<string, TreeNode>>();
        const [before, after] = [stored(one, trees), stored(two, trees)];
        const [commit] = imported([{ files: one, parents: [], time: 1 }]);
        const sideOf = (file: FileEntry | null, files: Files, path: string): DiffSide | null =>
          file && { mode: file.mode ?? "100644", id: file.id, text: files[path]?.[1] ?? null };
        const diff = (await diffTrees(async () => trees, before, after))
          .map(({ path, before: was, after: is }) =>
            fileDiff({ path, before: sideOf(was, one, path), after: sideOf(is, two, path) }),
          )
          .join("");
        git(["read-tree", commit ?? ""]);
        if (diff !== "") git(["apply", "--cached", "--whitespace=nowarn"], `${diff}# The diff is cut here\n`);
        expect(git(["write-tree"]).trim(), diff).toBe(after);
      }),
      { numRuns: 60 },
    );
  });

  it("are no longer than they need be, and of bounded work", () => {
    const lines = (from: number, to: number, step = 1) =>
      Array.from({ length: (to - from) / step }, (_, i) => `${from + i * step}\n`);
    expect(changedRuns(lines(0, 9), [...lines(0, 3), "x\n", ...lines(4, 9)])).toEqual([
      { from: 3, to: 4, newFrom: 3, newTo: 4 },
    ]);
    expect(changedRuns(["a", "b", "c", "a", "b", "b", "a"], ["c", "b", "a", "b", "a", "c"])).toHaveLength(4);
    // Two texts of 40,000 lines with nothing in common but the ends: one run.
    const [old, now] = [lines(0, 40_000), ["0\n", ...lines(50_000, 90_000), "39999\n"]];
    expect(changedRuns(old, now)).toEqual([{ from: 1, to: 39_999, newFrom: 1, newTo: 40_001 }]);
  });
});
