// Xet tokens: who is given one, what it opens, and that rights taken away are gone with the next call.
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, user } from "../../kit/actors";
import { Connection, connect, XetClient } from "../../kit/xet-client";

const OPEN = "ada/open";
const CLOSED = "ada/closed";
const GHOST = "0".repeat(63);
const HASH = `${GHOST}1`;
let admin: Client;
let ada: Client;
let eve: Client;

beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  eve = await user(admin, "eve");
  await ada.post("/api/repos/create", { name: "open" });
  await ada.post("/api/repos/create", { name: "closed", private: true });
});

const ask = (client: Client, repo: string, access: "read" | "write", rest = "/main") =>
  client.get(`/api/models/${repo}/xet-${access}-token${rest}`);

describe("the token route", () => {
  it("says the same in its body and its headers", async () => {
    const { status, body, headers } = await ask(ada, OPEN, "write");
    expect(status).toBe(200);
    const { casUrl, exp, accessToken } = Connection.strict().parse(body);
    expect(casUrl).toBe("http://hub.test/cas");
    expect(exp).toBeGreaterThan(Date.now() / 1000 + 3000);
    expect(headers.get("x-xet-cas-url")).toBe(casUrl);
    expect(headers.get("x-xet-access-token")).toBe(accessToken);
    expect(headers.get("x-xet-token-expiration")).toBe(String(exp));
    expect(headers.get("cache-control")).toBe("private, no-store");
  });

  it("takes a revision in every form, and none", async () => {
    for (const rest of ["", "/main", "/refs%2Fpr%2F1", "/refs/heads/main", "/None?create_pr=1", "/None"])
      expect([rest, (await ask(ada, OPEN, "write", rest)).status]).toEqual([rest, 200]);
  });

  it("serves data sets too", async () => {
    await ada.post("/api/repos/create", { name: "rows", type: "dataset" });
    expect((await ada.get("/api/datasets/ada/rows/xet-write-token/main")).status).toBe(200);
    expect((await ada.get("/api/models/ada/rows/xet-write-token/main")).status).toBe(404);
  });

  const RIGHTS: [string, () => Client, string, "read" | "write", string, number][] = [
    ["a stranger reads what is public", () => eve, OPEN, "read", "/main", 200],
    ["nobody reads what is public", () => anonymous, OPEN, "read", "/main", 200],
    ["a stranger writes", () => eve, OPEN, "write", "/main", 403],
    ["a stranger writes to a pull request of its own", () => eve, OPEN, "write", "/None?create_pr=1", 200],
    ["nobody writes", () => anonymous, OPEN, "write", "/main", 401],
    ["nobody opens a pull request", () => anonymous, OPEN, "write", "/None?create_pr=1", 401],
    ["the owner reads what is private", () => ada, CLOSED, "read", "/main", 200],
    ["a stranger reads what is private", () => eve, CLOSED, "read", "/main", 404],
    ["a stranger proposes to what is private", () => eve, CLOSED, "write", "/None?create_pr=1", 404],
    ["nobody reads what is private", () => anonymous, CLOSED, "read", "/main", 401],
    ["anybody reads what does not exist", () => ada, "ada/ghost", "read", "/main", 404],
  ];
  for (const [what, who, repo, access, rest, status] of RIGHTS)
    it(`answers ${status} when ${what}`, async () => {
      const answer = await ask(who(), repo, access, rest);
      expect(answer.status).toBe(status);
      if (status !== 200) expect(answer.headers.has("x-xet-access-token")).toBe(false);
      if (status === 404) expect(answer.headers.get("x-error-code")).toBe("RepoNotFound");
    });

  it("gives a hub token that only reads no Xet token that writes", async () => {
    const reader = await user(admin, "ada", "read");
    expect((await ask(reader, OPEN, "read")).status).toBe(200);
    expect((await ask(reader, OPEN, "write")).status).toBe(403);
  });
});

/** Asks for a file that is not there: 404 means that the token was good. */
const probe = async (client: Client): Promise<number> =>
  (await client.get(`http://hub.test/cas/v2/reconstructions/${HASH}`)).status;
const probeWrite = async (client: XetClient): Promise<number> =>
  (await client.sendBytes(`/v1/xorbs/default/${HASH}`, new Uint8Array(3))).status;

describe("a Xet token", () => {
  it("opens the store and nothing else", async () => {
    const token = await connect(ada, OPEN, "write");
    expect(await probe(token)).toBe(404);
    expect((await token.get("/api/whoami-v2")).status).toBe(401);
    expect((await token.get(`/api/models/${OPEN}`)).status).toBe(404);
    expect((await token.post("/api/repos/create", { name: "mine" })).status).toBe(401);
    expect((await ask(token, OPEN, "write")).status).toBe(404);
  });

  it("is needed: neither nobody nor a token of the hub opens the store", async () => {
    for (const client of [anonymous, ada, admin, new XetClient("", "xet_nonsense"), new XetClient("", "hf_nonsense")])
      expect(await probe(client)).toBe(401);
  });

  it("for reading does not write", async () => {
    expect(await probeWrite(await connect(ada, OPEN, "write"))).toBe(400);
    const reader = await connect(ada, OPEN, "read");
    expect(await probeWrite(reader)).toBe(403);
    expect((await reader.sendBytes("/v1/shards", new Uint8Array(3))).status).toBe(403);
    expect((await reader.sendBytes("/v2/shards", new Uint8Array(3))).status).toBe(403);
  });

  it("is refused when any character of it was changed", async () => {
    const { token = "" } = await connect(ada, OPEN, "read");
    for (const at of [4, 20, token.indexOf(".") + 1, token.length - 3]) {
      const changed = token.slice(0, at) + (token.charAt(at) === "A" ? "B" : "A") + token.slice(at + 1);
      expect(await probe(new XetClient("", changed))).toBe(401);
    }
    expect(await probe(new XetClient("", `${token}.more`))).toBe(401);
  });

  it("ends after an hour", async () => {
    const token = await connect(ada, OPEN, "read");
    const now = Date.now();
    const clock = vi.spyOn(Date, "now");
    clock.mockReturnValue(now + 3_598_000);
    expect(await probe(token)).toBe(404);
    clock.mockReturnValue(now + 3_601_000);
    const answer = await token.get(`http://hub.test/cas/v2/reconstructions/${HASH}`);
    clock.mockRestore();
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ code: "xet_token_required" });
  });

  it("opens less as soon as its holder may do less", async () => {
    await ada.post("/api/v1/organizations", { name: "lab" });
    await ada.send("PUT", "/api/v1/organizations/lab/members/eve", { role: "write" });
    await ada.post("/api/repos/create", { name: "secret", organization: "lab", private: true });
    const token = await connect(eve, "lab/secret", "write");
    expect(await probeWrite(token)).toBe(400);
    await ada.send("PUT", "/api/v1/organizations/lab/members/eve", { role: "read" });
    expect(await probe(token)).toBe(404);
    await ada.send("DELETE", "/api/v1/organizations/lab/members/eve");
    expect(await probe(token)).toBe(403);
    expect(await probeWrite(token)).toBe(403);
  });

  it("opens nothing once the hub's token behind it is revoked", async () => {
    const created = await ada.post("/api/v1/tokens", { name: "short", scope: "write" });
    const { id, token } = z.object({ id: z.string(), token: z.string() }).parse(created.body);
    const xet = await connect(new XetClient("", token), OPEN, "write");
    expect(await probe(xet)).toBe(404);
    expect((await ada.send("DELETE", `/api/v1/tokens/${id}`)).status).toBe(204);
    expect(await probe(xet)).toBe(401);
  });

  it("of nobody opens a repository only as long as it is public", async () => {
    const token = await connect(anonymous, OPEN, "read");
    expect(await probe(token)).toBe(404);
    await ada.send("PUT", `/api/models/${OPEN}/settings`, { private: true });
    expect(await probe(token)).toBe(403);
    await ada.send("DELETE", "/api/repos/delete", { name: "open" });
    expect(await probe(token)).toBe(404);
  });
});
