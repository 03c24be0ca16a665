// Evaluation records: what was measured, on exactly which bytes, and under which identity results can be compared.
import { and, desc, eq, type SQL, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import * as z from "zod";
import { authorize, type Caller, may } from "../access/caller";
import { contents, evaluations, repos } from "../db/schema";
import { HubError } from "../errors";
import { canonicalJson } from "../formats/canonical-json";
import { findRepoById, targetOf } from "../hub/repositories";
import { type GitId, sortableId } from "../ids";
import type { Platform } from "../platform/platform";
import { type StoredContent, segmented, sha256Of } from "../store/contents";
import type { Result } from "./contract";
import type { Job } from "./jobs";
import type { EvaluatePlan } from "./plan";

/** What the compute service measured: the part of its record that the hub builds on. Members beyond these are kept as they are. */
const Measured = z.looseObject({
  n: z.int().min(0),
  metrics: z.array(z.looseObject({ metric: z.string(), value: z.number(), n: z.int() })).min(1),
  confusion: z.array(z.array(z.number())),
  classes: z.array(z.string()),
  task: z.looseObject({ id: z.string(), version: z.string(), kind: z.string() }),
  sample_ids_sha256: z.string(),
  seed: z.int(),
  compute_dtype: z.string(),
  device: z.string(),
  threads: z.int(),
});

/** The row of an evaluation. @throws output_invalid when the compute service's record lacks what makes it one */
export function evaluationRow(platform: Platform, job: Job, plan: EvaluatePlan, result: Result) {
  const measured = Measured.safeParse(result.record);
  if (!measured.success) {
    const [issue] = measured.error.issues;
    throw new HubError("output_invalid", { problem: `the record's ${issue?.path.join(".")}: ${issue?.message}` });
  }
  const { metrics, confusion, classes, n, task, seed, sample_ids_sha256, compute_dtype, device, threads } =
    measured.data;
  const id = `eval_${sortableId(platform.now())}`;
  const [samples] = result.files;
  const taskFile = plan.dataset.files.find((file) => file.name === "data/task.json");
  const dataFiles = plan.dataset.files
    .filter((file) => file !== taskFile)
    .map(({ path, sha256 }) => ({ path, sha256 }));
  const model = {
    repo: plan.model.repo,
    commit: plan.model.commit,
    config: `sha256:${plan.config.sha256}`,
    weights: plan.weights,
    compute_dtype,
  };
  const engine = { name: result.engine.name, version: result.engine.version, torch: result.engine.torch ?? null };
  const taskPart = {
    ...task,
    spec: taskFile === undefined ? null : `sha256:${taskFile.sha256}`,
    metrics: metrics.map((one) => one.metric),
    seed,
  };
  const dataset = {
    repo: plan.dataset.repo,
    commit: plan.dataset.commit,
    split: plan.split,
    files: dataFiles,
    sample_ids_sha256,
  };
  // What repeating the evaluation must hold fixed. Where it ran is recorded below, and is no part of what it is.
  const identity = sha256Of(
    canonicalJson({
      model,
      dataset,
      task: taskPart,
      engine,
    }),
  );
  const record = {
    schema: "owm.eval/1",
    id,
    identity: `sha256:${identity}`,
    class: "R1",
    model,
    dataset: { ...dataset, n },
    task: taskPart,
    env: { engine, device, threads, batch_size: plan.batchSize },
    results: metrics,
    classes,
    confusion,
    samples: samples === undefined ? null : { path: samples.path, sha256: samples.sha256, size: samples.size, rows: n },
    job: job.id,
  };
  return {
    id,
    jobId: job.id,
    actorId: job.actorId,
    modelRepoId: plan.model.repoId,
    modelCommitId: plan.model.commit,
    datasetRepoId: plan.dataset.repoId,
    datasetCommitId: plan.dataset.commit,
    split: plan.split,
    identity,
    record,
    createdAt: platform.now(),
  };
}

export type Evaluation = typeof evaluations.$inferSelect;
export type EvaluationPage = { readonly evaluations: Evaluation[]; readonly next: string | null };

const modelRepos = alias(repos, "model_repos");
const datasetRepos = alias(repos, "dataset_repos");

/** Evaluations whose model and dataset the caller may both see: a result tells of either. */
async function visible(caller: Caller, where: SQL | undefined, limit: number): Promise<EvaluationPage> {
  const rows = await caller.platform.db
    .select({
      evaluation: evaluations,
      model: { ownerId: modelRepos.ownerId, private: modelRepos.private },
      dataset: { ownerId: datasetRepos.ownerId, private: datasetRepos.private },
    })
    .from(evaluations)
    .innerJoin(modelRepos, eq(modelRepos.id, evaluations.modelRepoId))
    .innerJoin(datasetRepos, eq(datasetRepos.id, evaluations.datasetRepoId))
    .where(where)
    .orderBy(desc(evaluations.id))
    .limit(limit);
  const found = rows.filter(({ model, dataset }) =>
    [model, dataset].every((repo) => may(caller, { action: "repo.read", repo })),
  );
  return {
    evaluations: found.map((row) => row.evaluation),
    next: rows.length === limit ? (rows.at(-1)?.evaluation.id ?? null) : null,
  };
}

export type EvaluationQuery = {
  readonly modelRepoId: string;
  readonly commit?: GitId | undefined;
  readonly split?: string | undefined;
  readonly before?: string | undefined;
  readonly limit: number;
};

/** Newest first. */
export function listEvaluations(caller: Caller, query: EvaluationQuery): Promise<EvaluationPage> {
  const conditions: SQL[] = [eq(evaluations.modelRepoId, query.modelRepoId)];
  if (query.commit !== undefined) conditions.push(eq(evaluations.modelCommitId, query.commit));
  if (query.split !== undefined) conditions.push(eq(evaluations.split, query.split));
  if (query.before !== undefined) conditions.push(sql`${evaluations.id} < ${query.before}`);
  return visible(caller, and(...conditions), query.limit);
}

/** @throws evaluation_not_found */
export async function findEvaluation(caller: Caller, id: string): Promise<Evaluation> {
  const {
    evaluations: [evaluation],
  } = await visible(caller, eq(evaluations.id, id), 1);
  if (evaluation === undefined) throw new HubError("evaluation_not_found", { id });
  return evaluation;
}

const WithSamples = z.looseObject({ samples: z.object({ sha256: z.string() }) });

/** The per-sample outputs of an evaluation. @throws evaluation_not_found */
export async function findSamples(caller: Caller, id: string): Promise<StoredContent> {
  const evaluation = await findEvaluation(caller, id);
  // Its lines tell of the dataset's own.
  const dataset = await findRepoById(caller, evaluation.datasetRepoId);
  authorize(caller, { action: "repo.use", repo: dataset, purpose: "download" }, targetOf(dataset));
  const record = WithSamples.safeParse(evaluation.record);
  if (!record.success) throw new HubError("evaluation_not_found", { id });
  const [content] = await caller.platform.db
    .select({ sha256: contents.sha256, size: contents.size, segments: contents.segments })
    .from(contents)
    .where(sql`${contents.sha256} = ${record.data.samples.sha256}`);
  if (content === undefined) throw new HubError("content_damaged");
  return segmented(content);
}
