// What headers of each kind of model tell a merge: the tensors that it reads, what they take, and what can't be merged.
import { expect, test } from "vitest";
import { type GgufTensor, readGgufHeader } from "../../../src/formats/gguf";
import {
  adapted,
  checkQuantization,
  FactPool,
  ggufFacts,
  safetensorsFacts,
  withoutScales,
} from "../../../src/formats/recipe/facts";
import type { AdapterFacts, Problem, TensorFact } from "../../../src/formats/recipe/models";
import { parseSafetensorsHeader } from "../../../src/formats/safetensors";
import { gguf, LLAMA } from "../../kit/gguf";

type Told = Omit<Problem, "field">;

/** A header of tensors with these dtypes, shapes and bytes, one after the other. */
function header(tensors: Record<string, readonly [dtype: string, shape: number[], bytes: number]>) {
  let at = 0;
  const entries = Object.entries(tensors).map(([name, [dtype, shape, bytes]]) => {
    at += bytes;
    return [name, { dtype, shape, data_offsets: [at - bytes, at] }];
  });
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const bytes = new Uint8Array(8 + json.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return parseSafetensorsHeader(bytes, bytes.length + at);
}

test("8-bit floats are written as BF16, read with their scales, and the scales are no tensors", () => {
  const problems: Told[] = [];
  const pool = new FactPool();
  const tensors = safetensorsFacts(
    header({
      "x.weight": ["F8_E4M3", [256, 128], 256 * 128],
      "x.weight_scale_inv": ["F32", [2, 1], 8],
      "x.input_scale": ["F32", [], 4],
      "norm.weight": ["BF16", [4], 8],
    }),
    pool,
  );
  withoutScales(tensors, pool, (problem) => problems.push(problem));
  expect(Object.fromEntries(tensors)).toEqual({
    "x.weight": { dtype: "BF16", shape: [256, 128], bytes: 256 * 128 + 8 },
    "norm.weight": { dtype: "BF16", shape: [4] },
  });
  expect(problems).toEqual([]);
});

test("a weight with two scales, and weights in packed integers, are told", () => {
  const problems: Told[] = [];
  const pool = new FactPool();
  const tensors = safetensorsFacts(
    header({ w: ["F8_E5M2", [2], 2], w_scale: ["F32", [], 4], w_scale_inv: ["F32", [], 4] }),
    pool,
  );
  withoutScales(tensors, pool, (problem) => problems.push(problem));
  checkQuantization({ quantization_config: { quant_method: "gptq" } }, (problem) => problems.push(problem));
  checkQuantization({ quantization_config: { quant_method: "fp8" } }, (problem) => problems.push(problem));
  expect(problems).toMatchObject([
    { code: "tensor_dtype_mismatch", tensor: "w" },
    { code: "quantization_unsupported", message: expect.stringContaining("gptq") },
  ]);
});

test("models that agree share names and facts", () => {
  const pool = new FactPool();
  const one = safetensorsFacts(header({ w: ["F32", [2, 3], 24], v: ["F32", [2, 3], 24] }), pool);
  const other = safetensorsFacts(header({ w: ["F32", [2, 3], 24] }), pool);
  expect(one.get("w")).toBe(other.get("w"));
  expect(one.get("w")).toBe(one.get("v"));
});

test("GGUF tensors have the names and shapes of safetensors models, and what their blocks take", async () => {
  const file = gguf({ ...LLAMA, tensors: [...LLAMA.tensors, { name: "blk.0.attn_q.weight", shape: [8, 2] }] });
  const found: GgufTensor[] = [];
  const { architecture } = await readGgufHeader(
    async (offset, length) => file.slice(offset, offset + length),
    file.length,
    (tensor) => found.push(tensor),
  );
  const problems: Told[] = [];
  const facts = (architecture: string | undefined, tensors: readonly GgufTensor[]) =>
    Object.fromEntries(ggufFacts(architecture, tensors, new FactPool(), (problem) => problems.push(problem)));
  expect(facts(architecture, found)).toEqual({
    "model.embed_tokens.weight": { dtype: "F32", shape: [4, 8], bytes: 128 },
    "lm_head.weight": { dtype: "F32", shape: [4, 8], bytes: 128 },
    "model.norm.weight": { dtype: "F32", shape: [8], bytes: 32 },
    "model.layers.0.self_attn.q_proj.weight": { dtype: "F32", shape: [2, 8], bytes: 64 },
  });
  const q8 = { name: "blk.1.ffn_up.weight", type: 8, dimensions: [64, 2] };
  expect(facts("llama", [q8])).toEqual({
    "model.layers.1.mlp.up_proj.weight": { dtype: "F16", shape: [2, 64], bytes: 4 * 34 },
  });
  expect(Object.keys(facts("mamba", [q8]))).toEqual(["blk.1.ffn_up.weight"]);
  expect(problems).toEqual([]);
  facts("llama", [{ ...q8, name: "blk.1.ssm_a" }]);
  facts("llama", [{ ...q8, type: 39 }]);
  expect(problems).toMatchObject([{ code: "gguf_names_unknown" }, { code: "tensor_dtype_mismatch" }]);
});

const BASE: ReadonlyMap<string, TensorFact> = new Map([
  ["q.weight", { dtype: "BF16", shape: [6, 4] }],
  ["embed.weight", { dtype: "BF16", shape: [10, 4] }],
]);

function apply(tensors: Record<string, number[]>, config: object = {}) {
  const problems: Told[] = [];
  const adapter: AdapterFacts = {
    configName: "models/1/adapter_config.json",
    config: { peft_type: "LORA", ...config },
    weights: ["models/1/adapter_model.safetensors"],
    tensors: new Map(Object.entries(tensors).map(([name, shape]) => [name, { dtype: "F32", shape }])),
  };
  const result = adapted(new Map(BASE), adapter, (problem) => problems.push(problem));
  return { names: [...result.keys()], problems };
}

test("an adapter fits the weights that it changes, and brings those that it saved whole", () => {
  const fits = apply(
    {
      "base_model.model.q.lora_A.weight": [2, 4],
      "base_model.model.q.lora_B.weight": [6, 2],
      "base_model.model.embed.lora_embedding_A": [2, 10],
      "base_model.model.embed.lora_embedding_B": [4, 2],
      "base_model.model.score.modules_to_save.weight": [3, 4],
    },
    { modules_to_save: ["score"] },
  );
  expect(fits).toEqual({ names: ["q.weight", "embed.weight", "score.weight"], problems: [] });
});

test.each([
  [
    "a shape that does not fit",
    { "q.lora_A.weight": [2, 5], "q.lora_B.weight": [6, 2] },
    {},
    "adapter_invalid",
    /\[2,5\]/,
  ],
  ["half a pair", { "q.lora_A.weight": [2, 4] }, {}, "adapter_invalid", /lacks A or B/],
  [
    "a weight that is not there",
    { "k.lora_A.weight": [2, 4], "k.lora_B.weight": [6, 2] },
    {},
    "adapter_invalid",
    /k\.weight/,
  ],
  ["a tensor of nothing", { "score.weight": [2] }, {}, "adapter_invalid", /score\.weight/],
  ["DoRA", { "q.lora_A.weight": [2, 4] }, { use_dora: true }, "adapter_unsupported", /DoRA/],
  ["another kind", {}, { peft_type: "IA3" }, "adapter_unsupported", /IA3/],
])("an adapter with %s is told", (_, tensors, config, code, message) => {
  expect(apply(tensors, config).problems).toMatchObject([{ code, message: expect.stringMatching(message) }]);
});
