// What a hub has stored, read from outside: copies of its databases, the rows typed, and the objects of its bucket.
import { createHash } from "node:crypto";
import { copyFileSync, createReadStream, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as pause } from "node:timers/promises";
import * as z from "zod";

const COPY_TRIES = 100;
const COPY_AGAIN_MS = 50;

const fromJson = <T extends z.ZodType>(schema: T) =>
  z
    .string()
    .transform((text): unknown => JSON.parse(text))
    .pipe(schema);

const Segment = z.object({ key: z.string(), size: z.number(), sha256: z.string() });

const queries = {
  repos:
    "select r.id, r.type, a.name || '/' || r.name as name from repos r join accounts a on a.id = r.owner_id order by r.id",
  refs: "select repo_id, name, target from refs",
  commits: "select repo_id, id, tree, parents, author_name, author_email, authored_at, message from commits",
  entries: "select repo_id, tree, name, kind, id, sha256, size, lfs from tree_entries",
  contents: "select sha256, size, segments from contents",
  repoContents: "select repo_id, sha256, file_id, state from repo_contents",
  objects: "select key, state from objects",
  xorbs: "select id, hash, scope, key, packed_size, size, chunks from xorbs",
  files: "select id, hash, scope, size, state, sha256 from xet_files",
  terms:
    "select file_id, offset, length, xorb_id, chunk_start, chunk_end, byte_start, byte_end from xet_terms order by file_id, offset",
  jobContents: "select job_id, sha256 from job_contents",
  uploads: "select id, repo_id, job_id, sha256, size, completed_at from uploads",
  uploadParts: "select upload_id, number, key, size from upload_parts",
  jobs: "select id, kind, state, attempt, output_repo_id, output_ref, result, error, ended_at from jobs",
  stateEvents: "select job_id, attempt, data ->> 'state' as state from job_events where type = 'state' order by seq",
  jobEnds: "select subject, data ->> 'state' as state from events where type = 'job.ended'",
  refMoves: "select subject, data ->> 'newSha' as target from events where type = 'ref.moved'",
  lineage: "select repo_id, commit_id, ordinal, parent_repo_id, parent_commit_id from lineage",
  evaluations: "select id, job_id, record from evaluations",
  guards: "select holds from guards",
} as const;

const RowsShape = z.object({
  repos: z.array(z.object({ id: z.string(), type: z.enum(["model", "dataset"]), name: z.string() })),
  refs: z.array(z.object({ repo_id: z.string(), name: z.string(), target: z.string() })),
  commits: z.array(
    z.object({
      repo_id: z.string(),
      id: z.string(),
      tree: z.string(),
      parents: fromJson(z.array(z.string())),
      author_name: z.string(),
      author_email: z.string(),
      authored_at: z.number(),
      message: z.string(),
    }),
  ),
  entries: z.array(
    z.object({
      repo_id: z.string(),
      tree: z.string(),
      name: z.string(),
      kind: z.enum(["file", "directory"]),
      id: z.string(),
      sha256: z.string().nullable(),
      size: z.number(),
      lfs: z.number(),
    }),
  ),
  contents: z.array(z.object({ sha256: z.string(), size: z.number(), segments: fromJson(z.array(Segment)) })),
  repoContents: z.array(
    z.object({
      repo_id: z.string(),
      sha256: z.string(),
      file_id: z.number().nullable(),
      state: z.enum(["verified", "claimed", "mismatched"]),
    }),
  ),
  objects: z.array(z.object({ key: z.string(), state: z.enum(["staged", "live", "condemned"]) })),
  xorbs: z.array(
    z.object({
      id: z.number(),
      hash: z.string(),
      scope: z.string(),
      key: z.string(),
      packed_size: z.number(),
      size: z.number(),
      chunks: z.number(),
    }),
  ),
  files: z.array(
    z.object({
      id: z.number(),
      hash: z.string(),
      scope: z.string(),
      size: z.number(),
      state: z.enum(["open", "registered", "removed"]),
      sha256: z.string().nullable(),
    }),
  ),
  terms: z.array(
    z.object({
      file_id: z.number(),
      offset: z.number(),
      length: z.number(),
      xorb_id: z.number(),
      chunk_start: z.number(),
      chunk_end: z.number(),
      byte_start: z.number(),
      byte_end: z.number(),
    }),
  ),
  jobContents: z.array(z.object({ job_id: z.string(), sha256: z.string() })),
  uploads: z.array(
    z.object({
      id: z.string(),
      repo_id: z.string().nullable(),
      job_id: z.string().nullable(),
      sha256: z.string(),
      size: z.number(),
      completed_at: z.number().nullable(),
    }),
  ),
  uploadParts: z.array(z.object({ upload_id: z.string(), number: z.number(), key: z.string(), size: z.number() })),
  jobs: z.array(
    z.object({
      id: z.string(),
      kind: z.enum(["merge", "verify", "evaluate", "train"]),
      state: z.string(),
      attempt: z.number(),
      output_repo_id: z.string().nullable(),
      output_ref: z.string().nullable(),
      result: fromJson(z.unknown()).nullable(),
      error: fromJson(z.unknown()).nullable(),
      ended_at: z.number().nullable(),
    }),
  ),
  stateEvents: z.array(z.object({ job_id: z.string(), attempt: z.number(), state: z.string() })),
  jobEnds: z.array(z.object({ subject: z.string(), state: z.string() })),
  refMoves: z.array(z.object({ subject: z.string(), target: z.string() })),
  lineage: z.array(
    z.object({
      repo_id: z.string(),
      commit_id: z.string(),
      ordinal: z.number(),
      parent_repo_id: z.string(),
      parent_commit_id: z.string(),
    }),
  ),
  evaluations: z.array(z.object({ id: z.string(), job_id: z.string(), record: fromJson(z.unknown()) })),
  guards: z.array(z.object({ holds: z.number() })),
});

export type Rows = z.output<typeof RowsShape>;
export type Row<Name extends keyof Rows> = Rows[Name][number];

/** Where the hub's rows are kept. */
export const databaseOf = (state: string): string =>
  databaseIn(join(state, "edge", "d1", "miniflare-D1DatabaseObject"));

/** Where the hub keeps which object has which bytes. */
export const bucketOf = (state: string): string => databaseIn(join(state, "edge", "r2", "miniflare-R2BucketObject"));

/** Every row, from one copy, so that all of them are of one moment. */
export function readRows(state: string): Promise<Rows> {
  return withCopy(databaseOf(state), (database) => {
    const found = Object.entries(queries).map(([name, query]) => [name, database.prepare(query).all()]);
    return RowsShape.parse(Object.fromEntries(found));
  });
}

const ObjectRow = z.object({ key: z.string(), blob_id: z.string(), size: z.number() });
export type StoredObject = { readonly size: number; readonly file: string };

/** The objects of the bucket by key, each with the file that holds its bytes. */
export async function readObjects(state: string): Promise<Map<string, StoredObject>> {
  const folder = join(state, "edge", "r2");
  const [bucket] = readdirSync(folder).filter((name) => existsSync(join(folder, name, "blobs")));
  if (bucket === undefined) return new Map();
  const rows = await withCopy(bucketOf(state), (database) =>
    z.array(ObjectRow).parse(database.prepare("select key, blob_id, size from _mf_objects").all()),
  );
  return new Map(rows.map(({ key, blob_id, size }) => [key, { size, file: join(folder, bucket, "blobs", blob_id) }]));
}

function databaseIn(folder: string): string {
  const [name, ...others] = readdirSync(folder).filter((file) => /^[0-9a-f]{64}\.sqlite$/.test(file));
  if (name === undefined || others.length > 0) throw new Error(`${folder} should hold one database`);
  return join(folder, name);
}

/** Copies database and log while neither changes: a checkpoint between the two would tear the copy. */
async function withCopy<T>(path: string, read: (database: DatabaseSync) => T): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "owm-verifier-"));
  const copy = join(folder, "copy.sqlite");
  try {
    for (let tries = 1; ; tries++) {
      const before = fingerprint(path);
      copyFileSync(path, copy);
      rmSync(`${copy}-wal`, { force: true });
      if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${copy}-wal`);
      if (fingerprint(path) === before) break;
      if (tries === COPY_TRIES) throw new Error(`${path} never stands still`);
      await pause(COPY_AGAIN_MS);
    }
    const database = new DatabaseSync(copy);
    try {
      return read(database);
    } finally {
      database.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const fingerprint = (path: string): string =>
  [path, `${path}-wal`]
    .map((file) => {
      const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
      return stat === undefined ? "none" : `${stat.size}:${stat.mtimeNs}`;
    })
    .join();

export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}
