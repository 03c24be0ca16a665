// Discussions: numbering, what people write and change in them, who may, and that what is hidden stays hidden.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

const REPO = "ada/digits";
const AT = `/api/models/${REPO}/discussions`;
const Opened = z.object({ num: z.number() });
const Event = z.object({
  id: z.string(),
  type: z.string(),
  createdAt: z.string().endsWith("Z"),
  author: z.object({ name: z.string() }).optional(),
  data: z.record(z.string(), z.unknown()),
});
const Details = z.object({ title: z.string(), status: z.string(), events: z.array(Event) });
const Page = z.object({
  count: z.number(),
  start: z.number(),
  discussions: z.array(
    z.object({ num: z.number(), title: z.string(), isPullRequest: z.boolean(), status: z.string() }),
  ),
});

let admin: Client;
let ada: Client;
let bob: Client;
let eve: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  eve = await user(admin, "eve");
  await ada.post("/api/repos/create", { name: "digits" });
});

const open = async (who: Client, title: string, more: object = {}): Promise<number> =>
  Opened.parse((await who.post(AT, { title, description: "why", ...more })).body).num;
const details = async (number: number, who = anonymous) => Details.parse((await who.get(`${AT}/${number}`)).body);
const say = async (who: Client, number: number, comment: string) => {
  const { body } = await who.post(`${AT}/${number}/comment`, { comment });
  return z.object({ newMessage: Event }).parse(body).newMessage;
};

describe("opening and listing", () => {
  it("numbers discussions and pull requests together, newest first", async () => {
    const made = [
      await open(bob, "first of all"),
      await open(bob, "a draft", { pullRequest: true }),
      await open(eve, "another"),
    ];
    expect(made).toEqual([1, 2, 3]);
    await eve.post(`${AT}/3/status`, { status: "closed" });
    const numbers = async (query = "") => {
      const page = Page.parse((await anonymous.get(`${AT}${query}`)).body);
      expect(page).toMatchObject({ count: page.discussions.length, start: 0 });
      return page.discussions.map((one) => one.num);
    };
    expect(await numbers()).toEqual([3, 2, 1]);
    expect(await numbers("?type=pull_request")).toEqual([2]);
    expect(await numbers("?type=discussion")).toEqual([3, 1]);
    expect(await numbers("?status=open")).toEqual([2, 1]);
    expect(await numbers("?status=closed&type=all")).toEqual([3]);
    expect(await numbers("?author=EVE&status=all")).toEqual([3]);
    expect(await numbers("?author=nobody")).toEqual([]);
    expect(Page.parse((await anonymous.get(`${AT}?p=1`)).body)).toEqual({ count: 3, start: 50, discussions: [] });
  });

  it("refuses a list that can't be", async () => {
    for (const query of ["?p=-1", "?p=x", "?p=1e99", "?type=issue", "?status=merged"])
      expect((await anonymous.get(`${AT}${query}`)).status, query).toBe(422);
  });

  it("shows the description as the first comment, rendered without anyone's HTML", async () => {
    const number = await open(bob, "  title  ", { description: "**bold** <script>x</script> [file](config.json)" });
    const answer = await anonymous.get(`${AT}/${number}`);
    expect(answer.body).toMatchObject({
      num: 1,
      title: "title",
      status: "open",
      isPullRequest: false,
      author: { name: "bob" },
      repo: { name: REPO, type: "model" },
    });
    expect(answer.body).not.toHaveProperty("changes");
    const [first, ...rest] = Details.parse(answer.body).events;
    expect(rest).toEqual([]);
    expect(first).toMatchObject({
      type: "comment",
      author: { name: "bob" },
      data: { edited: false, hidden: false, history: [], latest: { author: { name: "bob" } } },
    });
    expect(first?.id).toMatch(/^[0-9a-f]{24}$/);
    const { html } = z.object({ html: z.string() }).parse(first?.data.latest);
    expect(html).toContain("<strong>bold</strong>");
    expect(html).toContain(`href="/${REPO}/blob/main/config.json"`);
    expect(html).not.toContain("<script>");
  });

  it("gives each its own number when many open at once", async () => {
    const opened = await Promise.all([1, 2, 3, 4].map((i) => open(i % 2 === 0 ? bob : eve, `racing ${i}`)));
    expect(opened.sort()).toEqual([1, 2, 3, 4]);
  });

  it("refuses titles and texts that are no such", async () => {
    const wrong = [
      { title: "no" },
      { title: "x".repeat(201) },
      { title: "two\nlines" },
      { title: "a nul \0 byte" },
      { description: "no title" },
      { title: "too long", description: "x".repeat(65_537) },
      { title: "no boolean", pullRequest: "yes" },
      [],
    ];
    for (const body of wrong) {
      const answer = await bob.post(AT, body);
      expect([400, 422], answer.text).toContain(answer.status);
      expect(answer.body).toHaveProperty("error");
    }
  });

  it("answers 404 for what is not there, and asks for a token to write", async () => {
    for (const number of ["1", "0", "99999999999999999999"])
      expect((await bob.get(`${AT}/${number}`)).status, number).toBe(404);
    expect((await bob.get(`${AT}/one`)).status).toBe(404);
    expect((await bob.post(`${AT}/7/comment`, { comment: "hello?" })).status).toBe(404);
    expect((await anonymous.post(AT, { title: "anonymous" })).status).toBe(401);
    const reader = await user(admin, "ray", "read");
    expect((await reader.post(AT, { title: "with a read token" })).status).toBe(403);
  });
});

describe("a discussion", () => {
  let number: number;
  beforeEach(async () => {
    number = await open(bob, "a question");
  });

  it("takes comments of every reader, after it is closed too", async () => {
    await bob.post(`${AT}/${number}/status`, { status: "closed", comment: "found it" });
    const event = await say(eve, number, "how?");
    const { status, events } = await details(number);
    expect(status).toBe("closed");
    expect(events.map((one) => [one.type, one.author?.name])).toEqual([
      ["comment", "bob"],
      ["comment", "bob"],
      ["status-change", "bob"],
      ["comment", "eve"],
    ]);
    expect(events[2]?.data).toEqual({ status: "closed" });
    expect(events[3]).toEqual(event);
    expect((await eve.post(`${AT}/${number}/comment`, { comment: "  " })).status).toBe(422);
    expect((await eve.post(`${AT}/${number}/comment`)).status).toBe(400);
  });

  it("lets authors edit their comments, and keeps what they said before", async () => {
    const { id } = await say(eve, number, "one");
    const edit = (who: Client, content: string, which = id) =>
      who.post(`${AT}/${number}/comment/${which}/edit`, { content });
    expect((await edit(ada, "the owner's words")).status).toBe(403);
    expect((await edit(anonymous, "nobody's words")).status).toBe(401);
    expect((await edit(eve, "x", "f".repeat(24))).status).toBe(404);
    expect((await edit(eve, "two", id.toUpperCase())).status).toBe(200);
    const { body } = await edit(eve, "three");
    expect(body).toMatchObject({
      updatedComment: {
        id,
        data: { edited: true, hidden: false, latest: { raw: "three" }, history: [{ raw: "one" }, { raw: "two" }] },
      },
    });
    await Promise.all([edit(eve, "four"), edit(eve, "five")]);
    const { data } = z
      .object({ data: z.object({ history: z.array(z.object({ raw: z.string() })) }) })
      .parse((await details(number)).events[1]);
    expect(data.history).toHaveLength(4);
    const other = await open(bob, "another discussion");
    expect((await eve.post(`${AT}/${other}/comment/${id}/edit`, { content: "elsewhere" })).status).toBe(404);
  });

  it("hides a comment for good: neither what it says nor what it said is in any answer", async () => {
    const { id } = await say(eve, number, "a secret-one");
    await eve.post(`${AT}/${number}/comment/${id}/edit`, { content: "a secret-two" });
    const hide = (who: Client) => who.post(`${AT}/${number}/comment/${id}/hide`);
    expect((await hide(bob)).status).toBe(403);
    const hidden = await hide(ada);
    expect(hidden.body).toMatchObject({ updatedComment: { id, data: { hidden: true, history: [] } } });
    expect((await hide(eve)).status).toBe(200);
    expect((await eve.post(`${AT}/${number}/comment/${id}/edit`, { content: "again" })).status).toBe(409);
    const answers = await Promise.all(
      [`${AT}/${number}?diff=1`, AT, `/${REPO}/discussions/${number}`, "/api/v1/audit?limit=100"].map((path) =>
        admin.get(path),
      ),
    );
    for (const { text } of [hidden, ...answers]) expect(text).not.toContain("secret");
  });

  it("is renamed, closed and opened by its author and by writers", async () => {
    for (const [what, body] of [
      ["title", { title: "eve's title" }],
      ["status", { status: "closed" }],
    ] as const)
      expect((await eve.post(`${AT}/${number}/${what}`, body)).status, what).toBe(403);
    expect((await bob.post(`${AT}/${number}/title`, { title: "a better question" })).body).toMatchObject({
      newTitle: { type: "title-change", data: { from: "a question", to: "a better question" } },
    });
    expect((await ada.post(`${AT}/${number}/status`, { status: "closed" })).body).toMatchObject({
      newStatus: { type: "status-change", author: { name: "ada" }, data: { status: "closed" } },
    });
    expect((await ada.post(`${AT}/${number}/status`, { status: "closed" })).status).toBe(409);
    expect((await bob.post(`${AT}/${number}/status`, { status: "open" })).status).toBe(200);
    expect((await bob.post(`${AT}/${number}/status`, { status: "draft" })).status).toBe(422);
    expect(await details(number)).toMatchObject({ title: "a better question", status: "open" });
  });

  it("is full at some point, and can be closed all the same", async () => {
    await env.DB.prepare(
      `insert into discussion_events (id, repo_id, number, type, author_id, created_at, data)
        select e.id || s.key, e.repo_id, e.number, e.type, e.author_id, e.created_at, e.data
          from discussion_events e, json_each(?) s where e.number = ?`,
    )
      .bind(JSON.stringify(new Array(1000).fill(0)), number)
      .run();
    const { events } = await details(number);
    expect(events).toHaveLength(1001);
    expect((await eve.post(`${AT}/${number}/comment`, { comment: "one more" })).status).toBe(409);
    const edit = `${AT}/${number}/comment/${events[0]?.id}/edit`;
    expect((await bob.post(edit, { content: "longer" })).status).toBe(409);
    expect((await bob.post(`${AT}/${number}/status`, { status: "closed", comment: "why" })).status).toBe(409);
    expect((await bob.post(`${AT}/${number}/status`, { status: "closed" })).status).toBe(200);
  });

  it("stays when its author goes, who is named no more", async () => {
    await env.DB.prepare("update accounts set deleted_at = 1 where name = 'bob'").run();
    const { body } = await anonymous.get(`${AT}/${number}`);
    expect(body).not.toHaveProperty("author");
    expect(Details.parse(body).events[0]).not.toHaveProperty("author");
    const page = await anonymous.get(AT);
    expect(Page.parse(page.body).discussions).toHaveLength(1);
    expect(page.text).not.toContain("bob");
  });

  it("tells the trail what happened, without what was said", async () => {
    await say(eve, number, "words of eve");
    await ada.post(`${AT}/${number}/status`, { status: "closed" });
    const { body, text } = await ada.get("/api/v1/audit?limit=50");
    expect(text).not.toContain("words of eve");
    const { events } = z
      .object({ events: z.array(z.object({ type: z.string(), subject: z.string(), data: z.unknown() })) })
      .parse(body);
    const told = events.filter((one) => one.type.startsWith("discussion."));
    const data = { type: "discussion", number, title: "a question" };
    expect(told).toMatchObject([
      { type: "discussion.status_changed", data: { ...data, status: "closed" } },
      { type: "discussion.commented", data: { ...data, status: "open" } },
      { type: "discussion.created", subject: `model:${REPO}`, data: { ...data, status: "open" } },
    ]);
  });
});

describe("what is private", () => {
  it("has discussions that strangers can't find, by reading or by writing", async () => {
    const number = await open(bob, "before it was private");
    const { id } = await say(bob, number, "a comment");
    await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
    const calls: [string, string, unknown?][] = [
      ["GET", AT],
      ["POST", AT, { title: "knock knock" }],
      ["GET", `${AT}/${number}?diff=1`],
      ["POST", `${AT}/${number}/comment`, { comment: "knock" }],
      ["POST", `${AT}/${number}/comment/${id}/edit`, { content: "knock" }],
      ["POST", `${AT}/${number}/comment/${id}/hide`],
      ["POST", `${AT}/${number}/title`, { title: "knock knock" }],
      ["POST", `${AT}/${number}/status`, { status: "closed" }],
    ];
    for (const [method, path, body] of calls) {
      const answer = await bob.send(method, path, body);
      expect([answer.status, answer.headers.get("x-error-code")], path).toEqual([404, "RepoNotFound"]);
    }
    expect((await details(number, ada)).title).toBe("before it was private");
  });

  it("goes with its repository", async () => {
    await open(bob, "soon gone");
    await ada.send("DELETE", "/api/repos/delete", { name: "digits" });
    await ada.post("/api/repos/create", { name: "digits" });
    expect(Page.parse((await ada.get(AT)).body).count).toBe(0);
    expect(await open(bob, "anew")).toBe(1);
  });
});

describe("a pull request", () => {
  it("is called what its first commit is, as far as that is a title", async () => {
    const summary = `  ${"\u{1f600}".repeat(150)}  \nmore`;
    for (const text of [summary, "\n\nnothing first", "x"]) {
      const header = JSON.stringify({ key: "header", value: { summary: text, description: "" } });
      const body = `${header}\n${JSON.stringify(fileLine(`${text.length}.txt`, "1"))}`;
      expect((await bob.raw("POST", `/api/models/${REPO}/commit/main?create_pr=1`, { body })).status).toBe(200);
    }
    const titles = Page.parse((await anonymous.get(AT)).body).discussions.map((one) => one.title);
    expect(titles).toEqual(["x", "Without a title", "\u{1f600}".repeat(100)]);
    for (const number of [1, 2, 3]) expect((await ada.post(`${AT}/${number}/merge`)).status).toBe(200);
    expect((await bob.post(AT, { title: `lone \ud800 half`, description: "\udfff" })).status).toBe(201);
  });

  it("lists every commit that is pushed to it", async () => {
    const number = await open(bob, "a change", { pullRequest: true });
    await bob.commit(REPO, [fileLine("a.txt", "a\n")], { branch: `refs/pr/${number}`, summary: "first\n\nand why" });
    const { body } = await ada.commit(REPO, [fileLine("b.txt", "b\n")], {
      branch: `refs/pr/${number}`,
      summary: "second",
    });
    const { events } = await details(number);
    expect(events.map((one) => [one.type, one.author?.name, one.data.subject])).toEqual([
      ["comment", "bob", undefined],
      ["commit", "bob", "first"],
      ["commit", "ada", "second"],
    ]);
    expect(events[2]?.data.oid).toBe(z.object({ commitOid: z.string() }).parse(body).commitOid);
  });
});
