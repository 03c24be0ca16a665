// Routes for revisions that jobs published: asking that one be computed again and compared.
import { createRoute, z } from "@hono/zod-openapi";
import { acceptJob } from "../../compute/accept";
import { JobResource, jobResource } from "./job-resource";
import { json, newRouter, problems } from "./router";

/** One operation at two addresses: under its model, and as a revision by itself. */
const verifyRoute = <P extends string>(path: P) =>
  createRoute({
    method: "post",
    path,
    tags: ["jobs"],
    summary: "Ask that a published merge be computed again, and every file compared",
    description:
      "For whoever may merge the revision's parents. The job's result tells of each file the recorded, the published and the recomputed SHA-256: `{verified, files: [{path, expected, published, got, equal}], determinism, engine}`. Nothing is published.",
    request: {
      params: z.object({ owner: z.string().max(96), name: z.string().max(96), revision: z.string().max(250) }),
      headers: z.object({ "idempotency-key": z.string().min(1).max(200).optional() }),
    },
    responses: {
      202: json(JobResource, "The job, of kind `verify`; `Location` is its address"),
      200: json(JobResource, "The job that this key asked for before"),
      ...problems,
    },
  });

export const revisions = newRouter();

for (const path of [
  "/models/{owner}/{name}/revisions/{revision}/verify",
  "/revisions/{owner}/{name}/{revision}/verify",
])
  revisions.openapi(verifyRoute(path), async (c) => {
    const { owner, name, revision } = c.req.valid("param");
    const request = { kind: "verify", model: `${owner}/${name}@${revision}` } as const;
    const { job, isNew } = await acceptJob(c.var.caller, request, c.req.valid("header")["idempotency-key"]);
    c.header("location", `/api/v1/jobs/${job.id}`);
    return c.json(jobResource(job), isNew ? 202 : 200);
  });
