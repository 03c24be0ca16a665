// What a client may ask a job for: one schema a kind, each problem named with its field and its fix.
import * as z from "zod";

const MAX_MODELS = 63;
const MAX_RECIPE_CHARS = 262_144;
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

/** mergekit's YAML as it is, or the same as JSON: what it says is the recipe language's matter. */
export const RecipeText = z
  .union(
    [
      z.string().min(1),
      z.record(z.string(), z.unknown()),
      z.array(z.record(z.string(), z.unknown())).min(1, "must hold a document"),
    ],
    { error: "must be YAML in a string, or an object" },
  )
  .refine(
    (recipe) => (typeof recipe === "string" ? recipe : JSON.stringify(recipe)).length <= MAX_RECIPE_CHARS,
    `must have at most ${MAX_RECIPE_CHARS} characters`,
  );

export const Output = z.strictObject({
  repo: z.string().regex(/^[^\s@/]+\/[^\s@/]+$/, "must be owner/name"),
  branch: z.string().min(1).max(200).default("main"),
  /** For a repository that the job creates; without it, private if an input is. */
  private: z.boolean().optional(),
  /** Whether a repository that is not there is created. */
  create: z.boolean().default(true),
  message: z.string().min(1).max(1000).optional(),
});

/** What a merge is asked for with: a recipe, or the short form of a linear one. */
const SHORT_FORM = ["method", "models", "a", "b", "lambda", "normalize", "out_dtype", "base_model"] as const;

export const MergeRequest = z
  .strictObject({
    kind: z.literal("merge"),
    recipe: RecipeText.optional(),
    method: z.literal("linear", { error: "must be linear: for any other method send a recipe" }).optional(),
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
    normalize: z.boolean().optional(),
    out_dtype: z.enum(["F32", "F16", "BF16"], { error: "must be F32, F16 or BF16" }).nullable().optional(),
    /** The common ancestor, for the record: the model card names it. */
    base_model: Reference.optional(),
    output: Output,
  })
  .superRefine((request, context) => {
    const complain = (path: string, message: string) => context.addIssue({ code: "custom", path: [path], message });
    if (request.recipe !== undefined) {
      const extra = SHORT_FORM.find((key) => request[key] !== undefined);
      if (extra !== undefined) complain(extra, "comes instead of recipe: write it into the recipe");
      return;
    }
    if (request.method === undefined) complain("method", "is missing: send a recipe, or method linear with its models");
    const shorthand = [request.a, request.b, request.lambda].filter((one) => one !== undefined).length;
    if (request.models !== undefined) {
      if (shorthand > 0) complain("models", "come instead of a, b and lambda: send one of the two");
      const sum = request.models.reduce((total, { weight }) => total + weight, 0);
      const size = request.models.reduce((total, { weight }) => total + Math.abs(weight), 0);
      if (request.normalize !== false && Math.abs(sum) <= size * CANCELLED)
        complain("models", "have weights that sum to 0: change them or set normalize to false");
    } else if (shorthand === 0)
      complain("models", "is missing: name at least two models with their weights, or a, b and lambda");
    else
      for (const field of ["a", "b", "lambda"] as const)
        if (request[field] === undefined) complain(field, "is missing: a, b and lambda come together");
  })
  // Spelled out, so that a repeated request is the same whether it names the defaults or not.
  .transform((request) =>
    request.recipe === undefined
      ? { ...request, normalize: request.normalize ?? true, out_dtype: request.out_dtype ?? null }
      : request,
  );

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

/** The recipe that a merge is asked for with, and what the request calls a place of it. */
export type RecipeSource = {
  readonly recipe: string | object;
  readonly fieldOf: (path: string) => string;
};

export const recipeField = (path: string): string => (path === "" ? "recipe" : `recipe.${path}`);

const DTYPES = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;

/** The recipe of a request; the short form is written out as one. */
export function recipeOf(request: MergeRequest): RecipeSource {
  if (request.recipe !== undefined) return { recipe: request.recipe, fieldOf: recipeField };
  const models = weightedModels(request);
  const { normalize, out_dtype: dtype } = request;
  return {
    recipe: {
      merge_method: "linear",
      models: models.map(({ model, weight }) => ({ model, parameters: { weight } })),
      parameters: { normalize },
      ...(dtype == null ? {} : { out_dtype: DTYPES[dtype] }),
    },
    fieldOf: (path) => models[Number(/^models\[(\d+)\]/.exec(path)?.[1] ?? -1)]?.field ?? (path || "models"),
  };
}

type WeightedModel = { readonly model: string; readonly weight: number; readonly field: string };

/** The models of a short form; `field` is where each was asked for. */
function weightedModels(request: MergeRequest): WeightedModel[] {
  if (request.models !== undefined) return request.models.map((one, i) => ({ ...one, field: `models[${i}].model` }));
  const { a = "", b = "", lambda = 0 } = request;
  return [
    { model: a, weight: lambda, field: "a" },
    { model: b, weight: 1 - lambda, field: "b" },
  ];
}
