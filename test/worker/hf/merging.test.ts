// Merging pull requests: what comes out of it, what conflicts, who may, and what becomes of merges that race.
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

const REPO = "ada/digits";
const AT = `/api/models/${REPO}/discussions`;
const Details = z.object({
  status: z.string(),
  changes: z.object({ base: z.string(), mergeCommitId: z.string().optional() }),
  filesWithConflicts: z.union([z.array(z.string()), z.boolean()]).nullable(),
  events: z.array(z.object({ type: z.string(), data: z.record(z.string(), z.unknown()) })),
});

let ada: Client;
let bob: Client;
beforeEach(async () => {
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
});

type Lines = readonly unknown[];
const removed = (path: string) => ({ key: "deletedFile", value: { path } });
const removedFolder = (path: string) => ({ key: "deletedFolder", value: { path } });

/** A pull request of bob's, open, with these changes to the base as it is now. */
async function propose(lines: Lines, { base = "main", title = "a proposal" } = {}): Promise<number> {
  const header = { key: "header", value: { summary: title, description: "why" } };
  const body = [header, ...lines].map((line) => JSON.stringify(line)).join("\n");
  const response = await bob.raw("POST", `/api/models/${REPO}/commit/${base}?create_pr=1`, { body });
  const { pullRequestUrl } = z.object({ pullRequestUrl: z.string() }).parse(await response.json());
  return Number(pullRequestUrl.split("/").at(-1));
}
const merge = (number: number, who = ada, body?: unknown) => who.post(`${AT}/${number}/merge`, body);
const details = async (number: number) => Details.parse((await anonymous.get(`${AT}/${number}?diff=1`)).body);
const head = async (revision = "main") => {
  const { body } = await ada.get(`/api/models/${REPO}/revision/${encodeURIComponent(revision)}`);
  return z.object({ sha: z.string() }).parse(body).sha;
};
const read = async (path: string, revision = "main") =>
  new TextDecoder().decode(await (await anonymous.raw("GET", `/${REPO}/resolve/${revision}/${path}`)).arrayBuffer());
const files = async () => {
  const { body } = await ada.get(`/api/models/${REPO}/tree/main?recursive=true`);
  const entries = z.array(z.object({ type: z.string(), path: z.string() })).parse(body);
  return entries.filter((one) => one.type === "file" && one.path !== ".gitattributes").map((one) => one.path);
};

describe("merging", () => {
  it("makes a commit of two parents that holds what both sides changed", async () => {
    await ada.commit(REPO, [fileLine("deep/in/old.txt", "old"), fileLine("deep/in/other.txt", "other")]);
    const weights = crypto.getRandomValues(new Uint8Array(60_000));
    const oid = await uploadLfs(ada, REPO, weights);
    const number = await propose([fileLine("deep/in/old.txt", "new"), fileLine("added/by/bob.txt", "bob")]);
    await bob.commit(REPO, [lfsLine("deep/weights.bin", oid)], { branch: `refs/pr/${number}` });
    await ada.commit(REPO, [removed("deep/in/other.txt"), fileLine("deep/ada.txt", "ada")]);
    const parents = [await head(), await head(`refs/pr/${number}`)];
    expect(await details(number)).toMatchObject({ status: "open", filesWithConflicts: [] });
    expect((await merge(number, ada, { comment: "thank you" })).status).toBe(200);

    expect(await files()).toEqual(["added/by/bob.txt", "deep/ada.txt", "deep/in/old.txt", "deep/weights.bin"]);
    expect(await read("deep/in/old.txt")).toBe("new");
    const got = await (await anonymous.raw("GET", `/${REPO}/resolve/main/deep/weights.bin`)).arrayBuffer();
    expect(new Uint8Array(got)).toEqual(weights);
    const { status, changes, events, filesWithConflicts } = await details(number);
    expect({ status, filesWithConflicts }).toEqual({ status: "merged", filesWithConflicts: null });
    expect(changes).toEqual({ base: "refs/heads/main", mergeCommitId: await head() });
    expect(events.map((one) => one.type)).toEqual(["comment", "commit", "commit", "comment", "status-change"]);
    expect(events.at(-1)?.data).toEqual({ status: "merged" });
    const { body, headers } = await ada.get(`/api/models/${REPO}/commits/main`);
    expect(body).toMatchObject([
      { id: await head(), title: "a proposal (#1)", message: "thank you" },
      {},
      {},
      {},
      {},
      {},
    ]);
    expect(headers.get("x-total-count")).toBe("6");
    const { text } = await ada.get(`/${REPO}/commit/${await head()}`);
    for (const parent of parents) expect(text).toContain(parent.slice(0, 10));
    const trail = await ada.get("/api/v1/audit?type=pull.merged");
    const data = { type: "pull_request", number, title: "a proposal", status: "merged", mergeCommit: await head() };
    expect(trail.body).toMatchObject({ events: [{ subject: `model:${REPO}`, data }] });
  });

  it("takes no draft, nothing closed, nothing twice, and nothing from who may not", async () => {
    const opened = await bob.post(AT, { title: "a draft", description: "why", pullRequest: true });
    const { num } = z.object({ num: z.number() }).parse(opened.body);
    expect((await merge(num)).status).toBe(409);
    await bob.post(`${AT}/${num}/status`, { status: "closed" });
    expect((await merge(num)).status).toBe(409);
    await bob.post(`${AT}/${num}/status`, { status: "open" });
    expect((await merge(num, bob)).status).toBe(403);
    expect((await merge(num, anonymous)).status).toBe(401);
    expect((await merge(99)).status).toBe(404);
    expect((await merge(num, ada, { comment: 7 })).status).toBe(422);
    const before = await head();
    // It holds nothing that main does not: there is nothing to commit.
    expect((await merge(num)).status).toBe(200);
    expect((await details(num)).changes.mergeCommitId).toBe(before);
    expect(await head()).toBe(before);
    const again = await merge(num);
    expect([again.status, again.text]).toEqual([409, expect.stringContaining("merged")]);
    for (const status of ["open", "closed"])
      expect((await ada.post(`${AT}/${num}/status`, { status })).status, status).toBe(409);
    expect((await bob.commit(REPO, [fileLine("late.txt", "late")], { branch: `refs/pr/${num}` })).status).toBe(409);
    expect((await bob.post(`${AT}/${num}/comment`, { comment: "thanks" })).status).toBe(201);
    const discussion = await bob.post(AT, { title: "a discussion", description: "no changes" });
    expect((await merge(z.object({ num: z.number() }).parse(discussion.body).num)).status).toBe(400);
  });

  it("goes to the branch that the pull request is meant for", async () => {
    await ada.post(`/api/models/${REPO}/branch/dev/next`, {});
    const main = await head();
    const number = await propose([fileLine("x.txt", "x")], { base: "dev%2Fnext" });
    expect((await merge(number)).status).toBe(200);
    expect((await details(number)).changes).toEqual({
      base: "refs/heads/dev/next",
      mergeCommitId: await head("dev/next"),
    });
    expect(await head()).toBe(main);
    const orphan = await propose([fileLine("y.txt", "y")], { base: "dev%2Fnext" });
    await ada.send("DELETE", `/api/models/${REPO}/branch/dev%2Fnext`);
    const answer = await merge(orphan);
    expect([answer.status, answer.headers.get("x-error-code")]).toEqual([404, "RevisionNotFound"]);
    expect((await details(orphan)).filesWithConflicts).toBeNull();
  });

  it("merges on top of what was merged before", async () => {
    const first = await propose([fileLine("one.txt", "1")]);
    await merge(first);
    const number = await propose([fileLine("one.txt", "2")]);
    await ada.commit(REPO, [fileLine("main.txt", "main")]);
    expect((await merge(number)).status).toBe(200);
    expect(await files()).toEqual(["main.txt", "one.txt"]);
    expect(await read("one.txt")).toBe("2");
  });
});

describe("the diff", () => {
  const diff = async (number: number, who = anonymous) => {
    const { body } = await who.get(`${AT}/${number}?diff=1`);
    return z.object({ diff: z.string().optional() }).parse(body).diff;
  };

  it("shows what the pull request changed since it left the base, pointers for large files, before and after the merge", async () => {
    await ada.commit(REPO, [fileLine("d/a.txt", "one\ntwo\nthree\n"), fileLine("old.txt", "old\n")]);
    const oid = await uploadLfs(bob, REPO, new Uint8Array(5000).fill(7));
    const number = await propose([
      fileLine("d/a.txt", "one\n2\nthree\n"),
      removed("old.txt"),
      fileLine("zeros", new Uint8Array(10)),
      lfsLine("w.bin", oid),
    ]);
    await ada.commit(REPO, [fileLine("of-main.txt", "not in the diff")]);
    const expected = await diff(number);
    expect(expected).toContain(
      "--- a/d/a.txt\n+++ b/d/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\ndiff --git a/old.txt b/old.txt\ndeleted file mode 100644\n",
    );
    expect(expected).toContain("Binary files /dev/null and b/zeros differ\n");
    expect(expected).toContain(
      `+version https://git-lfs.github.com/spec/v1\n+oid sha256:${oid}\n+size 5000\ndiff --git a/zeros b/zeros\n`,
    );
    expect(expected).not.toContain("of-main");
    expect((await merge(number)).status).toBe(200);
    expect(await diff(number)).toBe(expected);
    const { body } = await anonymous.get(`${AT}/${number}`);
    expect(body).not.toHaveProperty("diff");
  });

  it("of any two revisions is had by comparing them", async () => {
    await ada.commit(REPO, [fileLine("a.txt", "1\n")]);
    await ada.post(`/api/models/${REPO}/branch/dev/x`, {});
    await ada.commit(REPO, [fileLine("a.txt", "2\n")], { branch: "dev/x" });
    await ada.commit(REPO, [fileLine("b.txt", "b\n")]);
    const compare = (what: string) => anonymous.get(`/api/models/${REPO}/compare/${what}`);
    const whole = await compare("main..dev%2Fx");
    expect(whole.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(whole.text).toContain("-1\n+2\n");
    expect(whole.text).toContain("--- a/b.txt\n+++ /dev/null\n");
    const since = await compare("main...dev/x");
    expect(since.text).toContain("-1\n+2\n");
    expect(since.text).not.toContain("b.txt");
    expect((await compare("main..main")).text).toBe("");
    expect((await compare("main..nowhere")).headers.get("x-error-code")).toBe("RevisionNotFound");
    for (const wrong of ["main", "..main", "main..", "main....main"])
      expect([400, 404], wrong).toContain((await compare(wrong)).status);
  });

  it("is only for who may have the files", async () => {
    const number = await propose([fileLine("a.txt", "of the gated\n")]);
    await ada.send("PUT", `/api/models/${REPO}/settings`, { gated: "manual" });
    expect(await diff(number)).toBeUndefined();
    expect(await diff(number, bob)).toBeUndefined();
    expect(await diff(number, ada)).toContain("+of the gated");
    const compared = await bob.get(`/api/models/${REPO}/compare/main..refs%2Fpr%2F${number}`);
    expect([compared.status, compared.headers.get("x-error-code")]).toEqual([403, "GatedRepo"]);
  });

  it("says when it is cut", { timeout: 60_000 }, async () => {
    const lines = Array.from({ length: 310 }, (_, i) => fileLine(`many/${100 + i}.txt`, "same\n"));
    expect(await diff(await propose(lines))).toMatch(
      /many\/399.txt[\s\S]*\n# The diff is too long .* 10 more changed files/,
    );
    const long = await propose([0, 1, 2, 3, 4].map((i) => fileLine(`${i}.txt`, `${i}`.repeat(250_000))));
    expect(await diff(long)).toContain("# The diff is too long to be shown whole: 2 more changed files");
  });
});

describe("conflicts", () => {
  const scenes: [string, Lines, Lines, Lines, string[]][] = [
    ["both edited it", [fileLine("a", "1")], [fileLine("a", "2")], [fileLine("a", "3")], ["a"]],
    ["one deleted what the other edited", [fileLine("a", "1")], [fileLine("a", "2")], [removed("a")], ["a"]],
    ["the other way round", [fileLine("a", "1"), fileLine("b", "1")], [removed("a")], [fileLine("a", "2")], ["a"]],
    ["both added it", [], [fileLine("d/a", "1")], [fileLine("d/a", "2")], ["d/a"]],
    ["a file where the other has a folder", [], [fileLine("a", "1")], [fileLine("a/b", "2")], ["a"]],
    [
      "a folder deleted in which a file was edited",
      [fileLine("d/a", "1"), fileLine("d/b", "1")],
      [fileLine("d/a", "2")],
      [removedFolder("d")],
      ["d/a"],
    ],
    ["names that differ by case", [], [fileLine("Readme", "1")], [fileLine("README", "2")], ["README", "Readme"]],
    [
      "several at once",
      [fileLine("x/a", "1"), fileLine("y/b", "1"), fileLine("same", "1")],
      [fileLine("x/a", "2"), fileLine("y/b", "2"), fileLine("same", "2")],
      [fileLine("x/a", "3"), fileLine("y/b", "3"), fileLine("same", "2")],
      ["x/a", "y/b"],
    ],
  ];

  it.each(scenes)("%s: refused and named", async (_what, before, theirs, ours, paths) => {
    if (before.length > 0) await ada.commit(REPO, before);
    const number = await propose(theirs);
    await ada.commit(REPO, ours);
    const main = await head();
    const answer = await merge(number);
    expect(answer.status).toBe(409);
    for (const path of paths) expect(z.object({ error: z.string() }).parse(answer.body).error).toContain(path);
    expect(await head()).toBe(main);
    expect(await details(number)).toMatchObject({ status: "open", filesWithConflicts: paths });
  });

  it("are gone once the pull request has taken the base's side", async () => {
    await ada.commit(REPO, [fileLine("a", "1")]);
    const number = await propose([fileLine("a", "2"), fileLine("b", "2")]);
    await ada.commit(REPO, [fileLine("a", "3")]);
    expect((await merge(number)).status).toBe(409);
    await bob.commit(REPO, [fileLine("a", "3")], { branch: `refs/pr/${number}` });
    expect((await details(number)).filesWithConflicts).toEqual([]);
    expect((await merge(number)).status).toBe(200);
    expect(await files()).toEqual(["a", "b"]);
  });
});

describe("races", () => {
  const statuses = (answers: readonly Answer[]) => answers.map((one) => one.status).sort();

  it("of two merges at once, one wins", async () => {
    const number = await propose([fileLine("a", "1")]);
    const answers = await Promise.all([merge(number), merge(number), merge(number)]);
    expect(statuses(answers)).toEqual([200, 409, 409]);
    const { body } = await ada.get(`/api/models/${REPO}/commits/main`);
    expect(body).toMatchObject([{ title: "a proposal (#1)" }, {}, {}]);
    expect((await details(number)).events.filter((one) => one.type === "status-change")).toHaveLength(1);
  });

  it("with commits to the base and with other merges, nothing is lost", async () => {
    const numbers = [await propose([fileLine("p/1", "1")]), await propose([fileLine("p/2", "2")])];
    const answers = await Promise.all([
      ada.commit(REPO, [fileLine("c/1", "1")]),
      ...numbers.map((number) => merge(number)),
      ada.commit(REPO, [fileLine("c/2", "2")]),
    ]);
    expect(statuses(answers)).toEqual([200, 200, 200, 200]);
    expect(await files()).toEqual(["c/1", "c/2", "p/1", "p/2"]);
  });

  it("with a push to the pull request, what is merged is what it names then", async () => {
    const number = await propose([fileLine("a", "1")]);
    const [merged, pushed] = await Promise.all([
      merge(number),
      bob.commit(REPO, [fileLine("b", "2")], { branch: `refs/pr/${number}` }),
    ]);
    expect(merged.status).toBe(200);
    expect([200, 409]).toContain(pushed.status);
    expect(await files()).toEqual(pushed.status === 200 ? ["a", "b"] : ["a"]);
  });
});
