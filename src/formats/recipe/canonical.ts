// One spelling for each recipe, so that its digest names it, and the same as mergekit's YAML where mergekit can say it.
import { stringify } from "yaml";
import { canonicalJson } from "../canonical-json";
import { findMethod, type Method } from "./methods";
import type {
  Body,
  ConvertDocument,
  Document,
  Expert,
  ExpertsDocument,
  ExtractDocument,
  Input,
  MergeDocument,
  Parameters,
  Recipe,
  Rule,
  Slice,
  TokenRow,
} from "./recipe";
import { refText } from "./references";

/** The recipe as JSON, with every default: a document, or a list of them. Reading it gives the same recipe. */
export function canonicalRecipe(recipe: Recipe): object {
  const documents = recipe.documents.map(documentObject);
  const [only, ...more] = documents;
  return only !== undefined && more.length === 0 ? only : documents;
}

/** What the digest of a recipe is the SHA-256 of. */
export const canonicalText = (recipe: Recipe): string => canonicalJson(canonicalRecipe(recipe));

function documentObject(document: Document): object {
  const common = {
    name: document.name ?? undefined,
    out_dtype: document.outDtype ?? undefined,
    out_shard_size: document.outShardSize,
  };
  switch (document.kind) {
    case "merge":
      return { ...mergeObject(document, withDefaults), ...common, ...ownKeys(document) };
    case "experts":
      return { ...expertsObject(document), ...common };
    case "extract_lora":
      return { ...extractObject(document), ...common };
    case "convert":
      return { ...convertObject(document), ...common };
  }
}

/** Keys of a merge that mergekit does not know. */
const ownKeys = ({ seed, align }: MergeDocument): object => ({
  seed,
  align:
    align === null
      ? undefined
      : {
          reference: align.reference === null ? undefined : refText(align.reference),
          spec: align.spec === null ? undefined : Object.fromEntries(align.spec),
        },
});

type Fill = (parameters: Parameters, method: Method) => Parameters;

/** Defaults stand last among the parameters for all tensors, where they change nothing. */
const withDefaults: Fill = (parameters, method) =>
  new Map(
    method.parameters.flatMap(({ name, default: value }): [string, readonly Rule[]][] => {
      const rules = parameters.get(name) ?? [];
      const total = value === null || rules.at(-1)?.filter === null;
      const filled = total ? rules : [...rules, { filter: null, values: [value] }];
      return filled.length === 0 ? [] : [[name, filled]];
    }),
  );

const asWritten: Fill = (parameters) => parameters;

function mergeObject(document: MergeDocument, fill: Fill): object {
  const method = findMethod(document.method);
  const parameters = method === undefined ? document.parameters : fill(document.parameters, method);
  const modules = document.modules.map(({ name, body, parameters: own }) => ({
    name,
    object: { ...bodyObject(body, method), ...parametersObject(own, method) },
  }));
  const [only] = modules;
  return {
    ...(only?.name === null
      ? only.object
      : { modules: Object.fromEntries(modules.map(({ name, object }) => [name, object])) }),
    merge_method: document.method,
    ...(document.base === null ? {} : { base_model: refText(document.base) }),
    ...parametersObject(parameters, method),
    ...(document.tokenizer === null ? {} : { tokenizer: tokenizerObject(document.tokenizer) }),
    ...(document.dtype === null ? {} : { dtype: document.dtype }),
    ...(document.chatTemplate === null ? {} : { chat_template: document.chatTemplate }),
  };
}

function bodyObject(body: Body, method: Method | undefined): object {
  if ("models" in body) return { models: body.models.map((input) => inputObject(input, method)) };
  return { slices: body.slices.map((slice) => sliceObject(slice, method)) };
}

const sliceObject = ({ inputs, base, parameters }: Slice, method: Method | undefined): object => ({
  sources: inputs.map((input) => inputObject(input, method)),
  ...(base === null ? {} : { base_model: refText(base) }),
  ...parametersObject(parameters, method),
});

const inputObject = ({ model, range, parameters }: Input, method: Method | undefined): object => ({
  model: refText(model),
  ...(range === null ? {} : { layer_range: [...range] }),
  ...parametersObject(parameters, method),
});

function parametersObject(parameters: Parameters, method: Method | undefined): object {
  if (parameters.size === 0) return {};
  const settings = [...parameters].map(([name, rules]) => {
    const isFlag =
      method?.parameters.some((parameter) => parameter.name === name && parameter.kind === "bool") ?? false;
    const written = ({ values }: Rule): unknown => {
      const points = values.map((value) => (isFlag ? value === 1 : value));
      return points.length === 1 ? points[0] : points;
    };
    const [first] = rules;
    const setting =
      first !== undefined && first.filter === null
        ? written(first)
        : rules.map((rule) => ({ ...(rule.filter === null ? {} : { filter: rule.filter }), value: written(rule) }));
    return [name, setting];
  });
  return { parameters: Object.fromEntries(settings) };
}

function tokenizerObject({ source, tokens, padToMultipleOf }: NonNullable<MergeDocument["tokenizer"]>): object {
  const entries = [...tokens].map(([token, { row, force }]) => [
    token,
    { ...(row.kind === "default" ? {} : { source: rowObject(row) }), ...(force ? { force } : {}) },
  ]);
  return {
    source: typeof source === "string" ? source : refText(source),
    ...(entries.length === 0 ? {} : { tokens: Object.fromEntries(entries) }),
    ...(padToMultipleOf === null ? {} : { pad_to_multiple_of: padToMultipleOf }),
  };
}

function rowObject(row: TokenRow): object {
  if (row.kind !== "model_token") return { kind: row.kind };
  const which = typeof row.token === "string" ? { token: row.token } : { token_id: row.token };
  return { kind: row.kind, model: refText(row.model), ...which };
}

function expertsObject(document: ExpertsDocument): object {
  const shared = document.sharedExperts.map(expertObject);
  return {
    base_model: refText(document.base),
    experts: document.experts.map(expertObject),
    ...(shared.length === 0 ? {} : { shared_experts: shared }),
    gate_mode: document.gateMode,
    experts_per_token: document.expertsPerToken,
    ...(document.architecture === null ? {} : { architecture: document.architecture }),
    seed: document.seed,
  };
}

const expertObject = (expert: Expert): object => ({
  source_model: refText(expert.model),
  positive_prompts: [...expert.positivePrompts],
  negative_prompts: [...expert.negativePrompts],
  noise_scale: expert.noiseScale,
  ...(expert.residualScale === null ? {} : { residual_scale: expert.residualScale }),
});

const extractObject = (document: ExtractDocument): object => ({
  extract_lora: {
    model: refText(document.model),
    base_model: refText(document.base),
    max_rank: document.maxRank,
    sv_epsilon: document.leastSingularValue,
    ...(document.include.length === 0 ? {} : { include: [...document.include] }),
    ...(document.exclude.length === 0 ? {} : { exclude: [...document.exclude] }),
  },
});

const convertObject = ({ model }: ConvertDocument): object => ({
  convert: {
    model: refText(model),
    ...("document" in model || model.weights.length === 0 ? {} : { weights: [...model.weights] }),
  },
});

const MERGEKIT_METHODS = new Set(
  "linear slerp nuslerp multislerp karcher task_arithmetic ties dare_linear dare_ties breadcrumbs breadcrumbs_ties della della_linear sce ram ramplus_tl model_stock nearswap arcee_fusion passthrough".split(
    " ",
  ),
);

/** The recipe for mergekit (several documents: for mergekit-multi); null where mergekit has no words for it. */
export function toMergekitYaml(recipe: Recipe): string | null {
  const documents: string[] = [];
  for (const document of recipe.documents) {
    if (document.kind !== "merge" || !isMergekits(document)) return null;
    const object = {
      ...(document.name === null ? {} : { name: document.name }),
      ...mergeObject(document, asWritten),
      ...(document.outDtype === null ? {} : { out_dtype: document.outDtype }),
    };
    documents.push(stringify(object, { aliasDuplicateObjects: false, lineWidth: 0 }));
  }
  return documents.join("---\n");
}

function isMergekits({ method, align, dtype, outDtype, modules }: MergeDocument): boolean {
  // It finds a slice's sources by model, so it can't tell two ranges of one model apart.
  const slices = modules.flatMap(({ body }) => ("slices" in body ? body.slices : []));
  const repeated = slices.some(({ inputs }) => new Set(inputs.map(({ model }) => refText(model))).size < inputs.length);
  return MERGEKIT_METHODS.has(method) && align === null && dtype !== "float64" && outDtype !== "float64" && !repeated;
}
