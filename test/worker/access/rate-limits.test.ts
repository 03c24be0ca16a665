// Rate limits: counted before any query, by account, token or address, told in headers, refused in each surface's own protocol.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { networkOf, RateLimiter } from "../../../src/access/rate-limits";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, Client, user } from "../../kit/actors";
import { countRoundTrips } from "../../kit/round-trips";
import { settled } from "../../kit/settled";

const WINDOW_MS = 300_000;
// No test runs across the end of a window.
beforeEach(() => {
  const start = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  vi.useFakeTimers({ toFake: ["Date"], now: start + 1000 });
});
afterEach(() => {
  vi.useRealTimers();
});

const SETTINGS = {
  RATE_LIMITS: "on",
  RATE_LIMIT_API: "3",
  RATE_LIMIT_RESOLVERS: "2",
  RATE_LIMIT_PAGES: "1",
  RATE_LIMIT_GIT: "1",
};
let host = 0;
/** Counters live as long as the isolate: each test comes from elsewhere. */
const elsewhere = (): string => `198.51.100.${++host}`;
const ask = (client: Client, path: string, address: string, headers: Record<string, string> = {}) =>
  settled(client, path, { headers: { "cf-connecting-ip": address, ...headers }, settings: SETTINGS });
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

it("tell what is left, refuse what is too much without a query, and keep the buckets apart", async () => {
  const address = elsewhere();
  for (const remaining of [2, 1, 0]) {
    const { status, headers } = await ask(anonymous, "/api/models", address);
    expect([status, headers.get("ratelimit")]).toEqual([200, expect.stringMatching(`^"api";r=${remaining};t=299$`)]);
    expect(headers.get("ratelimit-policy")).toBe('"fixed window";"api";q=3;w=300');
  }
  const { d1, result } = await countRoundTrips(() => ask(anonymous, "/api/models", address));
  expect([result.status, d1]).toEqual([429, 0]);
  expect(result.headers.get("ratelimit")).toMatch(/^"api";r=0;t=\d+$/);
  expect(Number(result.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(JSON.parse(text(result.bytes))).toEqual({ error: expect.stringContaining("3 are taken in 300 seconds") });
  expect(result.headers.get("access-control-expose-headers")).toContain("RateLimit-Policy");
  expect((await ask(anonymous, "/ada/x/resolve/main/f", address)).status).toBe(401);
  expect((await ask(anonymous, "/api/models", elsewhere())).status).toBe(200);
});

it("are refused in the protocol of each surface", async () => {
  const address = elsewhere();
  const html = { accept: "text/html" };
  await ask(anonymous, "/", address, html);
  const page = await ask(anonymous, "/ada/x", address, html);
  expect([page.status, page.headers.get("content-type")]).toEqual([429, expect.stringContaining("text/html")]);
  await ask(anonymous, "/ada/x.git/info/refs?service=git-upload-pack", address);
  const git = await ask(anonymous, "/ada/x.git/info/refs?service=git-upload-pack", address);
  expect([git.status, text(git.bytes)]).toEqual([429, expect.stringMatching(/^Too many requests/)]);
  for (let i = 0; i < 3; i++) await ask(anonymous, "/api/v1/audit", address);
  const v1 = await ask(anonymous, "/api/v1/audit", address);
  expect([v1.status, v1.headers.get("content-type")]).toEqual([429, "application/problem+json"]);
});

it("leave signed transfers, health and style sheets alone", async () => {
  const address = elsewhere();
  for (const path of ["/healthz", "/cas/objects/x?sig=1", "/lfs/uploads/x?sig=1", "/_a/styles.css"])
    expect([path, (await ask(anonymous, path, address)).headers.get("ratelimit")]).toEqual([path, null]);
});

it("count an account's tokens together wherever they come from, and made-up tokens by their address without asking", async () => {
  const admin = await administrator();
  const one = await user(admin, "ada");
  const two = await user(admin, "ada");
  for (const client of [one, two]) expect((await ask(client, "/api/whoami-v2", elsewhere())).status).toBe(200);
  const statuses: number[] = [];
  for (const client of [one, two, one, two]) statuses.push((await ask(client, "/api/whoami-v2", elsewhere())).status);
  expect(statuses).toEqual([200, 200, 200, 429]);
  const address = elsewhere();
  const guess = (i: number) => ask(new Client(`hf_${"x".repeat(30)}${i}`), "/api/whoami-v2", address);
  for (let i = 0; i < 3; i++) expect((await guess(i)).status).toBe(401);
  const { d1, result } = await countRoundTrips(() => guess(3));
  expect([result.status, d1]).toEqual([429, 0]);
  // Who needs no token from there is not kept out by that.
  expect((await ask(anonymous, "/api/models", address)).status).toBe(200);
});

it("add up what several isolates let through, but for a twentieth of the quota each", async () => {
  const work: Promise<unknown>[] = [];
  const settings = { ...env, ...SETTINGS, RATE_LIMIT_API: "100" };
  const platform = cloudflarePlatform(settings, "r", (one) => work.push(one), "write", {
    address: elsewhere(),
    agent: "",
  });
  const isolates = [new RateLimiter(), new RateLimiter(), new RateLimiter()];
  let taken = 0;
  for (let i = 0; i < 300; i++) {
    const verdict = isolates[i % isolates.length]?.take(platform, "/api/models", undefined);
    if (verdict?.refused === false) taken++;
    await Promise.all(work.splice(0));
  }
  expect(taken).toBeGreaterThanOrEqual(100);
  expect(taken).toBeLessThanOrEqual(115);
  const later = { ...platform, now: () => Date.now() + WINDOW_MS };
  expect(isolates[0]?.take(later, "/api/models", undefined)).toMatchObject({ refused: false, remaining: 99 });
});

it("take the addresses of an IPv6 network for one client", () => {
  expect(networkOf("2001:db8::1:1")).toBe(networkOf("2001:db8:0:0:ffff::2"));
  expect(networkOf("2001:db8:0:1::1")).not.toBe(networkOf("2001:db8::1"));
  expect(networkOf("::1")).toBe(networkOf("::2"));
  expect(networkOf("192.0.2.1")).toBe("192.0.2.1");
});
