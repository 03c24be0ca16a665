// Collections, webhooks, people and the login from a browser, as the stock Python client speaks of them.
import { createHmac } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import * as z from "zod";
import { callHub, newPerson, newToken, sharedHub } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const SCRIPT = "social.py";

const Shown = z.object({
  slug: z.string(),
  title: z.string(),
  description: z.string().nullable(),
  private: z.boolean(),
  theme: z.string(),
  items: z.array(z.tuple([z.string(), z.string(), z.string().nullable()])),
  url: z.string(),
});

type Received = { readonly headers: IncomingHttpHeaders; readonly body: string };

/** A receiver of webhooks on this machine. */
async function receiver(): Promise<{ url: string; received: Received[]; close: () => void }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += String(chunk);
    });
    request.on("end", () => {
      received.push({ headers: request.headers, body });
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the receiver has no port");
  return { url: `http://127.0.0.1:${address.port}/hook`, received, close: () => server.close() };
}

const Told = z.looseObject({ event: z.object({ action: z.string(), scope: z.string() }) });

describe.each(VERSIONS)("huggingface_hub %s", (version) => {
  async function someone(): Promise<{ session: Session; name: string }> {
    const { name, token } = await newPerson("keeper");
    return { session: { version, token, home: scratch("home") }, name };
  }

  it("keeps collections", async () => {
    const { session, name } = await someone();
    const answer = await pythonStep(
      session,
      SCRIPT,
      "collections",
      { me: name },
      z.object({
        made: Shown,
        same: z.boolean(),
        full: Shown,
        strangers: Shown.shape.items,
        moved: Shown.shape.items,
        updated: Shown,
        by_old_slug: z.boolean(),
        listed: z.array(z.string()),
        holding: z.array(z.string()),
        unseen: z.array(z.string()),
        codes: z.object({
          taken: z.string(),
          again: z.string(),
          missing: z.array(z.string()),
          paper: z.string(),
          private: z.string(),
          twice: z.string(),
        }),
      }),
    );
    const { made, full, codes } = answer;
    expect(made.slug).toMatch(new RegExp(`^${name}/my-cool-stuff-[0-9a-f]{24}$`));
    expect(made.url).toBe(`${sharedHub().endpoint}/collections/${made.slug}`);
    expect(answer.same).toBe(true);
    expect(full.items).toEqual([
      ["model", `${name}/model`, "This is mine"],
      ["dataset", `${name}/dataset`, null],
      ["collection", expect.stringMatching(`^${name}/nested-things-`), null],
      ["model", `${name}/hidden`, null],
    ]);
    expect(answer.strangers).toEqual(full.items.slice(0, 3));
    expect(answer.moved.slice(0, 2)).toEqual([full.items[1], ["model", `${name}/model`, "New note"]]);
    expect(answer.updated).toMatchObject({
      title: "Renamed",
      theme: "pink",
      private: true,
      description: "A lot of it",
    });
    expect(answer.updated.items).toHaveLength(3);
    expect(answer.by_old_slug).toBe(true);
    expect(answer.listed).toEqual(["Renamed"]);
    expect(answer.holding).toEqual(["Renamed"]);
    expect(answer.unseen).toEqual(["Nested things"]);
    expect(codes.taken).toContain("409");
    expect(codes.again).toContain("409");
    expect(codes.missing).toContain("RepositoryNotFoundError");
    expect(codes.paper).toContain("papers");
    expect(codes.private).toContain("404");
    expect(codes.twice).toContain("404");
  });

  it("keeps webhooks, which are told within seconds", async () => {
    const { session, name } = await someone();
    const { url, received, close } = await receiver();
    try {
      const answer = await pythonStep(
        session,
        SCRIPT,
        "webhooks",
        { me: name, url },
        z.object({
          made: z.looseObject({ id: z.string() }),
          read: z.boolean(),
          listed: z.boolean(),
          disabled: z.tuple([z.boolean(), z.boolean()]),
          changed: z.looseObject({}),
          commit: z.string(),
          inner: z.string(),
          job: z.string(),
        }),
      );
      const watched = [
        { type: "user", name },
        { type: "org", name: "nobody" },
      ];
      expect(answer.made).toMatchObject({
        url,
        watched,
        domains: ["repo", "discussion"],
        secret: "my-secret",
        disabled: false,
      });
      expect([answer.read, answer.listed, answer.disabled]).toEqual([true, true, [true, false]]);
      expect(answer.changed).toMatchObject({ url, watched, domains: ["repo"] });
      expect(answer.inner).toContain("422");
      expect(answer.job).toContain("jobs");
      // What happened before it was enabled again may have been told or not; what happens from now on is.
      const hub = sharedHub();
      const headers = { authorization: `Bearer ${session.token}`, "content-type": "application/json" };
      const make = { name: "later", type: "model" };
      await fetch(`${hub.endpoint}/api/repos/create`, { method: "POST", headers, body: JSON.stringify(make) });
      const isLater = ({ body }: Received): boolean => body.includes(`${name}/later`);
      for (let waits = 0; waits < 200 && !received.some(isLater); waits++) await pause(100);
      const last = received.find(isLater);
      expect(Told.parse(JSON.parse(last?.body ?? "")).event).toEqual({ action: "create", scope: "repo" });
      expect(last?.headers["x-webhook-secret"]).toBe("my-secret");
      const signed = `${last?.headers["webhook-id"]}.${last?.headers["webhook-timestamp"]}.${last?.body}`;
      expect(last?.headers["webhook-signature"]).toBe(
        `v1,${createHmac("sha256", "my-secret").update(signed).digest("base64")}`,
      );
      expect(await pythonStep(session, SCRIPT, "end_webhooks", {}, z.string())).toContain("404");
    } finally {
      close();
    }
  });

  it("knows people and organizations", async () => {
    const { session, name } = await someone();
    const other = await newPerson("known");
    const org = `lab-${other.name}`;
    const mine = { endpoint: sharedHub().endpoint, token: await newToken(name, "admin") };
    await callHub(mine, "POST", "/organizations", { name: org });
    const answer = await pythonStep(
      session,
      SCRIPT,
      "people",
      { me: name, other: other.name, org },
      z.looseObject({ nobody: z.string() }),
    );
    expect(answer).toMatchObject({
      followed: 200,
      overview: [other.name, other.name, "user", 1],
      following: true,
      picture: "image/svg+xml",
      followers: [name],
      mine: [other.name],
      organizations: [org],
      organization: [org, 1, [name], []],
    });
    expect(answer.nobody).toContain("404");
  });

  it("logs in by a code that is approved in a browser", async () => {
    const { name } = await newPerson("visitor");
    const answer = await pythonStep(
      { version, home: scratch("login") },
      SCRIPT,
      "login",
      { token: await newToken(name, "admin") },
      z.looseObject({ told: z.string(), rest: z.string() }),
    );
    expect(answer).toMatchObject({ approved: 200, code: 0, name, token: "from a browser", content: "1" });
    expect(answer.told).toContain(`${sharedHub().endpoint}/device?user_code=`);
    expect(answer.rest).toContain(`logged in as ${name}`);
  });
});
