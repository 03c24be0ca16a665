// Reads a recipe: mergekit's YAML as it is, or the same as JSON. What is unknown, misspelt or impossible is an error with its place.
import { parseYamlDocuments } from "../card/yaml";
import { FormatError } from "../format-error";
import { quote } from "../text";
import {
  kindOf,
  Place,
  readFields,
  readFlag,
  readInteger,
  readList,
  readMapping,
  readNumber,
  readOneOf,
  readText,
} from "./fields";
import { findMethod, type Method, mergeMethods } from "./methods";
import { readParameters } from "./parameters";
import { PermutedAxis } from "./program";
import {
  type Align,
  type Body,
  type ConvertDocument,
  DEFAULT_SHARD_BYTES,
  type Document,
  type Dtype,
  type Expert,
  type ExpertsDocument,
  type ExtractDocument,
  type Input,
  inputsOf,
  type MergeDocument,
  type Module,
  type Note,
  type Parameters,
  type Recipe,
  type Slice,
  type Tokenizer,
  type TokenRow,
} from "./recipe";
import {
  checkRevision,
  DOCUMENT_NAME,
  type ModelRef,
  parseModelRef,
  parseRevision,
  placesOf,
  type Revision,
  refKey,
} from "./references";
import { didYouMean, nearest } from "./suggest";

const MAX_CHARACTERS = 1_000_000;
const MAX_DOCUMENTS = 32;
const MAX_MODELS = 63;
const MAX_SLICES = 1000;
const MAX_LAYERS = 100_000;
const MAX_SEED = 2 ** 53 - 1;
const MAX_TEMPLATE = 100_000;

const DTYPES = ["float32", "float16", "bfloat16", "float64"] as const satisfies readonly Dtype[];
const GATE_MODES = ["hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random"] as const;
const CHAT_TEMPLATES = ["auto", "alpaca", "chatml", "exaone", "llama3", "mistral"] as const;

const COMMON_KEYS = ["name", "out_dtype", "out_shard_size"];
const MERGE_KEYS = [
  "merge_method",
  "models",
  "slices",
  "modules",
  "base_model",
  "parameters",
  "tokenizer",
  "tokenizer_source",
  "dtype",
  "chat_template",
  "seed",
  "align",
  ...COMMON_KEYS,
];
const MODULE_KEYS = ["models", "slices", "parameters", "subfolder"];
const SLICE_KEYS = ["sources", "base_model", "parameters", "residual_weight"];
const EXPERTS_KEYS = [
  "base_model",
  "experts",
  "shared_experts",
  "gate_mode",
  "dtype",
  "experts_per_token",
  "architecture",
  "seed",
  ...COMMON_KEYS,
];

/** @throws FormatError with the field, the line and the fix */
export function parseRecipe(text: string): Recipe {
  if (text.length > MAX_CHARACTERS)
    throw new FormatError("recipe.too_large", `the recipe has ${text.length} characters`, {
      fix: `write at most ${MAX_CHARACTERS}`,
    });
  const parsed = parseYamlDocuments(text);
  if ("problems" in parsed) {
    const [first] = parsed.problems;
    throw new FormatError("recipe.syntax", first?.message ?? "the YAML can't be read", first && { line: first.line });
  }
  const [warning] = parsed.documents.flatMap(({ warnings }) => warnings);
  if (warning !== undefined)
    throw new FormatError("recipe.syntax", warning.message, { line: warning.line, fix: "write plain YAML" });
  const [only] = parsed.documents;
  if (parsed.documents.length === 1 && only !== undefined && Array.isArray(only.value))
    return readRecipe(only.value.map((value: unknown, i) => ({ value, lineOf: (path) => only.lineOf([i, ...path]) })));
  return readRecipe(parsed.documents);
}

/** The same of a value that was JSON: a document, or a list of them. @throws FormatError */
export function parseRecipeObject(value: unknown): Recipe {
  const documents: readonly unknown[] = Array.isArray(value) ? value : [value];
  return readRecipe(documents.map((document) => ({ value: document, lineOf: () => undefined })));
}

type RawDocument = {
  readonly value: unknown;
  readonly lineOf: (path: readonly (string | number)[]) => number | undefined;
};

function readRecipe(raw: readonly RawDocument[]): Recipe {
  if (raw.length === 0 || raw.length > MAX_DOCUMENTS)
    throw new FormatError("recipe.value", `the recipe has ${raw.length} documents`, {
      fix: `write 1 to ${MAX_DOCUMENTS}`,
    });
  const notes: Note[] = [];
  const read = raw.map(({ value, lineOf }, i) => {
    const prefix = raw.length === 1 ? "" : `documents[${i}].`;
    const place = Place.of(prefix, lineOf);
    return { place, document: readDocument(value, place, prefix, notes) };
  });
  return { documents: inOrder(read), notes };
}

type Read = { readonly place: Place; readonly document: Document };

/** Each document after those it takes, the output last. */
function inOrder(read: readonly Read[]): Recipe["documents"] {
  const [only] = read;
  const output = read.length === 1 && only !== undefined ? only : soleOutput(read);
  const stages = new Map<string, Read & { readonly document: MergeDocument }>();
  for (const { document, place } of read) {
    if (document === output.document || document.name === null) continue;
    if (document.kind !== "merge")
      throw place.at("name").fail("value", "only a merge can be a model of another document", "remove the name");
    if (stages.has(document.name))
      throw place.at("name").fail("value", `${quote(document.name)} names two documents`, "give each its own name");
    stages.set(document.name, { place, document });
  }
  const ordered: MergeDocument[] = [];
  const open = new Set<string>();
  const visit = ({ document, place }: Read): void => {
    for (const [path, ref] of placesOf(document)) {
      if (ref === null || !("document" in ref)) continue;
      const at = place.find(path);
      const stage = stages.get(ref.document);
      const suggestion = nearest(ref.document, [...stages.keys()]);
      if (stage === undefined)
        throw at.fail(
          "model",
          `${quote(ref.document)} is neither a model nor a document of this recipe`,
          suggestion === null ? "write owner/name" : `did you mean \`${suggestion}\`?`,
        );
      if (open.has(ref.document))
        throw at.fail(
          "cycle",
          `${[...open, ref.document].join(" → ")} is a circle`,
          "no document may need its own result",
        );
      if (ordered.includes(stage.document)) continue;
      open.add(ref.document);
      visit(stage);
      open.delete(ref.document);
      ordered.push(stage.document);
    }
  };
  visit(output);
  for (const [name, { place, document }] of stages)
    if (!ordered.includes(document)) {
      // A circle that the output does not touch is a circle all the same.
      open.add(name);
      visit({ place, document });
      throw place.at("name").fail("value", `no document takes ${quote(name)} as a model`, "use it or remove it");
    }
  return [...ordered, output.document];
}

function soleOutput(read: readonly Read[]): Read {
  const [output, second] = read.filter(({ document }) => document.name === null);
  if (output === undefined)
    throw new FormatError("recipe.value", "every document has a name", { fix: "leave the name of the output away" });
  if (second !== undefined)
    throw second.place.fail("missing", "is the second document without a `name`", "name all but the output");
  return output;
}

function readDocument(value: unknown, place: Place, prefix: string, notes: Note[]): Document {
  const keys = new Set(readMapping(value, place).keys());
  if (keys.has("extract_lora")) return readExtract(value, place, prefix);
  if (keys.has("convert")) return readConvert(value, place, prefix);
  if (keys.has("experts") && !keys.has("merge_method")) return readExperts(value, place, prefix);
  return readMerge(value, place, prefix, notes);
}

function readCommon(fields: ReadonlyMap<string, unknown>, place: Place, prefix: string) {
  const name = fields.get("name");
  const outDtype = fields.get("out_dtype");
  const size = fields.get("out_shard_size");
  return {
    name: name === undefined ? null : readName(name, place.at("name")),
    outDtype: outDtype === undefined ? null : readDtype(outDtype, place.at("out_dtype")),
    outShardSize: size === undefined ? DEFAULT_SHARD_BYTES : readBytes(size, place.at("out_shard_size")),
    prefix,
  };
}

function readName(value: unknown, place: Place): string {
  const name = readText(value, place);
  if (!DOCUMENT_NAME.test(name))
    throw place.fail("value", `${quote(name)} is no name`, "write letters, digits, . _ and -");
  return name;
}

function readDtype(value: unknown, place: Place): Dtype {
  if (value === "int64")
    throw place.fail("value", "weights can't be merged as int64", "integer tensors keep their dtype: leave this away");
  return readOneOf(value, place, DTYPES);
}

/** "5B", "500M" or a number: bytes, by thousands, as mergekit counts them. */
function readBytes(value: unknown, place: Place): number {
  const match =
    typeof value === "number" ? [value, value, ""] : /^([0-9]{1,12})([kKMBG]?)B?$/.exec(readText(value, place));
  const bytes = Number(match?.[1]) * ({ k: 1e3, K: 1e3, M: 1e6, B: 1e9, G: 1e9 }[String(match?.[2])] ?? 1);
  if (!Number.isInteger(bytes) || bytes < 1 || bytes > 1e15)
    throw place.fail("value", `${String(value).slice(0, 40)} is no size`, "write bytes, or like 500M or 5B");
  return bytes;
}

function readMerge(value: unknown, place: Place, prefix: string, notes: Note[]): MergeDocument {
  const methodName = readMapping(value, place).get("merge_method");
  const method = typeof methodName === "string" ? findMethod(methodName) : undefined;
  const fields = readFields(value, place, MERGE_KEYS, parameterHint(method, MERGE_KEYS));
  const known = checkMethod(fields.get("merge_method"), place);
  const base = fields.get("base_model");
  const document: MergeDocument = {
    kind: "merge",
    ...readCommon(fields, place, prefix),
    method: known.name,
    base: base === undefined ? null : readRef(base, place.at("base_model")),
    modules: readModules(fields, place, known, notes),
    parameters: readParameters(fields.get("parameters"), place.at("parameters"), known, "all", notes),
    tokenizer: readTokenizer(fields, place),
    dtype: fields.has("dtype") ? readDtype(fields.get("dtype"), place.at("dtype")) : null,
    chatTemplate: fields.has("chat_template")
      ? readTemplate(fields.get("chat_template"), place.at("chat_template"))
      : null,
    seed: readSeed(fields, place),
    align: fields.has("align") ? readAlign(fields.get("align"), place.at("align")) : null,
  };
  checkModels(document, known, place);
  return document;
}

/** Parameters that stand outside `parameters` are told where they belong. */
const parameterHint =
  (method: Method | undefined, known: readonly string[]) =>
  (key: string): string | undefined => {
    if (method === undefined || nearest(key, known) !== null) return undefined;
    const parameter = nearest(
      key,
      method.parameters.map(({ name }) => name),
    );
    return parameter === null ? undefined : `write \`${parameter}\` under \`parameters\``;
  };

function checkMethod(value: unknown, place: Place): Method {
  if (value === undefined) throw place.fail("missing", "the recipe has no `merge_method`", "name one, like linear");
  const at = place.at("merge_method");
  const name = readText(value, at);
  const names = mergeMethods().map((method) => method.name);
  const method = names.includes(name) ? findMethod(name) : undefined;
  if (method === undefined) throw at.fail("method", `there is no method ${quote(name)}`, didYouMean(name, names));
  return method;
}

const readSeed = (fields: ReadonlyMap<string, unknown>, place: Place): number =>
  fields.has("seed") ? readInteger(fields.get("seed"), place.at("seed"), 0, MAX_SEED) : 0;

/** A reference as text or as `{model: {path, revision}, lora: {path, revision}}`. */
function readRef(value: unknown, place: Place): ModelRef {
  if (typeof value === "string") return parseModelRef(value, place);
  if (typeof value !== "object") throw place.fail("type", `is ${kindOf(value)}, not a model`, "write owner/name");
  const fields = readFields(value, place, ["model", "lora", "override_architecture"]);
  if (fields.has("override_architecture"))
    throw place
      .at("override_architecture")
      .fail("value", "tensors are merged by their names, whatever the architecture is called", "remove it");
  const model = fields.get("model");
  const lora = fields.get("lora");
  if (model === undefined) throw place.fail("missing", "has no `model`", "write owner/name");
  if (typeof model === "string" && lora === undefined) return parseModelRef(model, place.at("model"));
  return {
    ...readRevision(model, place.at("model")),
    adapter: lora === undefined ? null : readRevision(lora, place.at("lora")),
    weights: [],
  };
}

function readRevision(value: unknown, place: Place): Revision {
  if (typeof value === "string") return parseRevision(value, place);
  const fields = readFields(value, place, ["path", "revision"]);
  if (!fields.has("path")) throw place.fail("missing", "has no `path`", "write owner/name");
  const revision = fields.get("revision");
  return checkRevision(
    {
      repo: readText(fields.get("path"), place.at("path")),
      revision: revision === undefined ? null : readText(revision, place.at("revision")),
    },
    place,
  );
}

function readModules(fields: ReadonlyMap<string, unknown>, place: Place, method: Method, notes: Note[]): Module[] {
  const given = ["models", "slices", "modules"].filter((key) => fields.has(key));
  if (given.length !== 1)
    throw place.fail(
      given.length === 0 ? "missing" : "value",
      given.length === 0 ? "the recipe names no models" : `the recipe has ${given.join(" and ")}`,
      "give exactly one of models, slices and modules",
    );
  if (!fields.has("modules"))
    return [{ name: null, body: readBody(fields, place, method, notes), parameters: new Map(), field: "" }];
  const modules = byName(readMapping(fields.get("modules"), place.at("modules")));
  if (modules.length === 0 || modules.length > MAX_MODELS)
    throw place.at("modules").fail("value", `has ${modules.length} modules`, `give 1 to ${MAX_MODELS}`);
  return modules.map(([name, value]) => {
    const at = place.at("modules").at(name);
    if (name.length === 0 || name.length > 512)
      throw at.fail("value", "is no name of a module", "use a part of tensor names");
    const module = readFields(value, at, MODULE_KEYS, parameterHint(method, MODULE_KEYS));
    if (module.has("models") === module.has("slices"))
      throw at.fail("value", "has to say what it is made of", "give either models or slices");
    if (module.has("subfolder")) notes.push(unused(at.at("subfolder")));
    return {
      name,
      body: readBody(module, at, method, notes),
      parameters: readParameters(module.get("parameters"), at.at("parameters"), method, "all", notes),
      field: at.local,
    };
  });
}

/** The order of a mapping's keys means nothing, so nothing may depend on it. */
const byName = (members: ReadonlyMap<string, unknown>): [string, unknown][] =>
  [...members].sort(([a], [b]) => (a < b ? -1 : 1));

const unused = (place: Place): Note => ({
  code: "field_ignored",
  field: place.field,
  message: "mergekit takes it and does nothing with it: it is ignored",
});

function readBody(fields: ReadonlyMap<string, unknown>, place: Place, method: Method, notes: Note[]): Body {
  if (fields.has("models"))
    return {
      models: readList(fields.get("models"), place.at("models"), MAX_MODELS).map(([item, at]) =>
        readInput(typeof item === "string" ? { model: item } : item, at, ["model", "parameters"], method, notes),
      ),
    };
  return {
    slices: readList(fields.get("slices"), place.at("slices"), MAX_SLICES).map(([item, at]) =>
      readSlice(item, at, method, notes),
    ),
  };
}

function readInput(value: unknown, place: Place, known: readonly string[], method: Method, notes: Note[]): Input {
  const hint = (key: string) =>
    key === "layer_range" ? "layers are chosen in `slices`" : parameterHint(method, known)(key);
  const fields = readFields(value, place, known, hint);
  if (!fields.has("model")) throw place.fail("missing", "has no `model`", "write owner/name");
  return {
    model: readRef(fields.get("model"), place.at("model")),
    range: fields.has("layer_range") ? readRange(fields.get("layer_range"), place.at("layer_range")) : null,
    parameters: readParameters(fields.get("parameters"), place.at("parameters"), method, "model", notes),
    field: place.local,
  };
}

function readRange(value: unknown, place: Place): readonly [number, number] {
  const bounds = readList(value, place, 2).map(([bound, at]) => readInteger(bound, at, 0, MAX_LAYERS));
  const [first = 0, end = 0] = bounds;
  if (bounds.length !== 2 || end <= first)
    throw place.fail(
      "value",
      `[${bounds.join(", ")}] is no range of layers`,
      "write [first, end], the end not included",
    );
  return [first, end];
}

function readSlice(value: unknown, place: Place, method: Method, notes: Note[]): Slice {
  const fields = readFields(value, place, SLICE_KEYS, parameterHint(method, SLICE_KEYS));
  if (!fields.has("sources")) throw place.fail("missing", "has no `sources`", "list models with their layer_range");
  if (fields.has("residual_weight")) notes.push(unused(place.at("residual_weight")));
  const inputs = readList(fields.get("sources"), place.at("sources"), MAX_MODELS).map(([item, at]) => {
    const input = readInput(item, at, ["model", "layer_range", "parameters"], method, notes);
    if (input.range === null)
      throw at.fail("missing", "has no `layer_range`", "write [first, end], the end not included");
    return input;
  });
  const lengths = inputs.map(({ range }) => (range === null ? 0 : range[1] - range[0]));
  const odd = lengths.findIndex((length) => length !== lengths[0]);
  if (odd >= 0)
    throw place
      .at("sources")
      .at(odd)
      .at("layer_range")
      .fail("value", `has ${lengths[odd]} layers, the first source ${lengths[0]}`, "give ranges of one length");
  return {
    inputs,
    base: fields.has("base_model") ? readRef(fields.get("base_model"), place.at("base_model")) : null,
    parameters: readParameters(fields.get("parameters"), place.at("parameters"), method, "all", notes),
    field: place.local,
  };
}

/** That the method can take so many models, and that each has what it must have. */
function checkModels(document: MergeDocument, method: Method, place: Place): void {
  const needsBase = method.base === "required" || method.base === "endpoint";
  for (const module of document.modules) {
    const bodies =
      "models" in module.body
        ? [
            {
              inputs: inputsOf(document, module.body.models),
              base: document.base,
              parameters: EMPTY,
              field: module.field,
            },
          ]
        : module.body.slices.map((slice) => ({ ...slice, base: slice.base ?? document.base }));
    for (const { inputs, base, parameters, field } of bodies) {
      const at = place.find(field);
      if (base === null && needsBase)
        throw at.fail("missing", `${method.name} needs a base model`, "give `base_model`");
      const baseKey = base === null || method.base === "forbidden" ? null : refKey(base);
      const models = inputs.filter((input) => refKey(input.model) !== baseKey);
      if (baseKey !== null && models.length === inputs.length)
        throw at.fail("model", `the base model ${baseKey} is none of the sources`, "add it with its layer_range");
      checkCount(method, models.length, at);
      checkRepeated(inputs, place);
      for (const parameter of method.parameters) {
        const scopes = [parameters, module.parameters, document.parameters];
        if (parameter.default !== null || scopes.some((scope) => scope.has(parameter.name))) continue;
        const lacking = models.find((input) => !parameter.each || !input.parameters.has(parameter.name));
        if (lacking !== undefined) throw missingParameter(method.name, parameter.name, parameter.each, lacking, place);
      }
    }
  }
}

const EMPTY: Parameters = new Map();

function missingParameter(method: string, name: string, each: boolean, input: Input, place: Place): FormatError {
  if (!each) return place.fail("parameter", `${method} needs \`${name}\``, "add it to `parameters`");
  return place
    .find(input.field)
    .fail(
      "parameter",
      `${method} needs \`${name}\` of ${refKey(input.model)}`,
      input.field === "base_model"
        ? `list it under \`models\` with its \`${name}\`, or remove base_model`
        : `add it to ${input.field}.parameters, or to \`parameters\` for all models`,
    );
}

function checkCount(method: Method, count: number, place: Place): void {
  if (count >= method.least && (method.most === null || count <= method.most)) return;
  const wanted =
    method.most === method.least
      ? `${method.least}`
      : method.most === null
        ? `${method.least} or more`
        : `${method.least} to ${method.most}`;
  const besides = method.base === "forbidden" ? "" : " besides the base model";
  throw place.fail(
    "value",
    `${method.name} takes ${wanted} ${wanted === "1" ? "model" : "models"}${besides}, not ${count}`,
    count < method.least ? "list more models" : "list fewer models",
  );
}

function checkRepeated(inputs: readonly Input[], place: Place): void {
  const seen = new Set<string>();
  for (const input of inputs) {
    const key = `${refKey(input.model)} ${input.range}`;
    if (seen.has(key))
      throw place
        .find(input.field)
        .fail("value", `${refKey(input.model)} stands twice`, "list it once, with its weights added up");
    seen.add(key);
  }
}

function readTokenizer(fields: ReadonlyMap<string, unknown>, place: Place): Tokenizer | null {
  const legacy = fields.get("tokenizer_source");
  const section = fields.get("tokenizer");
  if (section === undefined)
    return legacy === undefined
      ? null
      : { source: readTokenizerSource(legacy, place.at("tokenizer_source")), tokens: new Map(), padToMultipleOf: null };
  if (legacy !== undefined)
    throw place.at("tokenizer_source").fail("value", "says the same as `tokenizer`", "keep `tokenizer` alone");
  const at = place.at("tokenizer");
  const inner = readFields(section, at, ["source", "tokens", "pad_to_multiple_of"]);
  const pad = inner.get("pad_to_multiple_of");
  const tokens = byName(readMapping(inner.get("tokens") ?? {}, at.at("tokens")));
  if (tokens.length > 10_000) throw at.at("tokens").fail("value", `has ${tokens.length} tokens`, "list at most 10000");
  return {
    source: readTokenizerSource(inner.get("source") ?? "union", at.at("source")),
    tokens: new Map(tokens.map(([token, value]) => [token, readToken(token, value, at.at("tokens").at(token))])),
    padToMultipleOf: pad === undefined ? null : readInteger(pad, at.at("pad_to_multiple_of"), 1, 65_536),
  };
}

function readTokenizerSource(value: unknown, place: Place): Tokenizer["source"] {
  if (value === "union" || value === "base") return value;
  const ref = readRef(value, place);
  if ("document" in ref)
    throw place.fail("value", `${quote(ref.document)} is no source of a tokenizer`, "use union, base or owner/name");
  return ref;
}

function readToken(token: string, value: unknown, place: Place): { row: TokenRow; force: boolean } {
  if (token.length === 0 || token.length > 1000)
    throw place.fail("value", `is a token of ${token.length} characters`, "write 1 to 1000");
  const fields = readFields(value, place, ["source", "force"]);
  return {
    row: readRow(token, fields.get("source"), place.at("source")),
    force: fields.has("force") ? readFlag(fields.get("force"), place.at("force")) : false,
  };
}

function readRow(token: string, value: unknown, place: Place): TokenRow {
  if (value === undefined) return { kind: "default" };
  if (typeof value === "string") return { kind: "model_token", model: parseModelRef(value, place), token };
  const kind = readMapping(value, place).get("kind");
  if (kind === undefined) return { kind: "model_token", model: readRef(value, place), token };
  if (readOneOf(kind, place.at("kind"), ["model_token", "zero"]) === "zero") {
    readFields(value, place, ["kind"]);
    return { kind: "zero" };
  }
  const fields = readFields(value, place, ["kind", "model", "token", "token_id"]);
  if (!fields.has("model")) throw place.fail("missing", "has no `model`", "name the model whose row it is");
  if (fields.has("token") === fields.has("token_id"))
    throw place.fail("value", "has to say which row", "give either token or token_id");
  return {
    kind: "model_token",
    model: readRef(fields.get("model"), place.at("model")),
    token: fields.has("token")
      ? readText(fields.get("token"), place.at("token"))
      : readInteger(fields.get("token_id"), place.at("token_id"), 0, 100_000_000),
  };
}

function readTemplate(value: unknown, place: Place): string {
  const text = readText(value, place, MAX_TEMPLATE);
  // Anything with a brace is the template itself.
  return text.includes("{") ? text : readOneOf(text, place, CHAT_TEMPLATES);
}

function readAlign(value: unknown, place: Place): Align {
  const fields = readFields(value, place, ["reference", "spec"]);
  const spec = fields.get("spec");
  return {
    reference: fields.has("reference") ? readRef(fields.get("reference"), place.at("reference")) : null,
    spec: spec === undefined ? null : readPermutations(spec, place.at("spec")),
  };
}

function readPermutations(value: unknown, place: Place): Map<string, readonly (string | null)[]> {
  const tensors = [...readMapping(value, place)];
  if (tensors.length === 0)
    throw place.fail("value", "names no tensors", "give the groups of each axis, or leave it away");
  return new Map(
    tensors.map(([name, axes]) => {
      const at = place.at(name);
      return [name, readList(axes, at, 8).map(([axis, on]) => readAxis(axis, on))];
    }),
  );
}

function readAxis(value: unknown, place: Place): string | null {
  if (value === null) return null;
  const axis = PermutedAxis.safeParse(value);
  if (!axis.success)
    throw place.fail("value", "is no group of units", "write a name, name*n for n numbers a unit, or null");
  return axis.data;
}

function readExperts(value: unknown, place: Place, prefix: string): ExpertsDocument {
  const fields = readFields(value, place, EXPERTS_KEYS);
  if (!fields.has("base_model"))
    throw place.fail("missing", "the recipe has no `base_model`", "name the model around the experts");
  const common = readCommon(fields, place, prefix);
  const shared = fields.get("shared_experts");
  const experts = readList(fields.get("experts"), place.at("experts"), MAX_MODELS).map(([item, at]) =>
    readExpert(item, at),
  );
  const perToken = fields.get("experts_per_token");
  return {
    kind: "experts",
    ...common,
    outDtype: common.outDtype ?? (fields.has("dtype") ? readDtype(fields.get("dtype"), place.at("dtype")) : null),
    base: readRef(fields.get("base_model"), place.at("base_model")),
    experts,
    sharedExperts:
      shared === undefined
        ? []
        : readList(shared, place.at("shared_experts"), 1).map(([item, at]) => readExpert(item, at)),
    gateMode: fields.has("gate_mode")
      ? readOneOf(fields.get("gate_mode"), place.at("gate_mode"), GATE_MODES)
      : "hidden",
    expertsPerToken:
      perToken === undefined
        ? Math.min(2, experts.length)
        : readInteger(perToken, place.at("experts_per_token"), 1, experts.length),
    architecture: fields.has("architecture")
      ? readOneOf(fields.get("architecture"), place.at("architecture"), ["mixtral", "deepseek", "qwen", "qwen3"])
      : null,
    seed: readSeed(fields, place),
  };
}

function readExpert(value: unknown, place: Place): Expert {
  const fields = readFields(value, place, [
    "source_model",
    "positive_prompts",
    "negative_prompts",
    "noise_scale",
    "residual_scale",
  ]);
  if (!fields.has("source_model")) throw place.fail("missing", "has no `source_model`", "write owner/name");
  const texts = (key: string): string[] => {
    const list = fields.get(key);
    if (list === undefined || (Array.isArray(list) && list.length === 0)) return [];
    return readList(list, place.at(key), 1000).map(([text, at]) => readText(text, at, 10_000));
  };
  const scale = (key: string): number | null => (fields.has(key) ? readNumber(fields.get(key), place.at(key)) : null);
  return {
    model: readRef(fields.get("source_model"), place.at("source_model")),
    positivePrompts: texts("positive_prompts"),
    negativePrompts: texts("negative_prompts"),
    noiseScale: scale("noise_scale") ?? 0,
    residualScale: scale("residual_scale"),
  };
}

function readExtract(value: unknown, place: Place, prefix: string): ExtractDocument {
  const outer = readFields(value, place, ["extract_lora", ...COMMON_KEYS]);
  const at = place.at("extract_lora");
  const fields = readFields(
    outer.get("extract_lora"),
    at,
    ["model", "base_model", "max_rank", "sv_epsilon", "include", "exclude"],
    (key) => (/_regex$/.test(key) ? "list parts of tensor names under `include` or `exclude`" : undefined),
  );
  if (!fields.has("model") || !fields.has("base_model"))
    throw at.fail("missing", "has to say what changed", "give both model and base_model");
  const parts = (key: string): string[] =>
    fields.has(key) ? readList(fields.get(key), at.at(key), 1000).map(([text, on]) => readText(text, on, 512)) : [];
  return {
    kind: "extract_lora",
    ...readCommon(outer, place, prefix),
    model: readRef(fields.get("model"), at.at("model")),
    base: readRef(fields.get("base_model"), at.at("base_model")),
    maxRank: fields.has("max_rank") ? readInteger(fields.get("max_rank"), at.at("max_rank"), 1, 65_536) : 128,
    leastSingularValue: fields.has("sv_epsilon") ? readNumber(fields.get("sv_epsilon"), at.at("sv_epsilon")) : 0,
    include: parts("include"),
    exclude: parts("exclude"),
  };
}

function readConvert(value: unknown, place: Place, prefix: string): ConvertDocument {
  const outer = readFields(value, place, ["convert", ...COMMON_KEYS]);
  const at = place.at("convert");
  const fields = readFields(outer.get("convert"), at, ["model", "weights"]);
  if (!fields.has("model")) throw at.fail("missing", "has no `model`", "write owner/name");
  const model = readRef(fields.get("model"), at.at("model"));
  if ("document" in model || model.adapter !== null)
    throw at.at("model").fail("model", "only a repository can be converted", "write owner/name@revision");
  const weights = fields.has("weights")
    ? readList(fields.get("weights"), at.at("weights"), 1000).map(([path, on]) => readText(path, on))
    : [];
  return { kind: "convert", ...readCommon(outer, place, prefix), model: { ...model, weights } };
}
