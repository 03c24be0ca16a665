// Uploads: signed URLs that take the bytes of one declared digest, verified before anything can name them.
import { eq, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch, type Guard, queryEach, queryRows } from "../db/client";
import { type Segment, uploadParts, uploads } from "../db/schema";
import { HubError } from "../errors";
import { type JobId, parseSha256, type Sha256, sortableId } from "../ids";
import type { Platform } from "../platform/platform";
import { isSigned, sign } from "../platform/signing";
import { pump } from "../streams/hash";
import { contentStatements, readContent } from "./contents";
import { newBlobKey, newPartKey } from "./keys";
import { adoptObjects, condemnObjects, objectsUsable, stageObjects } from "./objects";

/** Whose bytes they will be: a repository's, or a job's until it is published. */
export type UploadOwner = { readonly repoId: string } | { readonly jobId: JobId };

export type Upload = { readonly id: string; readonly sha256: Sha256; readonly size: number; readonly partSize: number };

const OPEN_FOR_MS = 24 * 3600 * 1000;
const MAX_PARTS = 10_000;
const SWEEP_BATCH = 20;
/** Longer than a batch that was sent before an upload expired can take to commit. */
const SWEEP_AFTER_MS = 3600 * 1000;

/** Opens uploads for these digests, in one query. `singlePart` is for clients that can only PUT a file whole. */
export async function openUploads(
  platform: Platform,
  owner: UploadOwner,
  files: readonly { readonly sha256: Sha256; readonly size: number }[],
  singlePart = false,
): Promise<Upload[]> {
  const now = platform.now();
  const opened = files.map(({ sha256, size }) => {
    const partSize = singlePart ? Math.max(size, 1) : platform.config.uploadPartBytes;
    if (size > partSize * MAX_PARTS)
      throw new HubError("payload_too_large", { problem: `a file may have at most ${partSize * MAX_PARTS} bytes` });
    return { id: sortableId(now), sha256, size, partSize };
  });
  if (opened.length > 0)
    await platform.db.run(sql`insert into uploads (id, repo_id, job_id, sha256, size, part_size, created_at, expires_at)
      select value ->> 'id', ${"repoId" in owner ? owner.repoId : null}, ${"jobId" in owner ? owner.jobId : null},
          value ->> 'sha256', value ->> 'size', value ->> 'partSize', ${now}, ${now + OPEN_FOR_MS}
        from json_each(${asJson(opened)})`);
  return opened;
}

export type UploadLinks = {
  readonly parts: { readonly url: string; readonly offset: number; readonly size: number }[];
  /** Absent when one PUT does it all. */
  readonly completeUrl: string | null;
};

const partCount = (size: number, partSize: number): number => Math.max(1, Math.ceil(size / partSize));

/** Bytes of part `number`, counted from 1: all parts are equal but the last. */
const partLength = (size: number, partSize: number, number: number): number =>
  Math.min(partSize, size - (number - 1) * partSize);

/** Capability URLs on the caller's own origin: clients send no token with the bytes. */
export async function uploadLinks(platform: Platform, origin: string, upload: Upload): Promise<UploadLinks> {
  const count = partCount(upload.size, upload.partSize);
  const { secret } = platform.config;
  const parts = await Promise.all(
    Array.from({ length: count }, async (_, i) => ({
      url: `${origin}/lfs/uploads/${upload.id}/parts/${i + 1}?signature=${await sign(secret, "upload-part", upload.id, i + 1)}`,
      offset: i * upload.partSize,
      size: partLength(upload.size, upload.partSize, i + 1),
    })),
  );
  if (count === 1) return { parts, completeUrl: null };
  const signature = await sign(secret, "upload-complete", upload.id);
  return { parts, completeUrl: `${origin}/lfs/uploads/${upload.id}/complete?signature=${signature}` };
}

const UploadRow = z.object({
  id: z.string(),
  repo_id: z.string().nullable(),
  job_id: z.string().nullable(),
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  size: z.number(),
  part_size: z.number(),
  completed_at: z.number().nullable(),
});
type UploadState = z.output<typeof UploadRow>;

/** @throws upload_not_found */
async function findUpload(platform: Platform, id: string): Promise<UploadState> {
  const [row] = await queryRows(
    platform.db,
    UploadRow,
    sql`select id, repo_id, job_id, sha256, size, part_size, completed_at
      from uploads where id = ${id} and expires_at > ${platform.now()}`,
  );
  if (row === undefined) throw new HubError("upload_not_found");
  return row;
}

export type PartRequest = {
  readonly id: string;
  readonly number: number;
  readonly signature: string;
  readonly body: ReadableStream<Uint8Array> | null;
  readonly contentLength: number | null;
};

/**
 * Takes one part. The bytes go to the bucket as they come; what is not exactly as declared is not kept.
 * @returns the part's ETag
 * @throws upload_not_found | length_required | size_mismatch | digest_mismatch | body_interrupted
 */
export async function receivePart(platform: Platform, request: PartRequest): Promise<string> {
  const { id, number } = request;
  if (!(await isSigned(platform.config.secret, request.signature, "upload-part", id, number)))
    throw new HubError("upload_not_found");
  const upload = await findUpload(platform, id);
  const count = partCount(upload.size, upload.part_size);
  const whole = count === 1;
  if (number < 1 || number > count || (upload.completed_at !== null && !whole)) throw new HubError("upload_not_found");
  const size = partLength(upload.size, upload.part_size, number);
  if (request.contentLength === null) throw new HubError("length_required", { expected: size });
  if (request.contentLength !== size)
    throw new HubError("size_mismatch", { actual: request.contentLength, expected: size });
  const body = request.body ?? new Blob([]).stream();
  if (whole && upload.completed_at !== null) {
    // Sent again after success. Bytes of another upload are stored a second time, however: to be sooner done would tell that they are there.
    const { sha256 } = await pump(body, { expectedSize: size, expectedSha256: upload.sha256 });
    await publishContent(platform, upload, [], [isStored(sha256)]);
    return `"${sha256}"`;
  }
  const key = whole ? newBlobKey(upload.sha256) : newPartKey(id, number);
  await platform.db.run(stageObjects([key], platform.now()));
  const sha256 = await storeVerified(platform, key, body, size, whole ? upload.sha256 : undefined);
  const segment: Segment = { key, size, sha256 };
  if (whole) await publishContent(platform, upload, [segment], []);
  else await keepPart(platform, id, number, segment);
  return `"${sha256}"`;
}

/** Hashes on the way into the bucket; the bucket keeps nothing when the body is not what was declared. */
async function storeVerified(
  platform: Platform,
  key: string,
  body: ReadableStream<Uint8Array>,
  size: number,
  declared: Sha256 | undefined,
): Promise<Sha256> {
  const { readable, writable } = new FixedLengthStream(size);
  // A bucket that gives up without reading leaves the writer waiting, unless it is told.
  const refused = new AbortController();
  // Pump aborts the stream on any mismatch, so the put fails; the store checks a declared digest once more by itself.
  const stored = platform.blobs.put(key, readable, declared).catch((error: unknown) => refused.abort(error));
  const expectation = declared === undefined ? {} : { expectedSha256: declared };
  const { sha256 } = await pump(body, { expectedSize: size, ...expectation, to: writable, signal: refused.signal });
  await stored;
  refused.signal.throwIfAborted();
  return sha256;
}

const isKnown = (id: string, now: number): Guard => ({
  holds: sql`exists (select 1 from uploads where id = ${id} and expires_at > ${now})`,
  otherwise: () => new HubError("upload_not_found"),
});

const isOpen = (id: string, now: number): Guard => ({
  holds: sql`exists (select 1 from uploads where id = ${id} and completed_at is null and expires_at > ${now})`,
  otherwise: () => new HubError("upload_not_found"),
});

/** It may have been swept while the client sent its copy; sent once more, that one is stored. */
const isStored = (sha256: Sha256): Guard => ({
  holds: sql`exists (select 1 from contents where sha256 = ${sha256})`,
  otherwise: () => new HubError("content_damaged"),
});

/**
 * Remembers a stored part. A part sent again replaces the first, as a client that retries expects; one whose upload has ended
 * meanwhile is not named, and goes with what else was staged for nothing.
 */
async function keepPart(platform: Platform, uploadId: string, number: number, segment: Segment): Promise<void> {
  const { db } = platform;
  const now = platform.now();
  await commitBatch(
    db,
    [isOpen(uploadId, now), objectsUsable([segment.key])],
    [
      condemnObjects(sql`select key from upload_parts where upload_id = ${uploadId} and number = ${number}`, now),
      db
        .insert(uploadParts)
        .values({ uploadId, number, ...segment })
        .onConflictDoUpdate({ target: [uploadParts.uploadId, uploadParts.number], set: segment }),
      adoptObjects([segment.key], now),
    ],
  );
}

export type CompleteRequest = {
  readonly id: string;
  readonly signature: string;
  readonly etags: readonly { readonly number: number; readonly etag: string }[];
};

/**
 * Joins the parts of an upload, after hashing all of them as one. Asking again after success succeeds again.
 * @throws upload_not_found | invalid_field | digest_mismatch (the parts are dropped)
 */
export async function completeUpload(platform: Platform, request: CompleteRequest): Promise<void> {
  const { id } = request;
  if (!(await isSigned(platform.config.secret, request.signature, "upload-complete", id)))
    throw new HubError("upload_not_found");
  const upload = await findUpload(platform, id);
  if (upload.completed_at !== null) return;
  const parts = await platform.db
    .select()
    .from(uploadParts)
    .where(eq(uploadParts.uploadId, id))
    .orderBy(uploadParts.number);
  checkParts(upload, parts, request.etags);
  const segments = parts.map(({ key, size, sha256 }) => ({ key, size, sha256 }));
  const whole = await readContent(platform, { size: upload.size, source: { kind: "segments", segments } });
  const { sha256 } = await pump(whole, { expectedSize: upload.size });
  if (sha256 !== upload.sha256) {
    await dropUpload(platform, upload);
    throw new HubError("digest_mismatch", { actual: sha256, expected: upload.sha256 });
  }
  const unchanged: Guard = {
    holds: sql`not exists (select 1 from json_each(${asJson(segments)}) j
      where not exists (select 1 from upload_parts where upload_id = ${id} and key = j.value ->> 'key'))`,
    otherwise: () => new HubError("upload_not_found"),
  };
  await publishContent(platform, upload, segments, [unchanged]);
}

function checkParts(
  upload: UploadState,
  parts: readonly { readonly number: number; readonly sha256: Sha256 }[],
  etags: CompleteRequest["etags"],
): void {
  const count = partCount(upload.size, upload.part_size);
  for (let number = 1; number <= count; number++) {
    const field = `parts[${number - 1}]`;
    const part = parts[number - 1];
    if (part?.number !== number)
      throw new HubError("invalid_field", { field, problem: `part ${number} of ${count} was not uploaded` });
    if (etags.find((one) => one.number === number)?.etag !== `"${part.sha256}"`)
      throw new HubError("invalid_field", {
        field: `${field}.etag`,
        problem: `is not the ETag that part ${number} was answered with`,
      });
  }
}

/**
 * Commit point of an upload: the content, its holder and the upload's end in one batch. Where another copy was first, this one's
 * objects are condemned. A repository that held the bytes by a claim holds them verified from now on.
 */
async function publishContent(
  platform: Platform,
  upload: UploadState,
  segments: readonly Segment[],
  guards: readonly Guard[],
): Promise<void> {
  const { db } = platform;
  const now = platform.now();
  const { id, sha256, size } = upload;
  const keys = segments.map((segment) => segment.key);
  await commitBatch(
    db,
    [isKnown(id, now), objectsUsable(keys), ...guards],
    [
      ...contentStatements([{ sha256, size, segments }], keys, now),
      upload.repo_id !== null
        ? sql`insert into repo_contents (repo_id, sha256, created_at)
            select id, ${sha256}, ${now} from repos where id = ${upload.repo_id}
            on conflict do update set idle_since = null, file_id = iif(state = 'verified', file_id, null), state = 'verified'
              where idle_since is not null or state <> 'verified'`
        : sql`insert or ignore into job_contents (job_id, sha256) values (${upload.job_id}, ${sha256})`,
      db.update(uploads).set({ completedAt: now }).where(eq(uploads.id, id)),
      db.delete(uploadParts).where(eq(uploadParts.uploadId, id)),
    ],
  );
}

/** What the parts of uploads that end unpublished leave: condemned before the rows that name it go. */
const dropParts = (ids: readonly string[], now: number) => {
  const those = sql`upload_id in (select value from json_each(${asJson(ids)}))`;
  return [
    condemnObjects(sql`select key from upload_parts where ${those}`, now),
    sql`delete from upload_parts where ${those}`,
  ];
};

/** Ends an upload whose bytes were wrong: no request can add to it or complete it any more. */
async function dropUpload(platform: Platform, { id }: UploadState): Promise<void> {
  const now = platform.now();
  await commitBatch(
    platform.db,
    [isOpen(id, now)],
    [sql`update uploads set expires_at = ${now} where id = ${id}`, ...dropParts([id], now)],
  );
}

/** Forgets uploads that expired, and condemns their parts: a bounded number a call. Returns how many. */
export async function sweepUploads(platform: Platform): Promise<number> {
  const { db } = platform;
  const now = platform.now();
  // The select names what the batch works on; an expired upload can't come back, so nothing needs to be asked again.
  const expired = await queryRows(
    db,
    z.object({ id: z.string() }),
    sql`select id from uploads where expires_at < ${now - SWEEP_AFTER_MS} limit ${SWEEP_BATCH}`,
  );
  if (expired.length === 0) return 0;
  const ids = expired.map(({ id }) => id);
  // Commit point: rows and the fate of their objects in one batch.
  await queryEach(db, z.unknown(), [
    ...dropParts(ids, now),
    sql`delete from uploads where id in (select value from json_each(${asJson(ids)}))`,
  ]);
  return ids.length;
}
