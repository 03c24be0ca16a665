// Repositories as a whole: duplicates of them, histories squashed to one commit, and what a namespace owns.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { digestOf } from "../../kit/upkeep";

const REPO = "ada/digits";
const API = `/api/models/${REPO}`;
const BYTES = new TextEncoder().encode("some weights");
const OID = digestOf(BYTES);

let admin: Client;
let ada: Client;
let bob: Client;

const Commits = z.array(z.object({ id: z.string(), title: z.string() }));
const commits = async (revision: string, api = API, by = ada) =>
  Commits.parse((await by.get(`${api}/commits/${encodeURIComponent(revision)}`)).body);
const Refs = z.object({
  branches: z.array(z.object({ name: z.string(), targetCommit: z.string() })),
  tags: z.array(z.object({ name: z.string(), targetCommit: z.string() })),
  pullRequests: z.array(z.object({ ref: z.string() })).default([]),
});
const refs = async (api = API) => Refs.parse((await ada.get(`${api}/refs?include_prs=true`)).body);
const tree = async (revision: string, api = API, by = ada) =>
  (await by.get(`${api}/tree/${encodeURIComponent(revision)}?recursive=true`)).body;

beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
  await uploadLfs(ada, REPO, BYTES);
  await ada.commit(REPO, [fileLine("deep/a.txt", "a"), lfsLine("w.bin", OID, BYTES.length)], { summary: "one" });
  await ada.post(`${API}/tag/main`, { tag: "v1" });
  await ada.post(`${API}/branch/side`, {});
  await ada.commit(REPO, [fileLine("b.txt", "b")], { summary: "two", branch: "side" });
  await bob.post(`${API}/discussions`, { title: "a draft", description: "why", pullRequest: true });
  await bob.commit(REPO, [fileLine("proposed.txt", "p")], { summary: "proposal", branch: "refs/pr/1" });
});

describe("creating repositories, branches and tags", () => {
  it("says where the repository is that has the name, in any case, and what it does not do", async () => {
    for (const body of [
      { name: "digits" },
      { name: "Digits", organization: "ADA" },
      { name: "ada/digits", type: "model" },
    ])
      expect(await ada.post("/api/repos/create", body)).toMatchObject({
        status: 409,
        body: { url: expect.stringMatching(/^http:\/\/hub\.test\/ada\/digits$/i) },
      });
    expect((await bob.post("/api/repos/create", { name: "x", organization: "ada" })).status).toBe(403);
    expect((await ada.post("/api/repos/create", { name: "x", resourceGroupId: "g" })).body).toMatchObject({
      field: "resourceGroupId",
    });
    expect((await ada.post("/api/repos/create", { name: "x", type: "space" })).body).toMatchObject({ field: "type" });
    expect((await ada.post(`${API}/resource-group`, { resourceGroupId: "g" })).status).toBe(400);
    expect((await ada.send("DELETE", "/api/repos/delete", { name: "nothing" })).headers.get("x-error-code")).toBe(
      "RepoNotFound",
    );
  });

  it("refuses names that mean something else, and takes those that only look alike", async () => {
    const [head] = await commits("main");
    for (const name of ["refs/pr/5", "refs/heads/x", "HEAD", head?.id ?? "", "a b", "a..b", "x.lock"]) {
      const branch = await ada.post(`${API}/branch/${encodeURIComponent(name)}`, {});
      expect([name, branch.status, branch.text]).toEqual([
        name,
        400,
        expect.stringContaining("Invalid reference for a branch"),
      ]);
      expect([name, (await ada.post(`${API}/tag/main`, { tag: name })).status]).toEqual([name, 400]);
    }
    expect((await ada.post(`${API}/branch/v1`, {})).status).toBe(200);
    expect((await ada.post(`${API}/branch/v1`, {})).text).toContain("Reference refs/heads/v1 already exists");
    expect((await ada.post(`${API}/tag/${head?.id.slice(0, 7)}`, { tag: "short" })).status).toBe(200);
    expect((await ada.post(`${API}/branch/from-short`, { startingPoint: head?.id.slice(0, 7) })).status).toBe(200);
    expect((await ada.post(`${API}/branch/new`, { startingPoint: "nowhere" })).headers.get("x-error-code")).toBe(
      "RevisionNotFound",
    );
    expect((await ada.send("DELETE", `${API}/branch/main`)).text).toContain("Cannot delete refs/heads/main");
    expect((await ada.send("DELETE", `${API}/branch/short`)).text).toContain("Invalid rev id");
    expect((await ada.send("DELETE", `${API}/tag/nothing`)).headers.get("x-error-code")).toBe("RevisionNotFound");
    const odd = { files: [{ path: "..\\ddd", size: 1, sample: "" }] };
    expect((await ada.post(`${API}/preupload/main`, odd)).status).toBe(422);
  });
});

describe("super-squash", () => {
  const squash = (ref: string, message: unknown = "all of it", by = ada) =>
    by.post(`${API}/super-squash/${encodeURIComponent(ref)}`, { message });

  it("makes one commit without a parent of a branch or a pull request, with the files that it has", async () => {
    for (const ref of ["main", "side", "refs/pr/1"]) {
      const before = await tree(ref);
      expect([ref, (await squash(ref)).body]).toEqual([ref, {}]);
      expect((await commits(ref)).map(({ title }) => title)).toEqual(["all of it"]);
      expect(await tree(ref)).toEqual(before);
    }
    expect((await commits("v1")).length).toBe(2);
    expect((await ada.commit(REPO, [fileLine("c.txt", "c")])).status).toBe(200);
    expect(await commits("main")).toHaveLength(2);
    const rows = await env.DB.prepare("select parents from commits where message = 'all of it\n'").all();
    expect(rows.results).toEqual([{ parents: "[]" }, { parents: "[]" }, { parents: "[]" }]);
  });

  it("has a message when none is sent", async () => {
    await squash("main", null);
    expect((await commits("main")).map(({ title }) => title)).toEqual(["Super-squash branch 'main'"]);
  });

  it("is refused for tags, commits and what is not there, and to who may not push", async () => {
    const [head] = await commits("main");
    for (const [ref, status] of [
      ["v1", 400],
      ["refs/tags/v1", 400],
      [head?.id ?? "", 400],
      ["nowhere", 404],
      ["refs/pr/9", 404],
      ["a..b", 404],
    ] as const)
      expect([ref, (await squash(ref)).status]).toEqual([ref, status]);
    expect((await squash("main", "x", bob)).status).toBe(403);
    expect((await squash("main", "x", anonymous)).status).toBe(401);
    expect((await squash("refs/pr/1", "x", bob)).status).toBe(200);
  });

  it("and commits at the same time lose nothing", async () => {
    const answers = await Promise.all([
      squash("main"),
      ada.commit(REPO, [fileLine("x.txt", "x")]),
      squash("main"),
      ada.commit(REPO, [fileLine("y.txt", "y")]),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    for (const path of ["x.txt", "y.txt", "deep/a.txt"])
      expect((await anonymous.get(`/${REPO}/resolve/main/${path}`)).status).toBe(200);
  });
});

describe("duplicating a repository", () => {
  const duplicate = (body: unknown, by = bob, api = API) => by.post(`${api}/duplicate`, body);

  it("gives the same commits under the same ids, with their bytes, and nothing of its pull requests", async () => {
    const answer = await duplicate({ repository: "bob/copy" });
    expect(answer).toMatchObject({ status: 200, body: { url: "http://hub.test/bob/copy", filesCopyPending: false } });
    const copy = "/api/models/bob/copy";
    const [original, made] = [await refs(), await refs(copy)];
    expect(made).toEqual({ ...original, pullRequests: [] });
    for (const revision of ["main", "side", "v1"]) {
      expect(await commits(revision, copy)).toEqual(await commits(revision));
      expect(await tree(revision, copy)).toEqual(await tree(revision));
    }
    expect((await anonymous.get("/bob/copy/resolve/main/w.bin")).text).toBe("some weights");
    expect((await anonymous.get("/bob/copy/resolve/refs%2Fpr%2F1/proposed.txt")).status).toBe(404);
    // It is its own from here on: the original may go.
    await ada.send("DELETE", "/api/repos/delete", { name: "digits" });
    expect((await anonymous.get("/bob/copy/resolve/v1/w.bin")).text).toBe("some weights");
    expect((await bob.commit("bob/copy", [fileLine("own.txt", "own")])).status).toBe(200);
    expect((await anonymous.get("/api/models?author=bob")).body).toMatchObject([{ id: "bob/copy" }]);
  });

  it("is as open as the original unless it is said otherwise, and keeps its gate", async () => {
    await ada.send("PUT", `${API}/settings`, { private: true });
    expect((await duplicate({ repository: "ada/hidden" }, ada)).status).toBe(200);
    expect((await anonymous.get("/api/models/ada/hidden")).status).toBe(401);
    await duplicate({ repository: "ada/shown", visibility: "public" }, ada);
    expect((await anonymous.get("/ada/shown/resolve/main/w.bin")).text).toBe("some weights");
    await ada.send("PUT", `${API}/settings`, { private: false, gated: "manual" });
    await duplicate({ repository: "ada/gated" }, ada);
    expect((await anonymous.get("/api/models/ada/gated")).body).toMatchObject({ gated: "manual" });
    expect((await anonymous.get("/ada/gated/resolve/main/w.bin")).headers.get("x-error-code")).toBe("GatedRepo");
  });

  it("needs the files of the one and the right to create the other", async () => {
    expect((await duplicate({ repository: "ada/copy" })).status).toBe(403);
    expect((await duplicate({ repository: "bob/copy" }, anonymous)).status).toBe(401);
    expect(await duplicate({ repository: "copy" })).toMatchObject({ status: 422, body: { field: "repository" } });
    expect((await duplicate({ repository: "bob/copy" }, bob, "/api/models/ada/nothing")).status).toBe(404);
    await ada.send("PUT", `${API}/settings`, { gated: "auto" });
    expect((await duplicate({ repository: "bob/copy" })).headers.get("x-error-code")).toBe("GatedRepo");
    await ada.send("PUT", `${API}/settings`, { gated: false, private: true });
    expect((await duplicate({ repository: "bob/copy" })).status).toBe(404);
  });

  it("says where the repository is that has the name already, and makes one of several at once", async () => {
    const statuses = (await Promise.all([1, 2, 3].map(() => duplicate({ repository: "bob/copy" })))).map(
      ({ status }) => status,
    );
    expect(statuses.sort()).toEqual([200, 409, 409]);
    expect(await duplicate({ repository: "bob/copy" })).toMatchObject({
      status: 409,
      body: { url: "http://hub.test/bob/copy" },
    });
  });
});

describe("what a namespace owns", () => {
  const Owned = z.array(
    z.strictObject({
      id: z.string(),
      type: z.string(),
      updatedAt: z.iso.datetime(),
      visibility: z.string(),
      storage: z.number(),
      storagePercent: z.number(),
    }),
  );

  it("is told to its own people, with the room that it takes", async () => {
    await ada.post("/api/repos/create", { name: "data", type: "dataset", private: true });
    const all = Owned.parse((await ada.get("/api/settings/repositories")).body);
    expect(all).toMatchObject([
      { id: REPO, type: "model", visibility: "public" },
      { id: "ada/data", type: "dataset", visibility: "private" },
    ]);
    expect(all[0]?.storage).toBeGreaterThan(BYTES.length);
    expect(all.reduce((sum, { storagePercent }) => sum + storagePercent, 0)).toBeCloseTo(100);
    const first = await ada.get("/api/settings/repositories?limit=1");
    expect(first.headers.get("link")).toContain("cursor=");
    expect((await bob.get("/api/settings/repositories")).body).toEqual([]);
    expect((await anonymous.get("/api/settings/repositories")).status).toBe(401);
  });

  it("is not told of organizations to others", async () => {
    await ada.post("/api/v1/organizations", { name: "lab" });
    await ada.post("/api/repos/create", { name: "x", organization: "lab", private: true });
    const path = "/api/organizations/lab/settings/repositories";
    expect((await ada.get(path)).body).toMatchObject([{ id: "lab/x" }]);
    expect((await bob.get(path)).status).toBe(403);
    expect((await anonymous.get(path)).status).toBe(401);
    expect((await ada.get("/api/organizations/nobody/settings/repositories")).status).toBe(404);
  });
});
