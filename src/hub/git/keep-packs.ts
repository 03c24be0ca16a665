// Background work that keeps the entries of a repository's objects: a bounded part of those that are not kept yet, until all are.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { IdSet } from "../../formats/git/id-set";
import { encodeKeptIndex, type KeptEntry } from "../../formats/git/kept-entries";
import { NO_FILTER } from "../../formats/git/upload-pack-request";
import type { Platform } from "../../platform/platform";
import { newPackKey } from "../../store/keys";
import { adoptObjects, condemnObjects, objectsUsable, stageObjects } from "../../store/objects";
import { progressOf, type Step, type StepEnd, type Task } from "../../store/tasks";
import { concatBytes } from "../../streams/chunks";
import { gitIdColumn, repoExists } from "../repositories";
import { Fetch, objectCount, type PackContents } from "./fetch";
import { KeptPacks, MOST_PARTS } from "./kept-packs";
import { writeObjects } from "./pack-objects";

/** What one step reads: some thousand objects of the bucket are the most that a Worker may. */
const OBJECTS_PER_STEP = 4000;
/** Of one part: in memory until it is stored. Bytes. */
const PART_BYTES = 16 << 20;

type KeptPart = { readonly key: string; readonly objects: number; readonly size: number };

/** Of all branches and tags. What pull requests propose is kept when it is merged. */
export const packStep: Step = async (platform: Platform, { subject: repoId, progress }: Task): Promise<StepEnd> => {
  const { db, now } = platform;
  const wants = await queryRows(
    db,
    z.object({ target: gitIdColumn }),
    sql`select distinct target from refs where repo_id = ${repoId} and name not like 'refs/pr/%'`,
  );
  if (wants.length === 0) return { kind: "done" };
  const kept = await KeptPacks.load(platform, repoId);
  if (kept.parts.length > MOST_PARTS)
    return { ...restart(repoId, now()), kind: "continue", progress: nextRound(progress) };
  const fetch = await Fetch.open(db, repoId, {
    wants: wants.map(({ target }) => target),
    haves: [],
    shallow: [],
    deepening: { kind: "none" },
    filter: NO_FILTER,
    done: true,
    waitForDone: false,
    includeTag: false,
    noProgress: true,
  });
  const missing = kept.missing((await fetch.plan()).contents);
  const some = firstOf(missing, OBJECTS_PER_STEP);
  const parts = await storeParts(platform, repoId, some);
  const written: StepEnd = {
    kind: "done",
    guards: [repoExists({ id: repoId }), objectsUsable(parts.map(({ key }) => key))],
    statements: [
      adoptObjects(
        parts.map(({ key }) => key),
        now(),
      ),
      sql`insert into git_packs (key, repo_id, objects, size, created_at)
        select value ->> 'key', ${repoId}, value ->> 'objects', value ->> 'size', ${now()} from json_each(${asJson(parts)})`,
    ],
  };
  // What is left may be large blobs only, which are not kept.
  const more = parts.length > 0 && objectCount(missing) > objectCount(some);
  return more ? { ...written, kind: "continue", progress: nextRound(progress) } : written;
};

/** Every step ends by another progress, so that of two that did the same one is lost. */
const nextRound = (progress: unknown) =>
  progressOf({ round: (z.object({ round: z.number() }).safeParse(progress).data?.round ?? 0) + 1 });

/** Many small parts are made one large one: all begins anew. Who reads them now may do so for another day. */
const restart = (repoId: string, now: number): { readonly statements: readonly Statement[] } => ({
  statements: [
    condemnObjects(sql`select key from git_packs where repo_id = ${repoId}`, now),
    sql`delete from git_packs where repo_id = ${repoId}`,
  ],
});

function firstOf({ commits, trees, blobs }: PackContents, count: number): PackContents {
  const taken = (ids: IdSet, most: number): IdSet => {
    const set = new IdSet();
    for (const id of ids.slice(0, most)) set.add(id);
    return set;
  };
  const someCommits = commits.slice(0, count);
  const someTrees = taken(trees, count - someCommits.length);
  const someBlobs = taken(blobs, count - someCommits.length - someTrees.size);
  // Tags are few, and read in one query.
  return { tags: [], commits: someCommits, trees: someTrees, blobs: someBlobs };
}

/** Each object has its row before its first byte; those of a step that fails are condemned a day later. */
async function storeParts(platform: Platform, repoId: string, contents: PackContents): Promise<KeptPart[]> {
  const { db, blobs, now } = platform;
  const parts: KeptPart[] = [];
  let entries: KeptEntry[] = [];
  let bytes: Uint8Array[] = [];
  let size = 0;
  const store = async (): Promise<void> => {
    if (entries.length === 0) return;
    const key = newPackKey(repoId);
    const index = encodeKeptIndex(entries);
    await db.run(stageObjects([key], now()));
    await blobs.put(key, concatBytes([...bytes, index], size + index.length));
    parts.push({ key, objects: entries.length, size });
    [entries, bytes, size] = [[], [], 0];
  };
  await writeObjects(
    platform,
    repoId,
    contents,
    async (entry, id) => {
      if (id === undefined) throw new HubError("internal");
      entries.push({ id, length: entry.length });
      bytes.push(entry);
      size += entry.length;
      if (size >= PART_BYTES) await store();
    },
    true,
  );
  await store();
  return parts;
}
