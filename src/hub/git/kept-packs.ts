// Entries of packs kept in the bucket, so that a clone reads some large objects there instead of thousands of small ones.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../db/client";
import { HubError } from "../../errors";
import { IdSet } from "../../formats/git/id-set";
import { decodeKeptIndex, INDEX_ENTRY_BYTES } from "../../formats/git/kept-entries";
import type { GitId } from "../../ids";
import type { Platform } from "../../platform/platform";
import { readObject } from "../../store/objects";
import { readAll, readChunks } from "../../streams/chunks";
import type { PackContents } from "./fetch";

/** Beyond that many parts a repository's are made anew, in few. */
export const MOST_PARTS = 64;
/** What lies between two entries that are wanted is read along, up to this. Bytes. */
const GAP_BYTES = 128 << 10;

const PartRow = z.object({ key: z.string(), objects: z.number(), size: z.number() });
type Part = z.output<typeof PartRow>;
type Store = Pick<Platform, "db" | "blobs">;
type Place = { readonly part: number; readonly offset: number; readonly length: number };

/** What is kept of a repository. Which of it anyone gets is said by ids that were found in its trees: nothing else is ever sent. */
export class KeptPacks {
  readonly parts: readonly Part[];
  readonly #ids = new IdSet();
  readonly #places: Place[] = [];

  private constructor(parts: readonly Part[]) {
    this.parts = parts;
  }

  /** One query, and one read for each part. */
  static async load({ db, blobs }: Store, repoId: string): Promise<KeptPacks> {
    const kept = new KeptPacks(
      await queryRows(
        db,
        PartRow,
        sql`select key, objects, size from git_packs where repo_id = ${repoId} order by created_at, key limit ${2 * MOST_PARTS}`,
      ),
    );
    for (const [part, { key, objects, size }] of kept.parts.entries()) {
      const length = objects * INDEX_ENTRY_BYTES;
      const index = await readAll(await readObject(blobs, key, { offset: size, length }), length);
      for (const { id, offset, length } of decodeKeptIndex(index, size))
        if (kept.#ids.add(id).added) kept.#places.push({ part, offset, length });
    }
    return kept;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Gives the entries among these that are kept, one read for those that lie together. @returns the others */
  async write(
    { blobs }: Store,
    contents: PackContents,
    sink: (bytes: Uint8Array) => Promise<void>,
  ): Promise<PackContents> {
    const { kept, rest } = this.#split(contents);
    for (const [part, places] of Map.groupBy(kept, (place) => place.part)) {
      const { key } = this.parts[part] ?? { key: "" };
      for (const run of runsOf(places)) await copyRun(blobs, key, run, sink);
    }
    return rest;
  }

  /** What of the contents is not kept. */
  missing(contents: PackContents): PackContents {
    return this.#split(contents).rest;
  }

  #split(contents: PackContents): { readonly kept: readonly Place[]; readonly rest: PackContents } {
    const kept: Place[] = [];
    const isMissing = (id: GitId): boolean => {
      const place = this.#places[this.#ids.indexOf(id)];
      if (place !== undefined) kept.push(place);
      return place === undefined;
    };
    const missingOf = (ids: IdSet): IdSet => {
      const missing = new IdSet();
      for (const id of ids) if (isMissing(id)) missing.add(id);
      return missing;
    };
    const { commits, tags, trees, blobs } = contents;
    const rest = { tags, commits: commits.filter(isMissing), trees: missingOf(trees), blobs: missingOf(blobs) };
    return { kept, rest };
  }
}

/** Bytes from `start` to `end`. */
type Span = { readonly start: number; end: number };
type Run = Span & { readonly spans: Span[] };

/** What lies together or nearly so is read at once; `spans` are what of it is wanted. */
function runsOf(places: readonly Place[]): Run[] {
  const runs: Run[] = [];
  for (const { offset: start, length } of places.toSorted((a, b) => a.offset - b.offset)) {
    const end = start + length;
    const run = runs.at(-1);
    if (run === undefined || start - run.end > GAP_BYTES) {
      runs.push({ start, end, spans: [{ start, end }] });
      continue;
    }
    const span = run.spans.at(-1);
    if (span?.end === start) span.end = end;
    else run.spans.push({ start, end });
    run.end = end;
  }
  return runs;
}

async function copyRun(
  blobs: Platform["blobs"],
  key: string,
  { start, end, spans }: Run,
  sink: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const chunks = readChunks(await readObject(blobs, key, { offset: start, length: end - start }), { reuse: true });
  try {
    let at = start;
    let next = 0;
    for (let chunk = await chunks.next(); chunk !== undefined; chunk = await chunks.next()) {
      const chunkEnd = at + chunk.length;
      for (let span = spans[next]; span !== undefined && span.start < chunkEnd; span = spans[++next]) {
        await sink(chunk.subarray(Math.max(span.start, at) - at, Math.min(span.end, chunkEnd) - at));
        if (span.end > chunkEnd) break;
      }
      at = chunkEnd;
    }
    if (at !== end) throw new HubError("content_damaged");
  } catch (error) {
    await chunks.cancel(error);
    throw error;
  }
}
