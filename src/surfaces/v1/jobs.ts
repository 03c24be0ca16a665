// Routes for jobs: asking for one, following it, stopping it.
import { createRoute, z } from "@hono/zod-openapi";
import { acceptJob } from "../../compute/accept";
import { cancelJob, findJob, listJobs } from "../../compute/jobs";
import { JobRequest } from "../../compute/requests";
import { parseJobId, parseRepoId } from "../../ids";
import { jobFeed } from "./job-feed";
import { JobKind, JobResource, JobState, jobResource } from "./job-resource";
import { body, json, newRouter, Paging, problems } from "./router";

const tags = ["jobs"];
const jobParams = z.object({ id: z.string().max(60) });

const createJobRoute = createRoute({
  method: "post",
  path: "/jobs",
  tags,
  summary: "Ask for a merge, an evaluation or a training",
  description:
    "Revisions are resolved to commits and files to digests now, and everything that can be checked is checked now: what is refused has written nothing. " +
    "With an `Idempotency-Key`, asking again with the same body answers 200 with the same job.",
  request: {
    headers: z.object({ "idempotency-key": z.string().min(1).max(200).optional() }),
    ...body(JobRequest),
  },
  responses: {
    202: json(JobResource, "The job; `Location` is its address"),
    200: json(JobResource, "The job that this key asked for before"),
    ...problems,
  },
});

const listJobsRoute = createRoute({
  method: "get",
  path: "/jobs",
  tags,
  summary: "The caller's jobs, or those that read or write a repository, newest first",
  request: {
    query: Paging.extend({
      repo: z.string().max(200).optional().meta({ description: "owner/name" }),
      type: z.enum(["model", "dataset"]).default("model").meta({ description: "Of `repo`" }),
      state: JobState.optional(),
      kind: JobKind.optional(),
    }),
  },
  responses: {
    200: json(z.object({ jobs: z.array(JobResource), next: z.string().nullable() }), "A page"),
    ...problems,
  },
});

const getJobRoute = createRoute({
  method: "get",
  path: "/jobs/{id}",
  tags,
  summary: "A job",
  request: { params: jobParams },
  responses: { 200: json(JobResource, "The job"), ...problems },
});

const cancelJobRoute = createRoute({
  method: "post",
  path: "/jobs/{id}/cancel",
  tags,
  summary: "Cancel a job",
  description:
    "At once: from the answer on nothing of it is published. Cancelling a cancelled job changes nothing; one that ended otherwise answers 409.",
  request: { params: jobParams },
  responses: { 200: json(JobResource, "The cancelled job"), ...problems },
});

const jobEventsRoute = createRoute({
  method: "get",
  path: "/jobs/{id}/events",
  tags,
  summary: "What the job tells, live",
  description:
    "Server-sent events: `event` is `state`, `progress`, `metric` or `log`, `data` JSON, `id` a number that `Last-Event-ID` resumes behind. The stream ends after the state that ends the job.",
  request: {
    params: jobParams,
    headers: z.object({ "last-event-id": z.coerce.number().int().min(0).optional() }),
  },
  responses: {
    200: { content: { "text/event-stream": { schema: z.string() } }, description: "The events" },
    ...problems,
  },
});

export const jobs = newRouter()
  .openapi(createJobRoute, async (c) => {
    const { job, isNew } = await acceptJob(c.var.caller, c.req.valid("json"), c.req.valid("header")["idempotency-key"]);
    c.header("location", `/api/v1/jobs/${job.id}`);
    return c.json(jobResource(job), isNew ? 202 : 200);
  })
  .openapi(listJobsRoute, async (c) => {
    const { repo, type, state, kind, cursor, limit } = c.req.valid("query");
    const page = await listJobs(c.var.caller, {
      repo: repo === undefined ? undefined : parseRepoId(type, repo),
      state,
      kind,
      before: cursor === undefined ? undefined : parseJobId(cursor, "cursor"),
      limit,
    });
    return c.json({ jobs: page.jobs.map(jobResource), next: page.next }, 200);
  })
  .openapi(getJobRoute, async (c) =>
    c.json(jobResource(await findJob(c.var.caller, parseJobId(c.req.valid("param").id, "id"))), 200),
  )
  .openapi(cancelJobRoute, async (c) =>
    c.json(jobResource(await cancelJob(c.var.caller, parseJobId(c.req.valid("param").id, "id"))), 200),
  )
  .openapi(jobEventsRoute, async (c) => {
    const job = await findJob(c.var.caller, parseJobId(c.req.valid("param").id, "id"));
    return jobFeed(c.var.caller.platform, job, c.req.valid("header")["last-event-id"] ?? 0, c.req.raw.signal);
  });
