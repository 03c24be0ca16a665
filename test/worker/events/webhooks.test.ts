// Webhooks: kept by their owners, told in order and at least once, never of what their owner may not read, never into the hub's own network.
import { env } from "cloudflare:workers";
import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { deliverNews } from "../../../src/events/deliveries";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { mortal } from "../../kit/mortal-platform";

const AT = "/api/settings/webhooks";
const URL_ = "https://receiver.example/hook";
const SECRET = "a secret of mine";
const Webhook = z.strictObject({
  id: z.string(),
  url: z.string(),
  watched: z.array(z.object({ type: z.string(), name: z.string() })),
  domains: z.array(z.string()),
  disabled: z.boolean(),
  secret: z.string().optional(),
});
const One = z.strictObject({ webhook: Webhook });
const Payload = z.looseObject({
  event: z.object({ action: z.string(), scope: z.string() }),
  repo: z.object({
    type: z.string(),
    name: z.string(),
    id: z.string(),
    private: z.boolean(),
    url: z.object({ web: z.string(), api: z.string() }),
    owner: z.object({ id: z.string() }),
    headSha: z.string().optional(),
  }),
  updatedRefs: z
    .array(z.object({ ref: z.string(), oldSha: z.string().nullable(), newSha: z.string().nullable() }))
    .optional(),
  webhook: z.object({ id: z.string(), version: z.literal(3) }),
});
const INNER = [
  "http://receiver.example/",
  "http://127.0.0.1:9/",
  "http://localhost/",
  "https://127.0.0.1/",
  "https://0x7f.1/",
  "https://2130706433/",
  "https://0177.0.0.1/",
  "https://[::1]/",
  "https://[::ffff:169.254.169.254]/",
  "https://169.254.169.254/latest/meta-data",
  "https://10.0.0.8./",
  "https://localhost/",
  "https://db.internal/",
  "https://printer.local./",
  "https://service/",
  "https://hub.test/api/repos/create",
  "https://hub.test./",
  "https://user:password@receiver.example/",
  "https://receiver.example:25/",
  "https://receiver.example:22/",
  "ftp://receiver.example/",
  "javascript:alert(1)",
  "//receiver.example",
  `https://receiver.example/${"x".repeat(2000)}`,
  "",
];
type Message = { readonly url: string; readonly headers: Headers; readonly body: string };

let admin: Client;
let ada: Client;
let bob: Client;
let ahead = 0;
/** What the receiver answers next; 200 once it has run out. */
let answers: (number | Response | Error)[] = [];
let messages: Message[] = [];
const platform: Platform = { ...cloudflarePlatform(env, "messenger", () => {}), now: () => Date.now() + ahead };

beforeEach(async () => {
  [ahead, answers, messages] = [0, [], []];
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input, init);
    messages.push({ url: request.url, headers: request.headers, body: await request.text() });
    expect(init?.redirect).toBe("manual");
    const answer = answers.shift() ?? 200;
    if (answer instanceof Error) throw answer;
    return answer instanceof Response ? answer : new Response("x".repeat(100), { status: answer });
  });
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
});
afterEach(() => vi.restoreAllMocks());

const deliver = (on: Platform = platform) => deliverNews(on, () => false);
async function make(who: Client, body: Record<string, unknown> = {}): Promise<string> {
  const watched = [{ type: "user", name: "ada" }];
  const answer = await who.post(AT, { url: URL_, watched, secret: SECRET, ...body });
  expect(answer.status).toBe(200);
  return One.parse(answer.body).webhook.id;
}
const read = async (who: Client, id: string) => One.parse((await who.get(`${AT}/${id}`)).body).webhook;
const payloads = () => messages.map(({ body }) => Payload.parse(JSON.parse(body)));
const told = () => payloads().map(({ event, repo }) => `${event.action} ${event.scope} ${repo.name}`);
const create = (name: string, isPrivate = false) => ada.post("/api/repos/create", { name, private: isPrivate });

describe("a webhook", () => {
  it("is kept by its owner alone", async () => {
    const watched = [
      { type: "org", name: "not-there-yet" },
      { type: "dataset", name: "ada/faces" },
    ];
    const id = await make(ada, { watched, domains: ["discussions", "repo", "discussion"] });
    expect(await read(ada, id)).toEqual({
      id,
      url: URL_,
      watched,
      domains: ["discussion", "repo"],
      disabled: false,
      secret: SECRET,
    });
    expect(
      z
        .array(Webhook)
        .parse((await ada.get(AT)).body)
        .map((one) => one.id),
    ).toEqual([id]);
    expect((await bob.get(AT)).body).toEqual([]);
    for (const method of ["GET", "POST", "DELETE"])
      expect((await bob.send(method, `${AT}/${id}`, method === "GET" ? undefined : {})).status).toBe(404);
    expect((await bob.post(`${AT}/${id}/disable`)).status).toBe(404);
    expect((await anonymous.get(AT)).status).toBe(401);
    expect((await (await user(admin, "ada", "read")).get(AT)).status).toBe(403);

    // Clients send an empty list where the caller named nothing.
    const changed = await ada.post(`${AT}/${id}`, { watched: [], url: "https://other.example:8443/x#part" });
    expect(One.parse(changed.body).webhook).toMatchObject({
      url: "https://other.example:8443/x",
      watched,
      secret: SECRET,
    });
    expect(One.parse((await ada.post(`${AT}/${id}/disable`)).body).webhook.disabled).toBe(true);
    expect(One.parse((await ada.post(`${AT}/${id}/enable`)).body).webhook.disabled).toBe(false);
    expect((await ada.send("DELETE", `${AT}/${id}`)).status).toBe(200);
    expect((await ada.send("DELETE", `${AT}/${id}`)).status).toBe(404);
    expect((await ada.get(`${AT}/${id}`)).status).toBe(404);
  });

  it("is not sent into the hub's own network, in whatever spelling", async () => {
    for (const url of INNER) {
      const answer = await ada.post(AT, { url, watched: [{ type: "user", name: "ada" }] });
      expect(answer.status, url).toBe(422);
    }
  });

  it("refuses what it can't be", async () => {
    const watched = [{ type: "user", name: "ada" }];
    const bad: Record<string, unknown>[] = [
      { watched },
      { url: URL_, watched: [] },
      { url: URL_, watched: [{ type: "space", name: "ada/x" }] },
      { url: URL_, watched: [{ type: "model", name: "ada" }] },
      { url: URL_, watched: Array(101).fill(watched[0]) },
      { url: URL_, watched, domains: ["everything"] },
      { url: URL_, watched, secret: "line\nbreak" },
      { watched, jobSourceId: "job" },
    ];
    for (const body of bad) expect((await ada.post(AT, body)).status, JSON.stringify(body)).toBe(422);
    const id = await make(ada);
    expect((await ada.post(`${AT}/${id}`, { watched: [], url: "https://10.0.0.1/" })).status).toBe(422);
    expect((await ada.post(`${AT}/${id}`, { jobSourceId: "job" })).status).toBe(422);
  });
});

describe("a delivery", () => {
  it("tells of everything since the webhook was made, in order, signed", async () => {
    await create("before");
    const id = await make(bob);
    await create("digits");
    await ada.commit("ada/digits", [fileLine("a.txt", "a")]);
    await ada.post("/api/models/ada/digits/branch/side", {});
    await ada.send("PUT", "/api/models/ada/before/settings", { private: true });
    await ada.send("PUT", "/api/models/ada/before/settings", { private: false });
    await ada.send("DELETE", "/api/repos/delete", { name: "before" });
    await bob.post("/api/repos/create", { name: "unwatched" });
    await deliver();
    expect(told()).toEqual([
      "create repo ada/digits",
      "update repo.content ada/digits",
      "update repo.content ada/digits",
      "delete repo ada/before",
    ]);
    const [made, committed, branched] = payloads();
    expect(made).toMatchObject({
      repo: {
        type: "model",
        private: false,
        url: { web: "http://hub.test/ada/digits", api: "http://hub.test/api/models/ada/digits" },
      },
      webhook: { id, version: 3 },
    });
    const head = made?.repo.headSha;
    expect(committed?.updatedRefs).toEqual([{ ref: "refs/heads/main", oldSha: expect.any(String), newSha: head }]);
    expect(branched?.updatedRefs).toEqual([{ ref: "refs/heads/side", oldSha: null, newSha: head }]);
    for (const { headers, body, url } of messages) {
      expect(url).toBe(URL_);
      expect(headers.get("x-webhook-secret")).toBe(SECRET);
      const signed = `${headers.get("webhook-id")}.${headers.get("webhook-timestamp")}.${body}`;
      expect(headers.get("webhook-signature")).toBe(
        `v1,${createHmac("sha256", SECRET).update(signed).digest("base64")}`,
      );
    }
    expect(new Set(messages.map(({ headers }) => headers.get("webhook-id"))).size).toBe(4);
    await deliver();
    expect(messages).toHaveLength(4);
  });

  it("names no secret where there is none, and reads keys of Standard Webhooks", async () => {
    await make(ada, { secret: null });
    await make(bob, { secret: `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}` });
    await create("digits");
    await deliver();
    const [plain, signed] = messages.toSorted(
      (a, b) => (a.headers.get("x-webhook-secret") ?? "").length - (b.headers.get("x-webhook-secret") ?? "").length,
    );
    expect(plain?.headers.get("webhook-signature")).toBeNull();
    const text = `${signed?.headers.get("webhook-id")}.${signed?.headers.get("webhook-timestamp")}.${signed?.body}`;
    const mac = createHmac("sha256", "0123456789abcdef0123456789abcdef").update(text).digest("base64");
    expect(signed?.headers.get("webhook-signature")).toBe(`v1,${mac}`);
  });

  it("tells nobody of what they may not read, by the rights of that moment", async () => {
    await make(bob);
    await make(ada);
    await create("secret", true);
    await create("shown", true);
    await ada.send("PUT", "/api/models/ada/shown/settings", { private: false });
    await create("gone", true);
    await ada.send("DELETE", "/api/repos/delete", { name: "gone" });
    await deliver();
    expect(messages.some(({ body }) => body.includes("ada/secret"))).toBe(true);
    const mine = z.array(Webhook).parse((await bob.get(AT)).body)[0]?.id;
    const toBob = payloads().filter(({ webhook }) => webhook.id === mine);
    expect(toBob.map(({ event, repo }) => `${event.action} ${event.scope} ${repo.name}`)).toEqual([
      "create repo ada/shown",
      "update repo.config ada/shown",
    ]);
    expect(toBob[1]).toMatchObject({ updatedConfig: { private: false } });
  });

  it("says where a repository moved to, in both namespaces, and nothing of another that had its name", async () => {
    await admin.post("/api/v1/organizations", { name: "lab" });
    await admin.send("PUT", "/api/v1/organizations/lab/members/ada", { role: "admin" });
    await create("plan", true);
    await create("open");
    await make(bob, {
      watched: [
        { type: "user", name: "ada" },
        { type: "org", name: "lab" },
      ],
    });
    await ada.commit("ada/plan", [fileLine("secret.txt", "s")]);
    await ada.post("/api/repos/move", { fromRepo: "ada/plan", toRepo: "ada/kept", type: "model" });
    await ada.post("/api/repos/move", { fromRepo: "ada/open", toRepo: "ada/plan", type: "model" });
    await ada.post("/api/repos/move", { fromRepo: "ada/plan", toRepo: "lab/digits", type: "model" });
    await deliver();
    const moves = payloads().map(({ event, repo, movedTo }) => [
      `${event.action} ${event.scope} ${repo.name}`,
      movedTo,
    ]);
    const to = { name: "lab/digits", owner: { id: expect.any(String) } };
    expect(moves).toEqual([
      // Told by what it is now: bob may read where it went.
      ["move repo ada/open", to],
      ["move repo ada/plan", to],
      ["move repo ada/plan", to],
    ]);
    expect(JSON.stringify(messages)).not.toContain("ada/kept");
  });

  it("keeps to what is watched: one repository, one domain", async () => {
    await create("digits");
    await make(bob, { watched: [{ type: "model", name: "Ada/Digits" }], domains: ["repo"] });
    await make(bob, {
      watched: [
        { type: "model", name: "ada/digits" },
        { type: "user", name: "ada" },
      ],
      domains: ["discussion"],
    });
    await ada.post("/api/repos/create", { name: "digits", type: "dataset" });
    await ada.commit("ada/digits", [fileLine("a.txt", "a")]);
    await bob.post("/api/models/ada/digits/discussions", {
      title: "A question",
      description: "why",
      pullRequest: false,
    });
    const comment = await bob.post("/api/models/ada/digits/discussions/1/comment", { comment: "more of it" });
    const { newMessage } = z.object({ newMessage: z.object({ id: z.string() }) }).parse(comment.body);
    await bob.post("/api/models/ada/digits/discussions/1/status", { status: "closed" });
    await deliver();
    expect(told().filter((one) => !one.includes("discussion"))).toEqual(["update repo.content ada/digits"]);
    expect(told().filter((one) => one.includes("discussion"))).toEqual([
      "create discussion ada/digits",
      "create discussion.comment ada/digits",
      "update discussion ada/digits",
    ]);
    expect(payloads().find(({ event }) => event.scope === "discussion.comment")).toMatchObject({
      discussion: {
        num: 1,
        title: "A question",
        isPullRequest: false,
        status: "closed",
        url: { web: "http://hub.test/ada/digits/discussions/1" },
      },
      comment: { id: newMessage.id, content: "more of it", hidden: false },
    });
    await ada.post(`/api/models/ada/digits/discussions/1/comment/${newMessage.id}/hide`);
    messages = [];
    await deliver();
    expect(payloads()[0]).toMatchObject({ event: { action: "update" }, comment: { hidden: true } });
    expect(messages[0]?.body).not.toContain("more of it");
  });

  it("follows a pull request until it is merged", async () => {
    await create("digits");
    await make(ada);
    const lines = [{ key: "header", value: { summary: "a proposal", description: "why" } }, fileLine("new.txt", "new")];
    const body = lines.map((line) => JSON.stringify(line)).join("\n");
    await bob.raw("POST", "/api/models/ada/digits/commit/main?create_pr=1", { body });
    expect((await ada.post("/api/models/ada/digits/discussions/1/merge")).status).toBe(200);
    await deliver();
    const seen = payloads().map(({ event, updatedRefs, discussion }) => [
      `${event.action} ${event.scope}`,
      updatedRefs?.map(({ ref }) => ref) ?? discussion,
    ]);
    const merged = {
      num: 1,
      isPullRequest: true,
      status: "merged",
      changes: { base: "refs/heads/main", mergeCommitId: payloads()[0]?.repo.headSha },
    };
    expect(seen).toEqual(
      expect.arrayContaining([
        ["update repo.content", ["refs/pr/1"]],
        ["create discussion", expect.objectContaining({ num: 1, isPullRequest: true })],
        ["update repo.content", ["refs/heads/main"]],
        ["update discussion", expect.objectContaining(merged)],
      ]),
    );
  });

  it("that fails is repeated under the same id, later and later, before anything newer", async () => {
    const id = await make(bob);
    await create("one");
    await create("two");
    answers = [500, new Error("no route"), 301, 200, 200];
    const wait = await deliver();
    expect(messages).toHaveLength(1);
    expect(wait).toBeGreaterThan(Date.now());
    await deliver();
    expect(messages).toHaveLength(1);
    for (let rounds = 0; rounds < 3; rounds++) {
      ahead += 3 * 3600_000;
      await deliver();
    }
    expect(told()).toEqual([...Array(4).fill("create repo ada/one"), "create repo ada/two"]);
    const ids = messages.map(({ headers }) => headers.get("webhook-id"));
    expect(new Set(ids.slice(0, 4)).size).toBe(1);
    expect(ids[4]).not.toBe(ids[0]);
    expect((await read(bob, id)).disabled).toBe(false);
  });

  it("waits as long as the receiver asks, and ends when it is gone or never comes back", async () => {
    const id = await make(bob);
    await create("one");
    answers = [new Response(null, { status: 429, headers: { "retry-after": "7200" } })];
    expect(await deliver()).toBeGreaterThanOrEqual(Date.now() + 7_100_000);
    ahead += 3 * 3600_000;
    answers = [410];
    await deliver();
    expect((await read(bob, id)).disabled).toBe(true);
    await create("while disabled");
    await create("meanwhile");
    await bob.post(`${AT}/${id}/enable`);
    await create("two");
    answers = Array(20).fill(503);
    messages = [];
    for (let rounds = 0; rounds < 20; rounds++) {
      ahead += 48 * 3600_000;
      await deliver();
    }
    expect(new Set(told())).toEqual(new Set(["create repo ada/two"]));
    expect(messages).toHaveLength(10);
    expect((await read(bob, id)).disabled).toBe(true);
    const trail = z.object({ events: z.array(z.looseObject({ type: z.string() })) });
    const audit = await bob.get("/api/v1/audit?type=webhook.disabled");
    expect(trail.parse(audit.body).events.length).toBeGreaterThan(0);
  });

  it("loses nothing and doubles only under the same id, wherever it dies", async () => {
    await make(bob);
    for (const name of ["one", "two", "three"]) await create(name);
    for (let calls = 0; calls < 40; calls++) {
      await deliver(mortal(platform, calls)).catch(() => undefined);
      // The lease of the dead one ends.
      ahead += 16 * 60_000;
    }
    await deliver();
    const firsts = new Map(messages.map(({ headers, body }) => [headers.get("webhook-id"), body]));
    expect([...firsts.values()].map((body) => Payload.parse(JSON.parse(body)).repo.name)).toEqual([
      "ada/one",
      "ada/two",
      "ada/three",
    ]);
    expect(messages.length).toBeGreaterThan(3);
  });

  it("is made once by runners side by side", async () => {
    for (const who of [ada, bob]) await make(who);
    for (const name of ["one", "two", "three"]) await create(name);
    await Promise.all([deliver(), deliver(), deliver()]);
    expect(messages).toHaveLength(6);
  });
});
