// From what a tree holds to what is said of it: a pure function, so that facts can be computed at any time and come out the same.
import { isRepoName, textField, textsField } from "../../formats/card/fields";
import { splitFrontMatter } from "../../formats/card/front-matter";
import { PIPELINE_TAGS, RELATIONS, type Relation } from "../../formats/card/vocabulary";
import { type CardData, parseCard, parseYaml } from "../../formats/card/yaml";
import { FormatError } from "../../formats/format-error";
import { type Configs, quantizationTags, readConfigs, shownConfig, transformersOf } from "./configs";
import { citationOf, descriptionOf } from "./dataset-text";
import { type Facts, NO_FACTS } from "./facts";
import { type Gathered, isGguf } from "./gather";
import { defaultTask, formatTags, isPickle, libraryFromFiles, libraryFromTags } from "./libraries";
import { datasetTags, languagesOf, licensesOf, mentions, namedRepos, prefixed, tidy } from "./tags";

/** A row of D1 holds 2 MB. Characters. */
const MAX_FACTS = 600_000;
const MAX_EVAL_RESULTS = 200;
const MAX_PICKLES = 100;

export type WeightFacts = Pick<Facts, "weightsKey" | "safetensors" | "gguf">;

export function deriveFacts(gathered: Gathered, weights: WeightFacts): Facts {
  const { data, body, isRead } = readCard(gathered.texts.get("README.md"));
  const { "model-index": modelIndex, ...cardData } = data;
  const paths = gathered.files.map(({ path }) => path);
  const common = {
    ...NO_FACTS,
    cardData: isRead ? cardData : null,
    ...(modelIndex === undefined ? {} : { modelIndex }),
    license: licensesOf(data)[0] ?? null,
    languages: languagesOf(data),
    pickles: paths.filter(isPickle).slice(0, MAX_PICKLES),
  };
  const facts =
    gathered.type === "dataset"
      ? {
          ...common,
          tags: datasetTags(data, body, paths),
          description: descriptionOf(body),
          citation: citationOf(body),
        }
      : modelFacts(common, gathered, weights, data, body, paths);
  return withinBounds(facts);
}

function modelFacts(
  common: Facts,
  gathered: Gathered,
  weights: WeightFacts,
  data: CardData,
  body: string,
  paths: readonly string[],
): Facts {
  const files = new Set(paths);
  const configs = readConfigs(gathered);
  const cardTags = textsField(data, "tags");
  const libraryName = textField(data, "library_name") ?? libraryFromTags(cardTags) ?? libraryFromFiles(files, configs);
  const transformersInfo =
    libraryName === "transformers" || configs.config?.transformers_version !== undefined
      ? transformersOf(configs, files)
      : null;
  const isChat = configs.chatTemplate !== undefined || weights.gguf?.chat_template !== undefined;
  const pipelineTag =
    textField(data, "pipeline_tag") ??
    cardTags.find((tag) => tag !== "other" && PIPELINE_TAGS.has(tag)) ??
    (libraryName === "peft" ? adapterTask(configs) : transformersInfo?.pipeline_tag) ??
    defaultTask(libraryName) ??
    (weights.gguf !== null && isChat ? "text-generation" : null);
  const baseModels = baseModelsOf(data, configs, paths, cardTags);
  const isConversational = isChat && (pipelineTag === "text-generation" || pipelineTag === "image-text-to-text");
  const remoteCode = configs.config?.auto_map !== undefined || configs.tokenizer?.auto_map !== undefined;
  const served = ["transformers", "diffusers", "sentence-transformers"].includes(libraryName ?? "");
  const tags = tidy([
    ...(libraryName === null ? [] : [libraryName]),
    ...formatTags(paths),
    ...(configs.config?.model_type === undefined ? [] : [configs.config.model_type]),
    ...(pipelineTag === null ? [] : [pipelineTag]),
    ...cardTags,
    ...(isConversational ? ["conversational"] : []),
    ...(remoteCode ? ["custom_code"] : []),
    ...languagesOf(data),
    ...prefixed("dataset", namedRepos(data, "datasets")),
    ...mentions(body),
    ...(baseModels === null
      ? []
      : [...prefixed("base_model", baseModels.ids), ...prefixed(`base_model:${baseModels.relation}`, baseModels.ids)]),
    ...prefixed("license", licensesOf(data)),
    ...(Array.isArray(common.modelIndex) && common.modelIndex.length > 0 ? ["model-index"] : []),
    ...quantizationTags(configs.config),
    ...((served && pipelineTag !== null) || (weights.gguf !== null && isConversational)
      ? ["endpoints_compatible"]
      : []),
    "region:us",
  ]);
  const maskToken = textField(data, "mask_token") ?? configs.tokenizer?.mask_token ?? null;
  return {
    ...common,
    ...weights,
    tags,
    libraryName,
    pipelineTag,
    baseModels,
    config: shownConfig(configs),
    transformersInfo,
    maskToken: pipelineTag === "fill-mask" ? maskToken : null,
    evalResults: evalResultsOf(gathered.texts),
  };
}

/** A card that can't be read says nothing; its text is still looked at. */
function readCard(readme: string | undefined): { data: CardData; body: string; isRead: boolean } {
  if (readme === undefined) return { data: {}, body: "", isRead: false };
  const parsed = parseCard(readme);
  return { data: "card" in parsed ? parsed.card.data : {}, body: bodyOf(readme), isRead: "card" in parsed };
}

function bodyOf(readme: string): string {
  try {
    return splitFrontMatter(readme).body;
  } catch (error) {
    if (error instanceof FormatError) return "";
    throw error;
  }
}

const ADAPTER_TASKS: Readonly<Record<string, string>> = {
  CAUSAL_LM: "text-generation",
  SEQ_2_SEQ_LM: "text-generation",
  SEQ_CLS: "text-classification",
  TOKEN_CLS: "token-classification",
  QUESTION_ANS: "question-answering",
  FEATURE_EXTRACTION: "feature-extraction",
};
const adapterTask = ({ adapter }: Configs): string | undefined => ADAPTER_TASKS[adapter?.task_type ?? ""];

/** The card's word, else the adapter's; the relation is inferred where the card does not tell. */
function baseModelsOf(
  data: CardData,
  configs: Configs,
  paths: readonly string[],
  tags: readonly string[],
): Facts["baseModels"] {
  const named = namedRepos(data, "base_model");
  const fromAdapter = configs.adapter?.base_model_name_or_path;
  const ids = named.length > 0 ? named : fromAdapter !== undefined && isRepoName(fromAdapter) ? [fromAdapter] : [];
  if (ids.length === 0) return null;
  return { relation: statedRelation(data) ?? inferredRelation(ids, configs, paths, tags), ids: [...new Set(ids)] };
}

const statedRelation = (data: CardData): Relation | undefined =>
  RELATIONS.find((relation) => relation === data.base_model_relation);

function inferredRelation(
  ids: readonly string[],
  configs: Configs,
  paths: readonly string[],
  tags: readonly string[],
): Relation {
  if (ids.length > 1 || tags.includes("merge") || tags.includes("mergekit")) return "merge";
  if (configs.adapter !== null || paths.some((path) => /(^|\/)(adapter_model|pytorch_lora_weights)\./.test(path)))
    return "adapter";
  if (configs.config?.quantization_config !== undefined || paths.some(isGguf)) return "quantized";
  return "finetune";
}

/** Lists of `{dataset: {id, task_id}, value}`; entries of another shape are left out, since clients fail on them. */
function evalResultsOf(texts: ReadonlyMap<string, string>): Facts["evalResults"] {
  const results: Facts["evalResults"] = [];
  for (const [filename, text] of [...texts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!filename.startsWith(".eval_results/")) continue;
    const parsed = parseYaml(text);
    if (!("value" in parsed) || !Array.isArray(parsed.value)) continue;
    for (const entry of parsed.value)
      if (isEvalEntry(entry) && results.length < MAX_EVAL_RESULTS) results.push({ filename, data: entry });
  }
  return results;
}

function isEvalEntry(entry: unknown): entry is Record<string, unknown> {
  if (typeof entry !== "object" || entry === null || !("dataset" in entry) || !("value" in entry)) return false;
  const { dataset, value } = entry;
  const source = "source" in entry ? entry.source : undefined;
  if (source !== undefined && source !== null && (typeof source !== "object" || Array.isArray(source))) return false;
  return (
    (typeof value === "number" || typeof value === "string") &&
    typeof dataset === "object" &&
    dataset !== null &&
    "id" in dataset &&
    typeof dataset.id === "string" &&
    "task_id" in dataset &&
    typeof dataset.task_id === "string"
  );
}

/** What makes the facts too large for a row goes, the least asked for first. */
function withinBounds(facts: Facts): Facts {
  const isTooLarge = (some: Facts): boolean => JSON.stringify(some).length > MAX_FACTS;
  if (!isTooLarge(facts)) return facts;
  const { modelIndex: _, ...rest } = facts;
  if (!isTooLarge(rest)) return rest;
  const bare = { ...rest, cardData: null, evalResults: [] };
  return isTooLarge(bare) ? { ...bare, config: null, gguf: null } : bare;
}
