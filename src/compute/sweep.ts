// Finds jobs that nobody drives any more and gives them a driver: what makes every lost hint and dead instance harmless.
import { and, asc, eq, gt, inArray, sql } from "drizzle-orm";
import { commitBatch, type Guard } from "../db/client";
import { jobs } from "../db/schema";
import { HubError } from "../errors";
import type { JobId } from "../ids";
import type { Platform } from "../platform/platform";
import { endJob, loadJob, openStates } from "./jobs";

/** A job whose row changed since is left alone: its start may still be on the way. */
const QUIET_MS = 15_000;
/** How many jobs one sweep looks at; the next goes on behind them. */
const BATCH = 100;
/** A job that wears out so many drivers is at fault itself. */
const MAX_DRIVERS = 20;

export type Swept = { readonly open: number; readonly last: JobId | null };

/**
 * Looks at the open jobs after `after`, in the order of their ids. `last` is where the next call goes on, null at the end.
 * `afterRestart` also wakes the drivers that are alive: a restarted local runtime resumes none of them by itself.
 */
export async function sweepJobs(platform: Platform, after: JobId | null, afterRestart = false): Promise<Swept> {
  const open = await platform.db
    .select({ id: jobs.id, driver: jobs.driver, updatedAt: jobs.updatedAt })
    .from(jobs)
    .where(and(inArray(jobs.state, [...openStates]), ...(after === null ? [] : [gt(jobs.id, after)])))
    .orderBy(asc(jobs.id))
    .limit(BATCH);
  for (const { id, driver, updatedAt } of open)
    if (afterRestart || updatedAt < platform.now() - QUIET_MS) await revive(platform, id, driver, afterRestart);
  return { open: open.length, last: open.length === BATCH ? (open.at(-1)?.id ?? null) : null };
}

async function revive(platform: Platform, id: JobId, driver: number, wake: boolean): Promise<void> {
  const state = await platform.jobs.state(id, driver);
  if (state === "alive") return wake ? platform.jobs.wake(id, driver) : undefined;
  if (state === "missing") return platform.jobs.start(id, driver);
  if (driver >= MAX_DRIVERS) return giveUp(platform, id);
  // Compare-and-swap: of two sweeps one starts the next driver. The compute service's work goes on untouched.
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
          .set({ driver: driver + 1 })
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
