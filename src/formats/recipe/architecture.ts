// What the names of tensors tell without a list of architectures: layers, embeddings, heads, buffers, parts of a model.
import { layerCount } from "./config";

export type Position = {
  /** Before the number: `model.layers`. */
  readonly stack: string;
  readonly layer: number;
  /** After it: `self_attn.q_proj.weight`. */
  readonly suffix: string;
};

const NUMBER = /(^|\.)(\d{1,6})(\.|$)/;

/** The layer that a tensor belongs to: the first number in its name; those after it count experts and the like. */
export function positionOf(name: string): Position | null {
  const match = NUMBER.exec(name);
  if (match === null) return null;
  const start = match.index;
  return { stack: name.slice(0, start), layer: Number(match[2]), suffix: name.slice(start + match[0].length) };
}

export const layerName = (stack: string, layer: number, suffix: string): string =>
  [stack, String(layer), suffix].filter((part) => part !== "").join(".");

/** Layers one after another, `names` as they are in the model. */
export type Stack = { readonly layers: ReadonlyMap<number, readonly string[]>; readonly count: number };

export type Anatomy = {
  readonly stacks: ReadonlyMap<string, Stack>;
  /** Tensors outside all layers. */
  readonly rest: readonly string[];
};

export function anatomyOf(names: Iterable<string>): Anatomy {
  const stacks = new Map<string, { layers: Map<number, string[]>; count: number }>();
  const rest: string[] = [];
  for (const name of names) {
    const position = positionOf(name);
    if (position === null) {
      rest.push(name);
      continue;
    }
    const stack = stacks.get(position.stack) ?? { layers: new Map(), count: 0 };
    stacks.set(position.stack, stack);
    const layer = stack.layers.get(position.layer);
    if (layer === undefined) stack.layers.set(position.layer, [name]);
    else layer.push(name);
    stack.count = Math.max(stack.count, position.layer + 1);
  }
  return { stacks, rest };
}

/** The stack whose layers slices cut: the only one, or the one of as many layers as the configuration counts. */
export function mainStack({ stacks }: Anatomy, config: unknown): string | null {
  if (stacks.size <= 1) return stacks.keys().next().value ?? null;
  const counted = layerCount(config)?.value;
  const fitting = [...stacks].filter(([, { count }]) => count === counted);
  return fitting.length === 1 ? (fitting[0]?.[0] ?? null) : null;
}

const lastModule = (name: string): string =>
  name
    .replace(/\.(weight|bias)$/, "")
    .split(".")
    .at(-1) ?? "";

const INPUT_EMBEDDINGS = new Set([
  "embed_tokens",
  "wte",
  "embed_in",
  "word_embeddings",
  "tok_embeddings",
  "token_embedding",
  "token_embd",
  "shared",
  "embeddings",
]);
const HEADS = new Set(["lm_head", "embed_out", "output"]);

/** Whether it stands outside layers, and in no folder of a pipeline: nothing is known of the vocabularies there. */
const isOutside = (name: string): boolean => positionOf(name) === null && !name.includes("/");

/** Whether it maps a hidden state to tokens. */
export const isHead = (name: string): boolean => HEADS.has(lastModule(name)) && isOutside(name);

export const isInputEmbedding = (name: string): boolean => INPUT_EMBEDDINGS.has(lastModule(name)) && isOutside(name);

/** Whether the tensor has a row a token. */
export const isVocabulary = (name: string): boolean => isHead(name) || isInputEmbedding(name);

/** Tensors that are computed when a model is loaded; not every version of a library writes them. */
export const isBuffer = (name: string): boolean =>
  /(^|\.)(inv_freq|position_ids|token_type_ids|attn\.masked_bias|attn\.bias)$/.test(name);

/** Counts of training steps, which are no weights and differ between any two models. */
export const isCounter = (name: string): boolean => /(^|\.)num_batches_tracked$/.test(name);

const AFTER =
  /^(lm_head|embed_out|output|head|heads|score|classifier|qa_outputs|cls|pooler|(final_|post_|output_)?(layer_?)?norm(_f)?|ln_f|ln_post|fc_norm|predictions|visual_projection|text_projection|logit_scale)$/;
const BEFORE = /embed|wte|wpe|shared|patch|class_token|cls_token|position|rotary|ln_pre|pre_/;

/** Whether a tensor outside the layers comes after them: final norms and heads. */
export const isAfterLayers = (name: string): boolean => {
  const parts = name.split(".");
  return !parts.some((part) => BEFORE.test(part) && !HEADS.has(part)) && parts.some((part) => AFTER.test(part));
};

/** Other names that parts of models have in their tensors. */
const MODULE_NAMES: Readonly<Record<string, readonly string[]>> = {
  text_decoder: ["language_model", "text_model", "decoder"],
  vision_tower: ["vision_model", "visual", "vision_encoder"],
  multi_modal_projector: ["projector", "mm_projector", "connector"],
};

/** Whether a tensor belongs to the module: its name, or one that it is known by, is a part of the tensor's. */
export function isInModule(name: string, module: string): boolean {
  const dotted = `.${name}.`;
  return [module, ...(MODULE_NAMES[module] ?? [])].some((part) => dotted.includes(`.${part}.`));
}
