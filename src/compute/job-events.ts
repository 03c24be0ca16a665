// What a job tells while it runs: an append-only feed that clients follow and resume by sequence number.
import { and, asc, eq, gt, sql } from "drizzle-orm";
import { asJson, type Statement } from "../db/client";
import { jobEvents } from "../db/schema";
import type { JobId } from "../ids";
import type { Db, Platform } from "../platform/platform";

export type JobEvent = typeof jobEvents.$inferSelect;

type NewJobEvent = Pick<JobEvent, "jobId" | "attempt" | "at" | "type" | "data">;

/** An event of the edge itself, for the batch of the change that it tells of. */
export const jobEventStatement = (db: Db, event: NewJobEvent): Statement => db.insert(jobEvents).values(event);

/** The same, where the job is in this state and nothing is reported yet when the batch runs: put it before the statement that moves the state. */
export const stateEventFrom = (event: NewJobEvent, state: string): Statement =>
  sql`insert into job_events (job_id, attempt, at, type, data) select ${event.jobId}, ${event.attempt}, ${event.at}, ${event.type}, ${JSON.stringify(event.data)}
      where exists (select 1 from jobs where id = ${event.jobId} and attempt = ${event.attempt} and state = ${state} and reported is null)`;

export type SourceEvent = { readonly seq: number; readonly at: number; readonly type: string; readonly data: unknown };

/** Events of the compute service, each kept once however often it is sent, and only while the attempt is the job's current one and the job is open. */
export const sourceEventsStatement = (jobId: JobId, attempt: number, events: readonly SourceEvent[]): Statement =>
  sql`insert or ignore into job_events (job_id, attempt, source_seq, at, type, data)
      select ${jobId}, ${attempt}, value ->> 'seq', value ->> 'at', value ->> 'type', value -> 'data' from json_each(${asJson(events)})
        where exists (select 1 from jobs where id = ${jobId} and attempt = ${attempt} and state in ('queued', 'running'))`;

/** In order, from `after` (exclusive) on. */
export async function readJobEvents(
  platform: Platform,
  jobId: JobId,
  after: number,
  limit: number,
): Promise<JobEvent[]> {
  return platform.db
    .select()
    .from(jobEvents)
    .where(and(eq(jobEvents.jobId, jobId), gt(jobEvents.seq, after)))
    .orderBy(asc(jobEvents.seq))
    .limit(limit);
}
