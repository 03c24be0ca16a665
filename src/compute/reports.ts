// What the compute service says of a running job: progress and the end of an attempt, each taken once.
import { and, eq, inArray, isNull, sql } from "drizzle-orm";
import { commitBatch } from "../db/client";
import { jobs } from "../db/schema";
import type { JobId } from "../ids";
import type { Platform } from "../platform/platform";
import type { Progress, Report } from "./contract";
import { type SourceEvent, sourceEventsStatement, stateEventFrom } from "./job-events";
import type { Job } from "./jobs";

/** Keeps the events of the current attempt; `cancel` tells an older attempt to stop. */
export async function takeProgress(platform: Platform, job: Job, progress: Progress): Promise<{ cancel: boolean }> {
  if (progress.attempt !== job.attempt) return { cancel: progress.attempt < job.attempt };
  const { db } = platform;
  const now = platform.now();
  // The job's state is the edge's to tell: what the compute service calls succeeded is not yet published.
  const events: SourceEvent[] = progress.events.flatMap(({ seq, ts, type, data }) =>
    type === "state" ? [] : [{ seq, at: Date.parse(ts), type, data }],
  );
  const last = progress.events.findLast((event) => event.type === "progress");
  const started = progress.events.some((event) => event.type !== "state" || event.data.state === "running");
  await commitBatch(
    db,
    [],
    [
      ...(started ? startStatements(platform, job) : []),
      sourceEventsStatement(job.id, job.attempt, events),
      db
        .update(jobs)
        .set({ updatedAt: now, ...(last === undefined ? {} : { progress: last.data }) })
        .where(and(eq(jobs.id, job.id), eq(jobs.attempt, job.attempt), inArray(jobs.state, ["queued", "running"]))),
    ],
  );
  return { cancel: false };
}

/** queued → running, with its event; nothing where the job is past that. */
export function startStatements(platform: Platform, job: Pick<Job, "id" | "attempt">) {
  const now = platform.now();
  const event = { jobId: job.id, attempt: job.attempt, at: now, type: "state", data: { state: "running" } };
  return [
    stateEventFrom(event, "queued"),
    platform.db
      .update(jobs)
      .set({ state: "running", startedAt: sql`coalesce(${jobs.startedAt}, ${now})`, updatedAt: now })
      .where(and(eq(jobs.id, job.id), eq(jobs.attempt, job.attempt), eq(jobs.state, "queued"))),
  ];
}

/**
 * Keeps how the current attempt ended; a success moves the job to `publishing`. The first report of an attempt counts, repeats and
 * reports of other attempts change nothing. What follows from it is the driver's work, so that it survives any crash.
 */
export async function takeReport(platform: Platform, id: JobId, report: Report): Promise<void> {
  const { db } = platform;
  const now = platform.now();
  const succeeded = report.state === "succeeded";
  const event = { jobId: id, attempt: report.attempt, at: now, type: "state", data: { state: "publishing" } };
  const open = and(
    eq(jobs.id, id),
    eq(jobs.attempt, report.attempt),
    isNull(jobs.reported),
    inArray(jobs.state, ["queued", "running"]),
  );
  await commitBatch(
    db,
    [],
    [
      ...(succeeded ? [stateEventFrom(event, "queued"), stateEventFrom(event, "running")] : []),
      db
        .update(jobs)
        .set({
          reported: report,
          dueAt: now,
          updatedAt: now,
          ...(succeeded ? { state: "publishing", startedAt: sql`coalesce(${jobs.startedAt}, ${now})` } : {}),
        })
        .where(open),
    ],
  );
}
