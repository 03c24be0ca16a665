// Writes git.json: objects and the ids that real git gives them.
// Run: node test/vectors/make-git.mjs (needs git on the path)
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const dir = mkdtempSync(join(tmpdir(), "git-vectors-"));
const git = (args, input = "", env = {}) =>
  execFileSync("git", args, { cwd: dir, input, env: { PATH: process.env.PATH, HOME: dir, ...env } });
const id = (...args) => git(...args).toString().trim();
git(["init", "-q"]);

const contents = ["", "hello\n", "\0binary\xff", "é\u{1f600}\n", "a".repeat(70_000)].map((text) => Buffer.from(text));
const blobs = contents.map((content) => ({
  ...(content.length > 1000 ? { text: "a", times: content.length } : { base64: content.toString("base64") }),
  id: id(["hash-object", "-w", "--stdin"], content),
}));
const blob = blobs[1].id;
const folder = id(["mktree"], "");

const listings = {
  "empty tree": [],
  "one file": [["100644", "README.md"]],
  "every mode": [["100644", "file"], ["100755", "run.sh"], ["120000", "link"], ["40000", "folder"]],
  "a folder sorts as if it ended in a slash": [["40000", "a"], ["100644", "a.b"], ["100644", "a-b"], ["100644", "a0"], ["100644", "ab"]],
  "a file sorts as it is": [["100644", "a"], ["40000", "a.b"], ["40000", "a-b"], ["40000", "a0"], ["100644", "ab"]],
  "bytes, not UTF-16 units": [["100644", "\uffee"], ["100644", "\u{1f600}"], ["100644", "é"], ["100644", "z"], ["100644", "Z"]],
  "spaces and line feeds": [["100644", "a b"], ["100644", " "], ["100644", "a\nb"], ["100644", "\""], ["40000", "tab\there"]],
};
const trees = Object.entries(listings).map(([name, rows]) => {
  const entries = rows.map(([mode, entry]) => ({ mode, name: entry, id: mode === "40000" ? folder : blob }));
  const input = entries.map((entry) => `${entry.mode} ${entry.mode === "40000" ? "tree" : "blob"} ${entry.id}\t${entry.name}\0`).join("");
  const tree = id(["mktree", "-z"], input);
  return { name, entries, base64: git(["cat-file", "tree", tree]).toString("base64"), id: tree };
});

const tree = trees[1].id;
const commits = [];
const commit = (name, { author, committer, message, parents = [], cleaned }) => {
  const env = {
    GIT_AUTHOR_NAME: author[0], GIT_AUTHOR_EMAIL: author[1], GIT_AUTHOR_DATE: `@${author[2]} +0000`,
    GIT_COMMITTER_NAME: committer[0], GIT_COMMITTER_EMAIL: committer[1], GIT_COMMITTER_DATE: `@${committer[2]} +0000`,
  };
  const made = id(["commit-tree", tree, ...parents.flatMap((parent) => ["-p", parent])], message, env);
  commits.push({ name, tree, parents, author, committer, message, base64: git(["cat-file", "commit", made]).toString("base64"), id: made, ...cleaned });
  return made;
};
const ada = ["Ada Lovelace", "ada@example.org", 1_700_000_000];
const bob = ["Bob", "bob@example.org", 1_700_000_001];
const first = commit("first commit", { author: ada, committer: ada, message: "Initial commit\n" });
const second = commit("one parent, two people", { author: ada, committer: bob, message: "Add README\n\nBody é\u{1f600}\n", parents: [first] });
commit("merge of two parents", { author: bob, committer: bob, message: "Merge", parents: [second, first] });
commit("no message", { author: ada, committer: ada, message: "" });
commit("message that starts with line feeds", { author: ada, committer: ada, message: "\n\nsubject\n\n\n" });
commit("names that git cleans", {
  author: [" .,Ada <Countess>\nof \"Lovelace\";: ", "<ada@example.org>", 0],
  committer: ["'Bob.'", "  bob@example.org ", 4_102_444_800],
  message: "x\n",
});

// A commit as others push it: zone, signature over several lines, encoding.
const foreignText = `tree ${tree}\nparent ${first}\nauthor Zoë <z@example.org> 1700000002 +0530\ncommitter GitHub <noreply@example.org> 1700000003 -0800\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\nencoding UTF-8\n\nSigned\n`;
const foreign = [{ name: "signed", base64: Buffer.from(foreignText).toString("base64"), id: id(["hash-object", "-t", "commit", "-w", "--stdin"], foreignText) }];

const comment = [
  "Git objects and the ids real git gives them. `base64` is the content of the object, without git's header; a blob may be `text` repeated `times` times instead.",
  "trees: `entries` in arbitrary order. commits: author and committer are [name, email, unix seconds] as given to git, before git cleans them; time zone +0000. foreign: commits to decode and encode back.",
];
const lines = (items) => items.map((item) => `    ${JSON.stringify(item)}`).join(",\n");
const sections = Object.entries({ blobs, trees, commits, foreign }).map(([name, items]) => `  "${name}": [\n${lines(items)}\n  ]`);
writeFileSync(new URL("./git.json", import.meta.url), `{\n  "$comment": ${JSON.stringify(comment)},\n${sections.join(",\n")}\n}\n`);
rmSync(dir, { recursive: true });
