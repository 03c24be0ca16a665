// Models as their headers tell of them, small enough to read.
import type { ModelFacts, TensorFact } from "../../../src/formats/recipe/models";

type Change = Partial<Omit<ModelFacts, "key" | "tensors">> & {
  readonly tensors?: Readonly<Record<string, readonly [dtype: string, ...shape: number[]] | null>>;
};

export function model(key: string, { tensors = {}, ...rest }: Change): ModelFacts {
  const facts = Object.entries(tensors).flatMap(([name, spec]): [string, TensorFact][] => {
    if (spec === null) return [];
    const [dtype, ...shape] = spec;
    return [[name, { dtype, shape }]];
  });
  return {
    key,
    label: key,
    format: "safetensors",
    components: [{ folder: "", file: "model.safetensors", weights: [`${key}/model.safetensors`] }],
    config: null,
    configName: null,
    adapter: null,
    tokenizer: {},
    vocabulary: null,
    tensors: new Map(facts),
    ...rest,
  };
}

/** A language model of `layers` layers with two matrices each; tensors that are null are left away. */
export function llama(key: string, { tensors = {}, ...rest }: Change = {}, layers = 2): ModelFacts {
  const own = Array.from({ length: layers }, (_, i) => [
    [`model.layers.${i}.mlp.up_proj.weight`, ["BF16", 8, 4]],
    [`model.layers.${i}.self_attn.q_proj.weight`, ["BF16", 4, 4]],
  ]).flat();
  return model(key, {
    config: { model_type: "llama", num_hidden_layers: layers, vocab_size: 10, torch_dtype: "bfloat16" },
    configName: `${key}/config.json`,
    tokenizer: { "tokenizer.json": `${key}/tokenizer.json` },
    ...rest,
    tensors: {
      "model.embed_tokens.weight": ["BF16", 10, 4],
      "model.norm.weight": ["BF16", 4],
      "lm_head.weight": ["BF16", 10, 4],
      ...Object.fromEntries(own),
      ...tensors,
    },
  });
}

export const byKey = (...models: readonly ModelFacts[]): ReadonlyMap<string, ModelFacts> =>
  new Map(models.map((one) => [one.key, one]));
