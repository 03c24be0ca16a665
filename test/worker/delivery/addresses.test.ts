// Signed addresses of byte ranges: what the Worker's own open and refuse, and what the other kinds look like.
import { env } from "cloudflare:workers";
import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HubError } from "../../../src/errors";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { type ObjectTarget, objectUrl, openObjectUrl, serveObject } from "../../../src/store/delivery";

const ORIGIN = "https://hub.test";
const HASH = "ab".repeat(32);
const KEY = `xorbs/ab/${HASH}/01owner/${"0".repeat(32)}`;
const PUBLIC_KEY = `xorbs/ab/${HASH}/public/${"0".repeat(32)}`;
const TARGET: ObjectTarget = { key: KEY, bytes: { start: 10, end: 20 }, public: false };
const S3 = {
  R2_S3_ENDPOINT: "https://account.r2.cloudflarestorage.com",
  R2_ACCESS_KEY_ID: "id",
  R2_SECRET_ACCESS_KEY: "key",
  R2_BUCKET: "blobs",
};
const DOMAIN = { DOWNLOAD_DOMAIN: "https://files.example", DOWNLOAD_DOMAIN_SECRET: "a secret of the domain" };

let time: number;
let deferred: Promise<unknown>[];
function platformWith(settings: Record<string, string> = {}): Platform {
  const real = cloudflarePlatform({ ...env, ...settings }, "test", () => {});
  return { ...real, now: () => time, defer: (work) => void deferred.push(work) };
}
let platform: Platform;

beforeEach(async () => {
  time = 1_800_000_000_000;
  deferred = [];
  platform = platformWith();
  for (const key of [KEY, PUBLIC_KEY])
    await env.BLOBS.put(
      key,
      Uint8Array.from({ length: 40 }, (_, i) => i),
    );
});
afterEach(() => vi.restoreAllMocks());

const get = (url: string, headers: Record<string, string> = {}, method = "GET") =>
  serveObject(platform, new Request(url, { headers, method }));

async function refusal(answer: Promise<unknown>): Promise<string> {
  const error = await answer.then(
    () => new Error("was answered"),
    (reason: unknown) => reason,
  );
  return error instanceof HubError ? error.code : String(error);
}

const bytesOf = async (response: Response) => [...new Uint8Array(await response.arrayBuffer())];

describe("an address of the Worker", () => {
  it("opens exactly what it was made for", async () => {
    const url = await objectUrl(platform, ORIGIN, TARGET);
    expect(url).toMatch(/^https:\/\/hub\.test\/cas\/objects\/xorbs\/ab\//);
    expect(await openObjectUrl(platform, new Request(url))).toEqual(TARGET);
  });

  it("is the same for some minutes, and good for at least 50 and at most 60", async () => {
    const url = await objectUrl(platform, ORIGIN, TARGET);
    time += 599_000;
    expect(await objectUrl(platform, ORIGIN, TARGET)).toBe(url);
    time += 50 * 60_000;
    expect((await get(url)).status).toBe(200);
    time += 1000;
    expect(await refusal(get(url))).toBe("address_expired");
  });

  it("is refused when any part of it is another", async () => {
    const url = await objectUrl(platform, ORIGIN, TARGET);
    for (const [from, to] of [
      ["10-20", "10-21"],
      ["10-20", "0-20"],
      ["10-20", "10-20x"],
      ["public=0", "public=1"],
      ["expires=1", "expires=2"],
      ["01owner", "public"],
      ["signature=", "signature=A"],
    ] as const) {
      expect(url).toContain(from);
      expect(await refusal(get(url.replace(from, to)))).toBe("address_expired");
    }
    expect(await refusal(get(`${ORIGIN}/cas/objects/${KEY}`))).toBe("address_expired");
  });

  it("answers the range that was signed, and ranges within it, in positions of the object", async () => {
    const url = await objectUrl(platform, ORIGIN, TARGET);
    const asked: [string | null, number, number[], string | null][] = [
      [null, 200, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19], null],
      ["bytes=10-19", 206, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19], "bytes 10-19/*"],
      ["bytes=12-13", 206, [12, 13], "bytes 12-13/*"],
      ["bytes=18-100", 206, [18, 19], "bytes 18-19/*"],
      ["bytes=-2", 206, [18, 19], "bytes 18-19/*"],
    ];
    for (const [range, status, bytes, contentRange] of asked) {
      const response = await get(url, range === null ? {} : { range });
      expect(response.status).toBe(status);
      expect(response.headers.get("content-range")).toBe(contentRange);
      expect(response.headers.get("content-length")).toBe(String(bytes.length));
      expect(await bytesOf(response)).toEqual(bytes);
    }
    for (const range of ["bytes=9-12", "bytes=0-", "bytes=20-", "bytes=-11"])
      expect(await refusal(get(url, { range }))).toBe("range_not_satisfiable");
  });

  it("answers HEAD without reading", async () => {
    const response = await get(await objectUrl(platform, ORIGIN, TARGET), { range: "bytes=10-11" }, "HEAD");
    expect(response.status).toBe(206);
    expect(response.headers.get("content-length")).toBe("2");
    expect(response.body).toBeNull();
  });

  it("needs no query", async () => {
    const prepare = vi.spyOn(Object.getPrototypeOf(env.DB), "withSession");
    await bytesOf(await get(await objectUrl(platform, ORIGIN, TARGET)));
    expect(prepare).not.toHaveBeenCalled();
  });

  it("lets shared caches keep public bytes and nothing else", async () => {
    const put = vi.spyOn(Object.getPrototypeOf(caches.default), "put");
    const hidden = await get(await objectUrl(platform, ORIGIN, TARGET));
    expect(hidden.headers.get("cache-control")).toBe("private, no-store");
    await bytesOf(hidden);
    await Promise.all(deferred);
    expect(put).not.toHaveBeenCalled();

    const url = await objectUrl(platform, ORIGIN, { ...TARGET, public: true });
    const first = await get(url);
    expect(first.headers.get("cache-control")).toContain("public");
    const bytes = await bytesOf(first);
    await Promise.all(deferred);
    expect(put).toHaveBeenCalledTimes(1);
    await env.BLOBS.delete(KEY);
    const again = await get(url);
    expect(Object.fromEntries(again.headers)).toEqual(Object.fromEntries(first.headers));
    expect(await bytesOf(again)).toEqual(bytes);
  });
});

describe("an address of the bucket", () => {
  it("binds the range of a xorb that holds more than the reader may have", async () => {
    const url = new URL(await objectUrl(platformWith(S3), ORIGIN, TARGET));
    expect(`${url.origin}${url.pathname}`).toBe(`https://account.r2.cloudflarestorage.com/blobs/${KEY}`);
    const { searchParams } = url;
    expect(searchParams.get("X-Amz-SignedHeaders")).toBe("host;range");
    expect(searchParams.get("X-Amz-Expires")).toBe("3600");
    expect(searchParams.get("X-Amz-Date")).toBe("20270115T080000Z");
  });

  it("lets a whole object be read in any ranges", async () => {
    for (const target of [
      { ...TARGET, key: PUBLIC_KEY, public: true },
      { ...TARGET, key: "blobs/ab/cd/0" },
    ]) {
      const url = new URL(await objectUrl(platformWith(S3), ORIGIN, target));
      expect(url.searchParams.get("X-Amz-SignedHeaders")).toBe("host");
    }
  });
});

describe("an address of the custom domain", () => {
  it("is what Cloudflare's rule checks: path and time of issue", async () => {
    const target = { ...TARGET, key: PUBLIC_KEY, public: true };
    const url = await objectUrl(platformWith({ ...S3, ...DOMAIN }), ORIGIN, target);
    const issued = 1_800_000_000;
    const mac = createHmac("sha256", DOMAIN.DOWNLOAD_DOMAIN_SECRET).update(`/${PUBLIC_KEY}${issued}`).digest("base64");
    expect(url).toBe(`https://files.example/${PUBLIC_KEY}?verify=${issued}-${encodeURIComponent(mac)}`);
  });

  it("is given for nothing private, and for no xorb of an owner's scope", async () => {
    for (const target of [
      { ...TARGET, key: PUBLIC_KEY },
      { ...TARGET, public: true },
      { ...TARGET, key: "blobs/ab/cd/0" },
    ]) {
      expect(await objectUrl(platformWith(DOMAIN), ORIGIN, target)).toMatch(/^https:\/\/hub\.test\//);
      expect(await objectUrl(platformWith({ ...S3, ...DOMAIN }), ORIGIN, target)).toMatch(/^https:\/\/account\./);
    }
  });
});

it("refuses settings of which only some are there", () => {
  expect(() => platformWith({ R2_S3_ENDPOINT: S3.R2_S3_ENDPOINT, R2_BUCKET: "b" })).toThrow(
    "R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY",
  );
});
