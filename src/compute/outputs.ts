// The files that the compute service says it made: believed only where the hub itself verified the same bytes for the same job.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import { lfsEntry, storeFiles } from "../hub/commits";
import type { NewFile } from "../hub/tree-edit";
import { parseSha256, type Sha256 } from "../ids";
import type { Platform } from "../platform/platform";
import {
  HeldColumn,
  type HeldContent,
  type Holding,
  heldContent,
  readContent,
  SegmentsColumn,
  STORED,
  type StoredContent,
  segmented,
} from "../store/contents";
import { readAll } from "../streams/chunks";
import type { OutputFile } from "./contract";
import type { Job } from "./jobs";

/** Text up to this size is a file of git's, larger and binary ones travel as LFS. Bytes. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;
const TEXT = /\.(json|jsonl|txt|jinja)$/;

/** A file of the revision that a job publishes. */
export type OutputEntry = { readonly path: string; readonly file: NewFile };
/** A file that the job holds. */
export type HeldFile = { readonly path: string; readonly content: StoredContent; readonly holding: Holding };

/** The hub still computes the SHA-256 of a file that came by chunks. */
export class Unverified extends Error {
  readonly fileId: number;

  constructor(fileId: number) {
    super("a file that came by chunks is not verified yet");
    this.fileId = fileId;
  }
}

const UploadedRow = z.object({
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  size: z.number(),
  segments: SegmentsColumn,
});
const ChunkedRow = z.object({
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  content: HeldColumn.nullable(),
});

/** The contents of exactly these paths, in their order. @throws output_invalid | Unverified */
export async function verifiedOutputs(
  platform: Platform,
  job: Job,
  files: readonly OutputFile[],
  paths: readonly string[],
): Promise<HeldFile[]> {
  const reported = new Map(files.map((file) => [file.path, file]));
  if (reported.size !== files.length || files.length !== paths.length || !paths.every((path) => reported.has(path)))
    throw new HubError("output_invalid", {
      problem: `the compute service reported ${files.map((file) => file.path).join(", ") || "no file"}; this kind of job makes ${paths.join(", ")}`,
    });
  return heldFiles(
    platform,
    job,
    paths.flatMap((path) => reported.get(path) ?? []),
  );
}

/** What the job uploaded whole, by digest. */
async function uploadedFor(platform: Platform, job: Job, digests: string): Promise<Map<Sha256, HeldContent>> {
  const rows = await queryRows(
    platform.db,
    UploadedRow,
    sql`select k.sha256, k.size, k.segments from job_contents j join contents k on k.sha256 = j.sha256
      where j.job_id = ${job.id} and j.sha256 in (select value from json_each(${digests}))`,
  );
  return new Map(rows.map((row) => [row.sha256, { ...segmented(row), holding: STORED }]));
}

/** What came by chunks: the output's repository holds it, by what the job says of it until the hub knows better. */
async function chunkedFor(platform: Platform, job: Job, digests: string): Promise<Map<Sha256, HeldContent>> {
  const rows = await queryRows(
    platform.db,
    ChunkedRow,
    sql`select value as sha256, ${heldContent(sql`${job.outputRepoId}`, sql`value`)} as content from json_each(${digests})`,
  );
  return new Map(rows.flatMap(({ sha256, content }) => (content === null ? [] : [[sha256, content]])));
}

/** Files among those that the job holds. @throws output_invalid | Unverified */
export async function heldFiles(platform: Platform, job: Job, files: readonly OutputFile[]): Promise<HeldFile[]> {
  const uploaded = await uploadedFor(platform, job, asJson(files.map((file) => file.sha256)));
  const others = files.filter((file) => !uploaded.has(file.sha256)).map((file) => file.sha256);
  const chunked = others.length === 0 ? uploaded : await chunkedFor(platform, job, asJson(others));
  return files.map(({ path, sha256, size }) => {
    const held = uploaded.get(sha256) ?? chunked.get(sha256);
    if (held === undefined || held.size !== size || held.holding.state === "mismatched")
      throw new HubError("output_invalid", {
        problem: `${path} was reported as SHA-256 ${sha256} of ${size} bytes, and no such bytes were uploaded for this job`,
      });
    if (held.holding.state === "claimed" && held.holding.fileId !== null) throw new Unverified(held.holding.fileId);
    return { path, content: { sha256, size, source: held.source }, holding: held.holding };
  });
}

export type OutputText = { readonly path: string; readonly text: string };

/** What the job holds, and texts that the hub writes: weights and what else is binary or large as LFS, unread; the rest as git has it. */
export async function entriesOf(
  platform: Platform,
  files: readonly HeldFile[],
  texts: readonly OutputText[],
): Promise<OutputEntry[]> {
  const isText = ({ path, content }: HeldFile): boolean => TEXT.test(path) && content.size <= MAX_TEXT_BYTES;
  const large = files
    .filter((file) => !isText(file))
    .map(({ path, content: { sha256, size }, holding }) => ({ path, file: lfsEntry(sha256, size, holding) }));
  const encoder = new TextEncoder();
  const regular = texts.map(({ path, text }) => ({ path, bytes: encoder.encode(text) }));
  for (const { path, content } of files.filter(isText))
    regular.push({ path, bytes: await readAll(await readContent(platform, content), MAX_TEXT_BYTES) });
  const stored = await storeFiles(
    platform,
    regular.map(({ bytes }) => bytes),
  );
  return [...large, ...regular.flatMap(({ path }, i) => (stored[i] === undefined ? [] : [{ path, file: stored[i] }]))];
}
