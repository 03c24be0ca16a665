// Accepting a job: rights, plan, and the one batch that makes the job exist.
import { sql } from "drizzle-orm";
import { authorize, type Caller, requireUser } from "../access/caller";
import { asJson, commitBatch, isUniqueViolation, type Statement } from "../db/client";
import { jobs } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { canonicalJson } from "../formats/canonical-json";
import { type JobId, newJobId, type RefName, type Sha256 } from "../ids";
import { sha256Of, storeBytes } from "../store/contents";
import { createDestination, findDestination } from "./destination";
import { jobEventStatement } from "./job-events";
import { findJobByKey, type Job, jobSubject, loadJob } from "./jobs";
import { type Plan, purposeOf, sourcesOf } from "./plan";
import { planJob } from "./planning";
import type { JobRequest } from "./requests";

/** D1 keeps strings of at most 2 MB. */
const MAX_PLAN_CHARS = 1_500_000;

export type Accepted = { readonly job: Job; readonly isNew: boolean };

/**
 * Takes a job on. The same key with the same body gives the job that it gave before.
 * @throws idempotency_key_reused, and whatever is wrong with the request: then nothing was written
 */
export async function acceptJob(caller: Caller, request: JobRequest, idempotencyKey?: string): Promise<Accepted> {
  const { platform } = caller;
  const user = requireUser(caller);
  authorize(caller, { action: "job.create" }, { subject: `account:${user.name}`, scopeId: user.id });
  const requestSha256 = sha256Of(canonicalJson(request));
  const requestKey = idempotencyKey === undefined ? null : `${user.id}:${idempotencyKey}`;
  const before = await acceptedBefore(caller, requestKey, requestSha256);
  if (before !== null) return before;

  const output = "output" in request ? await findDestination(caller, request.output) : null;
  const { plan, inputs } = await planJob(caller, request);
  if (JSON.stringify(plan).length > MAX_PLAN_CHARS)
    throw new HubError("payload_too_large", {
      problem: "the inputs have too many files for one job: use models with fewer shards",
    });
  // A crash after this leaves an empty repository, which the repeated request then finds and uses.
  const repo = output === null ? null : (output.repo ?? (await createDestination(caller, output, sourcesOf(plan))));
  // Before the batch, like the repository: what no job comes to name is collected.
  await storeBytes(
    platform,
    inputs.map((input) => input.bytes),
  );
  const id = newJobId(platform.now());
  const row: NewJob = {
    id,
    made: inputs.map(({ name, sha256 }) => ({ name, sha256 })),
    request,
    requestKey,
    requestSha256,
    plan,
    outputRepoId: repo?.id ?? null,
    outputRef: output?.ref ?? null,
  };
  try {
    // Commit point: the batch. The start that follows is a hint, which the clock repeats if it is lost.
    await commitBatch(platform.db, [], jobStatements(caller, user.id, row));
  } catch (error) {
    if (!isUniqueViolation(error, "jobs.request_key")) throw error;
    const winner = await acceptedBefore(caller, requestKey, requestSha256);
    if (winner === null) throw error;
    return winner;
  }
  platform.defer(platform.jobs.start(id, 1).catch(() => undefined));
  const job = await loadJob(platform, id);
  if (job === null) throw new HubError("internal");
  return { job, isNew: true };
}

async function acceptedBefore(
  caller: Caller,
  requestKey: string | null,
  requestSha256: Sha256,
): Promise<Accepted | null> {
  if (requestKey === null) return null;
  const job = await findJobByKey(caller.platform, requestKey);
  if (job === null) return null;
  if (job.requestSha256 !== requestSha256) throw new HubError("idempotency_key_reused");
  return { job, isNew: false };
}

type NewJob = {
  readonly id: JobId;
  readonly request: JobRequest;
  readonly requestKey: string | null;
  readonly requestSha256: Sha256;
  readonly plan: Plan;
  /** Inputs that the hub made for the job. */
  readonly made: readonly { readonly name: string; readonly sha256: Sha256 }[];
  readonly outputRepoId: string | null;
  readonly outputRef: RefName | null;
};

function jobStatements(caller: Caller, actorId: string, job: NewJob): Statement[] {
  const { platform, actor } = caller;
  const { db } = platform;
  const now = platform.now();
  const { plan, made, ...row } = job;
  const purpose = purposeOf(plan.kind);
  const inputs = sourcesOf(plan).flatMap(({ repoId, commit, files }) =>
    files.map((file) => ({ ...file, repoId, commit })),
  );
  return [
    db.insert(jobs).values({
      ...row,
      kind: plan.kind,
      state: "queued",
      actorId,
      spec: plan,
      createdAt: now,
      updatedAt: now,
      dueAt: now,
      deadlineAt: now + platform.config.jobTimeoutS * 1000,
    }),
    sql`insert into job_inputs (job_id, name, repo_id, commit_id, path, sha256, size, purpose)
      select ${job.id}, value ->> 'name', value ->> 'repoId', value ->> 'commit', value ->> 'path', value ->> 'sha256', value ->> 'size', ${purpose}
        from json_each(${asJson(inputs)})`,
    sql`insert into job_contents (job_id, sha256, name)
      select ${job.id}, value ->> 'sha256', value ->> 'name' from json_each(${asJson(made)})`,
    jobEventStatement(db, { jobId: job.id, attempt: 1, at: now, type: "state", data: { state: "queued" } }),
    eventStatement(
      db,
      allowedEvent(platform, actor, {
        type: "job.created",
        subject: jobSubject(job.id),
        action: "job.create",
        scopeId: actorId,
        data: { kind: plan.kind, requestSha256: job.requestSha256 },
      }),
    ),
    ...sourcesOf(plan).map((source) =>
      eventStatement(
        db,
        allowedEvent(platform, actor, {
          type: "content.used",
          subject: `${source.type}:${source.repo}`,
          action: "repo.use",
          purpose,
          scopeId: source.ownerId,
          data: {
            job: job.id,
            commit: source.commit,
            files: source.files.map(({ path, sha256 }) => ({ path, sha256 })),
          },
        }),
      ),
    ),
  ];
}
