// Finds jobs that nobody drives any more and gives them a driver: what makes every lost hint and dead instance harmless.
import { and, asc, eq, inArray, lt, sql } from "drizzle-orm";
import { commitBatch, type Guard } from "../db/client";
import { jobs } from "../db/schema";
import { HubError } from "../errors";
import type { JobId } from "../ids";
import type { Platform } from "../platform/platform";
import { endJob, loadJob, openStates } from "./jobs";

/** How late a driver may be before the clock asks after it: a start or a wake-up may still be on its way. */
const LATE_MS = 10_000;
/** How late before it is replaced though it is said to live: longer than a step with all its retries takes. */
const LOST_MS = 90_000;
/** How many jobs one sweep looks at; what it revives is no longer due, so the next sweep sees the others. */
const BATCH = 100;
/** A job that wears out so many drivers is at fault itself. */
const MAX_DRIVERS = 50;

/** Revives the open jobs that are overdue. @returns whether any job is open */
export async function sweepJobs(platform: Platform): Promise<boolean> {
  const now = platform.now();
  const overdue = await platform.db
    .select({ id: jobs.id, driver: jobs.driver, dueAt: jobs.dueAt })
    .from(jobs)
    .where(and(inArray(jobs.state, [...openStates]), lt(jobs.dueAt, now - LATE_MS)))
    .orderBy(asc(jobs.dueAt))
    .limit(BATCH);
  for (const { id, driver, dueAt } of overdue) await revive(platform, id, driver, now - dueAt);
  const [open] = await platform.db
    .select({ id: jobs.id })
    .from(jobs)
    .where(inArray(jobs.state, [...openStates]))
    .limit(1);
  return open !== undefined;
}

async function revive(platform: Platform, id: JobId, driver: number, lateMs: number): Promise<void> {
  const state = await platform.jobs.state(id, driver);
  if (state === "missing") return platform.jobs.start(id, driver);
  if (state === "alive" && lateMs < LOST_MS) return platform.jobs.wake(id, driver);
  if (driver >= MAX_DRIVERS) return giveUp(platform, id);
  // Compare-and-swap: of two sweeps one starts the next driver. The compute service's work goes on untouched, and should the
  // old driver come back after all, it finds that it is not the job's any more.
  const mine: Guard = {
    holds: sql`exists (select 1 from jobs where id = ${id} and driver = ${driver})`,
    otherwise: () => new HubError("job_ended", { state: "another sweep was first" }),
  };
  try {
    await commitBatch(
      platform.db,
      [mine],
      [
        platform.db
          .update(jobs)
          .set({ driver: driver + 1, dueAt: platform.now() })
          .where(and(eq(jobs.id, id), eq(jobs.driver, driver))),
      ],
    );
  } catch (error) {
    if (error instanceof HubError && error.code === "job_ended") return;
    throw error;
  }
  await platform.jobs.start(id, driver + 1);
}

async function giveUp(platform: Platform, id: JobId): Promise<void> {
  const job = await loadJob(platform, id);
  if (job === null) return;
  const error = {
    code: "internal",
    message: `The job failed on the hub's side ${MAX_DRIVERS} times; its id finds the reasons in the log.`,
  };
  await endJob({ platform, actor: { kind: "hub" } }, job, { state: "failed", error });
}
