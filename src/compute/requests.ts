// What a client may ask a job for: one schema a kind, each problem named with its field and its fix.
import * as z from "zod";

const MAX_MODELS = 16;
const MAX_WEIGHT = 1e6;
/** Weights that cancel out to less than this share of their size sum to nothing but rounding error. */
const CANCELLED = 1e-9;
const MAX_ARCHITECTURE_CHARS = 65_536;

const REFERENCE = /^[^\s@/]+\/[^\s@/]+(@\S{1,250})?$/;

/** A repository at a revision, as clients write it; without `@revision` the head of `main`. */
const Reference = z.string().regex(REFERENCE, "must be owner/name@revision");

const Weight = z
  .number()
  .min(-MAX_WEIGHT, `must be from -${MAX_WEIGHT} to ${MAX_WEIGHT}`)
  .max(MAX_WEIGHT, `must be from -${MAX_WEIGHT} to ${MAX_WEIGHT}`);

const Seed = z
  .int("must be a whole number")
  .min(0, "must not be negative")
  .max(2 ** 32 - 1, "must be below 2^32");

const Output = z.strictObject({
  repo: z.string().regex(/^[^\s@/]+\/[^\s@/]+$/, "must be owner/name"),
  branch: z.string().min(1).max(200).default("main"),
  /** For a repository that the job creates; without it, private if an input is. */
  private: z.boolean().optional(),
  /** Whether a repository that is not there is created. */
  create: z.boolean().default(true),
  message: z.string().min(1).max(1000).optional(),
});

export const MergeRequest = z
  .strictObject({
    kind: z.literal("merge"),
    method: z.literal("linear", { error: "must be linear" }),
    models: z
      .array(z.strictObject({ model: Reference, weight: Weight }))
      .min(2, "must name at least two models")
      .max(MAX_MODELS, `must name at most ${MAX_MODELS} models`)
      .optional(),
    /** The shorthand w = λ·a + (1 − λ)·b. */
    a: Reference.optional(),
    b: Reference.optional(),
    lambda: z.number().min(0, "must be from 0 to 1").max(1, "must be from 0 to 1").optional(),
    /** Divide by the sum of the weights. */
    normalize: z.boolean().default(true),
    out_dtype: z.enum(["F32", "F16", "BF16"], { error: "must be F32, F16 or BF16" }).nullable().default(null),
    /** The common ancestor, for the record: the model card names it. */
    base_model: Reference.optional(),
    output: Output,
  })
  .superRefine((request, context) => {
    const shorthand = [request.a, request.b, request.lambda].filter((one) => one !== undefined).length;
    const complain = (path: string, message: string) => context.addIssue({ code: "custom", path: [path], message });
    if (request.models !== undefined) {
      if (shorthand > 0) complain("models", "come instead of a, b and lambda: send one of the two");
      const sum = request.models.reduce((total, { weight }) => total + weight, 0);
      const size = request.models.reduce((total, { weight }) => total + Math.abs(weight), 0);
      if (request.normalize && Math.abs(sum) <= size * CANCELLED)
        complain("models", "have weights that sum to 0: change them or set normalize to false");
    } else if (shorthand === 0)
      complain("models", "is missing: name at least two models with their weights, or a, b and lambda");
    else
      for (const field of ["a", "b", "lambda"] as const)
        if (request[field] === undefined) complain(field, "is missing: a, b and lambda come together");
  });

/** That a published merge be computed again, and every file compared. */
export const VerifyRequest = z.strictObject({ kind: z.literal("verify"), model: Reference });

export const EvaluateRequest = z.strictObject({
  kind: z.literal("evaluate"),
  model: Reference,
  dataset: Reference,
  split: z.string().min(1).max(100),
  seed: Seed.default(0),
  compute_dtype: z.enum(["float32", "float64"], { error: "must be float32 or float64" }).default("float32"),
  batch_size: z.int().min(1, "must be at least 1").max(65_536, "must be at most 65536").default(256),
});

const Architecture = z
  .record(z.string(), z.unknown())
  .refine(
    (config) => JSON.stringify(config).length <= MAX_ARCHITECTURE_CHARS,
    `must have at most ${MAX_ARCHITECTURE_CHARS} characters of JSON`,
  );

export const TrainRequest = z
  .strictObject({
    kind: z.literal("train"),
    dataset: Reference,
    split: z.string().min(1).max(100).default("train"),
    /** The config.json of a new model. */
    architecture: Architecture.optional(),
    /** A published model to train on from. */
    initial: Reference.optional(),
    init: z.enum(["he_normal", "xavier_uniform", "xavier_normal", "normal", "uniform", "default"]).default("default"),
    optimizer: z.strictObject({
      name: z.enum(["sgd", "momentum", "rmsprop", "adam"], { error: "must be sgd, momentum, rmsprop or adam" }),
      lr: z.number().positive("must be above 0").max(1000, "must be at most 1000"),
      momentum: z.number().min(0, "must be from 0 to below 1").lt(1, "must be from 0 to below 1").default(0.9),
      weight_decay: z.number().min(0, "must not be negative").max(10, "must be at most 10").default(0),
    }),
    epochs: z.int().min(1, "must be at least 1").max(10_000, "must be at most 10000"),
    batch_size: z.int().min(1, "must be at least 1").max(65_536, "must be at most 65536").default(64),
    seed: Seed.default(0),
    output: Output,
  })
  .superRefine((request, context) => {
    if ((request.architecture === undefined) === (request.initial === undefined))
      context.addIssue({
        code: "custom",
        path: ["architecture"],
        message: "comes instead of initial: send the one for a new model, the other to train on, not both",
      });
  });

export const JobRequest = z.discriminatedUnion("kind", [MergeRequest, VerifyRequest, EvaluateRequest, TrainRequest], {
  error: (issue) => (issue.code === "invalid_union" ? "must be merge, verify, evaluate or train" : undefined),
});

export type JobRequest = z.output<typeof JobRequest>;
export type MergeRequest = z.output<typeof MergeRequest>;
export type VerifyRequest = z.output<typeof VerifyRequest>;
export type EvaluateRequest = z.output<typeof EvaluateRequest>;
export type TrainRequest = z.output<typeof TrainRequest>;
export type OutputRequest = z.output<typeof Output>;

export type WeightedModel = { readonly model: string; readonly weight: number; readonly field: string };

/** The models of a merge, the shorthand written out; `field` is where each was asked for. */
export function weightedModels(request: MergeRequest): WeightedModel[] {
  if (request.models !== undefined) return request.models.map((one, i) => ({ ...one, field: `models[${i}].model` }));
  const { a = "", b = "", lambda = 0 } = request;
  return [
    { model: a, weight: lambda, field: "a" },
    { model: b, weight: 1 - lambda, field: "b" },
  ];
}
