// Compiles a recipe into a merge program, from the headers of its models alone; what keeps it from running is told with the fix.
import { Builder, type Model } from "./builder";
import { alignOf, matchingBytes } from "./compile-align";
import { compileExperts } from "./compile-experts";
import { compileMerge, type Merged } from "./compile-merge";
import { compileConvert, compileExtract } from "./compile-steps";
import { changedKeys } from "./config";
import { findMethod } from "./methods";
import type { Compiled, CompiledDocument, ModelFacts, Problem } from "./models";
import type { Program, TokenizerSpec, TokenSource } from "./program";
import type { Document, MergeDocument, Note, Recipe } from "./recipe";
import { type ModelRef, refKey } from "./references";

/** `models` has the facts of every one of `referencesOf(recipe)` by its key. Never throws: see `problems`. */
export function compile(recipe: Recipe, models: ReadonlyMap<string, ModelFacts>): Compiled {
  const stages = new Map<string, Model>();
  const notes: Note[] = [...recipe.notes];
  const problems: Problem[] = [];
  let last: CompiledDocument = NOTHING;
  for (const document of recipe.documents) {
    const builder = new Builder(document.kind === "merge" ? (document.outDtype ?? document.dtype) : document.outDtype);
    const find = (ref: ModelRef, field: string): Model | null => {
      const facts = "document" in ref ? undefined : models.get(refKey(ref));
      const model = "document" in ref ? stages.get(ref.document) : facts && modelOf(facts);
      if (model === undefined)
        builder.problems.add({
          code: "model_unknown",
          field,
          message: `nothing is known of ${refKey(ref)}`,
          fix: "name a model that can be read",
        });
      return model ?? null;
    };
    const { stage, compiled } = compileDocument(document, find, builder);
    notes.push(...compiled.notes);
    problems.push(...compiled.problems.map((problem) => ({ ...problem, field: document.prefix + problem.field })));
    last = compiled;
    // What takes its result would only repeat what is wrong with it.
    if (problems.length > 0) break;
    if (document.name !== null && stage !== null) stages.set(document.name, stage);
  }
  const program = problems.length > 0 ? null : last.program;
  return { ...last, program, problems, notes, determinism: program === null ? "exact" : determinismOf(program) };
}

/** Of the least exact step. Two permutations that are equally good to rounding may be told apart differently on another machine. */
function determinismOf({ operations, sources, align }: Program): Compiled["determinism"] {
  const exact =
    align == null &&
    operations.every(({ method }) => findMethod(method)?.determinism === "exact") &&
    sources.every(({ program }) => program == null || determinismOf(program) === "exact");
  return exact ? "exact" : "tolerance";
}

const NOTHING: CompiledDocument = {
  program: null,
  problems: [],
  notes: [],
  files: [],
  filesExact: true,
  donor: null,
  configPatch: {},
  chatTemplate: null,
  documents: new Map(),
  totals: { tensors: 0, parameters: 0, bytesRead: 0, bytesWritten: 0, memoryBytes: 0 },
};

const modelOf = (facts: ModelFacts): Model => ({ ...facts, program: null, donor: facts.key, configPatch: {} });

type Find = (ref: ModelRef, field: string) => Model | null;
type Result = { readonly compiled: CompiledDocument; readonly stage: Model | null };

function compileDocument(document: Document, find: Find, builder: Builder): Result {
  switch (document.kind) {
    case "merge":
      return compileMergeDocument(document, find, builder);
    case "extract_lora":
      return { compiled: compileExtract(document, find, builder), stage: null };
    case "convert":
      return { compiled: compileConvert(document, find, builder), stage: null };
    case "experts":
      return { compiled: compileExperts(document, find, builder), stage: null };
  }
}

function compileMergeDocument(document: MergeDocument, find: Find, builder: Builder): Result {
  const method = builder.method(document.method, "merge_method");
  const merged = method === null ? null : compileMerge(document, method, find, builder);
  if (merged === null) return { compiled: { ...NOTHING, problems: builder.problems.list() }, stage: null };
  const { donor } = merged;
  checkVocabulary(merged, builder);
  const tokenizer = document.tokenizer === null ? null : tokenizerOf(document, merged, find, builder);
  const patch = {
    ...donor.configPatch,
    ...changedKeys(donor.config, { dtype: document.outDtype ?? document.dtype, ...merged }),
  };
  const align = document.align === null ? null : alignOf(document, find, builder, donor);
  const config =
    donor.configName === null ? null : { source: builder.source(donor), ...(isEmpty(patch) ? {} : { patch }) };
  const { specs, files } = builder.layout(document.outShardSize, "models", donor);
  const unknown = builder.models.filter((model) => model.config === null && model.format === "safetensors");
  if (unknown.length > 0)
    builder.note({
      code: "architecture_unknown",
      field: "models",
      message: `nothing is known of the architecture of ${unknown.map(({ label }) => label).join(", ")} (no config.json at the root): names, shapes and dtypes of the tensors are all that is compared`,
    });
  const totals = builder.totals();
  const compiled: CompiledDocument = {
    program: builder.program(specs, {
      ...(document.seed === 0 ? {} : { seed: document.seed }),
      ...(tokenizer === null ? {} : { tokenizer }),
      ...(align === null ? {} : { align }),
      ...(config === null || document.name !== null ? {} : { config }),
    }),
    problems: builder.problems.list(),
    notes: builder.notes(),
    files,
    filesExact: tokenizer === null,
    donor: donor.donor,
    configPatch: patch,
    chatTemplate: document.chatTemplate,
    documents: new Map(),
    totals: align === null ? totals : { ...totals, memoryBytes: totals.memoryBytes + matchingBytes(builder) },
  };
  return { compiled, stage: stageOf(document, compiled.program, donor, patch, builder) };
}

const isEmpty = (record: Readonly<Record<string, unknown>>): boolean => Object.keys(record).length === 0;

/** The result as a model of a later document: computed while it is read. */
function stageOf(
  { name, tokenizer }: MergeDocument,
  program: Program | null,
  donor: Model,
  patch: Readonly<Record<string, unknown>>,
  builder: Builder,
): Model | null {
  if (name === null || tokenizer !== null) return null;
  return {
    ...donor,
    key: name,
    label: name,
    format: "program",
    program,
    components: donor.components.map((one) => ({ ...one, weights: [] })),
    adapter: null,
    config: typeof donor.config === "object" && donor.config !== null ? { ...donor.config, ...patch } : donor.config,
    configPatch: patch,
    tensors: builder.computed,
  };
}

/** A cropped embedding must still have a row for each token of the tokenizer that the output gets. */
function checkVocabulary({ donor, rows }: Merged, builder: Builder): void {
  if (rows !== null && donor.vocabulary !== null && donor.vocabulary > rows)
    builder.problems.add({
      code: "vocabulary_cropped",
      field: "models",
      message: `the embeddings have ${rows} rows in common, the tokenizer of ${donor.label} has ${donor.vocabulary} tokens`,
      fix: "add `tokenizer: {source: union}`",
    });
}

function tokenizerOf(
  document: MergeDocument,
  { donor, vocabulary }: Merged,
  find: Find,
  builder: Builder,
): TokenizerSpec | null {
  const { tokenizer } = document;
  if (tokenizer === null) return null;
  if (document.name !== null)
    builder.problems.add({
      code: "stage_tokenizer",
      field: "tokenizer",
      message: "a document that others take as a model can't change its tokenizer",
      fix: "move the section to the output's document",
    });
  for (const model of builder.models)
    if (model.tokenizer["tokenizer.json"] === undefined)
      builder.problems.add({
        code: "tokenizer_missing",
        field: "tokenizer",
        message: `${model.label} has no tokenizer.json`,
        fix: "publish the model with its fast tokenizer, or leave the section away",
      });
  const index = (ref: ModelRef, field: string): number => {
    const model = find(ref, field);
    return model === null ? 0 : builder.source(model);
  };
  const tokens = [...tokenizer.tokens].map(([token, { row, force }]): TokenSource => {
    const common = { token, ...(force ? { force } : {}) };
    if (row.kind !== "model_token") return { ...common, kind: row.kind };
    const model = index(row.model, "tokenizer.tokens");
    return {
      ...common,
      kind: "model_token",
      model,
      ...(typeof row.token === "string" ? { model_token: row.token } : { model_id: row.token }),
    };
  });
  return {
    source: typeof tokenizer.source === "string" ? tokenizer.source : index(tokenizer.source, "tokenizer.source"),
    base: builder.source(donor),
    ...(tokens.length === 0 ? {} : { tokens }),
    ...(tokenizer.padToMultipleOf === null ? {} : { pad_to_multiple_of: tokenizer.padToMultipleOf }),
    embeddings: [...vocabulary],
  };
}
