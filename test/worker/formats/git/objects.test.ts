// Git objects against ids that real git gave: blobs, trees, commits.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { commitId, decodeCommit, encodeCommit, gitPerson } from "../../../../src/formats/git/commit";
import { BlobIdHash, blobId, objectId } from "../../../../src/formats/git/objects";
import { decodeTree, encodeTree, TREE_MODES, type TreeEntry, treeId } from "../../../../src/formats/git/tree";
import { parseGitId } from "../../../../src/ids";
import vectors from "../../../vectors/git.json";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const id = (hex: string) => parseGitId(hex, "id");
const mode = (text: string) => TREE_MODES.find((known) => known === text) ?? expect.fail(`unknown mode ${text}`);
const blobBytes = (vector: { base64?: string; text?: string; times?: number }): Uint8Array =>
  vector.base64 === undefined
    ? utf8((vector.text ?? "").repeat(vector.times ?? 1))
    : Uint8Array.fromBase64(vector.base64);
const code = (expected: string) => expect.objectContaining({ name: "FormatError", code: expected });

describe("blobs", () => {
  test.each(vectors.blobs)("id $id", (vector) => {
    const bytes = blobBytes(vector);
    expect(blobId(bytes)).toBe(vector.id);
    const hash = new BlobIdHash(bytes.length);
    for (let at = 0; at < bytes.length; at += 1000) hash.update(bytes.subarray(at, at + 1000));
    expect(hash.digest()).toBe(vector.id);
  });

  test("a stream of another size than declared has no id", () => {
    expect(() => new BlobIdHash(3).update(utf8("ab")).digest()).toThrow(code("git.size"));
  });
});

describe("trees", () => {
  test.each(vectors.trees)("$name", ({ entries, base64, id: expected }) => {
    const typed: TreeEntry[] = entries.map((entry) => ({ mode: mode(entry.mode), name: entry.name, id: id(entry.id) }));
    expect(encodeTree(typed).toBase64()).toBe(base64);
    expect(encodeTree(typed.toReversed()).toBase64()).toBe(base64);
    expect(treeId(typed)).toBe(expected);
    const decoded = decodeTree(Uint8Array.fromBase64(base64));
    expect(decoded).toHaveLength(typed.length);
    expect(decoded).toEqual(expect.arrayContaining(typed));
  });

  test("any tree comes back from its bytes", () => {
    const entries = fc.uniqueArray(
      fc.record({
        mode: fc.constantFrom(...TREE_MODES),
        name: fc
          .string({ unit: "binary", minLength: 1, maxLength: 8 })
          .filter((name) => !/[/\0]|^\.\.?$|^\.git$/i.test(name)),
        id: fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => id(bytes.toHex())),
      }),
      { selector: ({ name }) => name },
    );
    fc.assert(
      fc.property(entries, (list) => {
        const bytes = encodeTree(list);
        const decoded = decodeTree(bytes);
        expect(new Set(decoded.map(({ name }) => name))).toEqual(new Set(list.map(({ name }) => name)));
        expect(encodeTree(decoded)).toEqual(bytes);
      }),
    );
  });

  const some = id("ce013625030ba8dba906f756967f9e9ca394464a");
  const raw = (...rows: [string, string][]): Uint8Array => {
    const parts = rows.flatMap(([head, name]) => [...utf8(`${head} ${name}\0`), ...Uint8Array.fromHex(some)]);
    return new Uint8Array(parts);
  };

  test.each(["", ".", "..", ".git", ".GIT", "a/b", "a\0b", "\ud800"])("the name %j is refused", (name) => {
    expect(() => encodeTree([{ mode: "100644", name, id: some }])).toThrow(code("git.tree_name"));
  });

  test("a file and a folder of one name are refused", () => {
    const clash: TreeEntry[] = [
      { mode: "100644", name: "a", id: some },
      { mode: "40000", name: "a", id: some },
    ];
    expect(() => encodeTree(clash)).toThrow(code("git.tree_duplicate"));
  });

  test.each([
    ["cut id", raw(["100644", "a"]).subarray(0, 20), "git.tree"],
    ["no NUL", utf8("100644 abcdefghijklmnopqrstuvwxyz"), "git.tree"],
    ["no space", utf8("100644"), "git.tree"],
    ["padded folder mode", raw(["040000", "a"]), "git.tree_mode"],
    ["submodule", raw(["160000", "a"]), "git.submodule"],
    ["endless mode", raw(["1".repeat(500), "a"]), "git.tree_mode"],
    ["out of order", raw(["100644", "b"], ["100644", "a"]), "git.tree_order"],
    ["folder out of order", raw(["40000", "a"], ["100644", "a.b"]), "git.tree_order"],
    ["twice", raw(["100644", "a"], ["100644", "a"]), "git.tree_duplicate"],
    ["slash", raw(["100644", "a/b"]), "git.tree_name"],
    ["not UTF-8", new Uint8Array([...utf8("100644 "), 0xff, 0, ...new Uint8Array(20)]), "git.tree_name"],
  ])("bytes: %s", (_, bytes, expected) => {
    expect(() => decodeTree(bytes)).toThrow(code(expected));
  });
});

describe("commits", () => {
  const person = ([name, email, seconds]: (string | number)[]) =>
    gitPerson(String(name), String(email), Number(seconds));

  test.each(vectors.commits)("$name", (vector) => {
    const commit = {
      tree: id(vector.tree),
      parents: vector.parents.map(id),
      author: person(vector.author),
      committer: person(vector.committer),
      headers: [],
      message: vector.message,
    };
    expect(encodeCommit(commit).toBase64()).toBe(vector.base64);
    expect(commitId(commit)).toBe(vector.id);
    expect(decodeCommit(Uint8Array.fromBase64(vector.base64))).toEqual(commit);
  });

  test.each(vectors.foreign)("pushed: $name", (vector) => {
    const bytes = Uint8Array.fromBase64(vector.base64);
    const commit = decodeCommit(bytes);
    expect(commit.headers.map(([name]) => name)).toEqual(["gpgsig", "encoding"]);
    expect(commit.author.timezone).toBe("+0530");
    expect(encodeCommit(commit)).toEqual(bytes);
    expect(objectId("commit", bytes)).toBe(vector.id);
  });

  test("any names and message come back from the bytes", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary" }),
        fc.string({ unit: "binary" }),
        fc.nat(),
        fc.string({ unit: "binary" }),
        (name, email, seconds, text) => {
          const who = gitPerson(name, email, seconds);
          const message = text.replaceAll("\0", "");
          const commit = {
            tree: id("4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
            parents: [],
            author: who,
            committer: who,
            headers: [],
            message,
          };
          expect(decodeCommit(encodeCommit(commit))).toEqual(commit);
        },
      ),
    );
  });

  test("a name cannot smuggle in a header", () => {
    const who = gitPerson("x\ncommitter Eve <eve@example.org> 1 +0000\n", "a> 1 +0000\nparent 1", 5);
    expect(`${who.name}${who.email}`).not.toMatch(/[<>\n]/);
    const raw = { ...who, name: "x\nparent y" };
    const commit = {
      tree: id("4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
      parents: [],
      author: raw,
      committer: who,
      headers: [],
      message: "",
    };
    expect(() => encodeCommit(commit)).toThrow(code("git.person"));
    expect(() => encodeCommit({ ...commit, author: who, message: "a\0b" })).toThrow(code("git.message"));
    expect(() => encodeCommit({ ...commit, author: who, headers: [["tree", "x"]] })).toThrow(code("git.commit_header"));
  });

  const head = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
  const people = "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n";
  test.each([
    ["no message", `${head}${people}`, "git.commit"],
    ["no tree", `${people}\n`, "git.commit"],
    ["no author", `${head}committer A <a@b> 1 +0000\n\n`, "git.commit"],
    [
      "parent after author",
      `${head}author A <a@b> 1 +0000\nparent ${"1".repeat(40)}\ncommitter A <a@b> 1 +0000\n\n`,
      "git.commit",
    ],
    ["short parent", `${head}parent 123\n${people}\n`, "git.commit"],
    ["two trees", `${head}${head}${people}\n`, "git.commit"],
    ["no space before the address", `${head}author A<a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n`, "git.commit"],
    ["no time", `${head}author A <a@b>\ncommitter A <a@b> 1 +0000\n\n`, "git.person"],
    ["zone without sign", `${head}author A <a@b> 1 0000\ncommitter A <a@b> 1 +0000\n\n`, "git.person"],
    ["NUL in the message", `${head}${people}\na\0b`, "git.message"],
    ["header in capitals", `${head}${people}Gpgsig x\n\n`, "git.commit_header"],
  ])("bytes: %s", (_, text, expected) => {
    expect(() => decodeCommit(utf8(text))).toThrow(code(expected));
  });
});
