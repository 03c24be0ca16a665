// What the job token opens: the inputs of its job, and uploads for its output, while the job runs.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import { type JobId, parseSha256, type Sha256 } from "../ids";
import type { ByteRange, Platform } from "../platform/platform";
import { HeldColumn, heldContent, heldContentOf, STORED, type StoredContent, usable } from "../store/contents";
import { openUploads, type UploadLinks, uploadLinks } from "../store/uploads";
import { hasEnded, type Job, jobFacts, jobSubject, loadJob } from "./jobs";
import type { JobInput } from "./plan";

/**
 * The job whose work the caller does. An ended job is told to its own token as such, so that the service stops quietly.
 * @throws job_not_found | job_ended | forbidden
 */
export async function findWork(caller: Caller, id: JobId): Promise<Job> {
  const job = await workOf(caller, id);
  if (hasEnded(job.state)) throw new HubError("job_ended", { state: job.state });
  return job;
}

/** The same, ended or not: for reports, whose repeats are answered like the first. */
export async function workOf(caller: Caller, id: JobId): Promise<Job> {
  const job = await loadJob(caller.platform, id);
  if (job === null) throw new HubError("job_not_found", { id });
  const facts = jobFacts(job);
  authorize(
    caller,
    { action: "job.work", job: { ...facts, ended: false } },
    { subject: jobSubject(id), scopeId: facts.outputOwnerId ?? job.actorId },
  );
  return job;
}

/** In the order of their names, so that every submission lists them alike: files of repositories, and what the hub made for the job. */
export function loadInputs(platform: Platform, id: JobId): Promise<JobInput[]> {
  return queryRows(
    platform.db,
    InputRow,
    sql`select name, sha256, size from job_inputs where job_id = ${id}
      union all
      select j.name, j.sha256, k.size from job_contents j join contents k on k.sha256 = j.sha256 where j.job_id = ${id} and j.name is not null
      order by name`,
  );
}

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));
const InputRow = z.object({ name: z.string(), sha256, size: z.number() });
const StoredInputRow = z.object({ sha256, content: HeldColumn.nullable() });

/** @throws entry_not_found for a name that is no input of the job, or whose repository holds it no more */
export async function findInput(caller: Caller, id: JobId, name: string, span?: ByteRange): Promise<StoredContent> {
  await findWork(caller, id);
  const [row] = await queryRows(
    caller.platform.db,
    StoredInputRow,
    sql`select i.sha256, ${heldContent(sql`i.repo_id`, sql`i.sha256`, span)} as content
        from job_inputs i where i.job_id = ${id} and i.name = ${name}
      union all
      select j.sha256, ${heldContentOf(STORED, sql`j.sha256`)} as content from job_contents j where j.job_id = ${id} and j.name = ${name}`,
  );
  if (row?.content == null) throw new HubError("entry_not_found", { path: name });
  return { sha256: row.sha256, ...usable(row.content, name) };
}

/** Null when the job has uploaded these bytes before. */
export async function openJobUpload(
  caller: Caller,
  id: JobId,
  sha256: Sha256,
  size: number,
): Promise<UploadLinks | null> {
  const { platform } = caller;
  await findWork(caller, id);
  const held = await platform.db.get<{ size: number }>(
    sql`select k.size from job_contents j join contents k on k.sha256 = j.sha256 where j.job_id = ${id} and j.sha256 = ${sha256}`,
  );
  if (held !== undefined && held.size === size) return null;
  const [upload] = await openUploads(platform, { jobId: id }, [{ sha256, size }]);
  if (upload === undefined) throw new HubError("internal");
  return uploadLinks(platform, platform.config.publicUrl, upload);
}
