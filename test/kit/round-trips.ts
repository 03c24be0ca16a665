// Counts what is asked of D1 and R2, and sees what is put into the edge's cache.
import { env } from "cloudflare:workers";
import { vi } from "vitest";
import * as z from "zod";

export type RoundTrips = { readonly d1: number; readonly r2: number };

const SESSION: D1DatabaseSession = Object.getPrototypeOf(env.DB.withSession("first-primary"));
const STATEMENT: D1PreparedStatement = Object.getPrototypeOf(env.DB.prepare("select 1"));
const BUCKET: R2Bucket = Object.getPrototypeOf(env.BLOBS);
const CACHE: Cache = Object.getPrototypeOf(caches.default);

/** Round trips to D1 (a batch is one) and reads of R2 until the work is done, with what it returns. */
export async function countRoundTrips<T>(work: () => Promise<T>): Promise<RoundTrips & { readonly result: T }> {
  const d1 = [
    ...(["all", "run", "raw", "first"] as const).map((name) => vi.spyOn(STATEMENT, name)),
    vi.spyOn(SESSION, "batch"),
  ];
  const r2 = [vi.spyOn(BUCKET, "get"), vi.spyOn(BUCKET, "head")];
  const sum = (spies: readonly { mock: { calls: unknown[] } }[]): number =>
    spies.reduce((total, { mock }) => total + mock.calls.length, 0);
  try {
    const result = await work();
    return { d1: sum(d1), r2: sum(r2), result };
  } finally {
    for (const spy of [...d1, ...r2]) spy.mockRestore();
  }
}

/** The keys of what is put into the edge's cache while the work is done. */
export async function cachePuts(work: () => Promise<unknown>): Promise<string[]> {
  const spy = vi.spyOn(CACHE, "put");
  try {
    await work();
    return spy.mock.calls.map(([key]) => String(key instanceof Request ? key.url : key));
  } finally {
    spy.mockRestore();
  }
}

const Meta = z.object({ meta: z.object({ rows_read: z.number() }) });
const Metas = z.union([Meta.transform((one) => [one]), z.array(Meta)]);

/** Rows that D1 read until the work is done, as it counts them itself. */
export async function countRowsRead<T>(work: () => Promise<T>): Promise<{ readonly read: number; readonly result: T }> {
  const spies = [vi.spyOn(STATEMENT, "all"), vi.spyOn(STATEMENT, "run"), vi.spyOn(SESSION, "batch")];
  try {
    const result = await work();
    let read = 0;
    for (const { mock } of spies)
      for (const { value } of mock.results)
        read += Metas.parse(await value).reduce((sum, { meta }) => sum + meta.rows_read, 0);
    return { read, result };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}
