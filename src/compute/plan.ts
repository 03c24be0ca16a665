// The plan of a job, kept in its row: what the compute service gets, with every revision resolved to digests, and what publishing needs.
import * as z from "zod";
import type { Purpose } from "../access/policy";
import { HubError } from "../errors";
import { ModeColumn } from "../hub/tree-edit";
import { type JobId, parseFilePath, parseGitId, parseSha256 } from "../ids";
import { STORED } from "../store/contents";

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));
const gitId = z.string().transform((text) => parseGitId(text, "id"));
const filePath = z.string().transform((text) => parseFilePath(text, "path"));

/** A file that the compute service reads: `name` is what it is called there, `path` where it lies in its repository. */
const InputFile = z.object({ name: z.string(), path: filePath, sha256, size: z.number() });

/** What a job takes from one repository at one commit. */
const Source = z.object({
  repoId: z.string(),
  ownerId: z.string(),
  repo: z.string(),
  type: z.enum(["model", "dataset"]),
  commit: gitId,
  files: z.array(InputFile),
});

const Revision = z.object({ repo: z.string(), commit: gitId });

/** Plans from before there were Xet files say nothing of how the bytes are held: as contents. */
const Holding = z.object({ fileId: z.number().nullable(), state: z.enum(["verified", "claimed", "mismatched"]) });
const NewFile = z.object({
  kind: z.literal("file"),
  id: gitId,
  sha256,
  size: z.number(),
  lfs: z.boolean(),
  mode: ModeColumn.default(null),
  holding: Holding.default(STORED),
});

/** The part that only the compute service reads, by its contract. */
const ComputeSpec = z.record(z.string(), z.unknown());

/** A revision that a merge reads: one, whatever it is used for. `field` is where the recipe names it first. */
const MergeParent = Source.extend({
  role: z.enum(["model", "base", "adapter", "tokenizer"]),
  field: z.string(),
  /** Of the card, as it spells it; null where it says none. */
  licence: z.string().nullable(),
  /** Where the recipe gives the model one number for all its tensors. */
  weight: z.number().nullable(),
});

/** A document, or a list of them. */
export const CanonicalRecipe = z.union([z.record(z.string(), z.unknown()), z.array(z.record(z.string(), z.unknown()))]);

const MergePlan = z.object({
  kind: z.literal("merge"),
  compute: ComputeSpec,
  /** In its canonical form, with the digest of that; `recipeText` is what was sent, where that was YAML. */
  recipe: CanonicalRecipe,
  recipeSha256: sha256,
  recipeText: z.string().nullable(),
  /** What the compute service executes: a content that the job holds, and an input of it under this name. */
  program: z.object({ name: z.string(), sha256, size: z.number() }),
  parents: z.array(MergeParent),
  base: Revision.nullable(),
  /** Whose configuration and tokenizer the output has. */
  donor: Revision.nullable(),
  /** Entries of the output that are the donor's, by reference: its config.json, tokenizer, … */
  copied: z.array(z.object({ path: filePath, file: NewFile })),
  /** The files that the compute service must have uploaded, weights first. */
  outputs: z.array(filePath).min(1),
  /** Texts that the output has beside them: a changed config.json, the recipe as mergekit writes it, … */
  documents: z.array(z.object({ path: filePath, text: z.string() })),
  /** The strictest of the parents'; null where no parent says any. */
  licence: z.object({ id: z.string(), name: z.string().nullable(), link: z.string().nullable() }).nullable(),
  /** As the parents' cards say, where they agree. */
  libraryName: z.string().nullable(),
  pipelineTag: z.string().nullable(),
  /** What who reads the model should know, in sentences. */
  notes: z.array(z.string()),
  /** `exact`: the same bytes on any machine; `tolerance`: equal up to the rounding of the machine's linear algebra. */
  determinism: z.enum(["exact", "tolerance"]),
  seed: z.number(),
  message: z.string().nullable(),
});

/** A merge computed again from what its revision records, to compare and not to publish. */
const VerifyPlan = z.object({
  kind: z.literal("verify"),
  compute: ComputeSpec,
  /** The revision, and the program that it holds. */
  subject: Source,
  parents: z.array(Source),
  /** Each file that the merge made: its digest in recipe.json, and of what the revision holds under that path. */
  files: z.array(z.object({ path: filePath, recorded: sha256, published: sha256.nullable() })),
  determinism: z.enum(["exact", "tolerance"]),
  /** That the merge was made with. */
  engine: z.object({ name: z.string(), version: z.string() }),
});

const EvaluatePlan = z.object({
  kind: z.literal("evaluate"),
  compute: ComputeSpec,
  model: Source,
  dataset: Source,
  split: z.string(),
  config: z.object({ sha256 }),
  /** The weight files with the dtypes that their headers name. */
  weights: z.array(z.object({ path: filePath, sha256, dtype: z.string() })),
  computeDtype: z.string(),
  batchSize: z.number(),
});

const TrainPlan = z.object({
  kind: z.literal("train"),
  compute: ComputeSpec,
  dataset: Source,
  split: z.string(),
  initial: Source.nullable(),
  message: z.string().nullable(),
});

export const Plan = z.discriminatedUnion("kind", [MergePlan, VerifyPlan, EvaluatePlan, TrainPlan]);
export type Plan = z.output<typeof Plan>;
export type MergePlan = z.output<typeof MergePlan>;
export type MergeParent = z.output<typeof MergeParent>;
export type VerifyPlan = z.output<typeof VerifyPlan>;
export type EvaluatePlan = z.output<typeof EvaluatePlan>;
export type TrainPlan = z.output<typeof TrainPlan>;
export type Source = z.output<typeof Source>;

/** The plan of a job, from its row. @throws plan_outdated for one that an earlier version of the hub made */
export function planOf(spec: unknown): Plan {
  const plan = Plan.safeParse(spec);
  if (!plan.success) throw new HubError("plan_outdated", {}, { cause: plan.error });
  return plan.data;
}

/** What a job of this kind takes weights and data for. */
export const purposeOf = (kind: Plan["kind"]): Purpose => (kind === "verify" ? "merge" : kind);

export function sourcesOf(plan: Plan): Source[] {
  switch (plan.kind) {
    case "merge":
      return plan.parents;
    case "verify":
      return [plan.subject, ...plan.parents];
    case "evaluate":
      return [plan.model, plan.dataset];
    case "train":
      return plan.initial === null ? [plan.dataset] : [plan.initial, plan.dataset];
  }
}

/** The files that a finished job must have uploaded. */
export function outputPaths(plan: Plan): readonly string[] {
  switch (plan.kind) {
    case "merge":
      return plan.outputs;
    case "verify":
      return [];
    case "evaluate":
      return ["samples.jsonl"];
    case "train":
      return ["model.safetensors", "config.json", "training.json"];
  }
}

export type JobInput = { readonly name: string; readonly sha256: string; readonly size: number };

type Addressed = {
  readonly id: JobId;
  readonly attempt: number;
  readonly plan: Plan;
  readonly inputs: readonly JobInput[];
  readonly timeoutS: number;
};

/** What merging tensor by tensor and evaluating a batch at a time need together with the framework. Bytes. */
export const MEMORY_BYTES = 4 * 2 ** 30;

/** The body of the submission. It follows from the row alone, so that a repeated submission is the same to the byte. */
export function submissionOf(job: Addressed, publicUrl: string, token: string): string {
  const base = `${publicUrl}/api/v1/jobs/${job.id}`;
  return JSON.stringify({
    id: job.id,
    attempt: job.attempt,
    kind: job.plan.kind === "verify" ? "merge" : job.plan.kind,
    spec: job.plan.compute,
    inputs: job.inputs.map(({ name, sha256: digest, size }) => ({
      name,
      url: `${base}/inputs/${name}`,
      sha256: digest,
      size,
    })),
    hub: {
      uploads_url: `${base}/uploads`,
      events_url: `${base}/progress`,
      result_url: `${base}/result`,
      // The others write to no repository, so they have no store to upload to by chunks.
      xet_token_url: job.plan.kind === "merge" || job.plan.kind === "train" ? `${base}/xet-write-token` : null,
    },
    token,
    limits: { timeout_s: job.timeoutS, memory_bytes: MEMORY_BYTES },
  });
}
