// Whether models that are mixed tensor by tensor mean the same by their tensors: what configurations, tokenizers and chat templates tell.
import { canonicalJson } from "../canonical-json";
import { memberOf } from "./config";
import type { TensorFact } from "./models";

export type Severity = "error" | "warning" | "note";

/** Something to know before a merge runs; errors keep it from running. */
export type Finding = {
  readonly code: string;
  readonly severity: Severity;
  readonly field: string;
  readonly message: string;
  readonly fix: string | null;
  readonly tensor?: string;
};

export type Compared = {
  readonly field: string;
  readonly label: string;
  /** What config.json says; null where there is none. */
  readonly config: unknown;
  readonly tensors: ReadonlyMap<string, TensorFact>;
  /** Digests; null where there is none. */
  readonly tokenizer: string | null;
  readonly chatTemplate: string | null;
};

/** What the recipe settles by itself. */
export type Settled = { readonly tokenizer: boolean; readonly chatTemplate: boolean };

/** Keys that say where a file comes from or how it is loaded, not what the model is. */
const INCIDENTAL = new Set([
  "_name_or_path",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "use_cache",
  "quantization_config",
  "auto_map",
]);
/** Keys that a finding of its own is about, and those that slices of layers change. */
const TOLD = new Set([
  "architectures",
  "model_type",
  "vocab_size",
  "tie_word_embeddings",
  "num_hidden_layers",
  "n_layer",
  "num_layers",
  "layer_types",
]);
const ROPE = ["rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "max_position_embeddings"];
/** Keys of the same tensors that make another function of them. */
const FUNCTION = [
  "activation",
  "channels",
  "head_dim",
  "hidden_act",
  "hidden_activation",
  "hidden_size",
  "hidden_sizes",
  "image_size",
  "in_channels",
  "input_size",
  "intermediate_size",
  "num_attention_heads",
  "num_experts_per_tok",
  "num_key_value_heads",
  "num_labels",
];

/** Each model beside the first, which is the one whose configuration the result has. */
export function compareModels([first, ...others]: readonly Compared[], settled: Settled): Finding[] {
  return first === undefined ? [] : others.flatMap((other) => compare(first, other, settled));
}

function compare(first: Compared, other: Compared, settled: Settled): Finding[] {
  const findings: Finding[] = [];
  const find = (code: string, severity: Severity, message: string, fix: string | null, tensor?: string): void =>
    void findings.push({
      code,
      severity,
      field: other.field,
      message,
      fix,
      ...(tensor === undefined ? {} : { tensor }),
    });
  if (isObject(first.config) && isObject(other.config)) compareConfigs(first, other, settled, find);
  if (!settled.tokenizer && first.tokenizer !== null && other.tokenizer !== null && first.tokenizer !== other.tokenizer)
    find(
      "tokenizer_mismatch",
      "warning",
      `the tokenizer of ${other.label} is not that of ${first.label}: one number may stand for two tokens`,
      "add tokenizer: {source: union}, which orders the rows of the embeddings by token, if the vocabularies differ",
    );
  if (!settled.chatTemplate && first.chatTemplate !== other.chatTemplate)
    find(
      "chat_template_mismatch",
      "note",
      `the chat template of ${other.label} is not that of ${first.label}, which the result has`,
      "set chat_template to choose one",
    );
  const dtype = differentDtype(first.tensors, other.tensors);
  if (dtype !== null)
    find(
      "dtype_mismatch",
      "note",
      `${dtype.tensor} is ${dtype.theirs} in ${other.label} and ${dtype.ours} in ${first.label}, which the result has`,
      "set out_dtype to choose one",
      dtype.tensor,
    );
  return findings;
}

type Find = (code: string, severity: Severity, message: string, fix: string | null) => void;

function compareConfigs(first: Compared, other: Compared, settled: Settled, find: Find): void {
  const differs = (key: string): boolean => !same(memberOf(first.config, key), memberOf(other.config, key));
  const both = (key: string): boolean =>
    memberOf(first.config, key) !== undefined && memberOf(other.config, key) !== undefined;
  const shown = (key: string): string =>
    `${key} is ${text(memberOf(other.config, key))} in ${other.label} and ${text(memberOf(first.config, key))} in ${first.label}`;
  const kind = ["model_type", "architectures"].find((key) => differs(key) && both(key));
  if (kind !== undefined) {
    find("architecture_mismatch", "error", shown(kind), "merge models of one architecture");
    return;
  }
  const decisive = FUNCTION.find((key) => differs(key) && both(key));
  if (decisive !== undefined)
    find("config_mismatch", "error", shown(decisive), "merge models whose tensors mean the same");
  if (!settled.tokenizer && differs("vocab_size") && both("vocab_size"))
    find(
      "vocabulary_mismatch",
      "warning",
      shown("vocab_size"),
      "add tokenizer: {source: union}, so that every token keeps its row",
    );
  const tied = (config: unknown): boolean => memberOf(config, "tie_word_embeddings") === true;
  if (tied(first.config) !== tied(other.config))
    find(
      "tied_embeddings_mismatch",
      "warning",
      `${tied(first.config) ? first.label : other.label} has no output layer of its own but its embeddings, the other model has`,
      "merge models that agree in tie_word_embeddings",
    );
  const rope = ROPE.find(differs);
  if (rope !== undefined)
    find(
      "rope_mismatch",
      "warning",
      `${shown(rope)}: positions are encoded differently, the result has those of ${first.label}`,
      "merge models with the same positions, or test the result at the lengths you need",
    );
  const rest = [...new Set([...keysOf(first.config), ...keysOf(other.config)])].filter(
    (key) => !INCIDENTAL.has(key) && !TOLD.has(key) && !ROPE.includes(key) && key !== decisive && differs(key),
  );
  if (rest.length > 0)
    find(
      "config_differs",
      "note",
      `config.json of ${other.label} differs from that of ${first.label}, which the result has, at ${list(rest)}`,
      null,
    );
}

function differentDtype(ours: Compared["tensors"], theirs: Compared["tensors"]) {
  for (const [tensor, fact] of ours) {
    const other = theirs.get(tensor);
    if (other !== undefined && other.dtype !== fact.dtype) return { tensor, ours: fact.dtype, theirs: other.dtype };
  }
  return null;
}

const SHOWN_KEYS = 6;
const list = (keys: readonly string[]): string =>
  `${keys.slice(0, SHOWN_KEYS).join(", ")}${keys.length > SHOWN_KEYS ? ` and ${keys.length - SHOWN_KEYS} more` : ""}`;

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;
const keysOf = (value: unknown): string[] => (isObject(value) ? Object.keys(value) : []);
const same = (a: unknown, b: unknown): boolean => canonicalJson(a ?? null) === canonicalJson(b ?? null);
const text = (value: unknown): string => (value === undefined ? "missing" : JSON.stringify(value).slice(0, 100));

/** What a model's configuration tells of its positions. */
export const ropeOf = (config: unknown): Record<string, unknown> =>
  Object.fromEntries(ROPE.map((key) => [key, memberOf(config, key)]).filter(([, value]) => value !== undefined));
