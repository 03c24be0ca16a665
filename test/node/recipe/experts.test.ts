// Mixtures of experts: whose weights stand under which names, what the gate is made of, and what can't be assembled.
import { describe, expect, it } from "vitest";
import { compile } from "../../../src/formats/recipe/compile";
import { parseRecipe } from "../../../src/formats/recipe/parse";
import { Program } from "../../../src/formats/recipe/program";
import { byKey, model } from "./models";

type Shapes = NonNullable<Parameters<typeof model>[1]["tensors"]>;

/** A dense model of one block, four units wide and six inside it. */
function dense(key: string, type: string, tensors: Shapes = {}, extra: { tokenizer?: Record<string, string> } = {}) {
  const layer = "model.layers.0.";
  return model(key, {
    config: { model_type: type, architectures: ["Dense"], num_hidden_layers: 1, torch_dtype: "bfloat16" },
    configName: `${key}/config.json`,
    tokenizer: { "tokenizer.json": `${key}/tokenizer.json` },
    ...extra,
    tensors: {
      "model.embed_tokens.weight": ["BF16", 10, 4],
      [`${layer}input_layernorm.weight`]: ["BF16", 4],
      [`${layer}self_attn.q_proj.weight`]: ["BF16", 4, 4],
      [`${layer}mlp.gate_proj.weight`]: ["BF16", 6, 4],
      [`${layer}mlp.up_proj.weight`]: ["BF16", 6, 4],
      [`${layer}mlp.down_proj.weight`]: ["BF16", 4, 6],
      ...tensors,
    },
  });
}

const RECIPE = `
base_model: o/base
gate_mode: cheap_embed
experts:
  - {source_model: o/maths, positive_prompts: [sum, prove], negative_prompts: [rhyme]}
  - {source_model: o/verse, positive_prompts: [rhyme], residual_scale: 0.5}
`;

const assemble = (recipe: string, ...models: ReturnType<typeof model>[]) =>
  compile(parseRecipe(recipe), byKey(...models));

/** Output tensor → method, models and names that it is made of. */
function tensorsOf(program: Program | null): Record<string, string> {
  if (program === null) return {};
  return Object.fromEntries(
    program.files.flatMap(({ tensors = [] }) =>
      tensors.map(({ name, operation, names = [name] }) => {
        const { method, models = [] } = program.operations[operation] ?? {};
        const labels = models.map((index, i) => `${program.sources[index]?.label} ${names[i] ?? names[0]}`);
        return [name, `${method}: ${labels.join(", ")}`];
      }),
    ),
  );
}

describe("a mixture of experts", () => {
  it("has the base's attention, every expert's blocks, and a gate made of prompts", () => {
    const compiled = assemble(RECIPE, ...["o/base", "o/maths", "o/verse"].map((key) => dense(key, "llama")));
    expect(compiled.problems).toEqual([]);
    expect(Program.parse(compiled.program)).toEqual(compiled.program);
    const layer = "model.layers.0.";
    const experts = ["o/maths", "o/verse"].flatMap((key, i) =>
      [
        ["w1", "gate_proj"],
        ["w2", "down_proj"],
        ["w3", "up_proj"],
      ].map(([name, own]) => [
        `${layer}block_sparse_moe.experts.${i}.${name}.weight`,
        `passthrough: ${key} ${layer}mlp.${own}.weight`,
      ]),
    );
    expect(tensorsOf(compiled.program)).toEqual({
      "model.embed_tokens.weight": "passthrough: o/base model.embed_tokens.weight",
      [`${layer}input_layernorm.weight`]: `passthrough: o/base ${layer}input_layernorm.weight`,
      [`${layer}self_attn.q_proj.weight`]: `passthrough: o/base ${layer}self_attn.q_proj.weight`,
      [`${layer}block_sparse_moe.gate.weight`]: "moe_gate: o/base owm.prompts.0, o/base owm.prompts.1",
      ...Object.fromEntries(experts),
    });
    expect(compiled.program?.prompts).toEqual([
      { source: 0, embedding: "model.embed_tokens.weight", positive: ["sum", "prove"], negative: ["rhyme"] },
      { source: 0, embedding: "model.embed_tokens.weight", positive: ["rhyme"] },
    ]);
    expect(compiled.program?.settings).toContainEqual({ each: { scale: [0.5] } });
    expect(compiled.program?.settings).toContainEqual({ values: { experts: 2, mode: 0 } });
    expect(compiled.configPatch).toMatchObject({
      architectures: ["MixtralForCausalLM"],
      model_type: "mixtral",
      num_local_experts: 2,
      num_experts_per_tok: 2,
    });
    expect(compiled.totals).toMatchObject({ tensors: 10, parameters: 40 + 4 + 16 + 2 * 4 + 2 * 3 * 24 });
  });

  it("of qwen2 models has one expert that sees every token, and of qwen3 models none", () => {
    const models = ["o/base", "o/maths", "o/verse"];
    const random = RECIPE.replace("cheap_embed", "uniform_random");
    const shared = `${random}shared_experts: [{source_model: o/base}]\n`;
    const two = assemble(shared, ...models.map((key) => dense(key, "qwen2")));
    expect(two.problems).toEqual([]);
    expect(tensorsOf(two.program)).toMatchObject({
      "model.layers.0.mlp.experts.1.up_proj.weight": "passthrough: o/verse model.layers.0.mlp.up_proj.weight",
      "model.layers.0.mlp.shared_expert.up_proj.weight": "passthrough: o/base model.layers.0.mlp.up_proj.weight",
      "model.layers.0.mlp.shared_expert_gate.weight": "moe_gate: o/base model.layers.0.input_layernorm.weight",
      "model.layers.0.mlp.gate.weight": "moe_gate: o/base model.layers.0.input_layernorm.weight",
    });
    expect(two.configPatch).toMatchObject({ model_type: "qwen2_moe", shared_expert_intermediate_size: 6 });
    const three = assemble(random, ...models.map((key) => dense(key, "qwen3")));
    expect(three.problems).toEqual([]);
    expect(three.configPatch).toMatchObject({ model_type: "qwen3_moe", num_experts: 2, moe_intermediate_size: 6 });
  });

  const llamas = (base: Shapes = {}, expert: Shapes = {}) => [
    dense("o/base", "llama", base),
    dense("o/maths", "llama", expert),
    dense("o/verse", "llama"),
  ];
  const UP = "model.layers.0.mlp.up_proj.weight";

  it.each([
    [
      "a gate that needs hidden states",
      RECIPE.replace("cheap_embed", "hidden"),
      llamas(),
      "gate_unsupported gate_mode",
    ],
    ["noise", RECIPE.replace("residual_scale", "noise_scale"), llamas(), "noise_unsupported experts[1].noise_scale"],
    [
      "an expert without prompts",
      RECIPE.replace("positive_prompts: [rhyme], ", ""),
      llamas(),
      "prompts_missing experts[1].positive_prompts",
    ],
    [
      "experts with the same prompts",
      RECIPE.replace("[sum, prove], negative_prompts: [rhyme]", "[rhyme]"),
      llamas(),
      "prompts_equal experts[1].positive_prompts",
    ],
    [
      "a base of another kind",
      RECIPE,
      [dense("o/base", "gpt2"), ...llamas().slice(1)],
      "architecture_unsupported base_model",
    ],
    [
      "an architecture of other bases",
      `${RECIPE}architecture: qwen3`,
      llamas(),
      "architecture_unsupported architecture",
    ],
    [
      "a shared expert in mixtral",
      `${RECIPE}shared_experts: [{source_model: o/base, positive_prompts: [x]}]`,
      llamas(),
      "shared_experts shared_experts",
    ],
    ["an expert of another size", RECIPE, llamas({}, { [UP]: ["BF16", 8, 4] }), "tensor_shape experts[0].source_model"],
    ["an expert without a block", RECIPE, llamas({}, { [UP]: null }), "tensor_missing experts[0].source_model"],
    [
      "biases, which mixtral has not",
      RECIPE,
      llamas({ "model.layers.0.self_attn.q_proj.bias": ["BF16", 4] }),
      "tensor_unexpected base_model",
    ],
    [
      "prompts without a tokenizer",
      RECIPE,
      [dense("o/base", "llama", {}, { tokenizer: {} }), ...llamas().slice(1)],
      "prompts_unreadable base_model",
    ],
  ])("refuses %s", (_, recipe, models, told) => {
    const { problems, program } = assemble(recipe, ...models);
    expect(problems.map(({ code, field }) => `${code} ${field}`)).toContain(told);
    expect(program).toBeNull();
  });
});
