// What a finished job writes back: a revision or an evaluation, whole or not at all.
import { authorize, type Caller } from "../access/caller";
import { commitBatch, type Statement } from "../db/client";
import { evaluations } from "../db/schema";
import { HubError } from "../errors";
import { afterPush, authorOf, type PreparedCommit, prepareCommit } from "../hub/commits";
import { listTree } from "../hub/files";
import { lineageStatement, type Parent } from "../hub/lineage";
import {
  findRepoById,
  findSnapshot,
  MAIN,
  type Repository,
  repoName,
  type Snapshot,
  targetOf,
} from "../hub/repositories";
import type { Change } from "../hub/tree-edit";
import { parseFilePath, parseRevision, type RefName } from "../ids";
import type { Platform } from "../platform/platform";
import type { Result } from "./contract";
import { evaluationRow } from "./evaluations";
import { type Ending, endStatements, type Job, stillOpen } from "./jobs";
import { kindOf } from "./merge/card";
import { MERGE_RECORDS, mergedFiles } from "./merge/revision";
import { compareOutputs } from "./merge/verify";
import { entriesOf, type HeldFile, type OutputEntry, verifiedOutputs } from "./outputs";
import { type MergePlan, outputPaths, planOf, type Source, type TrainPlan } from "./plan";
import { standingCaller } from "./standing";
import { trainingCard } from "./training-card";

/** Others may move the branch meanwhile; more rounds than this is a storm, and the step is repeated later. */
const MAX_ROUNDS = 8;
/** More entries at the root than any model has. */
const MAX_ROOT_ENTRIES = 10_000;
/** Weights as jobs write them. */
const WEIGHTS =
  /^(model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|adapter_(model\.safetensors|config\.json))$/;
const RECORDS = new Set([...MERGE_RECORDS, "training.json"]);

/**
 * Verifies what the job made, and ends it with that published. Repeating it after any crash publishes the same or finds it done.
 * @throws output_invalid | forbidden | repo_not_found, which fail the job; job_ended when something else ended it first
 */
export async function publish(platform: Platform, job: Job, result: Result): Promise<void> {
  const plan = planOf(job.spec);
  // Asked again: who may no longer use what went into it publishes nothing of it.
  const caller = await standingCaller(platform, job, plan);
  if (plan.kind === "verify") return endWith(caller, job, { state: "succeeded", result: compareOutputs(plan, result) });
  const made = await verifiedOutputs(platform, job, result.files, outputPaths(plan));
  if (plan.kind !== "evaluate") return publishRevision(caller, job, plan, result, made);
  const row = evaluationRow(platform, job, plan, result);
  return endWith(caller, job, { state: "succeeded", result: { evaluation: row.id } }, [
    platform.db.insert(evaluations).values(row),
  ]);
}

/** Commit point: the batch that ends the job also holds what it made. */
const endWith = (caller: Caller, job: Job, ending: Ending, made: readonly Statement[] = []): Promise<void> =>
  commitBatch(caller.platform.db, [stillOpen(job.id)], [...made, ...endStatements(caller, job, ending)]);

async function publishRevision(
  caller: Caller,
  job: Job,
  plan: MergePlan | TrainPlan,
  result: Result,
  made: readonly HeldFile[],
): Promise<void> {
  const { platform, actor } = caller;
  const { outputRepoId, outputRef: ref } = job;
  if (outputRepoId === null || ref === null || actor.kind !== "user") throw new HubError("internal");
  const repo = await findRepoById(caller, outputRepoId);
  // Asked again: who lost the right to write since the job was accepted publishes nothing.
  authorize(caller, { action: "repo.write", repo }, targetOf(repo));
  const files =
    plan.kind === "merge"
      ? await mergedFiles(platform, repoName(repo), job, plan, result, made)
      : await entriesOf(platform, made, [{ path: "README.md", text: trainingCard(repo.name, plan) }]);
  const author = authorOf(caller);
  for (let round = 1; ; round++) {
    try {
      const head = await findHead(caller, repo, ref);
      const changes = [...(await staleFiles(platform, head, files)), ...files.map(put)];
      const request = { ref, changes, summary: plan.message ?? defaultMessage(plan), startFrom: MAIN };
      const prepared = await prepareCommit(caller, repo, request, author);
      if (prepared.parent !== (head?.commit ?? null)) throw new HubError("ref_moved");
      await commitRevision(caller, job, repo, plan, result, prepared);
      return;
    } catch (error) {
      // Entries that are gone were deleted by whoever moved the branch.
      const moved = error instanceof HubError && (error.code === "ref_moved" || error.code === "entry_not_found");
      if (!moved) throw error;
      if (round === MAX_ROUNDS) throw new Error("the branch keeps moving", { cause: error });
    }
  }
}

async function commitRevision(
  caller: Caller,
  job: Job,
  repo: Repository,
  plan: MergePlan | TrainPlan,
  result: Result,
  prepared: PreparedCommit,
): Promise<void> {
  const { db } = caller.platform;
  // The branch may hold these very files already: then its head is the result.
  const commit = prepared.changesTree || prepared.parent === null ? prepared.id : prepared.parent;
  const outcome = {
    repo: repoName(repo),
    branch: job.outputRef?.replace(/^refs\/heads\//, ""),
    commit,
    files: result.files,
    record: result.record,
    engine: result.engine,
  };
  // Commit point: one batch moves the branch, links the bytes, writes the lineage and ends the job as succeeded.
  await commitBatch(
    db,
    [stillOpen(job.id), ...prepared.guards],
    [
      ...(commit === prepared.id ? prepared.statements : []),
      lineageStatement(repo.id, commit, parentsOf(plan)),
      ...endStatements(caller, job, { state: "succeeded", result: outcome }),
    ],
  );
  await afterPush(caller.platform, repo, { refs: job.outputRef === null ? [] : [job.outputRef], bringsLfs: true });
}

/** The branch's head, or that of `main`, which a new branch starts from. */
async function findHead(caller: Caller, repo: Repository, ref: RefName): Promise<Snapshot | null> {
  for (const name of new Set([ref, MAIN])) {
    try {
      return await findSnapshot(caller, repo, parseRevision(name));
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "revision_not_found") throw error;
    }
  }
  return null;
}

const put = ({ path, file }: OutputEntry): Change => ({
  kind: "put",
  path: parseFilePath(path, "path"),
  file,
  field: "path",
});

/** Weights and records of the revision before that would contradict the new ones. */
async function staleFiles(platform: Platform, head: Snapshot | null, files: readonly OutputEntry[]): Promise<Change[]> {
  if (head === null) return [];
  const written = new Set(files.map((file) => file.path));
  const entries = await listTree(platform.db, head, { path: "", recursive: false, limit: MAX_ROOT_ENTRIES });
  const isStale = (name: string): boolean => WEIGHTS.test(name) || RECORDS.has(name);
  return entries.flatMap(({ kind, path }) =>
    kind === "file" && isStale(path) && !written.has(path)
      ? [{ kind: "deleteFile", path: parseFilePath(path, "path"), field: "path" }]
      : [],
  );
}

function defaultMessage(plan: MergePlan | TrainPlan): string {
  return plan.kind === "merge"
    ? `Merge ${plan.parents.map(({ repo, weight }) => (weight === null ? repo : `${weight} · ${repo}`)).join(" + ")}`
    : `Train on ${plan.dataset.repo}, split ${plan.split}`;
}

function parentsOf(plan: MergePlan | TrainPlan): Parent[] {
  const parent = (relation: Parent["relation"], { repoId, commit, files }: Source): Parent => ({
    relation,
    repoId,
    commit,
    files: files.map(({ path, sha256 }) => ({ path, sha256 })),
  });
  if (plan.kind === "merge") {
    const relation = kindOf(plan) === "adapter" ? "adapter" : "merge";
    return plan.parents.map((source) => parent(relation, source));
  }
  return [...(plan.initial === null ? [] : [parent("finetune", plan.initial)]), parent("dataset", plan.dataset)];
}
