// What a recipe says once it is read: every short-hand spelled out, every value checked, nothing resolved yet.
import { type ModelRef, refKey } from "./references";

/** A parameter's values for tensors whose names contain `filter` (null: all), as points of a gradient over the layers. */
export type Rule = { readonly filter: string | null; readonly values: readonly number[] };

/** Rules of each parameter; the first that fits a tensor counts. Booleans are 0 and 1. */
export type Parameters = ReadonlyMap<string, readonly Rule[]>;

export type Dtype = "float64" | "float32" | "float16" | "bfloat16";

/** A model of a merge. `range` is [first layer, end), null for all of them. */
export type Input = {
  readonly model: ModelRef;
  readonly range: readonly [number, number] | null;
  readonly parameters: Parameters;
  /** Where the recipe says it: `slices[0].sources[1]`. */
  readonly field: string;
};

export type Slice = {
  readonly inputs: readonly Input[];
  readonly base: ModelRef | null;
  readonly parameters: Parameters;
  readonly field: string;
};

/** Either whole models or slices of layers, stacked. */
export type Body = { readonly models: readonly Input[] } | { readonly slices: readonly Slice[] };

export type Module = {
  /** Null where the recipe does not tell modules apart. */
  readonly name: string | null;
  readonly body: Body;
  readonly parameters: Parameters;
  readonly field: string;
};

/** Whose row a token has: a model's row of a token or of an id, zeros, or (`default`) what the rules for unlisted ones say. */
export type TokenRow =
  | { readonly kind: "default" }
  | { readonly kind: "zero" }
  | { readonly kind: "model_token"; readonly model: ModelRef; readonly token: string | number };

export type Tokenizer = {
  readonly source: "union" | "base" | ModelRef;
  readonly tokens: ReadonlyMap<string, { readonly row: TokenRow; readonly force: boolean }>;
  readonly padToMultipleOf: number | null;
};

export type Align = {
  /** Null for the base model, or else the first model. */
  readonly reference: ModelRef | null;
  /** Permutation group of each axis of each tensor; null where it is to be inferred. */
  readonly spec: ReadonlyMap<string, readonly (string | null)[]> | null;
};

type Common = {
  /** What other documents call its result; null for the output. */
  readonly name: string | null;
  /** Bytes of tensors in one file of the output. */
  readonly outShardSize: number;
  readonly outDtype: Dtype | null;
  /** Before its fields, in messages: `documents[1].`, or nothing where there is one document. */
  readonly prefix: string;
};

export type MergeDocument = Common & {
  readonly kind: "merge";
  readonly method: string;
  readonly base: ModelRef | null;
  readonly modules: readonly Module[];
  readonly parameters: Parameters;
  readonly tokenizer: Tokenizer | null;
  /** What mergekit calculates in; here arithmetic is float32, and this is the output's dtype where `outDtype` is null. */
  readonly dtype: Dtype | null;
  readonly chatTemplate: string | null;
  readonly seed: number;
  readonly align: Align | null;
};

export type Expert = {
  readonly model: ModelRef;
  readonly positivePrompts: readonly string[];
  readonly negativePrompts: readonly string[];
  readonly noiseScale: number;
  readonly residualScale: number | null;
};

export type GateMode = "hidden" | "hidden_avg" | "hidden_last" | "cheap_embed" | "random" | "uniform_random";

/** Dense models of one shape as the experts of a mixture. */
export type ExpertsDocument = Common & {
  readonly kind: "experts";
  readonly base: ModelRef;
  readonly experts: readonly Expert[];
  readonly sharedExperts: readonly Expert[];
  readonly gateMode: GateMode;
  readonly expertsPerToken: number;
  readonly architecture: string | null;
  readonly seed: number;
};

/** What fine-tuning changed, as a LoRA adapter. */
export type ExtractDocument = Common & {
  readonly kind: "extract_lora";
  readonly model: ModelRef;
  readonly base: ModelRef;
  readonly maxRank: number;
  /** Singular values up to it count as zero. */
  readonly leastSingularValue: number;
  /** Parts of names: of the tensors taken (all where empty) and of those left out. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
};

/** Weights of another format as safetensors. */
export type ConvertDocument = Common & {
  readonly kind: "convert";
  readonly model: ModelRef;
};

export type Document = MergeDocument | ExpertsDocument | ExtractDocument | ConvertDocument;

/** Something that was done and is worth knowing. */
export type Note = { readonly code: string; readonly field: string; readonly message: string };

export type Recipe = {
  /** Each after those it takes as models; the last is the output, the others are merges. */
  readonly documents: readonly [...MergeDocument[], Document];
  readonly notes: readonly Note[];
};

export const DEFAULT_SHARD_BYTES = 5_000_000_000;

/** Whole models and, where it is none of them, the base model: it takes part all the same. */
export function inputsOf({ base }: MergeDocument, models: readonly Input[]): readonly Input[] {
  if (base === null || models.some((input) => refKey(input.model) === refKey(base))) return models;
  return [...models, { model: base, range: null, parameters: new Map(), field: "base_model" }];
}
