// What becomes of a recipe once the headers of its models are known: a program, or what keeps it from being one.
import path from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compile } from "../../../src/formats/recipe/compile";
import type { Compiled, ModelFacts } from "../../../src/formats/recipe/models";
import { parseRecipe, parseRecipeObject } from "../../../src/formats/recipe/parse";
import { Program } from "../../../src/formats/recipe/program";
import { mergeDocument, mergeModels } from "./arbitraries";
import { byKey, llama, model } from "./models";

const compiled = (recipe: string, ...models: readonly ModelFacts[]): Compiled =>
  compile(parseRecipe(recipe), byKey(...models));

/** "code field: message: fix" of each problem. */
const problems = (recipe: string, ...models: readonly ModelFacts[]): string[] =>
  compiled(recipe, ...models).problems.map(({ code, field, message, fix }) => `${code} ${field}: ${message}: ${fix}`);

/** Settings of every tensor of the output, and whose it is of. */
function settingsOf({
  program,
}: Compiled): Record<string, { method: string; models: string[]; base?: string; values: object; each: object }> {
  const labels = program?.sources.map(({ label }) => label) ?? [];
  const tensors = program?.files.flatMap((file) => file.tensors ?? []) ?? [];
  return Object.fromEntries(
    tensors.map(({ name, operation }) => {
      const { method, models, base, settings = 0 } = program?.operations[operation] ?? { method: "", models: [] };
      const { values = {}, each = {} } = program?.settings[settings] ?? {};
      return [
        name,
        {
          method,
          models: models.map((index) => labels[index] ?? ""),
          ...(base == null ? {} : { base: labels[base] ?? "" }),
          values,
          each,
        },
      ];
    }),
  );
}

const valuesOf = (result: Compiled, parameter: string): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(settingsOf(result)).map(([name, { values, each }]) => [
      name,
      Reflect.get(values, parameter) ?? Reflect.get(each, parameter),
    ]),
  );

/** What `llama` leaves out of its two layers. */
const BLOCKS = Object.fromEntries(
  [0, 1].flatMap((layer) => [
    [`model.layers.${layer}.input_layernorm.weight`, ["BF16", 4] as const],
    [`model.layers.${layer}.mlp.gate_proj.weight`, ["BF16", 8, 4] as const],
    [`model.layers.${layer}.mlp.down_proj.weight`, ["BF16", 4, 8] as const],
  ]),
);

const LINEAR = `merge_method: linear
models:
  - {model: a/one, parameters: {weight: 0.75}}
  - {model: a/two, parameters: {weight: 0.25}}
`;

const SLERP = `merge_method: slerp
base_model: a/one
models: [a/one, a/two]
`;

/** One of each construct. `test/vectors/merge-programs.json` has what they become, for the service's tests as well. */
const EXAMPLES: readonly (readonly [name: string, recipe: string, ...models: ModelFacts[]])[] = [
  ["a weighted sum, to bfloat16", `${LINEAR}dtype: bfloat16`, llama("a/one"), llama("a/two")],
  [
    "TIES with a gradient, a filter and the base in the list",
    `merge_method: ties
base_model: a/base
models:
  - model: a/base
  - model: a/one
    parameters: {weight: [0.5, 1], density: [{filter: mlp, value: 0.3}, {value: 0.7}]}
  - model: a/two
parameters: {weight: 0.5, normalize: true}`,
    llama("a/base"),
    llama("a/one"),
    llama("a/two"),
  ],
  [
    "SLERP by filters",
    `${SLERP}parameters: {t: [{filter: self_attn, value: [0, 1]}, {value: 0.5}]}`,
    llama("a/one"),
    llama("a/two"),
  ],
  [
    "layers of two models stacked",
    `merge_method: passthrough
slices:
  - sources: [{model: a/one, layer_range: [0, 2]}]
  - sources: [{model: a/two, layer_range: [1, 3], parameters: {scale: [{filter: up_proj, value: 0.5}, {value: 1}]}}]`,
    llama("a/one", { config: { num_hidden_layers: 2, layer_types: ["full", "sliding"] } }),
    llama("a/two", { config: { num_hidden_layers: 3, layer_types: ["full", "sliding", "full"] } }, 3),
  ],
  [
    "one model with its embedding as its head",
    LINEAR,
    llama("a/one"),
    llama("a/two", { tensors: { "lm_head.weight": null }, config: { tie_word_embeddings: true } }),
  ],
  [
    "vocabularies of two sizes, cropped",
    LINEAR,
    llama("a/one", {
      tensors: { "model.embed_tokens.weight": ["BF16", 12, 4], "lm_head.weight": ["BF16", 12, 4] },
      config: { vocab_size: 12 },
    }),
    llama("a/two"),
  ],
  [
    "vocabularies of two sizes, united",
    `${LINEAR}tokenizer:
  source: union
  pad_to_multiple_of: 8
  tokens: {<a>: {source: a/two, force: true}, <b>: {source: {kind: zero}}, <c>: {}, <d>: {source: {kind: model_token, model: a/two, token_id: 3}}}`,
    llama("a/one", { tensors: { "model.embed_tokens.weight": ["BF16", 12, 4], "lm_head.weight": ["BF16", 12, 4] } }),
    llama("a/two"),
  ],
  [
    "a merge of a merge",
    `name: mixed
${LINEAR}---
${SLERP.replace("models: [a/one, a/two]", "models: [a/one, mixed]")}parameters: {t: 0.5}
seed: 7`,
    llama("a/one"),
    llama("a/two"),
  ],
  [
    "parts of a model by themselves",
    `merge_method: linear
modules:
  vision_tower:
    models: [{model: a/one, parameters: {weight: 1}}, {model: a/two, parameters: {weight: 1}}]
  default:
    models: [{model: a/one, parameters: {weight: 1}}, {model: a/two, parameters: {weight: 0}}]`,
    llama("a/one", { tensors: { "vision_tower.blocks.0.mlp.weight": ["F32", 2, 2] } }),
    llama("a/two", { tensors: { "vision_tower.blocks.0.mlp.weight": ["F32", 2, 2] } }),
  ],
  [
    "an adapter applied on the way, and hidden units aligned",
    `merge_method: task_arithmetic
base_model: a/one
models: [{model: a/one+a/lora, parameters: {weight: 1}}]
align: {spec: {model.norm.weight: [hidden], lm_head.weight: [null, hidden]}}`,
    llama("a/one"),
    llama("a/one+a/lora", {
      adapter: {
        configName: "a/lora/adapter_config.json",
        config: {},
        weights: ["a/lora/adapter_model.safetensors"],
        tensors: new Map(),
      },
    }),
  ],
  [
    "a mixture of experts",
    `base_model: a/base
gate_mode: cheap_embed
experts: [{source_model: a/one, positive_prompts: [prove], negative_prompts: [rhyme]}, {source_model: a/base, positive_prompts: [rhyme]}]`,
    llama("a/base", { tensors: BLOCKS }),
    llama("a/one", { tensors: BLOCKS }),
  ],
  [
    "an adapter extracted",
    "extract_lora: {model: a/one, base_model: a/base, max_rank: 6, exclude: [layers.1.mlp]}",
    llama("a/one"),
    llama("a/base"),
  ],
  [
    "a Keras model converted",
    "convert: {model: a/keras, weights: [model.h5]}",
    model("a/keras#model.h5", { format: "h5" }),
  ],
  [
    "a GGUF model converted",
    "convert: {model: a/gguf}\nout_dtype: bfloat16\nout_shard_size: 100",
    llama("a/gguf", { format: "gguf", config: null, configName: null }),
  ],
];

/** Programs that edge and service must both refuse. */
const REFUSED: Readonly<Record<string, (program: Program) => object>> = {
  "an unknown key": (program) => ({ ...program, threads: 2 }),
  "another schema": (program) => ({ ...program, schema: "owm.merge-program/2" }),
  "no source": (program) => ({ ...program, sources: [] }),
  "a path out of its folder": (program) => ({ ...program, files: [{ path: "../model.safetensors" }] }),
  "an index below zero": (program) => ({ ...program, operations: [{ method: "linear", models: [-1] }] }),
  "a number beyond bounds": (program) => ({ ...program, settings: [{ values: { weight: 1e10 } }] }),
  "a dtype of integers": (program) => ({
    ...program,
    files: [{ path: "a", tensors: [{ name: "x", operation: 0, dtype: "I64" }] }],
  }),
  "a group of units without a size": (program) => ({ ...program, align: { reference: 0, spec: { x: ["a*"] } } }),
};

describe("examples", () => {
  const results = EXAMPLES.map(([name, recipe, ...models]) => ({
    name,
    recipe,
    /** Enough to make them up: the service's tests run the programs. */
    models: Object.fromEntries(
      models.map(({ label, tensors }) => [
        label,
        Object.fromEntries([...tensors].map(([tensor, { dtype, shape }]) => [tensor, [dtype, ...shape]])),
      ]),
    ),
    result: compiled(recipe, ...models),
  }));

  it.each(results)("$name", ({ result }) => {
    expect(result.problems).toEqual([]);
    expect(Program.parse(result.program)).toEqual(result.program);
  });

  it("are what the service's tests read", async () => {
    const lines = results.map(({ name, recipe, models, result: { program, files, filesExact } }) =>
      JSON.stringify({ name, recipe, models, program, files: filesExact ? files : null }),
    );
    const sound = results[0]?.result.program;
    const refused = Object.entries(REFUSED).map(([name, change]) =>
      JSON.stringify({ name, program: sound && change(sound) }),
    );
    const text = `{"programs": [\n${lines.join(",\n")}\n],\n"refused": [\n${refused.join(",\n")}\n]}\n`;
    await expect(text).toMatchFileSnapshot(path.join(import.meta.dirname, "../../vectors/merge-programs.json"));
  });

  it.each(Object.entries(REFUSED))("a program with %s is refused", (_, change) => {
    const sound = results[0]?.result.program;
    expect(Program.safeParse(sound && change(sound)).success).toBe(false);
  });
});

describe("parameters", () => {
  it("change over the layers, and start at the first point outside them", () => {
    const recipe = `${SLERP}parameters: {t: [0.2, 1, 0.6]}`;
    expect(valuesOf(compiled(recipe, llama("a/one", {}, 4), llama("a/two", {}, 4)), "t")).toMatchObject({
      "model.embed_tokens.weight": 0.2,
      "model.layers.0.mlp.up_proj.weight": 0.2,
      "model.layers.1.mlp.up_proj.weight": expect.closeTo(0.2 + (0.8 * 2) / 3, 12),
      "model.layers.2.mlp.up_proj.weight": expect.closeTo(1 - 0.4 / 3, 12),
      "model.layers.3.mlp.up_proj.weight": 0.6,
      "model.norm.weight": 0.2,
      "lm_head.weight": 0.2,
    });
  });

  it("start again in each slice, where a lone layer is at the end", () => {
    const slice = (first: number, end: number) =>
      `  - sources: [{model: a/one, layer_range: [${first}, ${end}]}, {model: a/two, layer_range: [${first}, ${end}]}]`;
    const recipe = `merge_method: slerp
base_model: a/one
slices:
${slice(0, 2)}
${slice(2, 3)}
parameters: {t: [0, 1]}`;
    expect(valuesOf(compiled(recipe, llama("a/one", {}, 3), llama("a/two", {}, 3)), "t")).toMatchObject({
      "model.layers.0.mlp.up_proj.weight": 0,
      "model.layers.1.mlp.up_proj.weight": 1,
      "model.layers.2.mlp.up_proj.weight": 1,
      "lm_head.weight": 0,
    });
  });

  it("are the model's own first, then the slice's, the module's and the recipe's", () => {
    const recipe = `merge_method: task_arithmetic
base_model: a/base
modules:
  default:
    slices:
      - sources:
          - {model: a/base, layer_range: [0, 2]}
          - {model: a/one, layer_range: [0, 2], parameters: {weight: [{filter: q_proj, value: 1}]}}
          - {model: a/two, layer_range: [0, 2]}
        parameters: {weight: [{filter: layers.1, value: 2}]}
    parameters: {weight: [{filter: norm, value: 3}]}
parameters: {weight: 4}`;
    expect(valuesOf(compiled(recipe, llama("a/base"), llama("a/one"), llama("a/two")), "weight")).toEqual({
      "lm_head.weight": [4, 4],
      "model.embed_tokens.weight": [4, 4],
      "model.layers.0.mlp.up_proj.weight": [4, 4],
      "model.layers.0.self_attn.q_proj.weight": [1, 4],
      "model.layers.1.mlp.up_proj.weight": [2, 2],
      "model.layers.1.self_attn.q_proj.weight": [1, 2],
      "model.norm.weight": [3, 3],
    });
  });

  it("of a model go by its own names, those of the merge by the output's", () => {
    const recipe = `merge_method: task_arithmetic
base_model: a/base
slices:
  - sources:
      - {model: a/base, layer_range: [1, 2]}
      - {model: a/one, layer_range: [1, 2]}
parameters:
  weight: [{filter: layers.1, value: 5}, {value: 6}]
  lambda: [{filter: layers.1, value: 7}, {value: 8}]`;
    const result = compiled(recipe, llama("a/base"), llama("a/one"));
    const name = "model.layers.0.mlp.up_proj.weight";
    expect(valuesOf(result, "weight")[name]).toEqual([5]);
    expect(valuesOf(result, "lambda")[name]).toBe(8);
  });

  it("are not asked of the base model, and of every model where it is one of them", () => {
    const recipe = `merge_method: linear
base_model: a/base
models: [{model: a/one, parameters: {weight: 1}}, {model: a/base, parameters: {weight: 3}}]`;
    const result = compiled(recipe, llama("a/base"), llama("a/one"));
    expect(settingsOf(result)["model.norm.weight"]).toEqual({
      method: "linear",
      models: ["a/one", "a/base"],
      values: { normalize: 1 },
      each: { weight: [1, 3] },
    });
    expect(result.donor).toBe("a/base");
  });
});

describe("the output", () => {
  it("has its tensors in natural order, in files of the size asked for", () => {
    const { files, program, totals } = compiled(
      `${LINEAR}out_shard_size: 200`,
      llama("a/one", {}, 11),
      llama("a/two", {}, 11),
    );
    const order = program?.files.flatMap((file) => file.tensors?.map(({ name }) => name) ?? []) ?? [];
    expect(order.indexOf("model.layers.2.mlp.up_proj.weight")).toBeLessThan(
      order.indexOf("model.layers.10.mlp.up_proj.weight"),
    );
    expect(files.slice(0, 2)).toEqual([
      { path: "model-00001-of-00007.safetensors", tensors: 2, bytes: 160 },
      { path: "model-00002-of-00007.safetensors", tensors: 4, bytes: 192 },
    ]);
    expect(files.every(({ bytes }) => bytes <= 200)).toBe(true);
    const bytes = 2 * (10 * 4 * 2 + 4 + 11 * (8 * 4 + 4 * 4));
    expect(totals).toMatchObject({ tensors: 25, parameters: bytes / 2, bytesWritten: bytes, bytesRead: 2 * bytes });
  });

  it("of a pipeline has the folders of its models, each with files of its own name", () => {
    const pipeline = (key: string, file = "diffusion_pytorch_model.safetensors") =>
      model(key, {
        components: ["unet", "vae"].map((folder) => ({ folder, file, weights: [`${key}/${folder}/${file}`] })),
        tensors: { "unet/a.weight": ["F32", 4], "unet/b.weight": ["F32", 4], "vae/a.weight": ["F32", 2] },
      });
    const result = compile(
      parseRecipe(`${LINEAR}\nout_shard_size: 16`),
      byKey(pipeline("a/one"), pipeline("a/two", "x")),
    );
    expect(result.problems).toEqual([]);
    expect(result.files.map(({ path }) => path)).toEqual([
      "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
      "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
      "vae/diffusion_pytorch_model.safetensors",
    ]);
    expect(result.program?.files[2]?.tensors).toEqual([{ name: "vae/a.weight", operation: 0 }]);
    expect(result.program?.sources[1]).toEqual({
      label: "a/two",
      folders: { unet: ["a/two/unet/x"], vae: ["a/two/vae/x"] },
    });
    expect(Program.parse(result.program)).toEqual(result.program);
  });

  it("has the dtype asked for in its configuration, and no quantization", () => {
    const config = { torch_dtype: "float8_e4m3fn", quantization_config: { quant_method: "fp8" }, num_hidden_layers: 2 };
    const { configPatch, files } = compiled(
      `${LINEAR}dtype: float16\nout_dtype: float32`,
      llama("a/one", { config }),
      llama("a/two"),
    );
    expect(configPatch).toEqual({ torch_dtype: "float32", quantization_config: null });
    expect(files[0]?.bytes).toBe(4 * (10 * 4 * 2 + 4 + 2 * (8 * 4 + 4 * 4)));
  });

  it("counts layers where the configuration counts them", () => {
    const config = { text_config: { num_hidden_layers: 2, hidden_size: 4 } };
    const recipe =
      "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [0, 2]}]}, {sources: [{model: a/one, layer_range: [1, 2]}]}]";
    expect(compiled(recipe, llama("a/one", { config })).configPatch).toEqual({
      text_config: { num_hidden_layers: 3, hidden_size: 4 },
    });
  });

  it("is untied when a head of its own is merged into a tied model", () => {
    const tied = { tie_word_embeddings: true, num_hidden_layers: 2 };
    const base = llama("a/one", { tensors: { "lm_head.weight": null }, config: tied });
    expect(compiled(LINEAR, base, llama("a/two")).configPatch).toEqual({ tie_word_embeddings: false });
    expect(compiled(LINEAR, base, llama("a/two", { config: tied })).configPatch).toEqual({});
  });

  it("takes buffers that some models lack from the first that has them, and says so", () => {
    const buffer = { tensors: { "model.rotary_emb.inv_freq": ["F32", 2] } } as const;
    const result = compiled(
      `merge_method: ties\nbase_model: a/base\nparameters: {weight: 1}\nmodels: [a/one, a/two]`,
      llama("a/base"),
      llama("a/one"),
      llama("a/two", buffer),
    );
    expect(settingsOf(result)["model.rotary_emb.inv_freq"]).toMatchObject({ method: "passthrough", models: ["a/two"] });
    expect(result.notes.map(({ message }) => message)).toEqual([
      '"model.rotary_emb.inv_freq" is copied from a/two: not all models have it',
    ]);
  });

  it("copies counters of training steps, which are no weights", () => {
    const counted = { tensors: { "bn.num_batches_tracked": ["I64"] } } as const;
    const result = compiled(LINEAR, model("a/one", counted), model("a/two", counted));
    expect(settingsOf(result)["bn.num_batches_tracked"]).toMatchObject({ method: "passthrough", models: ["a/one"] });
  });

  it("is exact unless a method leaves its rounding to the machine", () => {
    const models = [llama("a/base"), llama("a/one"), llama("a/two")] as const;
    expect(compiled(LINEAR, ...models).determinism).toBe("exact");
    expect(compiled(`${LINEAR}align: {}`, ...models).determinism).toBe("tolerance");
    const matrices = compiled("merge_method: tsvm\nbase_model: a/base\nmodels: [a/one, a/two]", ...models);
    expect(matrices.determinism).toBe("tolerance");
    const first = "name: first\nmerge_method: tsvm\nbase_model: a/base\nmodels: [a/one, a/two]\n---\n";
    const second = "merge_method: linear\nparameters: {weight: 1}\nmodels: [first, a/one]";
    expect(compiled(first + second, ...models).determinism).toBe("tolerance");
    expect(matrices.totals.memoryBytes).toBeGreaterThan(compiled(LINEAR, ...models).totals.memoryBytes);
  });

  it("of an extraction is an adapter that PEFT reads", () => {
    const result = compiled(
      "extract_lora: {model: a/one, base_model: a/base@v1, max_rank: 6}",
      llama("a/one"),
      llama("a/base@v1"),
    );
    expect(JSON.parse(result.documents.get("adapter_config.json") ?? "")).toMatchObject({
      base_model_name_or_path: "a/base",
      revision: "v1",
      r: 6,
      lora_alpha: 6,
      rank_pattern: { "model.layers.0.mlp.up_proj": 4 },
      alpha_pattern: { "model.layers.0.mlp.up_proj": 4 },
      target_modules: expect.arrayContaining(["model.layers.1.self_attn.q_proj"]),
    });
    expect(result.files).toEqual([
      { path: "adapter_model.safetensors", tensors: 8, bytes: 2 * 2 * (4 * 4 + 8 * 4 + 4 * 4 * 2) },
    ]);
    expect(result.donor).toBeNull();
  });
});

describe("what does not fit", () => {
  const wide = {
    tensors: {
      "model.layers.0.mlp.up_proj.weight": ["BF16", 9, 4],
      "model.layers.1.mlp.up_proj.weight": ["BF16", 9, 4],
    },
  } as const;

  it.each<[string, string, ModelFacts[], string[]]>([
    [
      "a model of which nothing is known",
      LINEAR,
      [llama("a/one")],
      ["model_unknown models[1].model: nothing is known of a/two: name a model that can be read"],
    ],
    [
      "groups of hidden units that are none",
      `${LINEAR}align:
  spec:
    model.layers.0.mlp.up_proj.weight: [a, b]
    model.layers.1.mlp.up_proj.weight: ["a*3", b]
    model.layers.0.self_attn.q_proj.weight: [b, b]
    model.layers.1.self_attn.q_proj.weight: [c, null]
    model.norm.weight: [b, null]
    gone: [b]`,
      [llama("a/one"), llama("a/two")],
      [
        'align_units align.spec.model.layers.1.mlp.up_proj.weight: group "a" does not fit axis 0 of 8 in a/one: an axis has whole units: give axes that number the same units one group, with *n where a unit has n indices',
        'align_units align.spec.model.layers.0.self_attn.q_proj.weight: group "b" does not fit axis 1 of 4 in a/one: it stands on two axes of the tensor: give axes that number the same units one group, with *n where a unit has n indices',
        "align_tensor align.spec.model.norm.weight: the tensor is [4] in a/one: name a group or null for each axis of a tensor that all models have",
        "align_tensor align.spec.gone: a/one has no such tensor: name a group or null for each axis of a tensor that all models have",
        'align_lone align.spec.model.layers.1.self_attn.q_proj.weight: group "c" stands in no other tensor, so permuting it would change what the model computes: name the group in every tensor that has these units',
      ],
    ],
    [
      "shapes, once for all layers",
      LINEAR,
      [llama("a/one"), llama("a/two", wide)],
      [
        'tensor_shape : tensor "model.layers.0.mlp.up_proj.weight" is [8, 4] in a/one and [9, 4] in a/two (and 1 more like it): merge models of one architecture and size',
      ],
    ],
    [
      "tensors that one model lacks",
      LINEAR,
      [
        llama("a/one", {
          tensors: {
            "model.layers.0.self_attn.q_norm.weight": ["F32", 4],
            "model.layers.1.self_attn.q_norm.weight": ["F32", 4],
          },
        }),
        llama("a/two"),
      ],
      [
        'tensor_missing models[1]: a/two lacks tensor "model.layers.0.self_attn.q_norm.weight", which a/one has (and 1 more like it): merge models of one architecture',
      ],
    ],
    [
      "numbers of layers",
      LINEAR,
      [llama("a/one"), llama("a/two", {}, 3)],
      ['layer_count models[1]: a/two has 3 layers in "model.layers", a/one has 2: choose layers with `slices`'],
    ],
    [
      "integers and floats",
      LINEAR,
      [llama("a/one"), llama("a/two", { tensors: { "model.norm.weight": ["I64", 4] } })],
      [
        'tensor_dtype : tensor "model.norm.weight" is BF16 in a/one and I64 in a/two: give the models in floating point',
      ],
    ],
    [
      "a dtype without arithmetic",
      LINEAR,
      [
        llama("a/one", { tensors: { "model.norm.weight": ["C64", 4] } }),
        llama("a/two", { tensors: { "model.norm.weight": ["C64", 4] } }),
      ],
      [
        'tensor_dtype : tensor "model.norm.weight" of a/one is C64, which can\'t be merged: give the models in floating point',
      ],
    ],
    [
      "a range beyond the last layer",
      "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [0, 3]}]}]",
      [llama("a/one")],
      ["layer_range slices[0].sources[0].layer_range: a/one has 2 layers, not 3: end the range at 2 or before"],
    ],
    [
      "slices of a model with several stacks",
      "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [0, 1]}]}]",
      [llama("a/one", { config: null, tensors: { "vision.blocks.0.weight": ["F32", 1] } })],
      [
        'layers_unclear slices[0].sources[0]: a/one has more than one stack of layers: "model.layers", "vision.blocks": give each its slices in `modules`',
      ],
    ],
    [
      "weights that sum to zero",
      LINEAR.replace("0.75", "-0.25"),
      [llama("a/one"), llama("a/two")],
      [
        "weights_sum_zero parameters: the weights -0.25, 0.25 sum to zero, so they can't be normalised (and 6 more like it): change a weight, or set normalize to false",
      ],
    ],
    [
      "density and epsilon",
      "merge_method: della\nbase_model: a/one\nmodels: [{model: a/two, parameters: {weight: 1, density: 0.9}}]",
      [model("a/one", { tensors: { w: ["F32", 2] } }), model("a/two", { tensors: { w: ["F32", 2] } })],
      [
        "density_epsilon parameters: della keeps elements with probabilities of density ± epsilon, and 0.9 ± 0.15 is not within 0 and 1: lower epsilon",
      ],
    ],
    [
      "a density that keeps nothing of a tensor",
      "merge_method: ties\nbase_model: a/one\nmodels: [{model: a/two, parameters: {weight: 1, density: 0.2}}]",
      [llama("a/one"), llama("a/two")],
      [
        "density_too_small parameters: a density of 0.2 keeps none of the 4 elements of a tensor: raise the density, by a filter for small tensors, or leave the model out",
      ],
    ],
    [
      "a density of zero to divide by",
      "merge_method: dare_paper_linear\nbase_model: a/one\nmodels: [{model: a/two, parameters: {weight: 1, density: [{filter: norm, value: 0}, {value: 1}]}}]",
      [llama("a/one"), llama("a/two")],
      [
        "density_too_small parameters: a density of 0 keeps none of the 4 elements of a tensor: raise the density, by a filter for small tensors, or leave the model out",
      ],
    ],
    [
      "filters that leave a tensor without a value",
      LINEAR.replace(
        "weight: 0.25",
        "weight: [{filter: mlp, value: 1}, {filter: attn, value: 1}, {filter: norm, value: 1}, {filter: head, value: 1}]",
      ),
      [llama("a/one"), llama("a/two")],
      [
        'parameter_missing models[1]: linear needs `weight` of a/two for tensor "model.embed_tokens.weight", and no filter fits it: add a value without a filter',
      ],
    ],
    [
      "a tokenizer with more tokens than the cropped embeddings have rows",
      LINEAR,
      [llama("a/one", { vocabulary: 12, tensors: { "model.embed_tokens.weight": ["BF16", 12, 4] } }), llama("a/two")],
      [
        "vocabulary_cropped models: the embeddings have 10 rows in common, the tokenizer of a/one has 12 tokens: add `tokenizer: {source: union}`",
      ],
    ],
    [
      "a union of tokenizers that are not there",
      `${LINEAR}tokenizer: {source: union}`,
      [llama("a/one"), llama("a/two", { tokenizer: {} })],
      [
        "tokenizer_missing tokenizer: a/two has no tokenizer.json: publish the model with its fast tokenizer, or leave the section away",
      ],
    ],
    [
      "a tokenizer in the middle",
      `name: x\n${LINEAR}tokenizer_source: union\n---\nmerge_method: passthrough\nmodels: [x]`,
      [llama("a/one"), llama("a/two")],
      [
        "stage_tokenizer documents[0].tokenizer: a document that others take as a model can't change its tokenizer: move the section to the output's document",
      ],
    ],
    [
      "modules without tensors, and tensors without a module",
      "merge_method: passthrough\nmodules: {model: {models: [a/one]}, vision_tower: {models: [a/one]}}",
      [llama("a/one")],
      [
        'tensor_without_module modules: tensor "lm_head.weight" of a/one belongs to no module (and 1 more like it): add a module `default` for what the others leave',
        'module_empty modules.vision_tower: no tensor belongs to the module "vision_tower": name a part of tensor names, like vision_tower',
      ],
    ],
    [
      "an adapter of another model",
      "extract_lora: {model: a/one, base_model: a/base}",
      [llama("a/one"), llama("a/base", wide)],
      [
        'tensor_shape extract_lora.base_model: tensor "model.layers.0.mlp.up_proj.weight" is [8, 4] in a/one and [9, 4] in a/base (and 1 more like it): name the model that was fine-tuned',
      ],
    ],
    [
      "models without tensors",
      LINEAR,
      [model("a/one", {}), model("a/two", {})],
      ["no_tensors models: the output has no tensors: name models that have some"],
    ],
    [
      "files without end",
      `${LINEAR}out_shard_size: 1`,
      [llama("a/one", {}, 600), llama("a/two", {}, 600)],
      [
        "too_many_files out_shard_size: the output would have 1203 files of weights, at most 1000 are written: raise out_shard_size",
      ],
    ],
  ])("%s", (_, recipe, models, told) => {
    const result = compiled(recipe, ...models);
    expect(problems(recipe, ...models)).toEqual(told);
    expect(result.program).toBeNull();
  });

  it("is told in bounds, however much it is", () => {
    const odd = Object.fromEntries(
      Array.from({ length: 200 }, (_, i) => [`${"x".repeat(i + 1)}.weight`, ["F32", 1] as const]),
    );
    const told = problems(LINEAR, llama("a/one", { tensors: odd }), llama("a/two"));
    expect(told).toHaveLength(51);
    expect(told.at(-1)).toBe("more_problems : 150 more problems were found: solve these first");
  });

  it("never throws: whatever recipe and models, there is a sound program or a problem", () => {
    let sound = 0;
    fc.assert(
      fc.property(mergeDocument, mergeModels, (document, models) => {
        const { program, problems: told } = compile(parseRecipeObject(document), byKey(...models));
        expect(program === null).toBe(told.length > 0);
        if (program === null) return;
        expect(Program.parse(program)).toEqual(program);
        sound++;
      }),
      { numRuns: 300 },
    );
    expect(sound).toBeGreaterThan(5);
  }, 60_000);
});

it("compiles four models of ten thousand tensors within the time of a request", () => {
  const big = (key: string): ModelFacts =>
    model(key, {
      tensors: Object.fromEntries(
        Array.from({ length: 10_000 }, (_, i) => [
          `model.layers.${i % 50}.mlp.experts.${i}.up_proj.weight`,
          ["BF16", 8, 4] as const,
        ]),
      ),
    });
  const recipe = parseRecipe(`merge_method: ties
base_model: a/base
models:
  - {model: a/one, parameters: {weight: [0, 0.5, 1], density: [{filter: experts.7, value: 0.5}, {value: 1}]}}
  - {model: a/two, parameters: {weight: [0, 0.5, 1]}}
  - {model: a/three, parameters: {weight: [0, 0.5, 1]}}`);
  const result = compile(recipe, byKey(big("a/base"), big("a/one"), big("a/two"), big("a/three")));
  expect(result.problems).toEqual([]);
  expect(result.totals.tensors).toBe(10_000);
  expect(result.program?.settings.length).toBeLessThan(110);
}, 60_000);
