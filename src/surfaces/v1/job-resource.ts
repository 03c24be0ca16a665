// A job as clients see it.
import { z } from "@hono/zod-openapi";
import { type Job, jobStates } from "../../compute/jobs";
import { isoTime } from "./router";

const Time = z.iso.datetime();

const JobError = z.looseObject({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  fix: z.string().optional(),
});

export const JobState = z.enum(jobStates);
export const JobKind = z.enum(["merge", "verify", "evaluate", "train"]);

export const JobResource = z
  .object({
    id: z.string(),
    kind: JobKind,
    state: JobState.meta({
      description:
        "`queued` until the compute service starts, `running`, `publishing` while its result is verified and written, then `succeeded`, `failed` or `cancelled` for good",
    }),
    attempt: z.int().meta({ description: "How often the work was handed to the compute service" }),
    request: z.unknown().meta({ description: "What was asked, defaults filled in" }),
    output: z.object({ repo: z.string(), branch: z.string() }).nullable(),
    progress: z.unknown().meta({ description: "`{done, total, unit}` as the compute service last told it" }),
    result: z.unknown().meta({
      description:
        "Of a succeeded job: `{repo, branch, commit, files, record, engine}`, `{evaluation}`, or of a verification `{verified, files, determinism, engine}`",
    }),
    error: JobError.nullable(),
    created_at: Time,
    started_at: Time.nullable(),
    updated_at: Time,
    ended_at: Time.nullable(),
    deadline_at: Time,
  })
  .openapi("Job");

const timeOrNull = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));

export function jobResource(job: Job): z.output<typeof JobResource> {
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    attempt: job.attempt,
    request: job.request,
    output:
      job.output === null || job.outputRef === null
        ? null
        : { repo: job.output.repo, branch: job.outputRef.replace(/^refs\/heads\//, "") },
    progress: job.progress ?? null,
    result: job.result ?? null,
    error: job.error === null ? null : JobError.parse(job.error),
    created_at: isoTime(job.createdAt),
    started_at: timeOrNull(job.startedAt),
    updated_at: isoTime(job.updatedAt),
    ended_at: timeOrNull(job.endedAt),
    deadline_at: isoTime(job.deadlineAt),
  };
}
