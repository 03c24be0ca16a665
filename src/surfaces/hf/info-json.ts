// One repository as the API tells of it, whole or only what was asked to `expand`: what is not known is left out, never null.
import { HubError } from "../../errors";
import type { BaseModels, Counts } from "../../hub/facts/details";
import type { FactName, Facts } from "../../hub/facts/facts";
import { type Repository, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

const EXPANDABLE: Record<RepoType, readonly string[]> = {
  model: words(`
    author baseModels cardData childrenModelCount config createdAt disabled downloads downloadsAllTime evalResults gated gguf gitalyUid
    inference inferenceProviderMapping lastModified library_name likes mask_token model-index pipeline_tag private resourceGroup
    safetensors sha siblings spaces tags transformersInfo trendingScore usedStorage widgetData xetEnabled`),
  dataset: words(`
    author cardData citation createdAt description disabled downloads downloadsAllTime gated gitalyUid lastModified likes mainSize
    paperswithcode_id private resourceGroup sha siblings tags trendingScore usedStorage xetEnabled`),
};

/** What the answer about one repository holds when nothing is asked for by name. */
export const WHOLE: Record<RepoType, ReadonlySet<string>> = {
  model: new Set(
    words(`
      author cardData config createdAt disabled downloads gated gguf lastModified library_name likes mask_token model-index pipeline_tag
      private safetensors sha siblings spaces tags transformersInfo usedStorage widgetData xetEnabled`),
  ),
  dataset: new Set(
    words(`
      author cardData citation createdAt description disabled downloads gated lastModified likes paperswithcode_id private sha siblings
      tags usedStorage xetEnabled`),
  ),
};

/** The keys asked for with `expand`; null where none were. @throws invalid_request */
export function expandedKeys(type: RepoType, wanted: readonly string[]): ReadonlySet<string> | null {
  if (wanted.length === 0) return null;
  const known = EXPANDABLE[type];
  if (!wanted.every((one) => known.includes(one)))
    throw new HubError("invalid_request", { problem: `"expand" must be one of [${known.join(", ")}]` });
  return new Set(wanted);
}

/** The facts behind each key, for queries that load no others. */
const FACTS_BEHIND: Readonly<Record<string, readonly FactName[]>> = {
  cardData: ["cardData", "modelIndex"],
  citation: ["citation"],
  config: ["config"],
  description: ["description"],
  evalResults: ["evalResults"],
  gguf: ["gguf"],
  library_name: ["libraryName"],
  mask_token: ["maskToken"],
  "model-index": ["modelIndex"],
  paperswithcode_id: ["cardData"],
  pipeline_tag: ["pipelineTag"],
  safetensors: ["safetensors"],
  tags: ["tags"],
  transformersInfo: ["transformersInfo"],
  widgetData: ["cardData"],
  baseModels: ["baseModels"],
};
export const factsBehind = (keys: ReadonlySet<string>): FactName[] => [
  ...new Set([...keys].flatMap((key) => FACTS_BEHIND[key] ?? [])),
];

/** Whatever is known of a repository; what a caller has no use for, it need not load. */
export type RepoInfo = Partial<Counts> & {
  readonly repo: Repository;
  readonly sha: string | null;
  readonly facts: Facts | null;
  readonly usedStorage?: number | null;
  readonly siblings?: readonly unknown[];
  readonly children?: number;
  readonly baseModels?: BaseModels | null;
};

/** The keys among `keys` that are known, beside those that are always told. */
export function infoJson(info: RepoInfo, keys: ReadonlySet<string>): Record<string, unknown> {
  const { repo } = info;
  const id = repoName(repo);
  const known: Record<string, unknown> = { ...ofRepository(info), ...ofFacts(repo.type, info.facts) };
  return {
    _id: repo.id,
    id,
    ...(repo.type === "model" ? { modelId: id } : {}),
    ...Object.fromEntries(
      Object.entries(known).filter(([key, value]) => keys.has(key) && value !== undefined && value !== null),
    ),
  };
}

function ofRepository(info: RepoInfo): Record<string, unknown> {
  const { repo, sha, likes, downloads, downloadsAllTime, usedStorage, trendingScore, siblings } = info;
  return {
    author: repo.owner,
    sha,
    lastModified: new Date(repo.updatedAt).toISOString(),
    createdAt: new Date(repo.createdAt).toISOString(),
    private: repo.private,
    gated: repo.gated ?? false,
    disabled: false,
    xetEnabled: true,
    likes,
    downloads,
    downloadsAllTime,
    usedStorage,
    trendingScore,
    siblings,
    childrenModelCount: info.children,
    baseModels: info.baseModels,
    ...(repo.type === "model" ? { spaces: [] } : {}),
  };
}

function ofFacts(type: RepoType, facts: Facts | null): Record<string, unknown> {
  if (facts === null) return {};
  const { cardData, modelIndex, tags } = facts;
  const card =
    cardData === null ? undefined : { ...cardData, ...(modelIndex === undefined ? {} : { "model-index": modelIndex }) };
  if (type === "dataset")
    return {
      tags,
      cardData: card,
      description: facts.description,
      citation: facts.citation,
      paperswithcode_id: textOr(cardData?.paperswithcode_id),
    };
  return {
    tags,
    cardData: card,
    "model-index": Array.isArray(modelIndex) ? modelIndex : undefined,
    library_name: facts.libraryName,
    pipeline_tag: facts.pipelineTag,
    config: facts.config,
    transformersInfo: facts.transformersInfo,
    safetensors: facts.safetensors,
    gguf: facts.gguf,
    evalResults: facts.evalResults,
    mask_token: facts.maskToken,
    widgetData: Array.isArray(cardData?.widget) ? cardData.widget : undefined,
  };
}

const textOr = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
