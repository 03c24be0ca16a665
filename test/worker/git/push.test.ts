// Pushing at the level of the protocol: what is taken, what is refused with which reason, and that a refusal leaves nothing behind.
import { env } from "cloudflare:workers";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { encodeLfsPointer } from "../../../src/formats/git/lfs-pointer";
import { parseSha256 } from "../../../src/ids";
import { administrator, anonymous, type Client, fileLine, uploadLfs, user } from "../../kit/actors";
import {
  blob,
  bytes,
  CAPABILITIES,
  commit,
  deltaOf,
  fileCommit,
  type Item,
  idOf,
  NO_ID,
  packOf,
  post,
  push,
  pushBody,
  refsOf,
  reportOf,
  tree,
  type Whole,
} from "../../kit/git-push";

const REPO = "ada/digits";
const DEV = "refs/heads/dev";
const MAIN = "refs/heads/main";

let admin: Client;
let ada: Client;
let head: string;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "digits" });
  head = (await refsOf(ada, REPO))[MAIN] ?? "";
});

const Tree = z.array(z.object({ path: z.string(), oid: z.string() }));
const listing = async (revision: string) =>
  Tree.parse((await ada.get(`/api/models/${REPO}/tree/${encodeURIComponent(revision)}?recursive=true`)).body);
const text = async (path: string) => (await anonymous.raw("GET", `/${REPO}/resolve/${path}`)).text();
describe("a push", () => {
  it("publishes commits as they are: ids, files of all kinds, authors and dates", async () => {
    const [readme, script, link] = [blob("# Digits\n"), blob("#!/bin/sh\n"), blob("run.sh")];
    const folder = tree([["100644", "notes.txt", idOf(readme)]]);
    const root = tree([
      ["100644", "README.md", idOf(readme)],
      ["40000", "docs", idOf(folder)],
      ["120000", "link", idOf(link)],
      ["100755", "run.sh", idOf(script)],
    ]);
    const first = commit(idOf(root), [], "first\n\nmore\n", 1_500_000_000);
    const other = commit(idOf(root), [], "other root\n", 1_500_000_001);
    const merge = commit(idOf(folder), [idOf(first), idOf(other)], "merge\n", 1_500_000_002);
    const items = [merge, first, other, root, folder, readme, script, link];
    const report = await push(ada, REPO, [[NO_ID, idOf(merge), DEV]], items);
    expect(report).toMatchObject({ status: 200, unpack: "ok", refs: { [DEV]: "ok" } });
    expect((await refsOf(ada, REPO))[DEV]).toBe(idOf(merge));
    expect((await listing(idOf(first))).map(({ path, oid }) => [path, oid])).toEqual([
      ["README.md", idOf(readme)],
      ["docs", idOf(folder)],
      ["docs/notes.txt", idOf(readme)],
      ["link", idOf(link)],
      ["run.sh", idOf(script)],
    ]);
    // A link is the text of its target, never followed.
    expect(await text(`${idOf(first)}/link`)).toBe("run.sh");
    const commits = await ada.get(`/api/models/${REPO}/commits/dev`);
    expect(commits.body).toMatchObject([{ title: "merge" }, { title: "other root" }, { title: "first" }]);
    expect(commits.text).toContain("Zoë");
    expect(commits.headers.get("x-total-count")).toBe("3");
    const row = await env.DB.prepare("select content from commits where id = ?").bind(idOf(merge)).first();
    expect(row?.content).toBe(new TextDecoder().decode(merge.content));
  });

  it("goes on from commits of the API, and they from it: modes stay", async () => {
    const script = blob("#!/bin/sh\n");
    const root = tree([["100755", "run.sh", idOf(script)]]);
    const pushed = commit(idOf(root), [head]);
    await push(ada, REPO, [[head, idOf(pushed), MAIN]], [pushed, root, script]);
    expect((await ada.commit(REPO, [fileLine("run.sh", "#!/bin/bash\n"), fileLine("a.txt", "a")])).status).toBe(200);
    const modes = await env.DB.prepare("select distinct mode from tree_entries where name = 'run.sh'").all();
    expect(modes.results).toEqual([{ mode: "100755" }]);
    const now = (await refsOf(ada, REPO))[MAIN] ?? "";
    const next = commit(idOf(root), [now, idOf(pushed)]);
    expect((await push(ada, REPO, [[now, idOf(next), MAIN]], [next])).refs).toEqual({ [MAIN]: "ok" });
  });

  it("is listed from its head on, whatever its clocks said", async () => {
    const { root, items } = { root: tree([["100644", "a", idOf(blob("a"))]]), items: [blob("a")] };
    const chain: Whole[] = [];
    for (const at of [1_700_000_300, 1_700_000_100, 1_700_000_200])
      chain.push(
        commit(idOf(root), chain.length === 0 ? [head] : [idOf(chain[chain.length - 1] ?? root)], `at ${at}\n`, at),
      );
    const tip = chain[2] ?? root;
    await push(ada, REPO, [[head, idOf(tip), MAIN]], [...chain, root, ...items]);
    const pages = ["?limit=2", "?limit=2&p=1"].map((page) => ada.get(`/api/models/${REPO}/commits/main${page}`));
    const listed = (await Promise.all(pages)).flatMap(({ body }) => z.array(z.object({ id: z.string() })).parse(body));
    expect(listed.map(({ id }) => id)).toEqual([...chain.map(idOf).reverse(), head]);
  });

  it("is noted in the trail, and moves what a repository says of itself", async () => {
    const { items, id } = fileCommit("a.txt", "a", [head]);
    await push(ada, REPO, [[head, id, MAIN]], items);
    const trail = await ada.get("/api/v1/audit?type=ref.moved");
    expect(JSON.stringify(trail.body)).toContain(`{"ref":"${MAIN}","oldSha":"${head}","newSha":"${id}"}`);
    expect((await anonymous.get(`/api/models/${REPO}`)).body).toMatchObject({ sha: id });
  });

  it("builds on what the repository has: deltas over its files, trees, pointers and commits", async () => {
    const base = "0123456789".repeat(30);
    const oid = await uploadLfs(ada, REPO, new Uint8Array(9).fill(3));
    const pointer = blob(encodeLfsPointer({ sha256: parseSha256(oid, "oid"), size: 9 }));
    const first = {
      file: blob(base),
      root: tree([
        ["100644", "a", idOf(blob(base))],
        ["100644", "b", idOf(pointer)],
      ]),
    };
    const start = commit(idOf(first.root), [], "start\n");
    await push(ada, REPO, [[NO_ID, idOf(start), DEV]], [start, first.root, first.file, pointer]);
    const changed = blob(`${base}!`);
    const root = tree([
      ["100644", "a", idOf(changed)],
      ["100644", "b", idOf(pointer)],
    ]);
    const next = commit(idOf(root), [idOf(start)], "next\n");
    const over = (base: Whole, made: Whole): Item => ({
      baseId: idOf(base),
      delta: deltaOf(base.content.length, made.content.length, [made.content]),
    });
    const thin = [
      over(start, next),
      over(first.root, root),
      { baseId: idOf(first.file), delta: deltaOf(300, 301, [{ from: 0, length: 300 }, "!"]) },
    ];
    const report = await push(ada, REPO, [[idOf(start), idOf(next), DEV]], thin);
    expect(report).toMatchObject({ unpack: "ok", refs: { [DEV]: "ok" } });
    expect(await text("dev/a")).toBe(`${base}!`);
    const again = { baseId: idOf(pointer), delta: deltaOf(pointer.content.length, 3, ["abc"]) };
    const other = tree([["100644", "c", idOf(blob("abc"))]]);
    const last = commit(idOf(other), [idOf(next)]);
    expect((await push(ada, REPO, [[idOf(next), idOf(last), DEV]], [last, other, again])).refs).toEqual({
      [DEV]: "ok",
    });
    expect(await text("dev/c")).toBe("abc");
  });

  it("comes compressed, in pieces, or with nothing to send", async () => {
    const { items, id } = fileCommit("a.txt", "a");
    const zipped = gzipSync(pushBody([[NO_ID, id, DEV]], packOf(items)));
    expect((await reportOf(await post(ada, REPO, zipped, { "content-encoding": "gzip" }))).refs).toEqual({
      [DEV]: "ok",
    });
    const body = pushBody([[NO_ID, id, "refs/heads/x"]], packOf([]), "report-status push-options side-band-64k");
    const options = Buffer.concat([body.subarray(0, -32), bytes("0006hi0000"), body.subarray(-32)]);
    const pieces = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < options.length; at += 7) controller.enqueue(options.subarray(at, at + 7));
        controller.close();
      },
    });
    expect((await reportOf(await post(ada, REPO, pieces))).refs).toEqual({ "refs/heads/x": "ok" });
    const probe = await post(ada, REPO, bytes("0000"));
    expect([probe.status, await probe.text()]).toEqual([200, ""]);
    // Who wants no report gets none.
    const silent = await post(ada, REPO, pushBody([[id, NO_ID, DEV]], new Uint8Array(), "delete-refs"));
    expect([silent.status, await silent.text()]).toEqual([200, ""]);
    expect(Object.keys(await refsOf(ada, REPO))).toEqual(["refs/heads/x", MAIN].sort());
  });

  it("works for datasets", async () => {
    await ada.post("/api/repos/create", { name: "rows", type: "dataset" });
    const { items, id } = fileCommit("rows.csv", "a,b\n");
    const report = await push(ada, "datasets/ada/rows", [[NO_ID, id, DEV]], items);
    expect(report.refs).toEqual({ [DEV]: "ok" });
    expect(await (await anonymous.raw("GET", "/datasets/ada/rows/resolve/dev/rows.csv")).text()).toBe("a,b\n");
  });
});

describe("refs", () => {
  let first: ReturnType<typeof fileCommit>;
  let second: ReturnType<typeof fileCommit>;
  beforeEach(() => {
    first = fileCommit("a.txt", "1");
    second = fileCommit("a.txt", "2", [first.id]);
  });

  it("are made, forced and deleted, tags with their objects", async () => {
    const tag: Whole = {
      type: "tag",
      content: bytes(`object ${first.id}\ntype commit\ntag v1\ntagger A <a@example.org> 1000000000 +0000\n\nOne\n`),
    };
    const outer: Whole = {
      type: "tag",
      content: bytes(`object ${idOf(tag)}\ntype tag\ntag v2\ntagger A <a> 1 +0000\n\nTwo\n`),
    };
    const commands = [
      [NO_ID, second.id, DEV],
      [NO_ID, idOf(tag), "refs/tags/v1"],
      [NO_ID, idOf(outer), "refs/tags/v2"],
      [NO_ID, first.id, "refs/tags/plain"],
    ] as const;
    const made = await push(ada, REPO, commands, [...first.items, ...second.items, tag, outer]);
    expect(made.refs).toEqual({ [DEV]: "ok", "refs/tags/v1": "ok", "refs/tags/v2": "ok", "refs/tags/plain": "ok" });
    expect(await refsOf(ada, REPO)).toMatchObject({ "refs/tags/v1": idOf(tag), "refs/tags/v2": idOf(outer) });
    expect(await text("v1/a.txt")).toBe("1");
    expect(await text("v2/a.txt")).toBe("1");
    const moved = [
      [second.id, first.id, DEV],
      [idOf(tag), NO_ID, "refs/tags/v1"],
      [NO_ID, idOf(outer), "refs/tags/again"],
    ] as const;
    expect((await push(ada, REPO, moved, [])).refs).toEqual({
      [DEV]: "ok",
      "refs/tags/v1": "ok",
      "refs/tags/again": "ok",
    });
    expect(await text("dev/a.txt")).toBe("1");
    expect(await text("again/a.txt")).toBe("1");
    expect(await refsOf(ada, REPO)).not.toHaveProperty("refs/tags/v1");
  });

  it("are refused, each with a reason, and stay as they were", async () => {
    const before = await refsOf(ada, REPO);
    const cases = [
      [head, NO_ID, MAIN, "main can't be deleted"],
      [NO_ID, first.id, "refs/heads/main/x", "refs/heads/main stands in its way"],
      [NO_ID, first.id, "refs/heads/a..b", "this hub keeps"],
      [NO_ID, first.id, "refs/convert/parquet", "this hub keeps"],
      [NO_ID, first.id, "HEAD", "this hub keeps"],
      [NO_ID, first.id, "refs/pr/9", "there is no such pull request"],
      [first.id, second.id, "refs/heads/gone", "it is gone: fetch first"],
      [NO_ID, first.id, MAIN, "it exists already: fetch first"],
      [first.id, second.id, MAIN, "fetch first"],
      [NO_ID, NO_ID, "refs/heads/none", "there is no such ref"],
      [NO_ID, "1".repeat(40), DEV, "leads to no commit"],
      [NO_ID, idOf(first.root), DEV, "leads to no commit"],
    ] as const;
    for (const [from, to, ref, reason] of cases) {
      const report = await push(ada, REPO, [[from, to, ref]], [...first.items, ...second.items]);
      expect(report).toMatchObject({ unpack: "ok", refs: { [ref]: expect.stringContaining(reason) } });
    }
    const twice = [
      [NO_ID, first.id, DEV],
      [NO_ID, second.id, DEV],
    ] as const;
    expect((await push(ada, REPO, twice, second.items)).refs[DEV]).toContain("more than once");
    expect(await refsOf(ada, REPO)).toEqual(before);
    // git could not fetch both, so the API does not make them either.
    expect((await ada.post(`/api/models/${REPO}/branch/main%2Fx`, {})).status).toBe(400);
    expect((await ada.post(`/api/models/${REPO}/branch/a%2Fb`, {})).status).toBe(200);
    expect((await ada.post(`/api/models/${REPO}/branch/a`, {})).status).toBe(400);
  });

  it("stand or fall together where the push is atomic, each alone where it is not", async () => {
    const commands = [
      [NO_ID, first.id, DEV],
      [first.id, NO_ID, MAIN],
    ] as const;
    const body = (capabilities: string) => pushBody(commands, packOf(first.items), capabilities);
    const atomic = await reportOf(await post(ada, REPO, body(`${CAPABILITIES} atomic`)));
    expect(atomic.refs).toEqual({ [DEV]: expect.stringContaining("atomic"), [MAIN]: "main can't be deleted" });
    expect(await refsOf(ada, REPO)).toEqual({ [MAIN]: head });
    const alone = await reportOf(await post(ada, REPO, body(CAPABILITIES)));
    expect(alone.refs).toEqual({ [DEV]: "ok", [MAIN]: "main can't be deleted" });
  });

  it("of pull requests take commits from who opened them, and tell it in the discussion", async () => {
    const bob = await user(admin, "bob");
    const opened = await bob.post(`/api/models/${REPO}/discussions`, {
      title: "Mine",
      description: "d",
      pullRequest: true,
    });
    expect(opened.status).toBe(201);
    const next = fileCommit("b.txt", "b", [head]);
    expect((await push(bob, REPO, [[head, next.id, "refs/pr/1"]], next.items)).refs).toEqual({ "refs/pr/1": "ok" });
    expect((await push(bob, REPO, [[head, next.id, MAIN]], next.items)).refs[MAIN]).toContain("do not have the right");
    expect((await bob.get(`/api/models/${REPO}/discussions/1`)).text).toContain(next.id);
    const carl = await user(admin, "carl");
    expect((await push(carl, REPO, [[next.id, head, "refs/pr/1"]], [])).refs["refs/pr/1"]).toContain("only the author");
    expect((await push(ada, REPO, [[next.id, NO_ID, "refs/pr/1"]], [])).refs["refs/pr/1"]).toContain(
      "can't be deleted",
    );
  });
});

describe("who may push", () => {
  it("is asked before anything is read", async () => {
    const { items, id } = fileCommit("a.txt", "a");
    const body = pushBody([[NO_ID, id, DEV]], packOf(items));
    const asked = await anonymous.raw("GET", `/${REPO}/info/refs?service=git-receive-pack`);
    expect(asked.status).toBe(401);
    expect(asked.headers.get("www-authenticate")).toMatch(/^Basic /);
    expect((await post(anonymous, REPO, body)).status).toBe(401);
    const reader = await user(admin, "ada", "read");
    expect((await post(reader, REPO, body)).status).toBe(403);
    const bob = await user(admin, "bob");
    expect((await reportOf(await post(bob, REPO, body))).refs[DEV]).toContain("do not have the right");
    await ada.post("/api/repos/create", { name: "secret", private: true });
    expect((await post(bob, "ada/secret", body)).status).toBe(404);
    expect((await post(anonymous, "ada/secret", body)).status).toBe(401);
    const basic = { authorization: `Basic ${btoa(`anyone:${ada.token}`)}` };
    expect((await reportOf(await post(anonymous, REPO, body, basic))).refs).toEqual({ [DEV]: "ok" });
  });

  it("is told when a request is no push", async () => {
    for (const body of [
      "",
      "zzzz",
      "0005",
      "000ahello\n0000",
      "0001",
      "ffff",
      "0032want 1111111111111111111111111111111111111111\n0000",
    ]) {
      const response = await post(ada, REPO, bytes(body));
      expect([body, response.status]).toEqual([body, 400]);
    }
    expect((await post(ada, REPO, bytes("0000"), { "content-encoding": "br" })).status).toBe(400);
  });
});
