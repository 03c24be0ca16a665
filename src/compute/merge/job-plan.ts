// The plan of a merge job: the draft of its recipe with every input by digest, and what publishing needs.
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { canonicalJson } from "../../formats/canonical-json";
import { toMergekitYaml } from "../../formats/recipe/canonical";
import type { Finding } from "../../formats/recipe/compatibility";
import { indicesOf } from "../../formats/recipe/layout";
import type { Program, SourceSpec } from "../../formats/recipe/program";
import type { Document } from "../../formats/recipe/recipe";
import { placesOf, refKey } from "../../formats/recipe/references";
import type { StoredFile } from "../../hub/files";
import { repoName } from "../../hub/repositories";
import type { NewFile } from "../../hub/tree-edit";
import { type FilePath, parseFilePath, type Sha256 } from "../../ids";
import { sha256Of } from "../../store/contents";
import { CanonicalRecipe, type MergeParent, type MergePlan } from "../plan";
import { sourceOf } from "../sources";
import { chatTemplateOf } from "./chat-template";
import { type Draft, outputOf } from "./draft";
import { inputName, licencesText, type Model, TOKENIZER_FILES } from "./models";
import { besideComponents, type Parent } from "./parents";

const PROGRAM = "program.json";
const RECORD = "merge-record.jsonl";
const MERGEKIT = "mergekit_config.yml";
const CHAT_TEMPLATE = "chat_template.jinja";
/** Of the donor, besides its tokenizer, taken as they are. */
const COPIED = ["generation_config.json", "preprocessor_config.json", "processor_config.json"];

export type PlannedMerge = {
  readonly plan: MergePlan;
  /** What the hub made for the job to read. */
  readonly inputs: readonly { readonly name: string; readonly sha256: Sha256; readonly bytes: Uint8Array }[];
};

/** @throws merge_mismatch | invalid_field for the first error among the findings */
export async function planDraft(caller: Caller, draft: Draft, message: string | null): Promise<PlannedMerge> {
  const { compiled, findings, canonical, recipe } = draft;
  const { program } = compiled;
  const [worst] = findings;
  if (worst?.severity === "error") throw refusal(worst);
  if (program === null) throw new HubError("internal");
  const bytes = new TextEncoder().encode(canonicalJson(program));
  const input = { name: PROGRAM, sha256: sha256Of(bytes), bytes };
  const output = outputOf(recipe);
  const documents = await documentsOf(caller, draft);
  return {
    plan: {
      kind: "merge",
      compute: { program: PROGRAM, output_bytes: bytesOnDisk(compiled) },
      recipe: CanonicalRecipe.parse(canonical),
      recipeSha256: sha256Of(canonicalJson(canonical)),
      recipeText: draft.text,
      program: { name: PROGRAM, sha256: input.sha256, size: bytes.byteLength },
      parents: parentsOf(draft, program),
      base: baseOf(draft, output),
      donor: draft.donor === null ? null : revisionOf(draft.parents[draft.donor.located.parent]),
      copied: copiedOf(
        draft,
        program,
        documents.map(({ path }) => path),
      ),
      outputs: outputsOf(program),
      documents,
      licence: draft.licence,
      libraryName: common(draft.parents.map(({ library }) => library)),
      pipelineTag: common(draft.parents.map(({ pipeline }) => pipeline)),
      // What is said of rights is for who asks, not for readers of the model.
      notes: findings.filter(({ code }) => code !== "parent_restricted").map(({ message: text }) => text),
      determinism: compiled.determinism,
      seed: program.seed ?? 0,
      message,
    },
    inputs: [input],
  };
}

/** What a tensor takes in headers and records at most. Bytes. */
const RECORD_BYTES = 4096;

/** The room that the output takes where it is computed; null where only the merge itself can tell. */
const bytesOnDisk = ({ filesExact, totals }: Draft["compiled"]): number | null =>
  filesExact ? totals.bytesWritten + totals.tensors * RECORD_BYTES : null;

/** Findings that are about the models, not about how the recipe is written. */
const isMismatch = ({ code, tensor }: Finding): boolean => tensor !== undefined || code.endsWith("_mismatch");

export function refusal(finding: Finding): HubError {
  const { code, field, message, fix, tensor } = finding;
  return new HubError(isMismatch(finding) ? "merge_mismatch" : "invalid_field", {
    field,
    problem: fix === null ? message : `${message}: ${fix}`,
    reason: code,
    fix: fix ?? undefined,
    tensor,
  });
}

/** The names of all inputs that a program reads, those of programs in it too. */
function namesIn(program: Program): Set<string> {
  const ofSource = (source: SourceSpec): string[] => [
    ...(source.weights ?? []),
    ...Object.values(source.folders ?? {}).flat(),
    ...(source.config == null ? [] : [source.config]),
    ...(source.adapter == null ? [] : [source.adapter.config, ...source.adapter.weights]),
    ...Object.values(source.tokenizer ?? {}),
    ...(source.program == null ? [] : namesIn(source.program)),
  ];
  return new Set(program.sources.flatMap(ofSource));
}

function parentsOf(draft: Draft, program: Program): MergeParent[] {
  const read = namesIn(program);
  const weights = new Map(linearWeights(draft));
  return draft.parents.map((parent, i) => {
    const models = draft.models.filter(({ located }) => located.parent === i);
    const files = new Map([
      ...[...parent.files].map(([path, file]): [string, StoredFile] => [inputName(i, path), file]),
      ...models.flatMap(({ weights: own }) => own.map((file): [string, StoredFile] => [inputName(i, file.path), file])),
    ]);
    return {
      ...sourceOf(
        parent,
        [...files].filter(([name]) => read.has(name)).map(([name, file]) => ({ name, file })),
      ),
      role: roleOf(draft, i),
      field: parent.field,
      licence: licencesText(parent),
      weight: weights.get(i) ?? null,
    };
  });
}

function roleOf({ recipe, models }: Draft, parent: number): MergeParent["role"] {
  const keys = new Set(models.filter(({ located }) => located.parent === parent).map(({ facts }) => facts.key));
  const places = recipe.documents.flatMap(placesOf).filter(([, ref]) => ref !== null && keys.has(refKey(ref)));
  if (places.length === 0) return "adapter";
  if (places.some(([path]) => path.endsWith("base_model"))) return "base";
  return places.some(([path]) => !path.startsWith("tokenizer.")) ? "model" : "tokenizer";
}

/** Of a plain linear merge: the one number that each model counts with. */
function linearWeights({ recipe, models }: Draft): [parent: number, weight: number][] {
  const output = outputOf(recipe);
  const [module, ...more] = output.kind === "merge" ? output.modules : [];
  if (output.kind !== "merge" || output.method !== "linear" || module === undefined || more.length > 0) return [];
  if (!("models" in module.body)) return [];
  return module.body.models.flatMap(({ model, parameters }) => {
    const parent = models.find(({ facts }) => facts.key === refKey(model))?.located.parent;
    const rules = parameters.get("weight") ?? [];
    const [rule] = rules;
    const [value] = rule?.values ?? [];
    const plain = rules.length === 1 && rule?.filter === null && rule.values.length === 1;
    return parent === undefined || value === undefined || !plain ? [] : [[parent, value]];
  });
}

/** The model that the recipe calls its base. */
export function baseModelOf({ models }: Pick<Draft, "models">, output: Document): Model | null {
  const ref = output.kind === "convert" ? null : output.base;
  return ref === null ? null : (models.find(({ facts }) => facts.key === refKey(ref)) ?? null);
}

function baseOf(draft: Draft, output: Document): MergePlan["base"] {
  const base = baseModelOf(draft, output);
  return base === null ? null : revisionOf(draft.parents[base.located.parent]);
}

export function revisionOf(parent: Parent | undefined): { repo: string; commit: Parent["snapshot"]["commit"] } {
  if (parent === undefined) throw new HubError("internal");
  return { repo: repoName(parent.snapshot.repo), commit: parent.snapshot.commit };
}

/** Texts beside the weights that the recipe alone decides. */
function textsOf({ compiled, recipe }: Draft): Map<string, string> {
  const yaml = toMergekitYaml(recipe);
  return new Map([...compiled.documents, ...(yaml === null ? [] : [[MERGEKIT, yaml] as const])]);
}

async function documentsOf(caller: Caller, draft: Draft): Promise<MergePlan["documents"]> {
  const { compiled, donor, models, parents } = draft;
  const documents = [...textsOf(draft)].map(([path, text]) => ({ path: parseFilePath(path, "path"), text }));
  if (compiled.chatTemplate === null) return documents;
  const order = donor === null ? models : [donor, ...models.filter((model) => model !== donor)];
  const snapshots = order.flatMap(({ located }) => parents[located.parent]?.snapshot ?? []);
  const text = await chatTemplateOf(caller.platform, compiled.chatTemplate, snapshots);
  return text === null ? documents : [...documents, { path: parseFilePath(CHAT_TEMPLATE, "path"), text }];
}

/** What the compute service makes, weights first. */
function outputsOf(program: Program): FilePath[] {
  const weights = program.files.map(({ path }) => path);
  return [...weights, ...madeBeside(program)].map((path) => parseFilePath(path, "path"));
}

function madeBeside({ files: weights, tokenizer, config, sources }: Program): string[] {
  const donor = tokenizer == null ? null : typeof tokenizer.source === "number" ? tokenizer.source : tokenizer.base;
  return [
    ...indicesOf(weights.map(({ path }) => path)),
    ...(config == null ? [] : ["config.json"]),
    ...(donor === null ? [] : Object.keys(sources[donor]?.tokenizer ?? {})),
    RECORD,
  ];
}

/** Paths that the output has beside its weights and the hub's own records. */
export function besideWeights(draft: Draft, program: Program): string[] {
  const { chatTemplate } = draft.compiled;
  const written = [...textsOf(draft).keys(), ...(chatTemplate === null ? [] : [CHAT_TEMPLATE])];
  const copied = copiedOf(draft, program, written).map(({ path }) => path);
  return [...new Set([...madeBeside(program), ...written, ...copied])].sort();
}

function copiedOf({ donor, parents }: Draft, program: Program, written: readonly string[]): MergePlan["copied"] {
  const parent = donor === null ? undefined : parents[donor.located.parent];
  if (parent === undefined) return [];
  const paths = [...COPIED, ...besideComponents(parent), ...(program.tokenizer == null ? TOKENIZER_FILES : [])];
  return paths.flatMap((path) => {
    const file = parent.files.get(path);
    return file === undefined || written.includes(path)
      ? []
      : [{ path: parseFilePath(path, "path"), file: entryOf(file) }];
  });
}

const entryOf = ({ id, sha256, size, lfs, holding }: StoredFile): Extract<NewFile, { kind: "file" }> => ({
  kind: "file",
  id,
  sha256,
  size,
  lfs,
  mode: null,
  holding,
});

/** What all say that say anything. */
function common(said: readonly (string | null)[]): string | null {
  const [first, ...others] = new Set(said.filter((one) => one !== null));
  return first !== undefined && others.length === 0 ? first : null;
}
