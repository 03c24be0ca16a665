// Compiles a mixture of experts: one model's attention and embeddings around the feed-forward blocks of several of its kind.
import { isInputEmbedding } from "./architecture";
import { type Builder, defaultsOf, type Model, type Operand, shapeText, tensorText } from "./builder";
import { changedKeys, memberOf } from "./config";
import type { CompiledDocument } from "./models";
import { type PromptSpec, promptVector } from "./program";
import type { Expert, ExpertsDocument, GateMode } from "./recipe";
import type { ModelRef } from "./references";

type Find = (ref: ModelRef, field: string) => Model | null;

/** How an architecture calls a mixture's tensors, behind `model.layers.0.`. */
type Layout = {
  readonly architecture: string;
  readonly bases: readonly string[];
  readonly block: string;
  readonly parts: Readonly<Record<Part, string>>;
  /** How many experts see every token. */
  readonly shared: 0 | 1;
  /** What its config.json says besides the base's: `width` is the number of units in an expert. */
  readonly config: (experts: number, perToken: number, width: number) => Readonly<Record<string, unknown>>;
};

type Part = "gate_proj" | "up_proj" | "down_proj";
const PARTS: readonly Part[] = ["gate_proj", "up_proj", "down_proj"];
const OWN_NAMES = { gate_proj: "gate_proj", up_proj: "up_proj", down_proj: "down_proj" };

const qwenConfig = (experts: number, perToken: number, width: number) => ({
  num_experts: experts,
  num_experts_per_tok: perToken,
  moe_intermediate_size: width,
  decoder_sparse_step: 1,
  mlp_only_layers: [],
  norm_topk_prob: true,
  output_router_logits: false,
});

const LAYOUTS: Readonly<Record<string, Layout>> = {
  mixtral: {
    architecture: "mixtral",
    bases: ["llama", "mistral"],
    block: "block_sparse_moe",
    parts: { gate_proj: "w1", up_proj: "w3", down_proj: "w2" },
    shared: 0,
    config: (experts, perToken) => ({
      architectures: ["MixtralForCausalLM"],
      model_type: "mixtral",
      num_local_experts: experts,
      num_experts_per_tok: perToken,
      output_router_logits: false,
    }),
  },
  qwen: {
    architecture: "qwen",
    bases: ["qwen2"],
    block: "mlp",
    parts: OWN_NAMES,
    shared: 1,
    config: (experts, perToken, width) => ({
      architectures: ["Qwen2MoeForCausalLM"],
      model_type: "qwen2_moe",
      shared_expert_intermediate_size: width,
      ...qwenConfig(experts, perToken, width),
    }),
  },
  qwen3: {
    architecture: "qwen3",
    bases: ["qwen3"],
    block: "mlp",
    parts: OWN_NAMES,
    shared: 0,
    config: (experts, perToken, width) => ({
      architectures: ["Qwen3MoeForCausalLM"],
      model_type: "qwen3_moe",
      ...qwenConfig(experts, perToken, width),
    }),
  },
};

/** `mode` of the method `moe_gate`; those that are not here need a model to be run. */
const MODES: Partial<Record<GateMode, number>> = { cheap_embed: 0, random: 1, uniform_random: 2 };

const DENSE = /^(.+\.)mlp\.(?:gate|up|down)_proj\.weight$/;

/** An expert with its model and where the recipe says it. */
type Member = { readonly expert: Expert; readonly model: Model; readonly field: string };

export function compileExperts(document: ExpertsDocument, find: Find, builder: Builder): CompiledDocument {
  checkGate(document, builder);
  const base = find(document.base, "base_model");
  const members = membersOf(document.experts, "experts", find);
  const shared = membersOf(document.sharedExperts, "shared_experts", find);
  const layout = base === null ? null : layoutOf(document, base, builder);
  const complete = members.length === document.experts.length && shared.length === document.sharedExperts.length;
  const prompts: PromptSpec[] = [];
  let patch: Readonly<Record<string, unknown>> = {};
  if (base !== null && layout !== null && complete) {
    const width = emitTensors({ document, base, layout, members, shared, prompts }, builder);
    patch = {
      ...base.configPatch,
      ...changedKeys(base.config, { dtype: document.outDtype }),
      ...layout.config(members.length, document.expertsPerToken, width),
    };
  }
  const { specs, files } = builder.layout(document.outShardSize, "experts");
  return {
    program: builder.program(specs, {
      ...(document.seed === 0 ? {} : { seed: document.seed }),
      ...(prompts.length === 0 ? {} : { prompts }),
      ...(base === null || base.configName === null ? {} : { config: { source: builder.source(base), patch } }),
    }),
    problems: builder.problems.list(),
    notes: builder.notes(),
    files,
    filesExact: true,
    donor: base?.donor ?? null,
    configPatch: patch,
    chatTemplate: null,
    documents: new Map(),
    totals: builder.totals(),
  };
}

const membersOf = (experts: readonly Expert[], list: string, find: Find): Member[] =>
  experts.flatMap((expert, index) => {
    const field = `${list}[${index}]`;
    const model = find(expert.model, `${field}.source_model`);
    return model === null ? [] : [{ expert, model, field }];
  });

/** What the recipe asks of the gate, before any model is looked at. */
function checkGate({ gateMode, experts, sharedExperts }: ExpertsDocument, builder: Builder): void {
  if (MODES[gateMode] === undefined)
    builder.problems.add({
      code: "gate_unsupported",
      field: "gate_mode",
      message: `gate_mode ${gateMode} needs the base model's hidden states for the prompts, and no language model is run here`,
      fix: "use cheap_embed, random or uniform_random",
    });
  const seen = new Map<string, string>();
  for (const [expert, field] of [
    ...experts.map((expert, i) => [expert, `experts[${i}]`] as const),
    ...sharedExperts.map((expert, i) => [expert, `shared_experts[${i}]`] as const),
  ]) {
    if (expert.noiseScale !== 0)
      builder.problems.add({
        code: "noise_unsupported",
        field: `${field}.noise_scale`,
        message: "experts are copied as they are, without noise",
        fix: "leave noise_scale out",
      });
    if (gateMode !== "cheap_embed") continue;
    if (expert.positivePrompts.length === 0)
      builder.problems.add({
        code: "prompts_missing",
        field: `${field}.positive_prompts`,
        message: "the expert has no positive prompts, of which cheap_embed makes its row of the gate",
        fix: "give some, or use gate_mode random",
      });
    const prompts = JSON.stringify([expert.positivePrompts, expert.negativePrompts]);
    const other = seen.get(prompts);
    if (other !== undefined)
      builder.problems.add({
        code: "prompts_equal",
        field: `${field}.positive_prompts`,
        message: `the expert has the prompts of ${other}, so the gate can't tell them apart`,
        fix: "give each expert prompts of its own",
      });
    seen.set(prompts, field);
  }
}

function layoutOf({ architecture, sharedExperts }: ExpertsDocument, base: Model, builder: Builder): Layout | null {
  const type = memberOf(base.config, "model_type");
  const layout = Object.values(LAYOUTS).find((one) =>
    architecture === null ? one.bases.some((known) => known === type) : one.architecture === architecture,
  );
  if (layout === undefined || !layout.bases.some((known) => known === type)) {
    builder.problems.add({
      code: "architecture_unsupported",
      field: architecture === null ? "base_model" : "architecture",
      message: `a model of type ${JSON.stringify(type ?? null)} can't be the base of ${architecture ?? "a mixture"}`,
      fix: "use a llama or mistral model (mixtral), a qwen2 model (qwen) or a qwen3 model (qwen3)",
    });
    return null;
  }
  if (sharedExperts.length !== layout.shared) {
    builder.problems.add({
      code: "shared_experts",
      field: "shared_experts",
      message: `${layout.architecture} has ${layout.shared} shared experts, the recipe ${sharedExperts.length}`,
      fix: layout.shared === 0 ? "leave shared_experts out" : "name the model whose blocks see every token",
    });
    return null;
  }
  return layout;
}

type Assembly = {
  readonly document: ExpertsDocument;
  readonly base: Model;
  readonly layout: Layout;
  readonly members: readonly Member[];
  readonly shared: readonly Member[];
  /** Filled here. */
  readonly prompts: PromptSpec[];
};

/** Every tensor of the mixture; the number of units in an expert. */
function emitTensors(assembly: Assembly, builder: Builder): number {
  const { base, layout, members, shared } = assembly;
  const blocks = new Map<string, number>();
  for (const [name, fact] of base.tensors) {
    const layer = DENSE.exec(name)?.[1];
    if (layer !== undefined)
      blocks.set(layer, name.includes(".down_proj.") ? (fact.shape[1] ?? 0) : (fact.shape[0] ?? 0));
    else if (/\.mlp\./.test(name) || (layout.architecture === "mixtral" && name.endsWith("_proj.bias"))) {
      builder.problems.add({
        code: "tensor_unexpected",
        field: "base_model",
        message: `${layout.architecture} has no place for tensor ${tensorText(name)}`,
        fix: "use a base model without it",
        tensor: name,
      });
    } else builder.copy(name, { model: base, name, fact });
  }
  const rows = [...members, ...shared].map((member) => rowOf(assembly, member, builder));
  for (const layer of blocks.keys()) {
    const block = `${layer}${layout.block}`;
    members.forEach((member, i) => {
      copyExpert(assembly, member, layer, `${block}.experts.${i}.`, builder);
    });
    for (const member of shared) copyExpert(assembly, member, layer, `${block}.shared_expert.`, builder);
    emitGate(assembly, layer, `${block}.gate.weight`, rows.slice(0, members.length), builder);
    if (shared.length > 0)
      emitGate(assembly, layer, `${block}.shared_expert_gate.weight`, rows.slice(members.length), builder);
  }
  if (blocks.size === 0)
    builder.problems.add({
      code: "no_blocks",
      field: "base_model",
      message: `${base.label} has no gated feed-forward blocks`,
      fix: "use a dense model of the llama family",
    });
  return Math.max(0, ...blocks.values());
}

function copyExpert({ base, layout }: Assembly, member: Member, layer: string, prefix: string, builder: Builder): void {
  const { model, expert, field } = member;
  const passthrough = builder.method("passthrough", field);
  for (const part of PARTS) {
    const name = `${layer}mlp.${part}.weight`;
    const [fact, own] = [model.tensors.get(name), base.tensors.get(name)];
    if (fact === undefined || own === undefined || shapeText(fact.shape) !== shapeText(own.shape)) {
      const [has, needs] = [fact, own].map((one) => (one === undefined ? "none" : shapeText(one.shape)));
      builder.problems.add({
        code: fact === undefined || own === undefined ? "tensor_missing" : "tensor_shape",
        field: `${field}.source_model`,
        message: `tensor ${tensorText(name)} is ${has} in ${model.label} and ${needs} in ${base.label}`,
        fix: "use models of one architecture and size",
        tensor: name,
      });
    } else if (passthrough !== null)
      builder.emit({
        name: `${prefix}${layout.parts[part]}.weight`,
        method: passthrough,
        models: [{ model, name, fact }],
        base: null,
        settings: defaultsOf(passthrough, part === "down_proj" ? { scale: expert.residualScale ?? 1 } : {}),
      });
  }
}

/** The vector that is an expert's row of every gate; null where gates are random, and where that is a problem. */
function rowOf({ document, base, prompts }: Assembly, { expert }: Member, builder: Builder): Operand | null {
  if (document.gateMode !== "cheap_embed") return null;
  const [embedding, fact] = [...base.tensors].find(([name]) => isInputEmbedding(name)) ?? [];
  const hidden = fact?.shape[1];
  if (embedding === undefined || hidden === undefined || base.tokenizer["tokenizer.json"] === undefined) {
    builder.problems.add({
      code: "prompts_unreadable",
      field: "base_model",
      message: `${base.label} has no ${hidden === undefined ? "token embedding" : "tokenizer.json"}, which prompts need`,
      fix: "use gate_mode random, or a base model that has it",
    });
    return null;
  }
  prompts.push({
    source: builder.source(base),
    embedding,
    positive: [...expert.positivePrompts],
    ...(expert.negativePrompts.length === 0 ? {} : { negative: [...expert.negativePrompts] }),
  });
  return {
    model: base,
    name: promptVector(prompts.length - 1),
    fact: { dtype: fact?.dtype ?? "", shape: [hidden] },
  };
}

function emitGate(
  { document, base }: Assembly,
  layer: string,
  name: string,
  rows: readonly (Operand | null)[],
  builder: Builder,
): void {
  const method = builder.method("moe_gate", "gate_mode");
  const mode = MODES[document.gateMode];
  if (method === null || mode === undefined) return;
  // Random rows are as long as the vector that scales the hidden state, and stored like it.
  const norm = `${layer}input_layernorm.weight`;
  const vector = base.tensors.get(norm);
  const random = vector === undefined ? [] : [{ model: base, name: norm, fact: vector }];
  const models = mode === 0 ? rows.flatMap((row) => row ?? []) : random;
  if (mode !== 0 && vector === undefined)
    builder.problems.add({
      code: "tensor_missing",
      field: "base_model",
      message: `${base.label} lacks tensor ${tensorText(norm)}`,
      fix: "use a dense model of the llama family",
      tensor: norm,
    });
  builder.emit({
    name,
    method,
    models,
    base: null,
    settings: defaultsOf(method, { experts: rows.length, mode }),
    shape: [rows.length, ...(models[0]?.fact.shape ?? [])],
  });
}
