// Compiles the documents that are no merges: extracting a LoRA adapter, converting weights to safetensors.
import { isVocabulary } from "./architecture";
import { type Builder, defaultsOf, FLOATS, type Model, type Operand, shapeText, tensorText } from "./builder";
import { changedKeys } from "./config";
import { WEIGHTS } from "./layout";
import type { CompiledDocument } from "./models";
import type { ConvertDocument, ExtractDocument } from "./recipe";
import type { ModelRef } from "./references";

type Find = (ref: ModelRef, field: string) => Model | null;

const ADAPTER = "adapter_model.safetensors";
const PREFIX = "base_model.model.";

/** Two factors for every matrix that the fine-tuned model changed. */
export function compileExtract(document: ExtractDocument, find: Find, builder: Builder): CompiledDocument {
  const model = find(document.model, "extract_lora.model");
  const base = find(document.base, "extract_lora.base_model");
  const a = builder.method("lora_a", "extract_lora");
  const b = builder.method("lora_b", "extract_lora");
  const ranks = new Map<string, number>();
  let left = 0;
  if (model !== null && base !== null && a !== null && b !== null)
    for (const [name, fact] of model.tensors) {
      if (!isTarget(document, name, fact.shape) || !FLOATS.has(fact.dtype)) {
        left++;
        continue;
      }
      const origin = baseOperand({ model, name, fact }, base, builder);
      if (origin === null) continue;
      const [rows = 0, ...rest] = fact.shape;
      const columns = rest.reduce((product, axis) => product * axis, 1);
      const rank = Math.min(document.maxRank, rows, columns);
      const module = name.slice(0, -".weight".length);
      ranks.set(module, rank);
      const settings = { max_rank: document.maxRank, sv_epsilon: document.leastSingularValue };
      const models = [{ model, name, fact }];
      const kernel = rest.slice(1);
      for (const [method, factor, shape] of [
        [a, "lora_A", [rank, ...rest]],
        [b, "lora_B", [rows, rank, ...kernel.map(() => 1)]],
      ] as const)
        builder.emit({
          name: `${PREFIX}${module}.${factor}.weight`,
          method,
          models,
          base: origin,
          settings: defaultsOf(method, settings),
          shape,
        });
    }
  if (left > 0 && ranks.size > 0)
    builder.note({
      code: "tensors_left_out",
      field: "extract_lora",
      message: `${left} tensors (embeddings, norms, biases, and what include and exclude leave out) stay the base model's`,
    });
  const { specs, files } = builder.layout(document.outShardSize, "extract_lora", {
    components: [{ folder: "", file: ADAPTER, weights: [] }],
    whole: true,
  });
  return {
    program: builder.program(specs, {}),
    problems: builder.problems.list(),
    notes: builder.notes(),
    files,
    filesExact: true,
    donor: null,
    configPatch: {},
    chatTemplate: null,
    documents: new Map([["adapter_config.json", adapterConfig(document, ranks)]]),
    totals: builder.totals(),
  };
}

/** A matrix, or a kernel of a convolution, that is not left out. */
function isTarget({ include, exclude }: ExtractDocument, name: string, shape: readonly number[]): boolean {
  const named = include.some((part) => name.includes(part));
  return (
    name.endsWith(".weight") &&
    (shape.length === 2 || shape.length === 4) &&
    (include.length === 0 ? !isVocabulary(name) : named) &&
    !exclude.some((part) => name.includes(part))
  );
}

function baseOperand({ model, name, fact }: Operand, base: Model, builder: Builder): Operand | null {
  const found = base.tensors.get(name);
  if (found === undefined)
    builder.problems.add({
      code: "tensor_missing",
      field: "extract_lora.base_model",
      message: `${base.label} lacks tensor ${tensorText(name)}, which ${model.label} has`,
      fix: "name the model that was fine-tuned",
      tensor: name,
    });
  else if (shapeText(found.shape) !== shapeText(fact.shape))
    builder.problems.add({
      code: "tensor_shape",
      field: "extract_lora.base_model",
      message: `tensor ${tensorText(name)} is ${shapeText(fact.shape)} in ${model.label} and ${shapeText(found.shape)} in ${base.label}`,
      fix: "name the model that was fine-tuned",
      tensor: name,
    });
  else return { model: base, name, fact: found };
  return null;
}

/** As PEFT reads it. Modules go by their full names; lora_alpha = r, so that nothing is scaled. */
function adapterConfig({ base, maxRank }: ExtractDocument, ranks: ReadonlyMap<string, number>): string {
  const lower = Object.fromEntries([...ranks].filter(([, rank]) => rank !== maxRank));
  const config = {
    peft_type: "LORA",
    base_model_name_or_path: "document" in base ? base.document : base.repo,
    revision: "document" in base ? null : base.revision,
    r: maxRank,
    lora_alpha: maxRank,
    rank_pattern: lower,
    alpha_pattern: lower,
    target_modules: [...ranks.keys()],
    lora_dropout: 0,
    fan_in_fan_out: false,
    bias: "none",
    inference_mode: true,
    task_type: null,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** Every tensor as it is; where only the service can tell which there are, all that it finds. */
export function compileConvert(document: ConvertDocument, find: Find, builder: Builder): CompiledDocument {
  const model = find(document.model, "convert.model");
  const method = builder.method("passthrough", "convert");
  const known = (model?.tensors.size ?? 0) > 0;
  if (model !== null && known) for (const [name, fact] of model.tensors) builder.copy(name, { model, name, fact });
  let every: number | null = null;
  if (model !== null && method !== null && !known)
    every = builder.operation(
      method,
      [{ model, name: "", fact: { dtype: "F32", shape: [] } }],
      null,
      defaultsOf(method),
    );
  const { specs, files } =
    every === null
      ? builder.layout(document.outShardSize, "convert", model === null ? {} : { components: model.components })
      : { specs: [{ path: WEIGHTS, every }], files: [{ path: WEIGHTS, tensors: 0, bytes: 0 }] };
  const patch = model === null ? {} : changedKeys(model.config, { dtype: document.outDtype });
  const config =
    model === null || model.configName === null
      ? null
      : { source: builder.source(model), ...(Object.keys(patch).length === 0 ? {} : { patch }) };
  return {
    program: builder.program(specs, config === null ? {} : { config }),
    problems: builder.problems.list(),
    notes: builder.notes(),
    files,
    filesExact: every === null,
    donor: model?.donor ?? null,
    configPatch: patch,
    chatTemplate: null,
    documents: new Map(),
    totals: builder.totals(),
  };
}
