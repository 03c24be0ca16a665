// From a request to a plan: everything that can be known to be wrong is found here, before anything is written.

import * as z from "zod";
import type { Caller } from "../access/caller";
import { HubError } from "../errors";
import { findStoredFiles, type StoredFile } from "../hub/files";
import { findSnapshots, repoName } from "../hub/repositories";
import { parseFilePath } from "../ids";
import { draftMerge } from "./merge/draft";
import { type PlannedMerge, planDraft } from "./merge/job-plan";
import { planVerification } from "./merge/verify";
import type { EvaluatePlan, MergePlan, Plan, TrainPlan } from "./plan";
import { type EvaluateRequest, type JobRequest, type MergeRequest, recipeOf, type TrainRequest } from "./requests";
import { findModels, type Located, locate, type ModelFiles, readWhole, revisionQuery, sourceOf } from "./sources";
import { readWeights } from "./weights";

/** A plan, and what the hub made for the job to read. */
export type Planned = { readonly plan: Plan; readonly inputs: PlannedMerge["inputs"] };

export async function planJob(caller: Caller, request: JobRequest): Promise<Planned> {
  switch (request.kind) {
    case "merge":
      return planMerge(caller, request);
    case "verify":
      return { plan: await planVerification(caller, request), inputs: [] };
    case "evaluate":
      return { plan: await planEvaluation(caller, request), inputs: [] };
    case "train":
      return { plan: await planTraining(caller, request), inputs: [] };
  }
}

const named = (folder: string, files: readonly StoredFile[]) =>
  files.map((file) => ({ name: `${folder}/${file.path}`, file }));
const namesOf = (folder: string, files: readonly StoredFile[]): string[] =>
  files.map((file) => `${folder}/${file.path}`);

async function planMerge(caller: Caller, request: MergeRequest): Promise<PlannedMerge> {
  const draft = await draftMerge(caller, recipeOf(request));
  const planned = await planDraft(caller, draft, request.output.message ?? null);
  const base = await findBase(caller, request.base_model);
  return base === null ? planned : { ...planned, plan: { ...planned.plan, base } };
}

async function findBase(caller: Caller, reference: string | undefined): Promise<MergePlan["base"]> {
  if (reference === undefined) return null;
  const [base] = await findSnapshots(caller, [revisionQuery({ type: "model", reference, field: "base_model" })]);
  return base === undefined ? null : { repo: repoName(base.repo), commit: base.commit };
}

async function planEvaluation(caller: Caller, request: EvaluateRequest): Promise<EvaluatePlan> {
  const [model, dataset] = await locate(caller, "evaluate", [
    { type: "model", reference: request.model, field: "model" },
    { type: "dataset", reference: request.dataset, field: "dataset" },
  ]);
  if (model === undefined || dataset === undefined) throw new HubError("internal");
  const files = await modelFiles(caller, model);
  const split = await findSplit(caller, dataset, request.split);
  const { files: weights } = await readWeights(caller.platform, files);
  return {
    kind: "evaluate",
    compute: {
      config: "model/config.json",
      weights: namesOf("model", files.weights),
      task: "data/task.json",
      data: split.dataName,
      split: request.split,
      seed: request.seed,
      compute_dtype: request.compute_dtype,
      batch_size: request.batch_size,
    },
    model: sourceOf(model, named("model", [files.config, ...files.weights])),
    dataset: sourceOf(dataset, split.files),
    split: request.split,
    config: { sha256: files.config.sha256 },
    weights: weights.map(({ file, dtype }) => ({ path: parseFilePath(file.path, "path"), sha256: file.sha256, dtype })),
    computeDtype: request.compute_dtype,
    batchSize: request.batch_size,
  };
}

async function planTraining(caller: Caller, request: TrainRequest): Promise<TrainPlan> {
  const [dataset, initial] = await locate(caller, "train", [
    { type: "dataset", reference: request.dataset, field: "dataset" },
    ...(request.initial === undefined
      ? []
      : [{ type: "model", reference: request.initial, field: "initial" } as const]),
  ]);
  if (dataset === undefined) throw new HubError("internal");
  const files = initial === undefined ? null : await modelFiles(caller, initial);
  if (files !== null) await readWeights(caller.platform, files);
  const split = await findSplit(caller, dataset, request.split);
  return {
    kind: "train",
    compute: {
      config: request.architecture ?? null,
      initial: files === null ? null : { config: "initial/config.json", weights: namesOf("initial", files.weights) },
      task: "data/task.json",
      data: split.dataName,
      split: request.split,
      init: request.init,
      optimizer: request.optimizer,
      epochs: request.epochs,
      batch_size: request.batch_size,
      seed: request.seed,
    },
    dataset: sourceOf(dataset, split.files),
    split: request.split,
    initial:
      initial === undefined || files === null
        ? null
        : sourceOf(initial, named("initial", [files.config, ...files.weights])),
    message: request.output.message ?? null,
  };
}

async function modelFiles(caller: Caller, model: Located): Promise<ModelFiles> {
  const [files] = await findModels(caller.platform, [model]);
  if (files === undefined) throw new HubError("internal");
  return files;
}

/** The part of task.json that the edge reads; the compute service checks the rest. */
const Task = z.object({ splits: z.record(z.string(), z.string()) });

/** task.json of a dataset and the file of one split. @throws invalid_field, which lists the splits there are */
async function findSplit(caller: Caller, dataset: Located, split: string) {
  const { platform } = caller;
  const { snapshot, field } = dataset;
  const [task] = await findStoredFiles(platform.db, [{ snapshot, path: "task.json" }]);
  if (task === undefined || task === null)
    throw new HubError("invalid_field", {
      field,
      problem: `${repoName(snapshot.repo)} has no task.json: a dataset needs one that names its columns, classes and splits`,
    });
  const { splits } = parseTask(await readWhole(platform, task, field), field);
  const path = Object.hasOwn(splits, split) ? splits[split] : undefined;
  if (path === undefined)
    throw new HubError("invalid_field", {
      field: "split",
      problem: `must be one of ${Object.keys(splits).join(", ")}`,
    });
  const [data] = await findStoredFiles(platform.db, [
    { snapshot, path: parseFilePath(path, `${field}: the path of split ${split} in task.json`) },
  ]);
  if (data === undefined || data === null)
    throw new HubError("invalid_field", {
      field: "split",
      problem: `${path}, which task.json names for ${split}, is not in the dataset: upload it`,
    });
  // Named by the split, not the path: what lies where is the dataset's matter, and a path could be task.json itself.
  const dataName = `data/${split.replace(/[^A-Za-z0-9_-]/g, "_")}.csv`;
  return {
    dataName,
    files: [
      { name: "data/task.json", file: task },
      { name: dataName, file: data },
    ],
  };
}

function parseTask(bytes: Uint8Array, field: string): z.output<typeof Task> {
  try {
    const task = Task.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
    if (task.success) return task.data;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new HubError("invalid_field", {
    field,
    problem: 'task.json must be a JSON object with "splits", which names a file for each split',
  });
}
