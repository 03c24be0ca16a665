// Writes git-packs.json: packs as real git makes them for a push, and what is in them.
// Run: node test/vectors/make-git-packs.mjs (needs git on the path)
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const dir = mkdtempSync(join(tmpdir(), "git-packs-"));
const env = { PATH: process.env.PATH, HOME: dir, GIT_CONFIG_NOSYSTEM: "1" };
const who = { GIT_AUTHOR_NAME: "A", GIT_AUTHOR_EMAIL: "a@example.org", GIT_COMMITTER_NAME: "A", GIT_COMMITTER_EMAIL: "a@example.org" };
let clock = 1_700_000_000;
const git = (args, input = "") => {
  const date = `@${clock} +0000`;
  return execFileSync("git", args, { cwd: dir, input, env: { ...env, ...who, GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date } });
};
const text = (...args) => git(args).toString().trim();

git(["init", "-q", "-b", "main"]);
// Numbers without a pattern, so that versions of the file are best kept as deltas.
let seed = 1;
const lines = Array.from({ length: 200 }, () => String((seed = (seed * 48271) % 2147483647)));
for (let version = 0; version < 8; version++) {
  lines[version * 20] = `version ${version}`;
  writeFileSync(join(dir, "numbers.txt"), `${lines.join("\n")}\n`);
  writeFileSync(join(dir, `note-${version}.txt`), `note ${version}\n`);
  git(["add", "."]);
  clock += 60;
  git(["commit", "-q", "-m", `version ${version}`]);
}
git(["tag", "-a", "v1", "-m", "a tag"]);

const objectsOf = (revs) =>
  git(["rev-list", "--objects", "--stdin"], `${revs.join("\n")}\n`).toString().trim().split("\n").map((line) => line.slice(0, 40)).sort();
const object = (id) => ({ id, type: text("cat-file", "-t", id), base64: git(["cat-file", text("cat-file", "-t", id), id]).toString("base64") });

/** As `git push` packs: deltas by offset, or by id. */
const packs = [
  ["everything, deltas by offset", ["main", "v1"], ["--delta-base-offset"]],
  ["everything, deltas by id", ["main", "v1"], []],
  ["everything, whole", ["main", "v1"], ["--depth=0"]],
  ["thin: what came after the fourth commit", ["main", "^main~4"], ["--thin", "--delta-base-offset"]],
].map(([name, revs, options]) => {
  const pack = git(["pack-objects", "-q", "--revs", "--stdout", "--threads=1", ...options], `${revs.join("\n")}\n`);
  return { name, objects: objectsOf(revs), base64: pack.toString("base64") };
});
const bases = objectsOf(["main~4"]).map(object);

const comment =
  "Packs of real git. `objects`: the ids of all that is in one. `bases`: what the repository has, on which the thin pack builds.";
const json = (items) => items.map((item) => `    ${JSON.stringify(item)}`).join(",\n");
const body = `{\n  "$comment": ${JSON.stringify(comment)},\n  "packs": [\n${json(packs)}\n  ],\n  "bases": [\n${json(bases)}\n  ]\n}\n`;
writeFileSync(new URL("./git-packs.json", import.meta.url), body);
rmSync(dir, { recursive: true });
