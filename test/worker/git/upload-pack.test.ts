// Fetching as git speaks it over HTTP: who may, what is advertised, what a pack holds, and what is answered to nonsense.
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { administrator, anonymous, Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { command, gitAnswer, pkts, type Unpacked, unpack, uploadPack } from "../../kit/git-protocol";

// Each test makes its repositories by a dozen requests, on machines that may be busy.
vi.setConfig({ testTimeout: 30_000, hookTimeout: 30_000 });

const REPO = "ada/digits";
const SECRET = "ada/secret";
const Sha = z.object({ sha: z.string() });
const Tree = z.array(z.object({ type: z.string(), path: z.string(), oid: z.string() }));
const Committed = z.object({ commitOid: z.string() });

let ada: Client;
let bob: Client;
const commits: string[] = [];
const head = (): string => commits.at(-1) ?? "";

const commit = async (path: string, content: string): Promise<string> => {
  const answer = await ada.commit(REPO, [fileLine(path, content)]);
  return Committed.parse(answer.body).commitOid;
};

beforeEach(async () => {
  commits.length = 0;
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.post("/api/repos/create", { name: "secret", private: true });
  await ada.post("/api/repos/create", { name: "numbers", type: "dataset" });
  commits.push(Sha.parse((await ada.get(`/api/models/${REPO}`)).body).sha);
  commits.push(await commit("a/b/one.txt", "one\n"));
  commits.push(await commit("a/two.txt", "two\n"));
  const oid = await uploadLfs(ada, REPO, new Uint8Array(5000).fill(7));
  const lfs = await ada.commit(REPO, [lfsLine("weights.bin", oid, 5000), fileLine("a/b/one.txt", "one, changed\n")]);
  commits.push(Committed.parse(lfs.body).commitOid);
  await ada.post(`/api/models/${REPO}/tag/main`, { tag: "v1" });
  await ada.post(`/api/models/${REPO}/branch/side`, { startingPoint: commits[1] });
});

const fetchPack = (args: readonly string[], who = anonymous) => uploadPack(who, REPO, command("fetch", args));
const ids = (objects: readonly Unpacked[], type: string): string[] =>
  objects.filter((one) => one.type === type).map(({ id }) => id);

/** Everything below a commit, as the API tells it. */
async function apiObjects(revision: string) {
  const { body } = await ada.get(`/api/models/${REPO}/tree/${revision}?recursive=true`);
  return Tree.parse(body).map(({ oid }) => oid);
}

describe("who may fetch", () => {
  const refs = (path: string, who: Client, service = "git-upload-pack") =>
    who.raw("GET", `/${path}/info/refs?service=${service}`, { headers: { "git-protocol": "version=2" } });

  it("anybody what is public, by every address", async () => {
    for (const path of [REPO, `${REPO}.git`, "datasets/ada/numbers", "datasets/ada/numbers.git", "ADA/Digits"]) {
      const response = await refs(path, anonymous);
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe("application/x-git-upload-pack-advertisement");
      expect(response.headers.get("cache-control")).toContain("no-cache");
      expect((await gitAnswer(response)).lines).toEqual([
        "version 2",
        expect.stringMatching(/^agent=/),
        "ls-refs=unborn",
        expect.stringMatching(/^fetch=.*shallow.*filter/),
        "object-format=sha1",
        "0000",
      ]);
    }
  });

  it("a token as the password of HTTP Basic opens what is private, to those who may", async () => {
    const basic = (client: Client) => {
      const authorization = `Basic ${btoa(`anyone:${client.token}`)}`;
      return anonymous.raw("GET", `/${SECRET}/info/refs?service=git-upload-pack`, { headers: { authorization } });
    };
    expect((await basic(ada)).status).toBe(200);
    expect((await basic(bob)).status).toBe(404);
  });

  it("who shows no token is asked for one, and not told whether there is such a repository", async () => {
    for (const path of [SECRET, "ada/nothing", "nobody/nothing", "datasets/ada/digits"]) {
      const response = await refs(path, anonymous);
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toMatch(/^Basic realm="/);
      expect((await refs(path, bob)).status).toBe(404);
    }
  });

  it("a wrong token is no token", async () => {
    const response = await refs(REPO, new Client("hf_wrong"));
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toMatch(/^Basic realm="/);
    expect(response.headers.get("content-type")).toContain("text/plain");
  });

  it("the pack is refused as the refs are", async () => {
    const wanted = command("fetch", [`want ${head()}`, "done"]);
    expect((await uploadPack(anonymous, SECRET, wanted)).status).toBe(401);
    expect((await uploadPack(bob, SECRET, wanted)).status).toBe(404);
  });

  it("the protocol of before smart HTTP is refused with the reason", async () => {
    const response = await anonymous.raw("GET", `/${REPO}/info/refs`);
    expect(response.status).toBe(400);
    expect(await response.text()).toContain("smart HTTP");
  });
});

describe("ls-refs", () => {
  const lsRefs = async (args: readonly string[]) => (await uploadPack(anonymous, REPO, command("ls-refs", args))).lines;

  it("tells all refs, and what HEAD stands for", async () => {
    expect(await lsRefs(["peel", "symrefs"])).toEqual([
      `${head()} HEAD symref-target:refs/heads/main`,
      `${head()} refs/heads/main`,
      `${commits[1]} refs/heads/side`,
      `${head()} refs/tags/v1`,
      "0000",
    ]);
  });

  it("tells only what was asked for", async () => {
    expect(await lsRefs(["ref-prefix refs/tags/", "ref-prefix HEAD"])).toEqual([
      `${head()} HEAD`,
      `${head()} refs/tags/v1`,
      "0000",
    ]);
    expect(await lsRefs(["ref-prefix refs/nothing"])).toEqual(["0000"]);
  });
});

describe("a clone", () => {
  it("holds every object of the history once, under the ids that the API tells", async () => {
    const answer = await fetchPack([`want ${head()}`, "ofs-delta", "thin-pack", "done"]);
    expect(answer.lines).toEqual(["packfile", "0000"]);
    const objects = unpack(answer.pack);
    expect(answer.progress).toContain(`Enumerating objects: ${objects.length}, done.`);
    expect(ids(objects, "commit").sort()).toEqual(commits.toSorted());
    const told = new Set((await Promise.all(commits.map(apiObjects))).flat());
    const sent = objects.map(({ id }) => id);
    expect(new Set(sent).size).toBe(sent.length);
    // All but the root trees, which the API does not list.
    expect([...told].filter((id) => !sent.includes(id))).toEqual([]);
    expect(sent.length).toBe(told.size + 2 * commits.length);
    const pointer = objects.find(({ content }) => content.includes("oid sha256:"));
    expect(pointer?.content.toString()).toMatch(
      /^version https:\/\/git-lfs[^\n]*\noid sha256:[0-9a-f]{64}\nsize 5000\n$/,
    );
  });

  it("is noted in the trail once, and a request for nothing is not", async () => {
    await fetchPack([`want ${head()}`, `have ${head()}`, "done"]);
    await fetchPack([`want ${head()}`, "done"]);
    await runInDurableObject(env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")), (buffer) => buffer.flush());
    const rows = await env.DB.prepare("select data from events where type = 'content.used'").all();
    expect(rows.results.map(({ data }) => JSON.parse(String(data)))).toEqual([{ via: "git", commit: head() }]);
  });

  it("without progress says nothing but the pack", async () => {
    expect((await fetchPack([`want ${head()}`, "no-progress", "done"])).progress).toBe("");
  });

  it("takes a request that is compressed", async () => {
    const body = new Blob([command("fetch", [`want ${head()}`, "done"])]).stream();
    const gzipped = new Uint8Array(await new Response(body.pipeThrough(new CompressionStream("gzip"))).arrayBuffer());
    const answer = await uploadPack(anonymous, REPO, gzipped, { "content-encoding": "gzip" });
    expect(unpack(answer.pack).length).toBeGreaterThan(0);
    const cut = await uploadPack(anonymous, REPO, gzipped.subarray(0, 40), { "content-encoding": "gzip" });
    expect(cut.status).toBe(400);
    expect((await uploadPack(anonymous, REPO, gzipped, { "content-encoding": "br" })).status).toBe(400);
  });
});

describe("a fetch", () => {
  it("sends what was added since, and nothing else", async () => {
    const answer = await fetchPack([`want ${head()}`, `have ${commits[2]}`, "done"]);
    const objects = unpack(answer.pack);
    expect(ids(objects, "commit")).toEqual([head()]);
    // The root, a and a/b; the file, .gitattributes if it changed, the pointer.
    expect(ids(objects, "tree")).toHaveLength(3);
    expect(objects.filter(({ type }) => type === "blob").map(({ content }) => content.toString())).toEqual(
      expect.arrayContaining(["one, changed\n", expect.stringContaining("size 5000")]),
    );
    expect(objects.map(({ content }) => content.toString())).not.toContain("two\n");
  });

  it("tells what is in common, and begins when that is enough", async () => {
    const unknown = "1".repeat(40);
    expect((await fetchPack([`want ${head()}`, `have ${unknown}`])).lines).toEqual(["acknowledgments", "NAK", "0000"]);
    const ready = await fetchPack([`want ${head()}`, `have ${unknown}`, `have ${commits[1]}`]);
    expect(ready.lines).toEqual(["acknowledgments", `ACK ${commits[1]}`, "ready", "0001", "packfile", "0000"]);
    expect(ids(unpack(ready.pack), "commit").sort()).toEqual(commits.slice(2).sort());
    const waiting = await fetchPack([`want ${head()}`, `have ${commits[1]}`, "wait-for-done"]);
    expect(waiting.lines).toEqual(["acknowledgments", `ACK ${commits[1]}`, "0000"]);
  });

  it("sends an empty pack to who has all of it", async () => {
    expect(unpack((await fetchPack([`want ${head()}`, `have ${head()}`, "done"])).pack)).toEqual([]);
  });

  it("takes a hundred thousand haves", async () => {
    const haves = Array.from({ length: 100_000 }, (_, i) => `have ${i.toString(16).padStart(40, "0")}`);
    const answer = await fetchPack([`want ${head()}`, ...haves, `have ${commits[2]}`, "done"]);
    expect(ids(unpack(answer.pack), "commit")).toEqual([head()]);
    const endless = await uploadPack(anonymous, REPO, "x".repeat(9 << 20));
    expect(endless.status).toBe(413);
  });
});

describe("a shallow history", () => {
  it("ends where it was asked to, and goes on when it is deepened", async () => {
    const first = await fetchPack([`want ${head()}`, "deepen 1", "done"]);
    expect(first.lines).toEqual(["shallow-info", `shallow ${head()}`, "0001", "packfile", "0000"]);
    const objects = unpack(first.pack);
    expect(ids(objects, "commit")).toEqual([head()]);
    const told = await apiObjects(head());
    expect(objects.map(({ id }) => id).filter((id) => told.includes(id))).toHaveLength(new Set(told).size);
    const client = [`want ${head()}`, `shallow ${head()}`, `have ${head()}`];
    const deeper = await fetchPack([...client, "deepen 1", "deepen-relative", "done"]);
    expect(deeper.lines.slice(0, 3)).toEqual(["shallow-info", `shallow ${commits[2]}`, `unshallow ${head()}`]);
    expect(ids(unpack(deeper.pack), "commit")).toEqual([commits[2]]);
    const whole = await fetchPack([...client, "deepen 2147483647", "done"]);
    expect(whole.lines.slice(0, 2)).toEqual(["shallow-info", `unshallow ${head()}`]);
    expect(ids(unpack(whole.pack), "commit").sort()).toEqual(commits.slice(0, -1).sort());
  });

  it("begins at a date, or behind a ref", async () => {
    const behind = await fetchPack([`want ${head()}`, "deepen-not side", "done"]);
    expect(behind.lines.slice(0, 2)).toEqual(["shallow-info", `shallow ${commits[2]}`]);
    expect(ids(unpack(behind.pack), "commit").sort()).toEqual(commits.slice(2).sort());
    const all = await fetchPack([`want ${head()}`, "deepen-since 1", "done"]);
    expect(all.lines.slice(0, 2)).toEqual(["shallow-info", "0001"]);
    const none = await fetchPack([`want ${head()}`, "deepen-since 99999999999", "done"]);
    expect(none.lines).toEqual([expect.stringMatching(/^ERR .*no commits selected/)]);
  });
});

describe("a partial clone", () => {
  const COUNTS = [
    ["blob:none", { commit: 4, tree: 9, blob: 0 }],
    ["tree:0", { commit: 4, tree: 0, blob: 0 }],
    ["tree:1", { commit: 4, tree: 4, blob: 0 }],
    ["combine:blob:none+tree:1", { commit: 4, tree: 4, blob: 0 }],
  ] as const;

  it("leaves out what its filter says", async () => {
    for (const [filter, expected] of COUNTS) {
      const objects = unpack((await fetchPack([`want ${head()}`, `filter ${filter}`, "done"])).pack);
      const count = (type: string): number => ids(objects, type).length;
      expect({ commit: count("commit"), tree: count("tree"), blob: count("blob") }, filter).toEqual(expected);
    }
  });

  it("keeps blobs below a size, pointers by the size they have in git", async () => {
    const objects = unpack((await fetchPack([`want ${head()}`, "filter blob:limit=200", "done"])).pack);
    const blobs = objects.filter(({ type }) => type === "blob").map(({ content }) => content);
    expect(blobs.some((content) => content.includes("size 5000"))).toBe(true);
    expect(Math.max(...blobs.map(({ length }) => length))).toBeLessThan(200);
    const less = unpack((await fetchPack([`want ${head()}`, "filter blob:limit=129", "done"])).pack);
    expect(less.some(({ content }) => content.includes("size 5000"))).toBe(false);
  });

  it("fetches by id what it lacks: a blob alone, a tree with what is below", async () => {
    const { body } = await ada.get(`/api/models/${REPO}/tree/${head()}`);
    const entry = (path: string): string => Tree.parse(body).find((one) => one.path === path)?.oid ?? "";
    const blob = unpack((await fetchPack([`want ${entry("weights.bin")}`, "filter blob:none", "done"])).pack);
    expect(ids(blob, "blob")).toEqual([entry("weights.bin")]);
    expect(blob).toHaveLength(1);
    const tree = unpack((await fetchPack([`want ${entry("a")}`, "filter tree:0", "done"])).pack);
    expect(ids(tree, "tree")).toEqual([entry("a")]);
    const below = unpack((await fetchPack([`want ${entry("a")}`, "filter blob:none", "done"])).pack);
    expect(below.map(({ type }) => type)).toEqual(["tree", "tree"]);
  });
});

describe("protocol 0", () => {
  const plain = (body: string) => uploadPack(anonymous, REPO, body, { "git-protocol": "" });

  it("advertises refs with its capabilities", async () => {
    const answer = await gitAnswer(await anonymous.raw("GET", `/${REPO}/info/refs?service=git-upload-pack`));
    expect(answer.lines.slice(0, 2)).toEqual(["# service=git-upload-pack", "0000"]);
    const [first = "", ...rest] = answer.lines.slice(2);
    expect(first.split("\0")[0]).toBe(`${head()} HEAD`);
    expect(first).toContain("multi_ack_detailed");
    expect(rest).toEqual([
      `${head()} refs/heads/main`,
      `${commits[1]} refs/heads/side`,
      `${head()} refs/tags/v1`,
      "0000",
    ]);
  });

  it("sends a pack, in bands or bare", async () => {
    const banded = await plain(pkts([`want ${head()} side-band-64k ofs-delta`, "0000", "done"]));
    expect(banded.lines).toEqual(["NAK", "0000"]);
    const bare = await plain(pkts([`want ${head()}`, "0000", "done"]));
    expect(bare.lines).toEqual(["NAK"]);
    expect(
      unpack(bare.pack)
        .map(({ id }) => id)
        .sort(),
    ).toEqual(
      unpack(banded.pack)
        .map(({ id }) => id)
        .sort(),
    );
    const small = await plain(pkts([`want ${head()} side-band`, "0000", "done"]));
    expect(unpack(small.pack)).toHaveLength(unpack(bare.pack).length);
  });

  it("negotiates", async () => {
    const want = `want ${head()} multi_ack_detailed no-done side-band-64k`;
    const none = await plain(pkts([want, "0000", `have ${"1".repeat(40)}`, "0000"]));
    expect(none.lines).toEqual(["NAK"]);
    const ready = await plain(pkts([want, "0000", `have ${commits[2]}`, "0000"]));
    const acks = [`ACK ${commits[2]} common`, `ACK ${commits[2]} ready`, "NAK", `ACK ${commits[2]}`, "0000"];
    expect(ready.lines).toEqual(acks);
    expect(ids(unpack(ready.pack), "commit")).toEqual([head()]);
    const shallow = await plain(pkts([want, "deepen 1", "0000"]));
    expect(shallow.lines).toEqual([`shallow ${head()}`, "0000"]);
  });
});

describe("nonsense", () => {
  const unknown = "2".repeat(40);
  const BODIES: readonly (readonly [what: string, body: string | Uint8Array])[] = [
    ["no length", "zzzz"],
    ["a length that is none", "0003"],
    ["a line cut off", "00ffwant"],
    ["no flush at the end", pkts(["command=fetch", "0001", `want ${unknown}`])],
    ["no command", pkts(["agent=x", "0001", "0000"])],
    ["two commands", pkts(["command=fetch", "command=ls-refs", "0000"])],
    ["an unknown command", command("object-info", ["size"])],
    ["another hash", pkts(["command=fetch", "object-format=sha256", "0001", "0000"])],
    ["a want that is no id", command("fetch", ["want main", "done"])],
    ["an unknown argument", command("fetch", ["want-everything"])],
    ["a depth of nothing", command("fetch", [`want ${unknown}`, "deepen 0"])],
    ["a depth and a date", command("fetch", [`want ${unknown}`, "deepen 1", "deepen-since 1"])],
    ["an unknown filter", command("fetch", [`want ${unknown}`, "filter sparse:oid=x"])],
    ["an id of nothing", command("fetch", [`want ${unknown}`, "done"])],
    ["text that is not UTF-8", new Uint8Array([0x30, 0x30, 0x30, 0x36, 0xff, 0xfe])],
  ];

  it("is answered by an error of the protocol, in every version", async () => {
    const stop = command("fetch", [`want ${head()}`, "deepen-not nothing", "done"]);
    for (const [what, body] of [...BODIES, ["an unknown ref to stop at", stop] as const])
      for (const version of ["version=2", "version=1", ""]) {
        const answer = await uploadPack(anonymous, REPO, body, { "git-protocol": version });
        expect({ status: answer.status, lines: answer.lines }, `${what}, ${version}`).toEqual({
          status: 200,
          lines: [expect.stringMatching(/^ERR upload-pack: /)],
        });
      }
  });

  it("an object of another repository is not ours", async () => {
    const secret = Committed.parse((await ada.commit(SECRET, [fileLine("secret.txt", "secret")])).body).commitOid;
    expect((await fetchPack([`want ${secret}`, "done"], ada)).lines).toEqual([
      `ERR upload-pack: not our ref ${secret}`,
    ]);
  });

  it("a request for nothing is answered with nothing", async () => {
    for (const body of ["", "0000", command("fetch", ["done"])])
      expect(await uploadPack(anonymous, REPO, body)).toMatchObject({ status: 200, lines: [] });
  });
});
