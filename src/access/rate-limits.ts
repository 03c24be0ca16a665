// How many requests a client may make: counted in the isolate's memory, before any query, and shared between isolates now and then.
import type { RateBucket } from "../config";
import { HubError } from "../errors";
import type { Platform } from "../platform/platform";
import { isJobToken } from "./job-tokens";
import type { Actor } from "./policy";
import { tokenHash, tokenOf } from "./tokens";
import { isXetToken } from "./xet-tokens";

const WINDOW_S = 300;
/** An isolate tells the others of a client after each such part of its quota: rarely, and after the answer. */
const SHARE = 1 / 20;
/** What is remembered of clients; with more of them the oldest are forgotten, and begin anew. */
const MAX_CLIENTS = 20_000;

export type RateVerdict = {
  readonly bucket: RateBucket;
  readonly quota: number;
  readonly remaining: number;
  /** Until the window ends. */
  readonly resetS: number;
  readonly refused: boolean;
};

type Counter = { window: number; here: number; shared: number; elsewhere: number };

/**
 * Of one isolate. Here no client gets more than its quota in a window. Where isolates share a client, it gets at most the quota and a
 * twentieth of it for each of them, besides what is under way while they hear of each other.
 */
export class RateLimiter {
  readonly #counters = new Map<string, Counter>();
  readonly #accounts = new Map<string, string>();

  /** Counts a request; null for one that is not limited. */
  take(platform: Platform, path: string, authorization: string | undefined): RateVerdict | null {
    const bucket = bucketOf(path);
    const quota = bucket === null ? undefined : platform.config.rateLimits?.[bucket];
    const client = this.#clientOf(platform, authorization);
    if (bucket === null || quota === undefined || client === null) return null;
    const seconds = platform.now() / 1000;
    const window = Math.floor(seconds / WINDOW_S);
    const key = `${bucket} ${client}`;
    const counter = this.#counterOf(key, window);
    const refused = counter.here + counter.elsewhere >= quota;
    if (!refused) {
      counter.here++;
      if (counter.here - counter.shared >= quota * SHARE) this.#share(platform, key, counter);
    }
    const remaining = Math.max(0, quota - counter.here - counter.elsewhere);
    return { bucket, quota, remaining, resetS: Math.ceil((window + 1) * WINDOW_S - seconds), refused };
  }

  /** Whose token it is: from the next request on it counts as theirs, whichever of their tokens they send. */
  know(authorization: string | undefined, actor: Actor): void {
    const token = authorization === undefined ? null : tokenOf(authorization);
    if (token !== null && actor.kind === "user") remember(this.#accounts, tokenHash(token), actor.id);
  }

  /** A token that nobody here has seen may be anything: it counts for the address that tries it, apart from what needs no token. */
  #clientOf({ peer }: Platform, authorization: string | undefined): string | null {
    const address = networkOf(peer.address);
    const token = authorization === undefined ? null : tokenOf(authorization);
    if (token === null) return `address ${address}`;
    if (isJobToken(token) || isXetToken(token)) return null;
    const account = this.#accounts.get(tokenHash(token));
    return account === undefined ? `tokens of ${address}` : `account ${account}`;
  }

  #counterOf(key: string, window: number): Counter {
    const known = this.#counters.get(key);
    if (known?.window === window) return known;
    const fresh = { window, here: 0, shared: 0, elsewhere: 0 };
    remember(this.#counters, key, fresh);
    return fresh;
  }

  #share({ rates, defer }: Platform, key: string, counter: Counter): void {
    const count = counter.here - counter.shared;
    counter.shared = counter.here;
    const mine = counter.shared;
    const learn = async (): Promise<void> => {
      try {
        counter.elsewhere = Math.max(counter.elsewhere, (await rates.add(key, counter.window, count)) - mine);
      } catch {
        // Then this isolate counts alone until the next time.
      }
    };
    defer(learn());
  }
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_CLIENTS) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}

/** Of an IPv6 address the network of 64 bits, in which one machine has many. */
export function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const groups = (address.split("::")[0] ?? "").split(":");
  return [...groups, "0", "0", "0", "0"].slice(0, 4).join(":");
}

/** Addresses that are signed, or cost nothing, are not limited. */
const UNLIMITED = /^\/(cas|lfs\/uploads|_a)\//;
const GIT = /\.git\/|\/(info\/refs|git-(upload|receive)-pack)$/;
const FILE = /^\/(datasets\/)?[^/]+\/[^/]+\/(resolve|raw)\//;

function bucketOf(path: string): RateBucket | null {
  if (UNLIMITED.test(path)) return null;
  if (/^\/(api|oauth|v1)\//.test(path)) return "api";
  if (GIT.test(path)) return "git";
  return FILE.test(path) ? "resolvers" : "pages";
}

export const tooManyRequests = ({ quota, resetS }: RateVerdict): HubError =>
  new HubError("too_many_requests", { quota, window: WINDOW_S, reset: resetS });

/** As the clients of the ecosystem read them (draft-ietf-httpapi-ratelimit-headers). */
export function rateHeaders(rate: RateVerdict | undefined): [string, string][] {
  if (rate === undefined) return [];
  const { bucket, quota, remaining, resetS, refused } = rate;
  return [
    ["RateLimit", `"${bucket}";r=${remaining};t=${resetS}`],
    ["RateLimit-Policy", `"fixed window";"${bucket}";q=${quota};w=${WINDOW_S}`],
    ...(refused ? ([["Retry-After", String(resetS)]] satisfies [string, string][]) : []),
  ];
}
