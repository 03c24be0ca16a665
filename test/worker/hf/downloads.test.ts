// Downloads and listings as clients read them: headers, ranges, pages, and what a stranger may not see.
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";

const REPO = "ada/digits";
let admin: Client;
let ada: Client;
let commitOid: string;
let oid: string;
const CONTENT = new TextEncoder().encode("0123456789");

beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "digits" });
  oid = await uploadLfs(ada, REPO, CONTENT);
  const answer = await ada.commit(REPO, [lfsLine("model.safetensors", oid), fileLine("config.json", "{}")]);
  commitOid = z.object({ commitOid: z.string() }).parse(answer.body).commitOid;
});

const file = (headers: Record<string, string> = {}, method = "GET") =>
  anonymous.raw(method, `/${REPO}/resolve/main/model.safetensors`, { headers });

describe("resolve", () => {
  it("carries what clients cache by, on GET and HEAD alike", async () => {
    for (const method of ["GET", "HEAD"]) {
      const response = await file({}, method);
      expect(response.status).toBe(200);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "x-repo-commit": commitOid,
        etag: `"${oid}"`,
        "x-linked-etag": `"${oid}"`,
        "x-linked-size": "10",
        "content-length": "10",
        "accept-ranges": "bytes",
      });
      expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
      expect(await response.text()).toBe(method === "GET" ? "0123456789" : "");
    }
  });

  const RANGES: [string, number, string, string | null][] = [
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=0-0", 206, "0", "bytes 0-0/10"],
    ["bytes=5-100", 206, "56789", "bytes 5-9/10"],
    ["bytes=-100", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=9-1", 200, "0123456789", null],
    ["bytes=0-1,3-4", 200, "0123456789", null],
    ["lines=1-2", 200, "0123456789", null],
  ];
  for (const [range, status, text, contentRange] of RANGES)
    it(`answers ${range} with ${status}`, async () => {
      const response = await file({ range });
      expect(response.status).toBe(status);
      expect(await response.text()).toBe(text);
      expect(response.headers.get("content-range")).toBe(contentRange);
    });

  it("answers 416 beyond the end, with the size", async () => {
    const response = await file({ range: "bytes=10-" });
    expect(response.status).toBe(416);
    expect(response.headers.get("content-range")).toBe("bytes */10");
  });

  it("ignores the range when If-Range names another version", async () => {
    expect((await file({ range: "bytes=2-4", "if-range": '"other"' })).status).toBe(200);
    expect((await file({ range: "bytes=2-4", "if-range": `"${oid}"` })).status).toBe(206);
  });

  it("answers 304 to who has it", async () => {
    expect((await file({ "if-none-match": `"${oid}"` })).status).toBe(304);
  });

  it("finds a file by branch, tag, commit, short commit and HEAD", async () => {
    await ada.post(`/api/models/${REPO}/tag/main`, { tag: "v1" });
    for (const revision of [
      "main",
      "v1",
      commitOid,
      commitOid.slice(0, 8),
      "HEAD",
      "refs%2Fheads%2Fmain",
      "refs/heads/main",
    ]) {
      const response = await anonymous.raw("HEAD", `/${REPO}/resolve/${revision}/config.json`);
      expect([revision, response.status, response.headers.get("x-repo-commit")]).toEqual([revision, 200, commitOid]);
    }
  });

  it("takes a repository's name for a name, also when it is that of a route", async () => {
    for (const name of ["tree", "resolve", "branch"]) {
      await ada.post("/api/repos/create", { name });
      await ada.commit(`ada/${name}`, [fileLine("tree/x.txt", name)]);
      expect((await anonymous.get(`/api/models/ada/${name}/tree/main/tree`)).text).toContain('"tree/x.txt"');
      const response = await anonymous.raw("GET", `/ada/${name}/resolve/main/tree/x.txt`);
      expect(await response.text()).toBe(name);
    }
  });

  it("names its request, also where nothing is served", async () => {
    for (const path of ["/nothing/at/all/here", "/api/nothing", "/api/v1/nothing"]) {
      const response = await anonymous.raw("GET", path);
      expect([path, response.status]).toEqual([path, 404]);
      expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    }
  });

  it("says of a missing file at which commit it is missing", async () => {
    const response = await anonymous.raw("HEAD", `/${REPO}/resolve/main/ghost.json`);
    expect(response.status).toBe(404);
    expect(response.headers.get("x-error-code")).toBe("EntryNotFound");
    expect(response.headers.get("x-repo-commit")).toBe(commitOid);
  });

  it("records who downloaded what, away from the hot path", async () => {
    await (await ada.raw("GET", `/${REPO}/resolve/main/model.safetensors`)).text();
    await runInDurableObject(env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")), (buffer) => buffer.flush());
    const trail = await admin.get("/api/v1/audit?type=content.used");
    expect(trail.text).toContain('"user:ada"');
    expect(trail.text).toContain('"download"');
    expect(trail.text).toContain(oid);
  });
});

describe("a private repository", () => {
  beforeEach(() => ada.send("PUT", `/api/models/${REPO}/settings`, { private: true }));

  it("is there for its owner only", async () => {
    const eve = await user(admin, "eve");
    for (const path of [`/api/models/${REPO}`, `/${REPO}/resolve/main/config.json`, `/api/models/${REPO}/tree/main`]) {
      expect((await ada.raw("GET", path)).status).toBe(200);
      const stranger = await eve.raw("GET", path);
      expect([stranger.status, stranger.headers.get("x-error-code")]).toEqual([404, "RepoNotFound"]);
      const nobody = await anonymous.raw("GET", path);
      expect([nobody.status, nobody.headers.get("x-error-code")]).toEqual([401, "RepoNotFound"]);
    }
    expect((await anonymous.get("/api/models")).body).toEqual([]);
  });

  it("notes the denied attempt", async () => {
    const eve = await user(admin, "eve");
    await eve.raw("GET", `/${REPO}/resolve/main/config.json`);
    await runInDurableObject(env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")), (buffer) => buffer.flush());
    const trail = await admin.get("/api/v1/audit?type=access.denied");
    expect(trail.text).toContain('"user:eve"');
    expect(trail.text).toContain(`"model:${REPO}"`);
  });

  it("opens to a member of the owning organization as soon as the member is named, and closes as soon as not", async () => {
    const eve = await user(admin, "eve");
    await ada.post("/api/v1/organizations", { name: "lab" });
    await ada.post("/api/repos/create", { name: "lab/secret", private: true });
    const seen = async () => (await eve.raw("GET", "/api/models/lab/secret")).status;
    expect(await seen()).toBe(404);
    await ada.send("PUT", "/api/v1/organizations/lab/members/eve", { role: "read" });
    expect(await seen()).toBe(200);
    await ada.send("DELETE", "/api/v1/organizations/lab/members/eve");
    expect(await seen()).toBe(404);
  });
});

describe("listings", () => {
  const Paths = z.array(z.object({ path: z.string() }));
  const names = Array.from({ length: 23 }, (_, i) => `d${i % 3}/f${String(i).padStart(2, "0")}.txt`);
  beforeEach(() => ada.commit(REPO, [...names.map((name) => fileLine(name, name)), fileLine("d1-x/z", "z")]));

  async function pages(query: string) {
    const all: string[] = [];
    let next: string | undefined = `/api/models/${REPO}/tree/main?${query}`;
    for (let page = 0; next !== undefined && page < 50; page++) {
      const response = await anonymous.get(next);
      all.push(...Paths.parse(response.body).map((entry) => entry.path));
      next = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "")?.[1];
    }
    return all;
  }

  it("of a tree are the same on one page and on many", async () => {
    const whole = await pages("recursive=true");
    expect(whole).toContain("d1-x/z");
    expect(whole).toHaveLength(names.length + 4 + 1 + 3);
    expect(whole).toEqual([...whole].sort());
    for (const limit of [1, 2, 7]) expect(await pages(`recursive=true&limit=${limit}`)).toEqual(whole);
    expect(await pages("limit=2")).toEqual([
      ".gitattributes",
      "config.json",
      "d0",
      "d1",
      "d1-x",
      "d2",
      "model.safetensors",
    ]);
  });

  it("of paths take a form and JSON, and leave out what is not there", async () => {
    const form = await anonymous.raw("POST", `/api/models/${REPO}/paths-info/main`, {
      body: new URLSearchParams([
        ["paths", "d0/f00.txt"],
        ["paths", "ghost"],
        ["paths", "d1"],
      ]),
    });
    expect(Paths.parse(await form.json()).map((one) => one.path)).toEqual(["d0/f00.txt", "d1"]);
    const json = await anonymous.post(`/api/models/${REPO}/paths-info/main`, { paths: ["config.json"] });
    expect(Paths.parse(json.body)).toHaveLength(1);
  });

  it("of history count and page", async () => {
    const first = await anonymous.get(`/api/models/${REPO}/commits/main?limit=2`);
    expect(first.headers.get("x-total-count")).toBe("3");
    expect(first.headers.get("link")).toContain('rel="next"');
    expect(z.array(z.object({ title: z.string() })).parse(first.body)[0]?.title).toBe("a commit");
  });

  it("of refs name branches and tags with their commits", async () => {
    await ada.post(`/api/models/${REPO}/branch/feature%2Fx`, {});
    const refs = await anonymous.get(`/api/models/${REPO}/refs`);
    expect(refs.body).toMatchObject({ converts: [], tags: [] });
    expect(refs.text).toContain('"refs/heads/feature/x"');
    expect((await ada.post(`/api/models/${REPO}/branch/main`, {})).status).toBe(409);
    expect((await ada.send("DELETE", `/api/models/${REPO}/branch/main`)).status).toBe(400);
    expect((await ada.send("DELETE", `/api/models/${REPO}/branch/feature%2Fx`)).status).toBe(200);
  });

  it("of a missing directory are a 404 that says so", async () => {
    const response = await anonymous.get(`/api/models/${REPO}/tree/main/ghost`);
    expect([response.status, response.headers.get("x-error-code")]).toEqual([404, "EntryNotFound"]);
  });
});

describe("any address", () => {
  const idOf = async (headers: Record<string, string>) =>
    (await anonymous.raw("GET", "/api/models/ghost/none", { headers })).headers.get("x-request-id");

  it("answers under the caller's own request id, unless that is none", async () => {
    expect(await idOf({ "x-amzn-trace-id": "0c9f7a3e-trace" })).toBe("0c9f7a3e-trace");
    expect(await idOf({ "x-amzn-trace-id": "trace", "x-request-id": "mine" })).toBe("mine");
    for (const id of ["", "two words", "-dash", "<b>", "x".repeat(65)])
      expect(await idOf({ "x-request-id": id })).toMatch(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
  });

  it.each([
    ["GET", "/api/models/gpt2"],
    ["GET", "/api/models/gpt2/tree/main"],
    ["GET", "/api/models/gpt2/commits/main"],
    ["DELETE", "/api/datasets/squad/like"],
    ["POST", "/api/spaces/demo/commit/main"],
    ["HEAD", "/gpt2/resolve/main/config.json"],
    ["GET", "/datasets/squad/raw/main/README.md"],
  ])("of an id of one segment, %s %s, names no repository", async (method, path) => {
    const answer = await ada.send(method, path);
    expect([answer.status, answer.headers.get("x-error-code")]).toEqual([404, "RepoNotFound"]);
  });
});

it("an address that nothing is served at is none of a repository's, which may well be there", async () => {
  const answer = await ada.get(`/api/models/${REPO}/nothing/like`);
  expect([answer.status, answer.headers.get("x-error-code")]).toEqual([404, null]);
});

describe("tokens", () => {
  it("that are unknown, malformed or expired are refused with the text clients know", async () => {
    for (const header of ["Bearer hf_nonsense", "Bearer", "Token x", "Basic !!!"]) {
      const response = await anonymous.raw("GET", "/api/whoami-v2", { headers: { authorization: header } });
      expect(response.status).toBe(401);
      expect(response.headers.get("x-error-message")).toBe("Invalid credentials in Authorization header");
    }
  });

  it("are listed without their texts, and open nothing once revoked", async () => {
    const made = z
      .object({ id: z.string(), token: z.string() })
      .parse((await ada.post("/api/v1/tokens", { name: "laptop", scope: "write" })).body);
    const laptop = new Client(made.token);
    expect((await laptop.get("/api/whoami-v2")).status).toBe(200);
    const listed = await ada.get("/api/v1/tokens");
    expect(listed.text).toContain('"laptop"');
    expect(listed.text).not.toContain(made.token);
    expect((await laptop.send("DELETE", `/api/v1/tokens/${made.id}`)).status).toBe(403);
    expect((await ada.send("DELETE", `/api/v1/tokens/${made.id}`)).status).toBe(204);
    expect((await laptop.get("/api/whoami-v2")).status).toBe(401);
    expect((await ada.send("DELETE", `/api/v1/tokens/${made.id}`)).status).toBe(404);
  });

  it("tell whose they are, as clients show it", async () => {
    await admin.post("/api/v1/users", { name: "mary", fullname: "Mary Jackson", email: "mary@example.org" });
    const { token } = z
      .object({ token: z.string() })
      .parse((await admin.post("/api/v1/users/mary/tokens", { name: "desk", scope: "admin", days: 1 })).body);
    const { body } = await new Client(token).get("/api/whoami-v2");
    expect(body).toMatchObject({
      type: "user",
      name: "mary",
      fullname: "Mary Jackson",
      email: "mary@example.org",
      orgs: [],
      auth: { type: "access_token", accessToken: { displayName: "desk", role: "write" } },
    });
    const { auth } = z
      .object({ auth: z.object({ accessToken: z.object({ createdAt: z.iso.datetime() }) }) })
      .parse(body);
    expect(Date.parse(auth.accessToken.createdAt)).toBeGreaterThan(0);
  });

  it("do no more than their scope", async () => {
    const reader = await user(admin, "grace", "read");
    expect((await reader.get("/api/whoami-v2")).status).toBe(200);
    expect((await reader.post("/api/repos/create", { name: "x" })).status).toBe(403);
  });
});
