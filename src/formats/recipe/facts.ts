// What a merge reads of a model, told from headers: 8-bit floats as what they are written as, GGUF tensors by the names of safetensors models, adapters by what they change.
import table from "../../../gpu-service/sources.json";
import type { GgufTensor } from "../gguf";
import type { SafetensorsHeader } from "../safetensors";
import { memberOf } from "./config";
import { bytesOf, countOf } from "./layout";
import type { AdapterFacts, Problem, TensorFact } from "./models";

export type Complain = (problem: Omit<Problem, "field">) => void;

/** Names and facts that models share, each kept once: models of one architecture have thousands of them. */
export class FactPool {
  readonly #names = new Map<string, string>();
  readonly #facts = new Map<string, TensorFact>();

  name(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    this.#names.set(name, name);
    return name;
  }

  fact(dtype: string, shape: readonly number[], bytes?: number): TensorFact {
    const key = `${dtype} ${shape} ${bytes ?? ""}`;
    const known = this.#facts.get(key);
    if (known !== undefined) return known;
    const fact = bytes === undefined ? { dtype, shape } : { dtype, shape, bytes };
    this.#facts.set(key, fact);
    return fact;
  }
}

export type Tensors = Map<string, TensorFact>;

/** F8_E8M0 holds powers of two: it is a dtype of scales, not of weights. */
const EIGHT_BIT = new Set(table.fp8.dtypes);
const SCALES = table.fp8.scale_suffixes;

/** The tensors of a safetensors file; 8-bit floats take their scales along, which are no tensors of their own then. */
export function safetensorsFacts(header: SafetensorsHeader, pool: FactPool): Tensors {
  const facts: Tensors = new Map();
  for (const [name, { dtype, shape, begin, end }] of header.tensors)
    facts.set(pool.name(name), EIGHT_BIT.has(dtype) ? pool.fact(dtype, shape, end - begin) : pool.fact(dtype, shape));
  return facts;
}

/** Once all files are read: a scale may lie in another shard than its weight. */
export function withoutScales(tensors: Tensors, pool: FactPool, complain: Complain): void {
  for (const [name, fact] of tensors) {
    if (!EIGHT_BIT.has(fact.dtype)) continue;
    const scales = SCALES.map((suffix) => name + suffix).filter((scale) => tensors.has(scale));
    if (scales.length > 1)
      complain({
        code: "tensor_dtype_mismatch",
        message: `${name} has two scales: ${scales.join(" and ")}`,
        fix: "keep the one that the weight was quantised with",
        tensor: name,
      });
    const bytes = scales.reduce((sum, scale) => sum + bytesRead(tensors.get(scale)), fact.bytes ?? 0);
    for (const scale of [...scales, `${name.replace(/weight$/, "")}input_scale`]) tensors.delete(scale);
    tensors.set(name, pool.fact("BF16", fact.shape, bytes));
  }
}

/** What a tensor takes where it is read. */
const bytesRead = (fact: TensorFact | undefined): number =>
  fact === undefined ? 0 : (fact.bytes ?? bytesOf(fact.dtype, fact.shape));

/** Of `quantization_config.quant_method`: floats with scales, and not integers packed in a way of their own. */
const FLOAT_QUANTIZATIONS = new Set(table.fp8.quantizations);

export function checkQuantization(config: unknown, complain: Complain): void {
  const method = memberOf(memberOf(config, "quantization_config"), "quant_method");
  if (method !== undefined && !FLOAT_QUANTIZATIONS.has(String(method)))
    complain({
      code: "quantization_unsupported",
      message: `it is quantised with ${String(method).slice(0, 40)}, whose packed weights have no values to merge`,
      fix: "name the model before it was quantised, or its GGUF",
    });
}

/** By ggml's number: elements and bytes of a block, and the dtype of what is written again. */
const GGUF_TYPES = new Map(Object.entries(table.gguf.types));
const NAMED_ARCHITECTURES = new Set(table.gguf.architectures);
const NAMES = new Map(Object.entries(table.gguf.names));
const LAYER_NAMES = new Map(Object.entries(table.gguf.layer_names));
/** Computed from the configuration, where other models have it. */
const DERIVED = new Set(table.gguf.derived);

/** The tensors of a GGUF file as the compute service reads them: dequantised, and of known architectures by their names elsewhere. */
export function ggufFacts(
  architecture: string | undefined,
  tensors: readonly GgufTensor[],
  pool: FactPool,
  complain: Complain,
): Tensors {
  const facts: Tensors = new Map();
  const renames = NAMED_ARCHITECTURES.has(architecture ?? "");
  for (const { name, type, dimensions } of tensors) {
    if (renames && DERIVED.has(name)) continue;
    const alias = renames ? nameOf(name) : name;
    const known = GGUF_TYPES.get(String(type));
    if (alias === undefined || known === undefined) {
      const problem = alias === undefined ? `has no name in ${architecture} models elsewhere` : `is of type ${type}`;
      complain({
        code: alias === undefined ? "gguf_names_unknown" : "tensor_dtype_mismatch",
        message: `tensor ${name} ${problem}, which is not read`,
        fix: "name the model as safetensors",
        tensor: name,
      });
      return facts;
    }
    const { elements, bytes, dtype } = known;
    const shape = [...dimensions].reverse();
    facts.set(pool.name(alias), pool.fact(dtype, shape, Math.ceil(countOf(shape) / elements) * bytes));
  }
  return facts;
}

function nameOf(name: string): string | undefined {
  const [, layer, part = "", kind] = /^blk\.(0|[1-9]\d{0,4})\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const inLayer = LAYER_NAMES.get(part);
  if (inLayer !== undefined) return `model.layers.${layer}.${inLayer}.${kind}`;
  const [, outer = "", outerKind] = /^(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const outside = NAMES.get(outer);
  return outside === undefined ? undefined : `${outside}.${outerKind}`;
}

const PREFIX = "base_model.model.";
const LORA = /^(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B)(?:\.default)?(?:\.(weight|bias))?$/;
/** Settings of PEFT that make an adapter more than W + scale·B·A, with what they do. */
const UNSUPPORTED = new Map(Object.entries(table.adapter.unsupported));

type Pair = { a?: readonly number[]; b?: readonly number[]; embedding: boolean; key: string };

/** The model with its adapter applied: the same tensors, and those that the adapter brings whole. */
export function adapted(tensors: Tensors, adapter: AdapterFacts, complain: Complain): Tensors {
  const { config } = adapter;
  const refuse = (message: string, tensor?: string): void =>
    complain({
      code: "adapter_invalid",
      message,
      fix: "name the adapter that was trained on this model",
      ...(tensor === undefined ? {} : { tensor }),
    });
  const type = memberOf(config, "peft_type");
  const setting = [...UNSUPPORTED.keys()].find((key) => isSet(memberOf(config, key)));
  if (type !== "LORA" || setting !== undefined) {
    complain({
      code: "adapter_unsupported",
      message:
        setting === undefined
          ? `the adapter is of type ${String(type).slice(0, 40)}, not LORA`
          : `the adapter has ${setting}: ${UNSUPPORTED.get(setting)}`,
      fix: "merge the adapter into its base model with PEFT and name the result",
    });
    return tensors;
  }
  const saved = textsOf(memberOf(config, "modules_to_save"));
  const result: Tensors = new Map(tensors);
  const pairs = new Map<string, Pair>();
  for (const [key, fact] of adapter.tensors) {
    const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
    const [, module = "", part = "", kind] = LORA.exec(name) ?? [];
    if (part === "") {
      const target = name
        .replace(".modules_to_save.default.", ".")
        .replace(".modules_to_save.", ".")
        .replace(".base_layer.", ".");
      if (!tensors.has(target) && !saved.some((one) => `.${target}`.includes(`.${one}.`)))
        refuse(`tensor ${key} of the adapter belongs to no tensor of the model`, key);
      result.set(target, fact);
    } else if (kind !== "bias") {
      const pair = pairs.get(module) ?? { embedding: part.startsWith("lora_embedding"), key };
      pair[part.endsWith("A") ? "a" : "b"] = fact.shape;
      pairs.set(module, pair);
    }
  }
  const fansIn = memberOf(config, "fan_in_fan_out") === true;
  for (const [module, { a, b, embedding, key }] of pairs) {
    const weight = result.get(`${module}.weight`)?.shape;
    if (weight === undefined)
      refuse(`the adapter changes ${module}.weight, which the model does not have (or has tied)`, key);
    else if (a === undefined || b === undefined) refuse(`the adapter of ${module} lacks A or B`, key);
    else {
      const [inputs, outputs] = [countOf(a.slice(1)), b[0] ?? 0];
      const [rows, columns] = embedding || fansIn ? [inputs, outputs] : [outputs, inputs];
      if (countOf(b) !== outputs * (a[0] ?? 0) || weight[0] !== rows || countOf(weight.slice(1)) !== columns)
        refuse(`the adapter of ${module} has A [${a}] and B [${b}], the weight is [${weight}]`, key);
    }
  }
  return result;
}

const isSet = (value: unknown): boolean =>
  value !== undefined &&
  value !== null &&
  value !== false &&
  !(typeof value === "object" && Object.keys(value).length === 0);

const textsOf = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
