// From a request to a plan: everything that can be known to be wrong is found here, before anything is written.

import * as z from "zod";
import type { Caller } from "../access/caller";
import { HubError } from "../errors";
import { canonicalJson } from "../formats/canonical-json";
import { findStoredFiles, type StoredFile } from "../hub/files";
import { findSnapshots, repoName } from "../hub/repositories";
import { parseFilePath, type Sha256 } from "../ids";
import { sha256Of } from "../store/contents";
import { planVerification } from "./merge/verify";
import type { EvaluatePlan, MergePlan, Plan, TrainPlan } from "./plan";
import {
  type EvaluateRequest,
  type JobRequest,
  type MergeRequest,
  type TrainRequest,
  weightedModels,
} from "./requests";
import { findModels, type Located, locate, type ModelFiles, readWhole, revisionQuery, sourceOf } from "./sources";
import { checkMergeable, readWeights } from "./weights";

/** `inputs`: what the hub made for the job to read. */
export type Planned = {
  readonly plan: Plan;
  readonly inputs: readonly { readonly name: string; readonly sha256: Sha256; readonly bytes: Uint8Array }[];
};

export async function planJob(caller: Caller, request: JobRequest): Promise<Planned> {
  switch (request.kind) {
    case "merge":
      return { plan: await planMerge(caller, request), inputs: [] };
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

async function planMerge(caller: Caller, request: MergeRequest): Promise<MergePlan> {
  const wanted = weightedModels(request);
  const located = await locate(
    caller,
    "merge",
    wanted.map(({ model, field }) => ({ type: "model", reference: model, field })),
  );
  const base = await findBase(caller, request.base_model);
  const models = await findModels(caller.platform, located);
  await checkMergeable(caller.platform, models);
  const [first] = models;
  if (first === undefined) throw new HubError("invalid_field", { field: "models", problem: "is empty" });
  const { id, sha256, size, lfs, holding } = first.config;
  const recipe = {
    merge_method: request.method,
    models: models.map(({ snapshot }, i) => ({
      model: `${repoName(snapshot.repo)}@${snapshot.commit}`,
      parameters: { weight: wanted[i]?.weight ?? 0 },
    })),
    parameters: { normalize: request.normalize },
    ...(request.out_dtype === null ? {} : { out_dtype: request.out_dtype }),
  };
  return {
    kind: "merge",
    compute: {
      method: request.method,
      models: models.map((model, i) => ({
        weights: namesOf(`models/${i}`, model.weights),
        weight: wanted[i]?.weight ?? 0,
      })),
      normalize: request.normalize,
      out_dtype: request.out_dtype,
      output: "model.safetensors",
    },
    recipe,
    recipeSha256: sha256Of(canonicalJson(recipe)),
    recipeText: null,
    program: null,
    parents: models.map((model, i) => ({
      ...sourceOf(model, named(`models/${i}`, model.weights)),
      role: "model",
      field: model.field,
      licence: null,
      weight: wanted[i]?.weight ?? 0,
    })),
    base,
    donor: { repo: repoName(first.snapshot.repo), commit: first.snapshot.commit },
    copied: [
      {
        path: parseFilePath("config.json", "path"),
        file: { kind: "file", id, sha256, size, lfs, mode: null, holding },
      },
    ],
    outputs: [parseFilePath("model.safetensors", "path")],
    documents: [],
    licence: null,
    libraryName: "owm",
    pipelineTag: null,
    notes: [],
    determinism: "exact",
    seed: 0,
    message: request.output.message ?? null,
  };
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
