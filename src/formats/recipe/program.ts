// The merge program: what a recipe is compiled into and the service executes. Twin of `owm_compute/merge/program.py`.
import * as z from "zod";

export const PROGRAM_SCHEMA = "owm.merge-program/1";
export const MAX_SOURCES = 64;
/** Of a value in a recipe, either way. */
export const MAX_NUMBER = 1e9;

const Index = z.int().min(0).max(100_000);
const TensorName = z.string().min(1).max(512);
const InputName = z.string().min(1).max(2000);
const Prompt = z.string().min(1).max(10_000);
const Value = z.number().min(-MAX_NUMBER).max(MAX_NUMBER);
/** A group of permuted units; `group*b` is an axis on which each unit has b indices in a row. */
export const PermutedAxis = z.string().regex(/^[^*]{1,512}(\*[1-9][0-9]{0,8})?$/);

const Adapter = z.strictObject({ config: InputName, weights: z.array(InputName).min(1).max(100) });

const Settings = z.strictObject({
  values: z.record(z.string(), Value).optional(),
  each: z.record(z.string(), z.array(Value)).optional(),
});

const Operation = z.strictObject({
  method: z.string().min(1).max(100),
  models: z.array(Index).min(1).max(64),
  base: Index.nullish(),
  settings: Index.optional(),
});

const TensorOp = z.strictObject({
  name: TensorName,
  operation: Index,
  /** None: all operands call it `name`; one: all call it that; else one a model and then the base's. */
  names: z.array(TensorName).max(65).optional(),
  dtype: z.enum(["F64", "F32", "F16", "BF16"]).nullish(),
  /** Operands are cropped to it. */
  shape: z
    .array(
      z
        .int()
        .min(0)
        .max(2 ** 40),
    )
    .max(8)
    .nullish(),
  optional: z.boolean().optional(),
});

const FILE = "[A-Za-z0-9_][A-Za-z0-9._-]{0,99}";
/** Names that files and folders of the output may have, numbers of shards not counted. */
export const isOutputName = (name: string): boolean => /^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$/.test(name);
const Folder = z.string().regex(new RegExp(`^${FILE}$`));
const OutputPath = z.string().regex(new RegExp(`^(?:${FILE}/)?${FILE}$`));

const OutputSpec = z.strictObject({
  /** The tensors of a file in a folder are called `folder/name` here, and `name` in the file. */
  path: OutputPath,
  tensors: z.array(TensorOp).max(200_000).optional(),
  /** The operation that all tensors of its first model go through, by their names. */
  every: Index.nullish(),
});

const TokenSource = z.strictObject({
  token: z.string().min(1).max(1000),
  kind: z.enum(["default", "model_token", "zero"]),
  model: Index.nullish(),
  model_token: z.string().nullish(),
  model_id: Index.nullish(),
  force: z.boolean().optional(),
});

const TokenizerSpec = z.strictObject({
  source: z.union([z.enum(["union", "base"]), Index]),
  base: Index,
  tokens: z.array(TokenSource).max(10_000).optional(),
  pad_to_multiple_of: z.int().min(1).max(65_536).nullish(),
  /** Tensors of the output with a row a token. */
  embeddings: z.array(TensorName).max(64).optional(),
});

const AlignSpec = z.strictObject({
  reference: Index,
  spec: z.record(TensorName, z.array(PermutedAxis.nullable())).nullish(),
});

/** A direction in the token embeddings of a source; the i-th of a program is its tensor `promptVector(i)`. */
const PromptSpec = z.strictObject({
  source: Index,
  embedding: TensorName,
  positive: z.array(Prompt).min(1).max(1000),
  negative: z.array(Prompt).max(1000).optional(),
});

export const promptVector = (index: number): string => `owm.prompts.${index}`;

const ConfigSpec = z.strictObject({ source: Index, patch: z.record(z.string(), z.unknown()).optional() });

const source = {
  label: z.string().min(1).max(600),
  format: z.enum(["safetensors", "gguf", "npz", "h5", "keras", "program"]).optional(),
  weights: z.array(InputName).max(1000).optional(),
  /** The weights of a pipeline, whose tensors are called `folder/name`. */
  folders: z.record(Folder, z.array(InputName).max(1000)).optional(),
  config: InputName.nullish(),
  adapter: Adapter.nullish(),
  /** By file name: `tokenizer.json`. */
  tokenizer: z.record(z.string(), InputName).optional(),
};

const program = {
  schema: z.literal(PROGRAM_SCHEMA),
  seed: z
    .int()
    .min(0)
    .max(2 ** 53 - 1)
    .optional(),
  settings: z.array(Settings).min(1).max(100_000),
  operations: z.array(Operation).min(1).max(100_000),
  files: z.array(OutputSpec).min(1).max(1000),
  tokenizer: TokenizerSpec.nullish(),
  align: AlignSpec.nullish(),
  prompts: z.array(PromptSpec).max(64).optional(),
  config: ConfigSpec.nullish(),
};

type ObjectOf<Shape extends z.core.$ZodShape> = z.output<z.ZodObject<Shape>>;

/** One model: its files by input name, or the program whose result it is. */
export type SourceSpec = ObjectOf<typeof source> & { program?: Program | null | undefined };
export type Program = ObjectOf<typeof program> & { sources: SourceSpec[] };
export type Settings = z.output<typeof Settings>;
export type Operation = z.output<typeof Operation>;
export type TensorOp = z.output<typeof TensorOp>;
export type OutputSpec = z.output<typeof OutputSpec>;
export type TokenizerSpec = z.output<typeof TokenizerSpec>;
export type PromptSpec = z.output<typeof PromptSpec>;
export type TokenSource = z.output<typeof TokenSource>;

const SourceSpec: z.ZodType<SourceSpec> = z.strictObject({
  ...source,
  program: z.lazy(() => Program.nullish()),
});

export const Program: z.ZodType<Program> = z.strictObject({
  ...program,
  sources: z.array(SourceSpec).min(1).max(MAX_SOURCES),
});
