// What a merge comes to, told without doing any of it.
import { type Caller, requireUser } from "../../access/caller";
import { HubError } from "../../errors";
import { canonicalJson } from "../../formats/canonical-json";
import { ropeOf } from "../../formats/recipe/compatibility";
import { memberOf, vocabularySize } from "../../formats/recipe/config";
import { countOf } from "../../formats/recipe/layout";
import { findMethod } from "../../formats/recipe/methods";
import { refKey } from "../../formats/recipe/references";
import type { StoredFile } from "../../hub/files";
import { sha256Of } from "../../store/contents";
import { findDestination } from "../destination";
import { type OutputRequest, type RecipeSource, recipeField } from "../requests";
import { type Draft, draftMerge, outputOf, purposesOf } from "./draft";
import { type Duration, estimateDuration } from "./duration";
import { baseModelOf, besideWeights, revisionOf } from "./job-plan";
import { licencesText, type Model } from "./models";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "./parents";

export type MergePreview = {
  readonly ok: boolean;
  readonly draft: Draft;
  readonly recipeSha256: string;
  readonly models: readonly ReturnType<typeof describe>[];
  readonly methods: readonly {
    readonly document: string | null;
    readonly name: string;
    readonly base: string;
    readonly base_model: string | null;
  }[];
  /** Paths of what lies beside the weights. */
  readonly documents: readonly string[];
  readonly destination: {
    readonly repo: string;
    readonly branch: string;
    readonly creates: boolean;
    readonly private: boolean;
  } | null;
  readonly duration: Duration;
};

/** Writes nothing. @throws what keeps the recipe or its models from being read, and forbidden for an output that may not be written */
export async function previewMerge(
  caller: Caller,
  recipe: RecipeSource["recipe"],
  output: OutputRequest | undefined,
): Promise<MergePreview> {
  requireUser(caller);
  const destination = output === undefined ? null : await findDestination(caller, output);
  const draft = await draftMerge(caller, { recipe, fieldOf: recipeField });
  const { compiled, findings } = draft;
  const restricted = draft.parents.some(({ snapshot: { repo } }) => repo.private || repo.gated !== null);
  return {
    ok: findings[0]?.severity !== "error",
    draft,
    recipeSha256: sha256Of(canonicalJson(draft.canonical)),
    models: draft.models.map((model) => describe(caller, draft, model)),
    methods: methodsOf(draft),
    documents: compiled.program === null ? [] : besideWeights(draft, compiled.program),
    destination:
      destination === null
        ? null
        : {
            repo: destination.request.repo,
            branch: destination.request.branch,
            creates: destination.repo === null,
            private: destination.repo?.private ?? destination.request.private ?? restricted,
          },
    duration: await estimateDuration(caller.platform.db, compiled.totals.bytesRead + compiled.totals.bytesWritten),
  };
}

function describe(caller: Caller, draft: Draft, { facts, located, weights, ...model }: Model) {
  const parent = draft.parents[located.parent];
  const adapter = located.adapter === null ? undefined : draft.parents[located.adapter];
  if (parent === undefined) throw new HubError("internal");
  const { config } = facts;
  const shapes = [...facts.tensors.values()];
  const architectures = memberOf(config, "architectures");
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : memberOf(config, "model_type");
  const tied = memberOf(config, "tie_word_embeddings");
  return {
    ...revisionOf(parent),
    field: located.field,
    label: facts.label,
    base: baseModelOf(draft, outputOf(draft.recipe))?.facts.key === facts.key,
    format: facts.format,
    files: weights.map(fileOf),
    adapter:
      adapter === undefined
        ? null
        : {
            ...revisionOf(adapter),
            files: [...adapter.files.values()].filter(({ path }) => ADAPTER.has(path)).map(fileOf),
          },
    architecture: typeof architecture === "string" ? architecture : model.architecture,
    tensors: shapes.length,
    parameters: shapes.reduce((sum, { shape }) => sum + countOf(shape), 0),
    dtypes: [...new Set(shapes.map(({ dtype }) => dtype))].sort(),
    vocabulary_size: vocabularySize(config)?.value ?? null,
    tied_embeddings: typeof tied === "boolean" ? tied : null,
    rope: ropeOf(config),
    tokenizer_sha256: model.tokenizer,
    chat_template_sha256: model.chatTemplate,
    licence: licencesText(parent),
    purposes: purposesOf(caller, parent),
  };
}

const ADAPTER = new Set([ADAPTER_CONFIG, ADAPTER_WEIGHTS]);

const fileOf = ({ path, sha256, size }: StoredFile) => ({ path, sha256, size });

/** How each document that merges goes about it, and whether that takes a base model. */
function methodsOf({ recipe, models }: Draft): MergePreview["methods"] {
  return recipe.documents.flatMap((document) => {
    if (document.kind !== "merge") return [];
    const { base } = document;
    const label = base === null ? null : models.find(({ facts }) => facts.key === refKey(base))?.facts.label;
    return [
      {
        document: document.name,
        name: document.method,
        base: findMethod(document.method)?.base ?? "optional",
        base_model: base === null ? null : (label ?? refKey(base)),
      },
    ];
  });
}
