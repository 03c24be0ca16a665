// Commits through the Hugging Face API: what is published, what races do, and what is refused with nothing written.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";

const Committed = z.object({ commitOid: z.string(), commitUrl: z.string() });
const Tree = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    oid: z.string(),
    size: z.number(),
    lfs: z.object({ oid: z.string() }).optional(),
  }),
);
const REPO = "ada/digits";

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "digits" });
});

const tree = async (path = "", query = "?recursive=true") =>
  Tree.parse((await ada.get(`/api/models/${REPO}/tree/main${path}${query}`)).body);
const committed = async (lines: unknown[], parent?: string) =>
  Committed.parse((await ada.commit(REPO, lines, parent === undefined ? {} : { parent })).body);
const counts = () =>
  env.DB.prepare(
    "select (select count(*) from commits) as commits, (select count(*) from tree_entries) as entries",
  ).first();

describe("a commit", () => {
  it("publishes files in directories and says where", async () => {
    const { commitOid, commitUrl } = await committed([
      fileLine("config.json", "{}\n"),
      fileLine("deep/er/notes.txt", "hello\n"),
    ]);
    expect(commitUrl).toBe(`http://hub.test/${REPO}/commit/${commitOid}`);
    expect((await tree()).map((entry) => entry.path)).toEqual([
      ".gitattributes",
      "config.json",
      "deep",
      "deep/er",
      "deep/er/notes.txt",
    ]);
    const file = await anonymous.raw("GET", `/${REPO}/resolve/main/deep/er/notes.txt`);
    expect(await file.text()).toBe("hello\n");
    expect(file.headers.get("x-repo-commit")).toBe(commitOid);
  });

  it("gives a file the id that git gives it", async () => {
    await committed([fileLine("hello.txt", "hello\n")]);
    expect((await tree()).find((entry) => entry.path === "hello.txt")?.oid).toBe(
      "ce013625030ba8dba906f756967f9e9ca394464a",
    );
  });

  it("publishes an LFS file by the digest of uploaded bytes", async () => {
    const oid = await uploadLfs(ada, REPO, new Uint8Array([1, 2, 3]));
    await committed([lfsLine("model.safetensors", oid, 3)]);
    expect((await tree()).find((entry) => entry.path === "model.safetensors")).toMatchObject({ size: 3, lfs: { oid } });
    const raw = await ada.raw("GET", `/${REPO}/raw/main/model.safetensors`);
    expect(await raw.text()).toBe(`version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize 3\n`);
  });

  it("tracks an LFS file beside attributes that come in the same commit", async () => {
    const oid = await uploadLfs(ada, REPO, new Uint8Array(10).fill(7));
    await committed([fileLine(".gitattributes", "*.mine -text\n"), lfsLine("weights.odd", oid, 10)]);
    const attributes = await anonymous.raw("GET", `/${REPO}/resolve/main/.gitattributes`);
    expect(await attributes.text()).toMatch(/^\*\.mine -text\n\/weights\.odd filter=lfs/);
  });

  it("tracks an LFS file that no pattern covers", async () => {
    const oid = await uploadLfs(ada, REPO, new Uint8Array([7, 8]));
    await committed([lfsLine("odd name [1].xyz", oid)]);
    const attributes = await (await ada.raw("GET", `/${REPO}/resolve/main/.gitattributes`)).text();
    expect(attributes).toContain("/odd[[:space:]]name[[:space:]]\\[1].xyz filter=lfs diff=lfs merge=lfs -text\n");
  });

  it("applies its lines in their order", async () => {
    await committed([fileLine("old/a.txt", "a"), fileLine("old/b.txt", "b")]);
    await committed([{ key: "deletedFolder", value: { path: "old/" } }, fileLine("old/c.txt", "c")]);
    expect((await tree("/old", "")).map((entry) => entry.path)).toEqual(["old/c.txt"]);
  });

  it("copies a file from another revision", async () => {
    const first = await committed([fileLine("a.txt", "first")]);
    await committed([fileLine("a.txt", "second")]);
    await committed([{ key: "copyFile", value: { path: "b.txt", srcPath: "a.txt", srcRevision: first.commitOid } }]);
    expect(await (await ada.raw("GET", `/${REPO}/resolve/main/b.txt`)).text()).toBe("first");
  });

  it("that changes nothing makes no new revision", async () => {
    const first = await committed([fileLine("a.txt", "same")]);
    expect((await committed([fileLine("a.txt", "same")])).commitOid).toBe(first.commitOid);
  });

  it("removes directories that became empty", async () => {
    await committed([fileLine("only/one.txt", "1")]);
    await committed([{ key: "deletedFile", value: { path: "only/one.txt" } }]);
    expect((await tree()).map((entry) => entry.path)).toEqual([".gitattributes"]);
  });
});

describe("racing commits", () => {
  it("on one seen head: one wins, the other gets 412", async () => {
    const { commitOid: parent } = await committed([fileLine("base.txt", "base")]);
    const answers = await Promise.all([
      ada.commit(REPO, [fileLine("one.txt", "1")], { parent }),
      ada.commit(REPO, [fileLine("two.txt", "2")], { parent }),
    ]);
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 412]);
    expect((await tree()).filter((entry) => /^(one|two)\.txt$/.test(entry.path))).toHaveLength(1);
  });

  it("that name no head follow each other, and no file is lost", async () => {
    const answers = await Promise.all(
      ["a", "b", "c", "d"].map((name) => ada.commit(REPO, [fileLine(`${name}.txt`, name)])),
    );
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
    expect((await tree()).map((entry) => entry.path)).toEqual([".gitattributes", "a.txt", "b.txt", "c.txt", "d.txt"]);
  });

  it("on an old head get the message clients know", async () => {
    const answer = await ada.commit(REPO, [fileLine("a.txt", "a")], { parent: "0123456" });
    expect(answer.status).toBe(412);
    expect(answer.text).toContain("The branch was updated since you opened this page. Please refresh and try again.");
  });
});

describe("a bad commit writes nothing and names the field", () => {
  const CASES: [string, unknown[], number, RegExp][] = [
    ["a line that is not JSON", ["{oops"], 422, /line 2: is not JSON/],
    ["an unknown operation", [{ key: "rename", value: {} }], 422, /line 2\.key/],
    ["a path that climbs", [fileLine("a/../../b", "x")], 422, /line 2\.value\.path/],
    ["an absolute path", [fileLine("/etc/passwd", "x")], 422, /absolute/],
    ["a NUL in a path", [fileLine("a\u0000b", "x")], 422, /line 2\.value\.path/],
    ["an over-long segment", [fileLine("x".repeat(256), "x")], 422, /255/],
    [
      "wrong base64",
      [{ key: "file", value: { path: "a", content: "a b", encoding: "base64" } }],
      422,
      /line 2\.value\.content/,
    ],
    ["one path twice", [fileLine("a.txt", "1"), fileLine("a.txt", "2")], 422, /twice/],
    ["two paths that differ by case", [fileLine("A.txt", "1"), fileLine("a.txt", "2")], 422, /case/],
    ["a file where a directory is", [fileLine("a/b", "1"), fileLine("a", "2")], 422, /directory/],
    ["a digest that was never uploaded", [lfsLine("m.bin", "a".repeat(64), 3)], 422, /line 2\.value\.oid/],
    ["a digest that is none", [lfsLine("m.bin", "xyz", 3)], 422, /line 2\.value\.oid/],
    ["a deletion of nothing", [{ key: "deletedFile", value: { path: "ghost" } }], 404, /ghost/],
    ["a blank line inside", [fileLine("a", "1"), "", fileLine("b", "2")], 422, /line 3/],
  ];
  for (const [what, lines, status, message] of CASES)
    it(what, async () => {
      const before = await counts();
      const answer = await ada.commit(REPO, lines);
      expect(answer.status).toBe(status);
      expect(answer.text).toMatch(message);
      expect(await counts()).toEqual(before);
    });

  it("a body that does not start with the header", async () => {
    const answer = await ada.raw("POST", `/api/models/${REPO}/commit/main`, {
      body: JSON.stringify(fileLine("a", "b")),
    });
    expect(answer.status).toBe(422);
  });

  it("a size that is not the bytes'", async () => {
    const held = await uploadLfs(ada, REPO, new Uint8Array([1, 2, 3]));
    expect((await ada.commit(REPO, [lfsLine("m.bin", held, 4)])).text).toMatch(/line 2\.value\.size/);
  });

  it("an unknown branch, an unknown repository, no rights", async () => {
    const at = (branch: string) => ada.commit(REPO, [fileLine("a", "b")], { branch });
    expect((await at("ghost")).headers.get("x-error-code")).toBe("RevisionNotFound");
    expect((await ada.commit("ada/ghost", [fileLine("a", "b")])).headers.get("x-error-code")).toBe("RepoNotFound");
    const eve = await user(admin, "eve");
    expect((await eve.commit(REPO, [fileLine("a", "b")])).status).toBe(403);
    expect((await anonymous.commit(REPO, [fileLine("a", "b")])).status).toBe(401);
  });
});

describe("knowing a digest", () => {
  it("opens nothing: bytes of a private repository can't be linked by a stranger", async () => {
    await ada.post("/api/repos/create", { name: "secret", private: true });
    const oid = await uploadLfs(ada, "ada/secret", new Uint8Array([9, 9, 9]));
    await ada.commit("ada/secret", [lfsLine("m.bin", oid)]);
    const eve = await user(admin, "eve");
    await eve.post("/api/repos/create", { name: "copy" });
    const refused = await eve.commit("eve/copy", [lfsLine("m.bin", oid, 3)]);
    expect(refused.status).toBe(422);
    expect(refused.text).toContain(oid);
  });

  it("and reading a repository that holds the bytes is enough to link them", async () => {
    const oid = await uploadLfs(ada, REPO, new Uint8Array([4, 5, 6]));
    await committed([lfsLine("m.bin", oid)]);
    const eve = await user(admin, "eve");
    await eve.post("/api/repos/create", { name: "copy" });
    expect((await eve.commit("eve/copy", [lfsLine("m.bin", oid, 3)])).status).toBe(200);
  });
});
