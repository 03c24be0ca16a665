// Device login: a program shows a code, a person approves it with a token of theirs, the program gets its own, once.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, answerOf, Client, user } from "../../kit/actors";

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const Started = z.strictObject({
  device_code: z.string().min(40),
  user_code: z.string().regex(/^[B-Z]{4}-[B-Z]{4}$/),
  verification_uri: z.literal("http://hub.test/device"),
  verification_uri_complete: z.url(),
  expires_in: z.literal(900),
  interval: z.literal(5),
});
const Granted = z.strictObject({
  access_token: z.string().startsWith("hf_"),
  token_type: z.literal("bearer"),
  expires_in: z.number(),
});
const Refused = z.strictObject({ error: z.string(), error_description: z.string() });

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
});

const form = async (path: string, fields: Record<string, string>) =>
  answerOf(
    await anonymous.raw("POST", path, {
      body: new URLSearchParams(fields).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    }),
  );
const start = async () => Started.parse((await form("/oauth/device", { client_id: "a program" })).body);
const poll = (deviceCode: string) =>
  form("/oauth/token", { grant_type: GRANT, device_code: deviceCode, client_id: "a program" });
async function refusal(deviceCode: string): Promise<string> {
  const answer = await poll(deviceCode);
  expect(answer.status).toBe(400);
  return Refused.parse(answer.body).error;
}
const decide = (code: string, fields: Record<string, string> = {}, token = ada.token ?? "") =>
  form("/device", { code, token, name: "my laptop", scope: "write", decision: "approve", ...fields });
const later = (seconds: number) =>
  env.DB.prepare("update device_codes set polled_at = polled_at - ?1, expires_at = expires_at - ?1")
    .bind(seconds * 1000)
    .run();

describe("a program", () => {
  it("waits, is let in, and gets a token once", async () => {
    const { device_code, user_code, verification_uri_complete } = await start();
    expect(await refusal(device_code)).toBe("authorization_pending");
    const page = await anonymous.get(verification_uri_complete);
    expect(page.status).toBe(200);
    expect(page.text).toContain(`value="${user_code}"`);
    expect(page.headers.get("content-security-policy")).toContain("form-action 'self'");
    const done = await decide(user_code.toLowerCase().replace("-", " "));
    expect(done.status).toBe(200);
    expect(done.text).toContain("let in");
    const answers = await Promise.all([poll(device_code), poll(device_code)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400]);
    const granted = Granted.parse(answers.find(({ status }) => status === 200)?.body);
    expect(granted.expires_in).toBeGreaterThan(86_400);
    const its = new Client(granted.access_token);
    expect((await its.get("/api/whoami-v2")).body).toMatchObject({
      name: "ada",
      auth: { accessToken: { displayName: "my laptop", role: "write" } },
    });
    expect((await its.post("/api/repos/create", { name: "made" })).status).toBe(200);
    expect((await its.post("/api/v1/tokens", { name: "more", scope: "read" })).status).toBe(403);
    expect(await refusal(device_code)).toBe("invalid_grant");
    expect((await decide(user_code)).status).toBe(403);
  });

  it("is told to slow down, that its time is over, and that it was sent away", async () => {
    const { device_code } = await start();
    expect(await refusal(device_code)).toBe("authorization_pending");
    expect(await refusal(device_code)).toBe("slow_down");
    await later(6);
    expect(await refusal(device_code)).toBe("slow_down");
    await later(16);
    expect(await refusal(device_code)).toBe("authorization_pending");
    await later(900);
    expect(await refusal(device_code)).toBe("expired_token");
    const other = await start();
    expect((await decide(other.user_code, { decision: "deny" })).text).toContain("sent away");
    expect(await refusal(other.device_code)).toBe("access_denied");
    expect((await decide(other.user_code)).status).toBe(403);
    expect(await refusal(device_code)).toBe("invalid_grant");
  });

  it("gets nothing from who may not give it, or no more", async () => {
    const { device_code, user_code } = await start();
    const writing = await user(admin, "ada", "write");
    for (const token of [writing.token ?? "", "hf_made_up", "nonsense with spaces", ""])
      expect((await decide(user_code, {}, token)).status, token).toBe(403);
    const bad: Record<string, string>[] = [{ scope: "root" }, { name: " " }, { decision: "maybe" }];
    for (const fields of bad) expect((await decide(user_code, fields)).status).toBe(403);
    expect(await refusal(device_code)).toBe("authorization_pending");
    expect((await decide(user_code)).status).toBe(200);
    const [mine] = z
      .object({ tokens: z.array(z.object({ id: z.string(), name: z.string() })) })
      .parse((await ada.get("/api/v1/tokens")).body)
      .tokens.filter(({ name }) => name === "admin token");
    await ada.send("DELETE", `/api/v1/tokens/${mine?.id}`);
    expect(await refusal(device_code)).toBe("access_denied");
  });

  it("that is guessed is not found for long", async () => {
    const { user_code } = await start();
    const guesses = await Promise.all(Array.from({ length: 10 }, () => decide("BBBB-BBBB")));
    expect(guesses.every(({ status }) => status === 403)).toBe(true);
    const answer = await decide(user_code);
    expect(answer.status).toBe(403);
    expect(answer.text).toContain("quarter of an hour");
    expect((await decide(user_code, {}, admin.token)).status).toBe(200);
  });
});

describe("the codes", () => {
  it("are stored as hashes only", async () => {
    const { device_code, user_code } = await start();
    const rows = JSON.stringify((await env.DB.prepare("select * from device_codes").all()).results);
    for (const secret of [device_code, user_code, user_code.replace("-", "")]) expect(rows).not.toContain(secret);
  });

  it("are given to few at a time", async () => {
    await env.DB.prepare(
      "with recursive n (value) as (select 1 union all select value + 1 from n where value < 10000) insert into device_codes (hash, user_hash, interval_s, created_at, expires_at) select value, value, 5, 0, ?1 from n",
    )
      .bind(Date.now() + 60_000)
      .run();
    expect((await form("/oauth/device", { client_id: "x" })).status).toBe(503);
    await later(60);
    expect((await form("/oauth/device", { client_id: "x" })).status).toBe(200);
  });
});

describe("other grants and bad requests", () => {
  it("are refused as OAuth has it", async () => {
    const errors: [string, Record<string, string>, string][] = [
      ["/oauth/device", {}, "invalid_request"],
      ["/oauth/token", {}, "invalid_request"],
      ["/oauth/token", { grant_type: GRANT }, "invalid_request"],
      ["/oauth/token", { grant_type: GRANT, device_code: "x".repeat(300) }, "invalid_request"],
      ["/oauth/token", { grant_type: GRANT, device_code: "made up" }, "invalid_grant"],
      ["/oauth/token", { grant_type: "refresh_token", refresh_token: "x" }, "unsupported_grant_type"],
    ];
    for (const [path, fields, error] of errors) expect((await form(path, fields)).body).toMatchObject({ error });
    const exchange = { grant_type: "urn:ietf:params:oauth:grant-type:token-exchange", subject_token: "x" };
    expect((await anonymous.post("/oauth/token", exchange)).body).toMatchObject({ error: "unsupported_grant_type" });
    const broken = { body: "{", headers: { "content-type": "application/json" } };
    expect((await anonymous.raw("POST", "/oauth/token", broken)).status).toBe(400);
    expect((await anonymous.get("/oauth/authorize")).status).toBe(501);
  });
});
