// What compiling a recipe takes and gives: facts of the models from their headers, and the program with all there is to say about it.

import type { Program } from "./program";
import type { Note } from "./recipe";

/** A tensor as a merge reads it. */
export type TensorFact = {
  /** Safetensors' name of the dtype that a merge writes when its recipe names none: BF16 for fp8 with block scales. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes that it takes in its file, where that is not dtype × shape. */
  readonly bytes?: number;
};

export type AdapterFacts = {
  /** Input name of adapter_config.json, and what it says. */
  readonly configName: string;
  readonly config: unknown;
  readonly weights: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorFact>;
};

/** Weights that are loaded as one: those at the root of a model, or in a folder of a pipeline. */
export type Component = {
  /** Empty at the root. The tensors of a folder are called `folder/name`. */
  readonly folder: string;
  /** What the weights are called where they are one file. */
  readonly file: string;
  /** Input names of the weight files. */
  readonly weights: readonly string[];
};

export type ModelFacts = {
  /** Of its `ModelReference`. */
  readonly key: string;
  /** For people: `owner/name@a1b2c3d`. */
  readonly label: string;
  readonly format: "safetensors" | "gguf" | "npz" | "h5" | "keras";
  readonly components: readonly Component[];
  /** What config.json says, null where there is none. */
  readonly config: unknown;
  readonly configName: string | null;
  /** Empty where only the service can tell (HDF5). */
  readonly tensors: ReadonlyMap<string, TensorFact>;
  readonly adapter: AdapterFacts | null;
  /** Input names by file name: `tokenizer.json`. */
  readonly tokenizer: Readonly<Record<string, string>>;
  /** How many tokens its tokenizer has, added ones included; null where that is not known. */
  readonly vocabulary: number | null;
};

/** What keeps a recipe from being run. */
export type Problem = {
  readonly code: string;
  /** Of the recipe: `slices[0].sources[1].layer_range`. */
  readonly field: string;
  readonly message: string;
  readonly fix: string;
  /** The first tensor it is about. */
  readonly tensor?: string;
};

export type OutputFile = {
  readonly path: string;
  readonly tensors: number;
  /** Of tensor data; the header comes on top. */
  readonly bytes: number;
};

/** What one document of a recipe compiles to. */
export type CompiledDocument = {
  /** Null when there are problems. */
  readonly program: Program | null;
  readonly problems: readonly Problem[];
  readonly notes: readonly Note[];
  readonly files: readonly OutputFile[];
  /** Whether `files` says all: false where only the service can tell shapes or names (a union of tokenizers, HDF5). */
  readonly filesExact: boolean;
  /** Key of the model whose configuration and tokenizer the output has; null for an adapter. */
  readonly donor: string | null;
  /** Keys of the donor's config.json that are replaced. */
  readonly configPatch: Readonly<Record<string, unknown>>;
  /** `auto`, the name of a template or its text, null where the donor's stays. */
  readonly chatTemplate: string | null;
  /** Files that the output has besides weights, by path. */
  readonly documents: ReadonlyMap<string, string>;
  readonly totals: {
    readonly tensors: number;
    readonly parameters: number;
    readonly bytesRead: number;
    readonly bytesWritten: number;
    readonly memoryBytes: number;
  };
};

export type Compiled = CompiledDocument & {
  /** `exact`: the same bytes on any machine; `tolerance`: equal up to the rounding of the machine's linear algebra. */
  readonly determinism: "exact" | "tolerance";
};
