// What everybody may read and what never changes, kept in the shared cache near its readers: the only place that writes there.
import type * as z from "zod";
import type { Platform } from "../platform/platform";
import { readAll } from "../streams/chunks";
import { isOpen } from "./scopes";

/** Whose the thing is that may be kept: of a private or gated repository nothing ever is. */
export type Owned = Parameters<typeof isOpen>[0];

type Cached = Pick<Platform, "cache" | "config" | "defer">;

/** Bytes up to this size are taken whole into memory on their way to the cache; it also bounds what is called a small file. */
export const SMALL_BYTES = 4 * 1024 * 1024;
/** Larger pieces would push too much else out. */
const LARGEST_BYTES = 64 * 1024 * 1024;
/** Bytes are kept under what they are, so nothing but room limits how long. */
const BYTES_AGE_S = 30 * 24 * 3600;

/**
 * Keeps a value under a key that nothing else is ever kept under while it is remembered. The caller has decided before that whoever asks
 * may read it.
 */
export async function keep(
  { cache }: Pick<Platform, "cache">,
  owner: Owned,
  key: string,
  body: ReadableStream<Uint8Array> | Uint8Array | string,
  maxAgeS: number,
): Promise<void> {
  if (!isOpen(owner)) return;
  try {
    await cache.put(key, body, maxAgeS);
  } catch (error) {
    // Forgetting is allowed, failing the request for it is not.
    console.warn(JSON.stringify({ level: "warn", msg: "the edge cache took nothing", key, error: String(error) }));
  }
}

/** What is kept under the key; null where nothing is, or what an older version of the hub wrote in another form. */
export async function recall<T>(
  { cache }: Pick<Platform, "cache">,
  owner: Owned,
  key: string,
  schema: z.ZodType<T>,
): Promise<T | null> {
  const found = isOpen(owner) ? await cache.match(key) : null;
  if (found === null) return null;
  return schema.safeParse(await found.json()).data ?? null;
}

/** Bytes that never change: from the cache, or read and kept for the next. `size` is of all that `read` gives. */
export async function readThrough(
  platform: Cached,
  owner: Owned,
  { key, size }: { readonly key: string; readonly size: number },
  read: () => Promise<ReadableStream<Uint8Array>>,
): Promise<ReadableStream<Uint8Array>> {
  if (!isOpen(owner) || !platform.config.edgeCache || size === 0 || size > LARGEST_BYTES) return read();
  const found = await platform.cache.match(key);
  if (found?.body) return found.body;
  if (size > SMALL_BYTES) {
    // Read once more for the cache, as a stream can't go two ways without passing through JavaScript.
    const body = await read();
    platform.defer(read().then((copy) => keep(platform, owner, key, copy, BYTES_AGE_S)));
    return body;
  }
  const bytes = await readAll(await read(), SMALL_BYTES);
  platform.defer(keep(platform, owner, key, bytes, BYTES_AGE_S));
  return new Blob([bytes]).stream();
}
