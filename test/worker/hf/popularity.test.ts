// Likes and downloads: each person likes once, each client counts once a day, and what private repositories are liked for stays private.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { countUses, dayOf, tallyStep } from "../../../src/hub/tally";
import { cloudflarePlatform, databaseOf } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { settled } from "../../kit/settled";

const DAY_MS = 86_400_000;
const REPO = "ada/digits";
let ada: Client;
let bob: Client;

beforeEach(async () => {
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.post("/api/repos/create", { name: "secret", private: true });
});

const Likers = z.array(z.object({ user: z.string(), fullname: z.string(), avatarUrl: z.string() }));
const Liked = z.array(
  z.object({ createdAt: z.string().endsWith("Z"), repo: z.object({ name: z.string(), type: z.string() }) }),
);
const likersOf = async (client: Client, repo = REPO) =>
  Likers.parse((await client.get(`/api/models/${repo}/likers`)).body).map((one) => one.user);
const likedBy = async (client: Client, who: string) =>
  Liked.parse((await client.get(`/api/users/${who}/likes`)).body).map(({ repo }) => `${repo.type} ${repo.name}`);
const countsOf = async (name = "digits") =>
  env.DB.prepare("select likes, recent_likes, downloads, downloads_all_time, trending from repos where name = ?")
    .bind(name)
    .first();

/** Background sums of so many days from now, until none is due. */
async function tally(days = 0): Promise<void> {
  const at = Date.now() + days * DAY_MS + 3600_000;
  while (await tallyStep({ ...cloudflarePlatform(env, "tally", () => {}), now: () => at }));
}

describe("likes", () => {
  it("are given once by each, taken back, and counted", async () => {
    expect((await ada.post(`/api/models/${REPO}/like`)).status).toBe(200);
    expect((await bob.post(`/api/models/${REPO}/like`)).status).toBe(200);
    expect((await bob.post(`/api/models/${REPO}/like`)).status).toBe(200);
    expect((await likersOf(anonymous)).sort()).toEqual(["ada", "bob"]);
    await tally();
    expect(await countsOf()).toMatchObject({ likes: 2, recent_likes: 2, trending: 20 });
    expect((await bob.send("DELETE", `/api/models/${REPO}/like`)).status).toBe(200);
    expect((await bob.send("DELETE", `/api/models/${REPO}/like`)).status).toBe(200);
    expect(await likersOf(anonymous)).toEqual(["ada"]);
    await tally(31);
    expect(await countsOf()).toMatchObject({ likes: 1, recent_likes: 0, trending: 0 });
  });

  it("that race count once", async () => {
    const at = (method: string) => bob.send(method, `/api/models/${REPO}/like`);
    const answers = await Promise.all([at("POST"), at("POST"), at("POST"), at("DELETE"), at("POST")]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(await countsOf()).toMatchObject({ likes: (await likersOf(ada)).length });
    await Promise.all([at("POST"), ada.post(`/api/models/${REPO}/like`)]);
    expect(await countsOf()).toMatchObject({ likes: 2 });
  });

  it("need a token that may write, and a repository that the caller sees", async () => {
    expect((await anonymous.post(`/api/models/${REPO}/like`)).status).toBe(401);
    const reader = await user(await administrator(), "cyd", "read");
    expect((await reader.post(`/api/models/${REPO}/like`)).status).toBe(403);
    const hidden = await bob.post("/api/models/ada/secret/like");
    expect([hidden.status, hidden.headers.get("x-error-code")]).toEqual([404, "RepoNotFound"]);
    expect((await bob.get("/api/models/ada/secret/likers")).status).toBe(404);
    expect((await bob.get("/api/users/nobody-here/likes")).status).toBe(404);
    expect((await bob.get("/api/users/--/likes")).status).toBe(422);
  });

  it("of private repositories are listed for their readers only, page by page", async () => {
    await ada.post("/api/repos/create", { name: "numbers", type: "dataset" });
    for (const one of ["models/ada/secret", `models/${REPO}`, "datasets/ada/numbers"])
      await ada.post(`/api/${one}/like`);
    const all = ["dataset ada/numbers", `model ${REPO}`, "model ada/secret"];
    expect((await likedBy(ada, "ada")).sort()).toEqual(all);
    expect((await likedBy(bob, "ada")).sort()).toEqual(all.slice(0, 2));
    expect((await likedBy(anonymous, "ADA")).sort()).toEqual(all.slice(0, 2));
    const seen: string[] = [];
    for (let next: string | undefined = "http://hub.test/api/users/ada/likes?limit=1"; next !== undefined; ) {
      const page = await ada.get(next);
      seen.push(...Liked.parse(page.body).map(({ repo }) => `${repo.type} ${repo.name}`));
      next = /<(.*)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
    }
    expect(seen.sort()).toEqual(all);
    expect((await bob.get("/api/users/ada/likes?cursor=e30")).status).toBe(400);
    expect((await bob.get("/api/users/ada/likes?limit=0")).status).toBe(422);
  });
});

const flushed = () => env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")).flush();
const daysOf = async (name = "digits") =>
  env.DB.prepare(
    "select sum(fetches) as fetches, sum(looks) as looks, sum(ci) as ci from download_days d join repos r on r.id = d.repo_id where r.name = ?",
  )
    .bind(name)
    .first();

describe("downloads", () => {
  const from = (address: string, agent = "python") => ({ "cf-connecting-ip": address, "user-agent": agent });
  const config = `/${REPO}/resolve/main/config.json`;

  beforeEach(async () => {
    await ada.commit(REPO, [fileLine("config.json", "{}"), fileLine("weights.bin", "w"), fileLine("README.md", "# d")]);
  });

  it("count each client once a day; who looks, and CI, apart", async () => {
    for (const path of [config, `/${REPO}/resolve/main/weights.bin`])
      for (const headers of [from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.2"), from("2001:db8::1:1")])
        await settled(anonymous, path, { headers });
    // The same network, by another address.
    await settled(anonymous, config, { headers: from("2001:db8::1:2") });
    await settled(anonymous, config, { headers: from("192.0.2.9"), method: "HEAD" });
    await settled(anonymous, config, { headers: from("192.0.2.8", "transformers/5; is_ci/true") });
    await settled(ada, config, { headers: from("192.0.2.1") });
    await settled(ada, config, { headers: from("192.0.2.7") });
    // A page that shows the card uses nothing.
    await settled(anonymous, `/${REPO}/resolve/main/README.md`, { headers: from("192.0.2.5") });
    await flushed();
    expect(await daysOf()).toEqual({ fetches: 4, looks: 1, ci: 1 });
    await settled(anonymous, config, { headers: from("192.0.2.2") });
    await flushed();
    expect(await daysOf()).toEqual({ fetches: 4, looks: 1, ci: 1 });
    await tally();
    expect(await countsOf()).toMatchObject({ downloads: 4, downloads_all_time: 4, trending: 4 });
    const date = new Date().toISOString().slice(0, 10);
    expect((await anonymous.get(`/api/v1/models/${REPO}/usage`)).body).toEqual({
      downloads: 4,
      downloads_all_time: 4,
      days: [{ date, downloads: 4, looks: 1, ci: 1 }],
    });
    expect((await anonymous.get("/api/v1/models/ada/secret/usage")).status).toBe(404);
    const shown = await anonymous.get(`/api/models/${REPO}?expand=downloads,downloadsAllTime,trendingScore`);
    expect(shown.body).toMatchObject({ downloads: 4, downloadsAllTime: 4, trendingScore: 4 });
    await tally(8);
    expect(await countsOf()).toMatchObject({ downloads: 4, downloads_all_time: 4, trending: 0 });
    await tally(40);
    expect(await countsOf()).toMatchObject({ downloads: 0, downloads_all_time: 4, trending: 0 });
    expect(await env.DB.prepare("select count(*) as n from download_clients").first()).toEqual({ n: 0 });
  });

  it("are counted by a Xet token too, and nothing by a request that is refused", async () => {
    await settled(bob, `/api/models/${REPO}/xet-read-token/main`);
    await settled(bob, "/ada/secret/resolve/main/.gitattributes");
    await settled(bob, `/${REPO}/resolve/main/missing.bin`);
    await flushed();
    expect(await daysOf()).toEqual({ fetches: 1, looks: 0, ci: 0 });
    expect(await daysOf("secret")).toEqual({ fetches: null, looks: null, ci: null });
  });

  it("count once when the buffer repeats a batch, and nothing for what was deleted meanwhile or is of long ago", async () => {
    const { id } = z
      .object({ id: z.string() })
      .parse(await env.DB.prepare("select id from repos where name = 'digits'").first());
    const now = Date.now();
    const use = (client: string, repoId = id, day = dayOf(now)) => ({ repoId, day, kind: "fetch" as const, client });
    const uses = [use("a"), use("b"), use("a"), use("c", "gone"), use("d", id, dayOf(now) - 2)];
    const db = databaseOf(env.DB);
    await countUses(db, uses, now);
    await Promise.all([countUses(db, uses, now), countUses(db, [use("b"), use("e")], now)]);
    expect(await daysOf()).toMatchObject({ fetches: 3 });
    expect(await countsOf()).toMatchObject({ downloads_all_time: 3 });
  });

  it("go with the repository", async () => {
    await settled(anonymous, config, { headers: from("192.0.2.1") });
    await flushed();
    await bob.post(`/api/models/${REPO}/like`);
    await ada.send("DELETE", "/api/repos/delete", { name: REPO, type: "model" });
    for (const table of ["download_days", "download_clients", "likes", "repo_grams where gram = 'dig'"])
      expect(await env.DB.prepare(`select count(*) as n from ${table}`).first()).toEqual({ n: 0 });
  });
});
