// Drives one job to its end. The row in D1 is the truth: each step looks at it, does the one thing that comes next, and may be
// repeated at any time, so a crash before, in or after any step loses and doubles nothing.
import { and, eq, isNull, sql } from "drizzle-orm";
import type { Caller } from "../access/caller";
import { jobToken } from "../access/job-tokens";
import { commitBatch, type Guard } from "../db/client";
import { jobs } from "../db/schema";
import { HubError } from "../errors";
import { hurryVerification } from "../hub/upkeep";
import type { JobId } from "../ids";
import type { Platform } from "../platform/platform";
import { type Answer, askFor, cancelAtCompute, submit } from "./compute-client";
import { Report } from "./contract";
import { loadInputs } from "./inputs";
import { jobEventStatement, sourceEventsStatement } from "./job-events";
import { endJob, hasEnded, type Job, type JobError, loadJob } from "./jobs";
import { Unverified } from "./outputs";
import { type Plan, planOf, submissionOf } from "./plan";
import { publish } from "./publish";
import { startStatements, takeReport } from "./reports";
import { standingCaller } from "./standing";

/** What a durable runtime offers: both remember what they did, so that a rerun goes on where the last one stopped. */
export type Steps = {
  run(name: string, work: () => Promise<Next>): Promise<Next>;
  /** Returns when the job may have changed, at the latest after this many milliseconds. */
  wait(name: string, ms: number): Promise<void>;
};

export type Next =
  | { readonly kind: "again" }
  | { readonly kind: "wait"; readonly ms: number }
  | { readonly kind: "done" };

const AGAIN: Next = { kind: "again" };
const DONE: Next = { kind: "done" };

/** Times that work is given to the compute service anew after a failure that may pass. */
const MAX_ATTEMPTS = 3;
/** Below the 1,024 steps of a workflow instance, a round being two; the clock starts the next instance. */
const MAX_ROUNDS = 480;
/** D1 keeps strings of at most 2 MB. */
const MAX_REPORT_CHARS = 1_500_000;
const MIN_WAIT_MS = 1_000;
const MAX_WAIT_MS = 120_000;
/** Each wait is this share of the time that the job has taken, so that short jobs are asked about often and long ones rarely. */
const WAIT_SHARE = 0.1;

export async function driveJob(platform: Platform, steps: Steps, id: JobId, driver: number): Promise<void> {
  for (let round = 1; round <= MAX_ROUNDS; round++) {
    const next = await steps.run(`advance ${round}`, () => advance(platform, id, driver));
    if (next.kind === "done") return;
    if (next.kind === "wait") await steps.wait(`wait ${round}`, next.ms);
  }
}

/** The hub itself: it ends jobs that nobody asked to end. */
const hub = (platform: Platform): Caller => ({ platform, actor: { kind: "hub" } });

/** One step of a job, whatever state it is found in. */
export async function advance(platform: Platform, id: JobId, driver: number): Promise<Next> {
  const job = await loadJob(platform, id);
  if (job === null || job.driver !== driver) return DONE;
  if (hasEnded(job.state)) {
    // A courtesy that saves work: a service that misses it is told so by the answer to its next callback.
    if (job.state !== "succeeded" && job.reported === null) await cancelAtCompute(platform, id);
    return DONE;
  }
  if (job.reported !== null) return finish(platform, job, Report.parse(job.reported));
  if (platform.now() >= job.deadlineAt) return fail(platform, job, deadlineExceeded(job));
  if (job.state === "queued") return handOver(platform, job);
  const answer = await askFor(platform, id);
  // A service that lost its journal gets the same attempt once more.
  return answer.kind === "unknown" ? handOver(platform, job) : follow(platform, job, answer);
}

const deadlineExceeded = (job: Job): JobError => ({
  code: "deadline_exceeded",
  message: `The job did not end within ${Math.round((job.deadlineAt - job.createdAt) / 1000)} seconds.`,
  fix: "Make the work smaller, or ask the operator of the hub for a larger JOB_TIMEOUT_S.",
});

async function fail(platform: Platform, job: Job, error: JobError): Promise<Next> {
  await endJob(hub(platform), job, { state: "failed", error });
  return AGAIN;
}

/** What failed on our side is thrown again, and so tried again; what the request, its inputs or its result are to blame for ends the job. */
async function failBy(platform: Platform, job: Job, error: unknown): Promise<Next> {
  if (!(error instanceof HubError) || error.status >= 500) throw error;
  if (error.code === "job_ended") return AGAIN;
  const { field, fix } = error.fields;
  return fail(platform, job, {
    code: error.code,
    message: error.message,
    field: field === undefined ? undefined : String(field),
    fix: fix === undefined ? undefined : String(fix),
  });
}

async function handOver(platform: Platform, job: Job): Promise<Next> {
  const { publicUrl, secret } = platform.config;
  let plan: Plan;
  try {
    plan = planOf(job.spec);
    await standingCaller(platform, job, plan);
  } catch (error) {
    return failBy(platform, job, error);
  }
  const body = submissionOf(
    {
      id: job.id,
      attempt: job.attempt,
      plan,
      inputs: await loadInputs(platform, job.id),
      timeoutS: Math.round((job.deadlineAt - job.createdAt) / 1000),
    },
    publicUrl,
    await jobToken(secret, job.id),
  );
  return follow(platform, job, await submit(platform, job.id, job.attempt, body));
}

/** What an answer of the compute service means for the job. */
async function follow(platform: Platform, job: Job, answer: Answer): Promise<Next> {
  switch (answer.kind) {
    case "refused":
      return fail(platform, job, answer.error);
    case "outdated":
      // The hub's own address is part of the body: after it has moved, the work is handed over as a new attempt.
      return nextAttempt(platform, job, "the hub's settings have changed");
    case "unknown":
      return pause(platform, job);
    case "busy":
      await noteTrouble(platform, job, answer.problem);
      return pause(platform, job, answer.retryMs);
    case "job":
      return followJob(platform, job, answer);
  }
}

/** Tells who follows the job why nothing happens: once an attempt, in the place 0 that the compute service's own events leave free. */
async function noteTrouble(platform: Platform, job: Job, problem: string): Promise<void> {
  const data = {
    level: "warning",
    message: `The compute service takes no work now (${problem}); the hub goes on asking.`,
  };
  const event = { seq: 0, at: platform.now(), type: "log", data };
  await commitBatch(platform.db, [], [sourceEventsStatement(job.id, job.attempt, [event])]);
}

async function followJob(
  platform: Platform,
  job: Job,
  { job: remote, raw }: Extract<Answer, { kind: "job" }>,
): Promise<Next> {
  if (remote.attempt < job.attempt) return handOver(platform, job);
  if (remote.attempt > job.attempt) return AGAIN;
  switch (remote.state) {
    case "queued":
    case "cancelling":
      return pause(platform, job);
    case "running":
      if (job.state === "queued") await commitBatch(platform.db, [], startStatements(platform, job));
      return pause(platform, job);
    case "succeeded":
    case "failed":
    case "cancelled": {
      const report = Report.safeParse(raw);
      if (!report.success || JSON.stringify(report.data).length > MAX_REPORT_CHARS)
        return fail(platform, job, {
          code: "result_invalid",
          message: "The compute service reported a result that breaks its contract.",
        });
      await takeReport(platform, job.id, report.data);
      return AGAIN;
    }
  }
}

/** Waits a share of the job's age, and says in the row until when, so that the clock notices a driver that does not come back. */
async function pause(platform: Platform, job: Job, atLeastMs = 0): Promise<Next> {
  const now = platform.now();
  const wanted = Math.max((now - job.createdAt) * WAIT_SHARE, atLeastMs);
  // Never past the deadline, which is to be acted on in time.
  const ms = Math.max(MIN_WAIT_MS, Math.min(wanted, MAX_WAIT_MS, job.deadlineAt - now));
  await platform.db
    .update(jobs)
    .set({ dueAt: now + ms })
    // A report that came in meanwhile made the job due at once.
    .where(and(eq(jobs.id, job.id), job.reported === null ? isNull(jobs.reported) : undefined));
  return { kind: "wait", ms };
}

async function finish(platform: Platform, job: Job, report: Report): Promise<Next> {
  if (report.state === "succeeded") {
    try {
      await publish(platform, job, report.result);
    } catch (error) {
      if (error instanceof Unverified) {
        await hurryVerification(platform, error.fileId);
        return pause(platform, job);
      }
      return failBy(platform, job, error);
    }
    return DONE;
  }
  if (report.state === "cancelled") {
    await endJob(hub(platform), job, { state: "cancelled" });
    return DONE;
  }
  const { code, message, field, fix, retryable } = report.error ?? {
    code: "internal",
    message: "The compute service gave no reason.",
    retryable: false,
  };
  if (retryable && job.attempt < MAX_ATTEMPTS && platform.now() < job.deadlineAt)
    return nextAttempt(platform, job, message);
  return fail(platform, job, { code, message, field: field ?? undefined, fix: fix ?? undefined });
}

/** Fences the old attempt off and starts over; of two that try, one does. */
async function nextAttempt(platform: Platform, job: Job, reason: string): Promise<Next> {
  const { db } = platform;
  const now = platform.now();
  const attempt = job.attempt + 1;
  const unchanged: Guard = {
    holds: sql`exists (select 1 from jobs where id = ${job.id} and attempt = ${job.attempt} and state in ('queued', 'running'))`,
    otherwise: () => new HubError("job_ended", { state: "another step was first" }),
  };
  try {
    await commitBatch(
      db,
      [unchanged],
      [
        db
          .update(jobs)
          .set({ attempt, state: "queued", reported: null, progress: null, updatedAt: now })
          .where(and(eq(jobs.id, job.id), eq(jobs.attempt, job.attempt))),
        jobEventStatement(db, { jobId: job.id, attempt, at: now, type: "state", data: { state: "queued", reason } }),
      ],
    );
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== "job_ended") throw error;
  }
  return AGAIN;
}
