// Users and organizations: what is counted of them, who follows whom, and that nobody's private things are counted for others.
// And what clients ask for that the hub does not have.
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, user } from "../../kit/actors";

const People = z.array(
  z.looseObject({ user: z.string(), fullname: z.string(), avatarUrl: z.url(), type: z.literal("user") }),
);

let admin: Client;
let ada: Client;
let bob: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/v1/organizations", { name: "Lab", fullname: "The Lab" });
  await ada.send("PUT", "/api/v1/organizations/Lab/members/bob", { role: "read" });
});

const people = async (who: Client, path: string) => People.parse((await who.get(path)).body).map((one) => one.user);

describe("an overview", () => {
  it("counts what the reader may see, and no more", async () => {
    const eve = await user(admin, "eve");
    for (const [name, type, isPrivate] of [
      ["a", "model", false],
      ["b", "model", true],
      ["c", "dataset", true],
    ] as const) {
      await ada.post("/api/repos/create", { name, type, private: isPrivate });
      await ada.post("/api/repos/create", { name, type, private: isPrivate, organization: "Lab" });
      await ada.post(`/api/${type}s/Lab/${name}/like`);
      await ada.post(`/api/${type}s/Lab/${name}/discussions`, { title: "A question", description: "why" });
    }
    const seen = {
      user: "ada",
      type: "user",
      numModels: 1,
      numDatasets: 0,
      numLikes: 1,
      numDiscussions: 1,
      isFollowing: false,
    };
    for (const who of [anonymous, eve]) {
      expect((await who.get("/api/users/ADA/overview")).body).toMatchObject(seen);
      expect((await who.get("/api/organizations/lab/overview")).body).toMatchObject({
        name: "Lab",
        fullname: "The Lab",
        type: "org",
        numModels: 1,
        numDatasets: 0,
        numUsers: 2,
      });
    }
    expect((await bob.get("/api/users/ada/overview")).body).toMatchObject({
      numModels: 1,
      numDatasets: 0,
      numLikes: 3,
      numDiscussions: 3,
    });
    expect((await ada.get("/api/users/ada/overview")).body).toMatchObject({
      numModels: 2,
      numDatasets: 1,
      numLikes: 3,
      orgs: [{ name: "Lab", fullname: "The Lab" }],
    });
    expect((await bob.get("/api/organizations/Lab/overview")).body).toMatchObject({ numModels: 2, numDatasets: 1 });
    expect((await anonymous.get("/api/users/ada/overview")).text).not.toContain("email");
  });

  it("is of users or of organizations, whichever was asked for", async () => {
    for (const path of [
      "users/Lab/overview",
      "organizations/ada/overview",
      "users/nobody/overview",
      "users/Lab/followers",
      "organizations/ada/members",
    ])
      expect((await anonymous.get(`/api/${path}`)).status, path).toBe(404);
    expect((await anonymous.get("/api/users/..%2Fx/overview")).status).toBe(422);
  });

  it("has a picture that is nothing but a picture", async () => {
    const overview = z.object({ avatarUrl: z.url() }).parse((await anonymous.get("/api/users/ada/overview")).body);
    const picture = await anonymous.raw("GET", overview.avatarUrl);
    expect(picture.status).toBe(200);
    expect(picture.headers.get("content-type")).toBe("image/svg+xml");
    await picture.text();
    expect((await anonymous.raw("GET", "/api/avatars/%3Cscript%3E.svg")).status).toBe(404);
  });
});

describe("following", () => {
  it("is counted once, listed, and taken back", async () => {
    for (let twice = 0; twice < 2; twice++) {
      expect((await bob.post("/api/users/Ada/follow")).status).toBe(200);
      expect((await bob.post("/api/organizations/lab/follow")).status).toBe(200);
    }
    await Promise.all([admin.post("/api/users/ada/follow"), admin.post("/api/users/ada/follow")]);
    expect((await bob.get("/api/users/ada/overview")).body).toMatchObject({
      numFollowers: 2,
      isFollowing: true,
      numFollowing: 0,
    });
    expect((await anonymous.get("/api/users/bob/overview")).body).toMatchObject({
      numFollowing: 1,
      isFollowing: false,
    });
    expect((await people(anonymous, "/api/users/ada/followers")).sort()).toEqual(["bob", "root"]);
    expect(await people(anonymous, "/api/organizations/Lab/followers")).toEqual(["bob"]);
    expect(await people(anonymous, "/api/users/bob/following")).toEqual(["ada"]);
    expect((await bob.send("DELETE", "/api/users/ada/follow")).status).toBe(200);
    expect((await bob.send("DELETE", "/api/users/ada/follow")).status).toBe(200);
    expect(await people(anonymous, "/api/users/ada/followers")).toEqual(["root"]);
  });

  it("needs someone who follows someone else", async () => {
    const reading = await user(admin, "bob", "read");
    expect((await anonymous.post("/api/users/ada/follow")).status).toBe(401);
    expect((await reading.post("/api/users/ada/follow")).status).toBe(403);
    expect((await ada.post("/api/users/ada/follow")).status).toBe(422);
    expect((await ada.post("/api/users/nobody/follow")).status).toBe(404);
    expect((await ada.post("/api/organizations/bob/follow")).status).toBe(404);
  });

  it("is listed in pages", async () => {
    for (const name of ["carl", "dora", "emil"]) await (await user(admin, name)).post("/api/users/ada/follow");
    const seen: string[][] = [];
    let next: string | undefined = "/api/users/ada/followers?limit=2";
    while (next !== undefined) {
      const answer = await anonymous.get(next);
      seen.push(People.parse(answer.body).map((one) => one.user));
      next = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    expect(seen).toEqual([["carl", "dora"], ["emil"]]);
    expect((await people(anonymous, "/api/organizations/Lab/members")).sort()).toEqual(["ada", "bob"]);
    expect((await anonymous.get("/api/users/ada/followers?cursor=forged")).status).toBe(400);
  });
});

const UNSERVED = [
  ["GET", "/api/kernels/owner/name", 401, "RepoNotFound"],
  ["GET", "/api/buckets/owner/name", 401, "RepoNotFound"],
  ["GET", "/api/spaces/owner/name/runtime", 401, "RepoNotFound"],
  ["POST", "/api/spaces/owner/name/secrets", 401, "RepoNotFound"],
  ["POST", "/api/buckets/owner/name", 501, null],
  ["GET", "/api/buckets/owner", 501, null],
  ["GET", "/api/spaces/hardware", 501, null],
  ["GET", "/api/spaces/zero-gpu/quota", 501, null],
  ["GET", "/api/spaces/semantic-search?q=x", 501, null],
  ["GET", "/api/jobs/owner", 501, null],
  ["POST", "/api/jobs/owner", 501, null],
  ["GET", "/api/jobs/hardware", 501, null],
  ["GET", "/api/scheduled-jobs/owner", 501, null],
  ["GET", "/api/papers/2307.09288", 501, null],
  ["GET", "/api/papers/search?q=x", 501, null],
  ["GET", "/api/daily_papers", 501, null],
  ["GET", "/api/datasets/owner/name/leaderboard", 501, null],
  ["GET", "/api/agent-harnesses", 404, null],
  ["GET", "/api/notifications", 404, null],
  ["GET", "/api/organizations/owner", 404, null],
  ["PATCH", "/api/settings/anything", 404, null],
] as const;

describe("what is not served", () => {
  it("says so, also to who would rather have a page", async () => {
    for (const [method, path, status, code] of UNSERVED)
      for (const accept of ["*/*", "text/html"]) {
        const answer = await anonymous.raw(method, path, { headers: { accept } });
        expect(answer.status, path).toBe(status);
        expect(answer.headers.get("x-error-code"), path).toBe(code);
        expect(answer.headers.get("x-error-message"), path).not.toBe("");
        expect(await answer.json(), path).toMatchObject({ error: expect.any(String) });
      }
  });

  it("swallows telemetry", async () => {
    expect((await anonymous.raw("HEAD", "/api/telemetry/some/topic")).status).toBe(204);
  });
});
