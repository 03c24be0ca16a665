// Jobs as rows: the states and who may see them, finding and listing, and the one way a job ends.
import { and, desc, eq, inArray, type SQL, sql } from "drizzle-orm";
import { authorize, type Caller, may, requireUser } from "../access/caller";
import type { JobFacts } from "../access/policy";
import { commitBatch, type Guard, type Statement } from "../db/client";
import { accounts, type JobKind, type JobState, jobInputs, jobStates, jobs, repos } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { findRepo, ownersOf } from "../hub/repositories";
import type { JobId, RepoId } from "../ids";
import type { Platform } from "../platform/platform";
import { jobEventStatement } from "./job-events";

/** queued → running → publishing → succeeded; failed and cancelled from each of the first three. */
export const openStates = ["queued", "running", "publishing"] as const satisfies readonly JobState[];

export { jobStates };

export const hasEnded = (state: JobState): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled";

export type JobRow = typeof jobs.$inferSelect;

/** What a failed job tells: a stable code, and what to do where that is known. */
export type JobError = {
  readonly code: string;
  readonly message: string;
  readonly field?: string | undefined;
  readonly fix?: string | undefined;
};

/** A job with what the policy and a client need to know of its output. */
export type Job = JobRow & { readonly output: { readonly repo: string; readonly ownerId: string } | null };

const jobColumns = { job: jobs, ownerId: repos.ownerId, owner: accounts.name, repo: repos.name };

type JoinedRow = { job: JobRow; ownerId: string | null; owner: string | null; repo: string | null };

const jobOf = ({ job, ownerId, owner, repo }: JoinedRow): Job => ({
  ...job,
  output: ownerId === null || owner === null || repo === null ? null : { repo: `${owner}/${repo}`, ownerId },
});

const selectJobs = (platform: Platform) =>
  platform.db
    .select(jobColumns)
    .from(jobs)
    .leftJoin(repos, eq(repos.id, jobs.outputRepoId))
    .leftJoin(accounts, eq(accounts.id, repos.ownerId));

export const jobFacts = (job: Job): JobFacts => ({
  id: job.id,
  actorId: job.actorId,
  outputOwnerId: job.output?.ownerId ?? null,
  ended: hasEnded(job.state),
});

export const jobSubject = (id: JobId): string => `job:${id}`;
const targetOfJob = (job: Job) => ({ subject: jobSubject(job.id), scopeId: job.output?.ownerId ?? job.actorId });

/** The job whatever the caller may do with it; null when there is none. One query. */
export async function loadJob(platform: Platform, id: JobId): Promise<Job | null> {
  const [row] = await selectJobs(platform).where(eq(jobs.id, id));
  return row === undefined ? null : jobOf(row);
}

/** Who may not see a job is told that there is none. @throws job_not_found */
export async function findJob(caller: Caller, id: JobId): Promise<Job> {
  const job = await loadJob(caller.platform, id);
  if (job === null || !may(caller, { action: "job.read", job: jobFacts(job) })) {
    requireUser(caller);
    throw new HubError("job_not_found", { id });
  }
  return job;
}

export async function findJobByKey(platform: Platform, requestKey: string): Promise<Job | null> {
  const [row] = await selectJobs(platform).where(eq(jobs.requestKey, requestKey));
  return row === undefined ? null : jobOf(row);
}

export type JobQuery = {
  /** Jobs that write to the repository or read from it; without it, the caller's own. */
  readonly repo?: RepoId | undefined;
  readonly state?: JobState | undefined;
  readonly kind?: JobKind | undefined;
  /** Id of the last job of the page before; ids sort by time. */
  readonly before?: JobId | undefined;
  readonly limit: number;
};

/** Newest first. The query preselects, the policy decides. */
export async function listJobs(caller: Caller, query: JobQuery): Promise<{ jobs: Job[]; next: JobId | null }> {
  const { platform } = caller;
  const user = requireUser(caller);
  const conditions: SQL[] = [];
  if (query.repo === undefined) conditions.push(sql`${jobs.actorId} = ${user.id}`);
  else {
    const repo = await findRepo(caller, query.repo);
    const reads = platform.db.select({ id: jobInputs.jobId }).from(jobInputs).where(eq(jobInputs.repoId, repo.id));
    conditions.push(sql`(${jobs.outputRepoId} = ${repo.id} or ${inArray(jobs.id, reads)})`);
    if (!user.isAdmin)
      conditions.push(sql`(${jobs.actorId} = ${user.id} or ${repos.ownerId} in (${ownersOf(caller)}))`);
  }
  if (query.state !== undefined) conditions.push(eq(jobs.state, query.state));
  if (query.kind !== undefined) conditions.push(eq(jobs.kind, query.kind));
  if (query.before !== undefined) conditions.push(sql`${jobs.id} < ${query.before}`);
  const rows = await selectJobs(platform)
    .where(and(...conditions))
    .orderBy(desc(jobs.id))
    .limit(query.limit);
  const found = rows.map(jobOf).filter((job) => may(caller, { action: "job.read", job: jobFacts(job) }));
  return { jobs: found, next: rows.length === query.limit ? (rows.at(-1)?.job.id ?? null) : null };
}

export const stillOpen = (id: JobId): Guard => ({
  holds: sql`exists (select 1 from jobs where id = ${id} and state in ('queued', 'running', 'publishing'))`,
  otherwise: () => new HubError("job_ended", { state: "another request was first" }),
});

export type Ending =
  | { readonly state: "succeeded"; readonly result: unknown }
  | { readonly state: "failed"; readonly error: JobError }
  | { readonly state: "cancelled" };

/** The rows of a job's end, for a batch guarded by `stillOpen`: of all that try to end a job, one does. */
export function endStatements(caller: Caller, job: Job, ending: Ending): Statement[] {
  const { platform, actor } = caller;
  const { db } = platform;
  const now = platform.now();
  const error = ending.state === "failed" ? ending.error : null;
  const data = { state: ending.state, ...(error === null ? {} : { error }) };
  return [
    db
      .update(jobs)
      .set({
        state: ending.state,
        ...(ending.state === "succeeded" ? { result: ending.result } : {}),
        ...(error === null ? {} : { error }),
        updatedAt: now,
        endedAt: now,
      })
      .where(eq(jobs.id, job.id)),
    jobEventStatement(db, { jobId: job.id, attempt: job.attempt, at: now, type: "state", data }),
    eventStatement(
      db,
      allowedEvent(platform, actor, {
        ...targetOfJob(job),
        type: "job.ended",
        action: ending.state === "cancelled" ? "job.cancel" : "job.work",
        data: { kind: job.kind, ...data },
      }),
    ),
  ];
}

/** Ends a job without publishing anything. False when it had ended before. */
export async function endJob(
  caller: Caller,
  job: Job,
  ending: Exclude<Ending, { state: "succeeded" }>,
): Promise<boolean> {
  try {
    // Commit point: the batch that moves the state out of the open ones, which happens once.
    await commitBatch(caller.platform.db, [stillOpen(job.id)], endStatements(caller, job, ending));
    return true;
  } catch (error) {
    if (error instanceof HubError && error.code === "job_ended") return false;
    throw error;
  }
}

/**
 * Cancels at once: from here on nothing of the job is published, whatever the compute service still does until it hears of it.
 * Cancelling a cancelled job changes nothing. @throws job_not_found | forbidden | job_ended
 */
export async function cancelJob(caller: Caller, id: JobId): Promise<Job> {
  const { platform } = caller;
  const job = await findJob(caller, id);
  authorize(caller, { action: "job.cancel", job: jobFacts(job) }, targetOfJob(job));
  if (!hasEnded(job.state) && (await endJob(caller, job, { state: "cancelled" })))
    platform.defer(platform.jobs.wake(id, job.driver).catch(() => undefined));
  const ended = await findJob(caller, id);
  if (ended.state !== "cancelled") throw new HubError("job_ended", { state: ended.state });
  return ended;
}
