// Recipes of every method, as anyone might write them, and models that may or may not fit.
import fc from "fast-check";
import { type Method, mergeMethods, type Parameter } from "../../../src/formats/recipe/methods";
import type { ModelFacts } from "../../../src/formats/recipe/models";
import { model } from "./models";

const MODELS = ["a/one", "a/two@v1", "a/three+a/lora", "a/four@x+a/lora@y"] as const;
const BASE = "a/base";

function point({ kind, minimum, maximum }: Parameter): fc.Arbitrary<number | boolean> {
  const [min, max] = [minimum ?? -2, maximum ?? 2];
  if (kind === "bool") return fc.oneof(fc.boolean(), fc.constantFrom(0, 1));
  return kind === "int"
    ? fc.integer({ min, max: Math.max(min, max) })
    : fc.double({ min, max: Math.max(min, max), noNaN: true });
}

function setting(parameter: Parameter): fc.Arbitrary<unknown> {
  const one = point(parameter);
  const value = parameter.kind === "float" ? fc.oneof(one, fc.array(one, { minLength: 1, maxLength: 4 })) : one;
  const filter = fc.constantFrom("mlp", "self_attn", "layers.1", "*", "");
  const rule = fc.record({ filter: filter.filter((text) => text !== ""), value }, { requiredKeys: ["value"] });
  return fc.oneof(value, rule, fc.array(rule, { minLength: 1, maxLength: 3 }));
}

/** Parameters for one scope; those that must be there always are. */
function parameters(list: readonly Parameter[], must: boolean): fc.Arbitrary<Record<string, unknown>> {
  return fc.record(Object.fromEntries(list.map((parameter) => [parameter.name, setting(parameter)])), {
    requiredKeys: must ? list.filter(({ default: value }) => value === null).map(({ name }) => name) : [],
  });
}

function documentOf(method: Method): fc.Arbitrary<Record<string, unknown>> {
  const most = Math.min(method.most ?? 3, MODELS.length);
  const own = method.parameters.filter(({ each }) => each);
  return fc
    .record({
      models: fc.shuffledSubarray([...MODELS], { minLength: method.least, maxLength: most }),
      withBase: method.base === "optional" ? fc.boolean() : fc.constant(method.base !== "forbidden"),
      listed: fc.boolean(),
      sliced: fc.boolean(),
      split: fc.boolean(),
      common: parameters(method.parameters, true),
      each: fc.array(parameters(own, false), { minLength: 4, maxLength: 4 }),
      range: fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 3 })),
      rest: fc.record(
        {
          dtype: fc.constantFrom("float32", "bfloat16", "float16"),
          out_dtype: fc.constantFrom("float32", "bfloat16", "float64"),
          seed: fc.nat(),
          out_shard_size: fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.constantFrom("5B", "1M", "10k")),
          tokenizer_source: fc.constantFrom("union", "base", "a/one"),
          chat_template: fc.constantFrom("auto", "chatml", "{{ messages }}"),
          align: fc.constantFrom({}, { reference: "a/one" }, { spec: { "x.weight": ["h", null] } }),
        },
        { requiredKeys: [] },
      ),
    })
    .map(({ models, withBase, listed, sliced, split, common, each, range: [first, length], rest }) => {
      const inputs = models.map((name, i) => ({ model: name, parameters: each[i] }));
      const all = withBase && (listed || sliced) ? [{ model: BASE }, ...inputs] : inputs;
      const body = sliced
        ? { slices: [{ sources: all.map((input) => ({ ...input, layer_range: [first, first + length] })) }] }
        : { models: all };
      return {
        merge_method: method.name,
        ...(withBase ? { base_model: BASE } : {}),
        ...(split ? { modules: { default: body, vision_tower: body } } : body),
        parameters: common,
        ...rest,
      };
    });
}

/** A merge by any of the methods, as JSON. */
export const mergeDocument: fc.Arbitrary<Record<string, unknown>> = fc
  .constantFrom(...mergeMethods())
  .chain((method) => documentOf(method));

const NAMES = [
  "model.embed_tokens.weight",
  "lm_head.weight",
  "model.norm.weight",
  "model.layers.0.mlp.weight",
  "model.layers.1.mlp.weight",
  "model.layers.1.self_attn.weight",
  "model.layers.2.mlp.weight",
  "vision_tower.blocks.0.mlp.weight",
  "bn.num_batches_tracked",
  "model.rotary_emb.inv_freq",
];

/** Facts that may contradict each other in any way. */
function modelFacts(key: string): fc.Arbitrary<ModelFacts> {
  const dtypes = fc.constantFrom("BF16", "F32", "I64", "F8_E4M3");
  const config = fc.constantFrom<unknown>(
    null,
    { num_hidden_layers: 3, vocab_size: 2, layer_types: ["a", "b", "c"] },
    { text_config: { num_hidden_layers: 2, vocab_size: 4 }, tie_word_embeddings: true, quantization_config: {} },
    { num_hidden_layers: "many", vocab_size: [] },
    [],
  );
  return fc
    .record({
      tensors: fc.dictionary(fc.constantFrom(...NAMES), fc.tuple(dtypes, fc.nat(2), fc.constant(4)), {
        noNullPrototype: true,
      }),
      config,
      configName: fc.constantFrom(null, `${key}/config.json`),
      vocabulary: fc.constantFrom(null, 1, 4),
      tokenizer: fc.constantFrom<Record<string, string>>({}, { "tokenizer.json": "t" }),
    })
    .map((facts) => model(key, facts));
}

const KEYS = [...MODELS, BASE];
const agreeing = fc.subarray(NAMES, { minLength: 1 }).map((names) =>
  KEYS.map((key) =>
    model(key, {
      tensors: Object.fromEntries(names.map((name) => [name, ["BF16", 2, 4] as const])),
      tokenizer: { "tokenizer.json": "t" },
    }),
  ),
);

/** The models of the recipes: some fit each other, some do not. */
export const mergeModels: fc.Arbitrary<readonly ModelFacts[]> = fc.oneof(agreeing, fc.tuple(...KEYS.map(modelFacts)));
