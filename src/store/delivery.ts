// Addresses under which one range of one object can be fetched without a token, and what the Worker answers at its own.
import { HubError } from "../errors";
import type { Platform } from "../platform/platform";
import { presignGet } from "../platform/s3";
import { isSigned, macBase64, sign } from "../platform/signing";
import { selectRange } from "../streams/ranges";
import { parseXorbKey, XORBS_PREFIX } from "./keys";
import { readObject } from "./objects";
import { readThrough } from "./public-cache";
import { PUBLIC } from "./scopes";

export type ObjectTarget = {
  readonly key: string;
  /** Byte positions of the object, `end` exclusive. */
  readonly bytes: { readonly start: number; readonly end: number };
  /** The repository that they are read through is public: only then may caches that people share keep them. */
  readonly public: boolean;
  /** Content-Disposition of the answer, where the one who answers can be told. */
  readonly disposition?: string;
};

export const OBJECTS_PATH = "/cas/objects/";
const LIFETIME_S = 3600;
/** Addresses of one target are equal for this long, so that caches can work; they are good for 50 to 60 minutes. */
const WINDOW_S = 600;
const PURPOSE = "object";

/** Who may read a part of it may read it all, unless it is a xorb of an owner's scope: that can hold chunks of other repositories. */
const isOpenWhole = ({ key, public: shared }: ObjectTarget): boolean => {
  const xorb = parseXorbKey(key);
  return xorb === null ? !key.startsWith(XORBS_PREFIX) : shared && xorb.scope === PUBLIC;
};

/** The start of the current window: seconds since 1970. */
const issuedAt = (platform: Platform): number => Math.floor(platform.now() / 1000 / WINDOW_S) * WINDOW_S;

/**
 * An absolute address that answers GET with this range of the object: on the bucket's custom domain for public objects that may be
 * read whole, else presigned for the bucket itself, else on the Worker at `origin`. The client must ask for exactly this range.
 */
export async function objectUrl(platform: Platform, origin: string, target: ObjectTarget): Promise<string> {
  return (await directUrl(platform, target)) ?? (await workerUrl(platform, origin, target));
}

/** The same where the bytes would not pass through the Worker; null where nothing of the kind is configured. */
export async function directUrl(platform: Platform, target: ObjectTarget): Promise<string | null> {
  const { s3, downloadDomain } = platform.config;
  const issued = issuedAt(platform);
  if (downloadDomain !== null && target.public && isOpenWhole(target)) {
    // What the rule function is_timed_hmac_valid_v0 checks: HMAC-SHA256 of path and time of issue, the lifetime is the rule's.
    const path = `/${target.key}`;
    const mac = await macBase64(downloadDomain.secret, `${path}${issued}`);
    return `${downloadDomain.origin}${path}?verify=${issued}-${encodeURIComponent(mac)}`;
  }
  if (s3 === null) return null;
  const { start, end } = target.bytes;
  return presignGet(s3, {
    key: target.key,
    issuedAt: issued * 1000,
    lifetimeS: LIFETIME_S,
    ...(isOpenWhole(target) ? {} : { range: `bytes=${start}-${end - 1}` }),
    ...(target.disposition === undefined ? {} : { disposition: target.disposition }),
  });
}

async function workerUrl(platform: Platform, origin: string, target: ObjectTarget): Promise<string> {
  const { start, end } = target.bytes;
  const expires = issuedAt(platform) + LIFETIME_S;
  const shared = target.public ? 1 : 0;
  const signature = await sign(platform.config.secret, PURPOSE, target.key, start, end, shared, expires);
  const query = new URLSearchParams({
    bytes: `${start}-${end}`,
    public: `${shared}`,
    expires: `${expires}`,
    signature,
  });
  return `${origin}${OBJECTS_PATH}${target.key}?${query}`;
}

/** What an address of the Worker opens. @throws address_expired when it is too old, or not as the hub gave it */
export async function openObjectUrl(platform: Platform, request: Request): Promise<ObjectTarget> {
  const url = new URL(request.url);
  const key = url.pathname.startsWith(OBJECTS_PATH) ? url.pathname.slice(OBJECTS_PATH.length) : "";
  const field = (name: string): string => url.searchParams.get(name) ?? "";
  const [, from = "", to = ""] = /^(\d{1,15})-(\d{1,15})$/.exec(field("bytes")) ?? [];
  const start = Number(from);
  const end = Number(to);
  const shared = field("public") === "1" ? 1 : 0;
  const expires = Number(field("expires"));
  const signed = await isSigned(platform.config.secret, field("signature"), PURPOSE, key, start, end, shared, expires);
  if (!signed || expires * 1000 <= platform.now()) throw new HubError("address_expired");
  return { key, bytes: { start, end }, public: shared === 1 };
}

/**
 * GET or HEAD of such an address: the signed bytes, or one range within them, in positions of the object. No query.
 * @throws address_expired | range_not_satisfiable | content_damaged
 */
export async function serveObject(platform: Platform, request: Request): Promise<Response> {
  const { key, bytes, public: shared } = await openObjectUrl(platform, request);
  const range = selectRange(request.headers, bytes.end, { etag: `"${key}"` });
  if (range.kind === "unsatisfiable" || (range.kind === "range" && range.start < bytes.start))
    throw new HubError("range_not_satisfiable", { size: bytes.end });
  const start = range.kind === "range" ? range.start : bytes.start;
  const end = range.kind === "range" ? range.end + 1 : bytes.end;
  const headers = new Headers({
    "accept-ranges": "bytes",
    "cache-control": shared ? "public, no-transform, max-age=31536000, immutable" : "private, no-store",
    "content-length": String(end - start),
    "content-type": "application/octet-stream",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
    etag: `"${key}"`,
  });
  // The size of the whole object is not what the address tells of.
  if (range.kind === "range") headers.set("content-range", `bytes ${start}-${end - 1}/*`);
  const status = range.kind === "range" ? 206 : 200;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  const read = () => readObject(platform.blobs, key, { offset: start, length: end - start });
  // Clients ask for exactly what was signed; other ranges are not worth a place in the cache.
  const isWhole = start === bytes.start && end === bytes.end;
  const piece = { key: `objects/${key}/${start}-${end}`, size: end - start };
  const body = isWhole ? readThrough(platform, { private: !shared, gated: null }, piece, read) : read();
  return new Response(await body, { status, headers });
}
