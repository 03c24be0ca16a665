// Which copy of the database answers: the bookmark's round trip, and that a late replica never has the last word.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

const REPO = "ada/digits";
const CONFIG = `/${REPO}/resolve/main/config.json`;
let ada: Client;

beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.commit(REPO, [fileLine("config.json", "{}")]);
});
afterEach(() => vi.restoreAllMocks());

const DATABASE: D1Database = Object.getPrototypeOf(env.DB);

/** The sessions that the request opens, by what each starts with. */
async function sessionsOf(client: Client, method: string, path: string, headers: Record<string, string> = {}) {
  const spy = vi.spyOn(DATABASE, "withSession");
  const init = method === "POST" ? { body: "{}" } : {};
  const response = await client.raw(method, path, { ...init, headers });
  await response.arrayBuffer();
  const opened = spy.mock.calls.map(([start]) => start);
  spy.mockRestore();
  return { opened, status: response.status, bookmark: response.headers.get("x-d1-bookmark") };
}

describe("a request reads", () => {
  it("from the nearest replica without a token, from the primary first with one", async () => {
    expect((await sessionsOf(anonymous, "GET", CONFIG)).opened).toEqual(["first-unconstrained"]);
    expect((await sessionsOf(ada, "GET", CONFIG)).opened).toEqual(["first-primary"]);
  });

  it("what the bookmark of an earlier answer stands for", async () => {
    const { bookmark } = await sessionsOf(ada, "POST", `/api/models/${REPO}/branch/new`);
    expect(bookmark).toMatch(/^[0-9a-f-]{20,}$/);
    const headers = { "x-d1-bookmark": bookmark ?? "" };
    for (const client of [ada, anonymous]) {
      const answer = await sessionsOf(client, "GET", `/${REPO}/resolve/new/config.json`, headers);
      expect(answer).toMatchObject({ opened: [bookmark], status: 200 });
      expect((answer.bookmark ?? "") >= (bookmark ?? "")).toBe(true);
    }
  });

  it("as without one where the bookmark is none", async () => {
    for (const text of ["first-unconstrained", "a b", "x".repeat(300)])
      expect((await sessionsOf(ada, "GET", CONFIG, { "x-d1-bookmark": text })).opened).toEqual(["first-primary"]);
  });

  it("on the primary with every query where it writes", async () => {
    const { opened } = await sessionsOf(ada, "POST", `/api/models/${REPO}/branch/other`);
    expect(opened.length).toBeGreaterThan(1);
    expect(new Set(opened)).toEqual(new Set(["first-primary"]));
  });

  it("nothing, and says so, where it needs no query", async () => {
    expect(await sessionsOf(anonymous, "GET", "/healthz")).toMatchObject({ opened: [], bookmark: null });
  });
});

describe("a replica that is late", () => {
  /** The nearest replica has no rows at all yet. */
  function late(): void {
    const withSession = DATABASE.withSession;
    vi.spyOn(DATABASE, "withSession").mockImplementation(function (this: D1Database, start) {
      const session = withSession.call(this, start);
      if (start !== "first-unconstrained") return session;
      return Object.create(session, {
        prepare: { value: (query: string) => session.prepare(`select * from (${query}) where 0`) },
        getBookmark: { value: () => session.getBookmark() },
      });
    });
  }

  for (const path of [
    CONFIG,
    `/${REPO}/raw/main/config.json`,
    `/api/models/${REPO}`,
    `/api/models/${REPO}/tree/main`,
    `/api/models/${REPO}/refs`,
  ])
    it(`is not believed when it finds nothing: GET ${path}`, async () => {
      late();
      expect((await anonymous.raw("GET", path)).status).toBe(200);
    });

  it("is asked once more on the primary, and no more, for what does not exist", async () => {
    const sessions = ["first-unconstrained", "first-primary"];
    const missing: [string, number][] = [
      ["/ada/nothing/resolve/main/config.json", 401],
      [`/${REPO}/resolve/nothing/config.json`, 404],
      [`/${REPO}/resolve/main/nothing`, 404],
      [`/api/models/${REPO}/tree/main/nothing`, 404],
    ];
    for (const [path, status] of missing)
      expect(await sessionsOf(anonymous, "GET", path)).toMatchObject({ opened: sessions, status });
  });
});
