// The files that the compute service says it made: believed only where the hub itself verified the same bytes for the same job.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import { parseSha256 } from "../ids";
import type { Platform } from "../platform/platform";
import { readContent, SegmentsColumn, type StoredContent, segmented } from "../store/contents";
import { readAll } from "../streams/chunks";
import type { OutputFile } from "./contract";
import type { Job } from "./jobs";

/** The records that come beside weights. Bytes. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;

const UploadedRow = z.object({
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  size: z.number(),
  segments: SegmentsColumn,
});

/** The contents of exactly these paths, in their order. @throws output_invalid */
export async function verifiedOutputs(
  platform: Platform,
  job: Job,
  files: readonly OutputFile[],
  paths: readonly string[],
): Promise<StoredContent[]> {
  const reported = new Map(files.map((file) => [file.path, file]));
  if (reported.size !== files.length || files.length !== paths.length || !paths.every((path) => reported.has(path)))
    throw new HubError("output_invalid", {
      problem: `the compute service reported ${files.map((file) => file.path).join(", ") || "no file"}; this kind of job makes ${paths.join(", ")}`,
    });
  const rows = await queryRows(
    platform.db,
    UploadedRow,
    sql`select k.sha256, k.size, k.segments from job_contents j join contents k on k.sha256 = j.sha256
      where j.job_id = ${job.id} and j.sha256 in (select value from json_each(${asJson(files.map((file) => file.sha256))}))`,
  );
  const uploaded = new Map(rows.map((row) => [row.sha256, segmented(row)]));
  return paths.map((path) => {
    const file = reported.get(path);
    const content = file === undefined ? undefined : uploaded.get(file.sha256);
    if (content === undefined || content.size !== file?.size)
      throw new HubError("output_invalid", {
        problem: `${path} was reported as SHA-256 ${file?.sha256} of ${file?.size} bytes, and no such bytes were uploaded for this job`,
      });
    return content;
  });
}

export async function readText(platform: Platform, path: string, content: StoredContent): Promise<Uint8Array> {
  if (content.size > MAX_TEXT_BYTES)
    throw new HubError("output_invalid", {
      problem: `${path} has ${content.size} bytes, at most ${MAX_TEXT_BYTES} are taken`,
    });
  return readAll(await readContent(platform, content), MAX_TEXT_BYTES);
}
