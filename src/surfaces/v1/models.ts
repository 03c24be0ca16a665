// Routes for what is known of models beyond their files: evaluations and lineage.
import { createRoute, z } from "@hono/zod-openapi";
import { findEvaluation, findSamples, listEvaluations } from "../../compute/evaluations";
import { type Relative, readLineage } from "../../hub/lineage";
import { findRepo, findSnapshot, repoName } from "../../hub/repositories";
import { parseRepoId, parseRevision } from "../../ids";
import { serveContent } from "../serve-content";
import { json, newRouter, Paging, problems } from "./router";

const modelParams = z.object({ owner: z.string().max(96), name: z.string().max(96) });

const Evaluation = z
  .looseObject({ schema: z.literal("owm.eval/1"), id: z.string(), identity: z.string() })
  .meta({
    description:
      "What was measured (`results`, each with n and a 95 % interval), on which bytes (`model`, `dataset`, `task`), where (`env`). Records of equal `identity` are comparable.",
  })
  .openapi("Evaluation");

const listEvaluationsRoute = createRoute({
  method: "get",
  path: "/models/{owner}/{name}/evaluations",
  tags: ["evaluations"],
  summary: "Evaluations of a model, newest first",
  request: {
    params: modelParams,
    query: Paging.extend({ revision: z.string().max(250).optional(), split: z.string().max(100).optional() }),
  },
  responses: {
    200: json(z.object({ evaluations: z.array(Evaluation), next: z.string().nullable() }), "A page"),
    ...problems,
  },
});

const getEvaluationRoute = createRoute({
  method: "get",
  path: "/evaluations/{id}",
  tags: ["evaluations"],
  summary: "An evaluation record",
  request: { params: z.object({ id: z.string().max(60) }) },
  responses: { 200: json(Evaluation, "The record"), ...problems },
});

const samplesRoute = createRoute({
  method: "get",
  path: "/evaluations/{id}/samples",
  tags: ["evaluations"],
  summary: "Target, prediction and raw outputs of each sample, as JSON lines",
  request: { params: z.object({ id: z.string().max(60) }) },
  responses: {
    200: { content: { "application/x-ndjson": { schema: z.string() } }, description: "One line a sample" },
    ...problems,
  },
});

const RelativeResource = z
  .object({
    relation: z.enum(["merge", "adapter", "finetune", "dataset"]),
    source: z
      .object({
        type: z.enum(["model", "dataset"]),
        repo: z.string(),
        commit: z.string(),
        files: z.array(z.object({ path: z.string(), sha256: z.string() })),
      })
      .nullable()
      .meta({ description: "Null where the caller may not see it, or it is gone" }),
  })
  .openapi("Relative");

const lineageRoute = createRoute({
  method: "get",
  path: "/models/{owner}/{name}/lineage/{revision}",
  tags: ["lineage"],
  summary: "What a revision was made from, and what was made from it",
  request: { params: modelParams.extend({ revision: z.string().max(250) }) },
  responses: {
    200: json(
      z.object({
        repo: z.string(),
        commit: z.string(),
        parents: z.array(RelativeResource),
        children: z.array(RelativeResource),
      }),
      "Both directions; `files` are those of the parent that were used",
    ),
    ...problems,
  },
});

const relativeResource = ({ relation, source }: Relative) => ({
  relation,
  source: source === null ? null : { ...source, files: [...source.files] },
});

export const models = newRouter()
  .openapi(listEvaluationsRoute, async (c) => {
    const { owner, name } = c.req.valid("param");
    const { revision, split, cursor, limit } = c.req.valid("query");
    const { caller } = c.var;
    const id = parseRepoId("model", `${owner}/${name}`);
    const snapshot = revision === undefined ? null : await findSnapshot(caller, id, parseRevision(revision));
    const repo = snapshot === null ? await findRepo(caller, id) : snapshot.repo;
    const page = await listEvaluations(caller, {
      modelRepoId: repo.id,
      commit: snapshot?.commit,
      split,
      before: cursor,
      limit,
    });
    return c.json({ evaluations: page.evaluations.map((one) => Evaluation.parse(one.record)), next: page.next }, 200);
  })
  .openapi(getEvaluationRoute, async (c) => {
    const evaluation = await findEvaluation(c.var.caller, c.req.valid("param").id);
    return c.json(Evaluation.parse(evaluation.record), 200);
  })
  .openapi(lineageRoute, async (c) => {
    const { owner, name, revision } = c.req.valid("param");
    const { caller } = c.var;
    const snapshot = await findSnapshot(caller, parseRepoId("model", `${owner}/${name}`), parseRevision(revision));
    const { parents, children } = await readLineage(caller, snapshot);
    return c.json(
      {
        repo: repoName(snapshot.repo),
        commit: snapshot.commit,
        parents: parents.map(relativeResource),
        children: children.map(relativeResource),
      },
      200,
    );
  });

models.openAPIRegistry.registerPath(samplesRoute);
models.get("/evaluations/:id/samples", async (c) => {
  const { caller } = c.var;
  const content = await findSamples(caller, c.req.param("id"));
  return serveContent(c.req.raw, caller.platform, content, {
    etag: `"${content.sha256}"`,
    headers: { "content-type": "application/x-ndjson" },
  });
});
