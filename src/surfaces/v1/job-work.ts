// Routes for the compute service, with a job's own token: inputs, uploads, progress and result of that one job.
import { createRoute, z } from "@hono/zod-openapi";
import { Progress, Report } from "../../compute/contract";
import { findInput, findWork, openJobUpload, workOf } from "../../compute/inputs";
import { hasEnded } from "../../compute/jobs";
import { takeProgress, takeReport } from "../../compute/reports";
import { HubError } from "../../errors";
import { parseJobId, parseSha256 } from "../../ids";
import { likelySpan, serveContent } from "../serve-content";
import { connect } from "../xet/connection";
import { body, json, newRouter, problems } from "./router";

const tags = ["job work"];
const jobParams = z.object({ id: z.string().max(60) });
const description = "For the compute service, with the job's token. 409 `job_ended` tells it to stop.";

const inputRoute = createRoute({
  method: "get",
  path: "/jobs/{id}/inputs/{name}",
  tags,
  summary: "An input's bytes; `name` may hold slashes, `Range` is honoured",
  description,
  request: { params: jobParams.extend({ name: z.string() }) },
  responses: {
    200: {
      content: { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } },
      description: "The bytes",
    },
    206: {
      content: { "application/octet-stream": { schema: z.string().meta({ format: "binary" }) } },
      description: "A range of them",
    },
    ...problems,
  },
});

const UploadAnswer = z.object({
  sha256: z.string(),
  upload: z
    .object({
      parts: z.array(z.object({ url: z.url(), offset: z.int(), size: z.int() })),
      complete_url: z.url().nullable().meta({ description: "Null when one PUT does it all" }),
    })
    .nullable()
    .meta({ description: "Null when the hub holds these bytes for this job" }),
});

const uploadRoute = createRoute({
  method: "post",
  path: "/jobs/{id}/uploads",
  tags,
  summary: "Open an upload of an output file",
  description,
  request: {
    params: jobParams,
    ...body(
      z.strictObject({
        sha256: z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hex digits (a SHA-256)"),
        size: z.int().min(0),
      }),
    ),
  },
  responses: { 200: json(UploadAnswer, "Where the bytes go"), ...problems },
});

const xetTokenRoute = createRoute({
  method: "get",
  path: "/jobs/{id}/xet-write-token",
  tags,
  summary: "A token that uploads output through the Xet protocol; it finds and stores, and reads no file",
  description: `${description} 404 for a job that writes to no repository.`,
  request: { params: jobParams },
  responses: {
    200: json(z.object({ casUrl: z.url(), exp: z.int(), accessToken: z.string() }), "Where the store is"),
    ...problems,
  },
});

const progressRoute = createRoute({
  method: "post",
  path: "/jobs/{id}/progress",
  tags,
  summary: "Tell how the job goes; an event that came before is dropped",
  description,
  request: { params: jobParams, ...body(Progress) },
  responses: { 200: json(z.object({ cancel: z.boolean() }), "Whether to stop"), ...problems },
});

const resultRoute = createRoute({
  method: "post",
  path: "/jobs/{id}/result",
  tags,
  summary: "Tell how an attempt ended; repeats change nothing",
  description,
  request: { params: jobParams, ...body(Report) },
  responses: { 204: { description: "Taken, now or before" }, ...problems },
});

export const jobWork = newRouter()
  .openapi(uploadRoute, async (c) => {
    const { sha256, size } = c.req.valid("json");
    const id = parseJobId(c.req.valid("param").id, "id");
    const links = await openJobUpload(c.var.caller, id, parseSha256(sha256, "sha256"), size);
    const upload = links === null ? null : { parts: links.parts, complete_url: links.completeUrl };
    return c.json({ sha256, upload }, 200);
  })
  .openapi(xetTokenRoute, async (c) => {
    const { caller } = c.var;
    const job = await findWork(caller, parseJobId(c.req.valid("param").id, "id"));
    if (job.outputRepoId === null) throw new HubError("not_found");
    const connection = await connect(caller, caller.platform.config.publicUrl, { id: job.outputRepoId }, true);
    return c.json(connection, 200, { "cache-control": "private, no-store" });
  })
  .openapi(progressRoute, async (c) => {
    const { caller } = c.var;
    const job = await findWork(caller, parseJobId(c.req.valid("param").id, "id"));
    return c.json(await takeProgress(caller.platform, job, c.req.valid("json")), 200);
  })
  .openapi(resultRoute, async (c) => {
    const { caller } = c.var;
    const { platform } = caller;
    const report = c.req.valid("json");
    const job = await workOf(caller, parseJobId(c.req.valid("param").id, "id"));
    // A repeat of what was taken is answered like the first time, also after the job's end.
    if (hasEnded(job.state) || report.attempt !== job.attempt) {
      if (!taken(job.reported, report))
        throw new HubError("job_ended", { state: hasEnded(job.state) ? job.state : "a newer attempt runs" });
      return c.body(null, 204);
    }
    await takeReport(platform, job.id, report);
    platform.defer(platform.jobs.wake(job.id, job.driver).catch(() => undefined));
    return c.body(null, 204);
  });

function taken(reported: unknown, report: z.output<typeof Report>): boolean {
  const before = Report.safeParse(reported);
  return before.success && before.data.attempt === report.attempt && before.data.state === report.state;
}

// Described like the others, but routed by hand: the name of an input is a path.
jobWork.openAPIRegistry.registerPath(inputRoute);
jobWork.get("/jobs/:id/inputs/:name{.+}", async (c) => {
  const { caller } = c.var;
  const id = parseJobId(c.req.param("id"), "id");
  // Inputs are read by many small ranges: what reading one takes comes with the row.
  const content = await findInput(caller, id, c.req.param("name"), likelySpan(c.req.raw));
  const headers = { "content-type": "application/octet-stream", "cache-control": "private, no-store" };
  return serveContent(c.req.raw, caller.platform, content, { etag: `"${content.sha256}"`, headers });
});
