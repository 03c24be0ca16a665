// How a recipe names models: `owner/name[@revision][+owner/adapter[@revision]]`, or another document of the recipe.
import { quote } from "../text";
import type { Place } from "./fields";
import type { Document, Recipe } from "./recipe";

export type Revision = { readonly repo: string; readonly revision: string | null };

/** A model: a revision of a repository, with an adapter applied or not, or the result of another document. */
export type ModelRef =
  | (Revision & { readonly adapter: Revision | null; readonly weights: readonly string[] })
  | { readonly document: string };

/** A repository that a recipe needs. */
export type ModelReference = Revision & {
  /** What `compile` looks the model up by: the reference as text. */
  readonly key: string;
  /** Where the recipe names it first: `models[1].model`. */
  readonly path: string;
  readonly adapter?: Revision;
  /** The weight files meant, where the recipe says which (`convert`). */
  readonly weights?: readonly string[];
};

const REPO = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}\/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}$/;
const REVISION = /^[^\s@+]{1,250}$/;
export const DOCUMENT_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}$/;

/** @throws FormatError `recipe.model` */
export function parseModelRef(text: string, place: Place): ModelRef {
  const [base = "", adapter, ...more] = text.split("+");
  if (more.length > 0) throw place.fail("model", `${quote(text)} has more than one +`, "apply one adapter to a model");
  if (adapter === undefined && DOCUMENT_NAME.test(base)) return { document: base };
  return {
    ...parseRevision(base, place),
    adapter: adapter === undefined ? null : parseRevision(adapter, place),
    weights: [],
  };
}

/** @throws FormatError `recipe.model` */
export function parseRevision(text: string, place: Place): Revision {
  const [repo = "", revision = null, ...more] = text.split("@");
  if (more.length > 0) throw place.fail("model", `${quote(text)} has more than one @`, "write owner/name@revision");
  return checkRevision({ repo, revision }, place);
}

/** @throws FormatError `recipe.model` */
export function checkRevision({ repo, revision }: Revision, place: Place): Revision {
  if (!REPO.test(repo)) {
    const onDisk = /^[./~\\]|^[A-Za-z]:[\\/]|\/.*\//.test(repo);
    throw place.fail(
      "model",
      `${quote(repo)} is ${onDisk ? "a path on a disk" : "no model of this hub"}`,
      onDisk ? "push the model to the hub and name it owner/name" : "write owner/name",
    );
  }
  if (revision !== null && !REVISION.test(revision))
    throw place.fail("model", `${quote(revision)} is no revision`, "name a branch, a tag or a commit");
  return { repo, revision };
}

const revisionText = ({ repo, revision }: Revision): string => (revision === null ? repo : `${repo}@${revision}`);

/** The reference as mergekit writes it. */
export function refText(ref: ModelRef): string {
  if ("document" in ref) return ref.document;
  return ref.adapter === null ? revisionText(ref) : `${revisionText(ref)}+${revisionText(ref.adapter)}`;
}

/** What models are told apart by: the reference, and the files where only some are meant. */
export const refKey = (ref: ModelRef): string =>
  "document" in ref || ref.weights.length === 0 ? refText(ref) : `${refText(ref)}#${ref.weights.join("#")}`;

/** Every repository that the recipe needs, once, in the order in which the recipe names them. */
export function referencesOf(recipe: Recipe): ModelReference[] {
  const found = new Map<string, ModelReference>();
  for (const document of recipe.documents)
    for (const [path, ref] of placesOf(document)) {
      if (ref === null || "document" in ref || found.has(refKey(ref))) continue;
      found.set(refKey(ref), {
        key: refKey(ref),
        repo: ref.repo,
        revision: ref.revision,
        path: document.prefix + path,
        ...(ref.adapter === null ? {} : { adapter: ref.adapter }),
        ...(ref.weights.length === 0 ? {} : { weights: ref.weights }),
      });
    }
  return [...found.values()];
}

/** Every reference of a document with its place in it. */
export function placesOf(document: Document): (readonly [path: string, ref: ModelRef | null])[] {
  switch (document.kind) {
    case "merge":
      return [
        ...document.modules.flatMap(({ body }) => {
          const slices = "slices" in body ? body.slices : [];
          const inputs = "models" in body ? body.models : slices.flatMap((slice) => slice.inputs);
          return [
            ...inputs.map((input) => [`${input.field}.model`, input.model] as const),
            ...slices.map((slice) => [`${slice.field}.base_model`, slice.base] as const),
          ];
        }),
        ["base_model", document.base],
        ["tokenizer.source", typeof document.tokenizer?.source === "object" ? document.tokenizer.source : null],
        ...[...(document.tokenizer?.tokens ?? [])].map(
          ([token, { row }]) =>
            [`tokenizer.tokens.${token}.source`, row.kind === "model_token" ? row.model : null] as const,
        ),
        ["align.reference", document.align?.reference ?? null],
      ];
    case "experts":
      return [
        ["base_model", document.base],
        ...document.experts.map((expert, i) => [`experts[${i}].source_model`, expert.model] as const),
        ...document.sharedExperts.map((expert, i) => [`shared_experts[${i}].source_model`, expert.model] as const),
      ];
    case "extract_lora":
      return [
        ["extract_lora.model", document.model],
        ["extract_lora.base_model", document.base],
      ];
    case "convert":
      return [["convert.model", document.model]];
  }
}
