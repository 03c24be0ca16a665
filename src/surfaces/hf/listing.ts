// Lists of repositories as the Hugging Face clients filter, sort and page through them.
import { Hono } from "hono";
import { HubError } from "../../errors";
import {
  type Filter,
  isOrder,
  type Listed,
  type ListQuery,
  listRepos,
  ORDER_NAMES,
  type Order,
} from "../../hub/listing";
import type { RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { expandedKeys, factsBehind, infoJson } from "./info-json";
import { API_TYPES, type Ctx, callerOf, flag, limitOf, linkNext, list } from "./request";

const PAGE = 100;
const MAX_PAGE = 1000;

const invalid = (problem: string): HubError => new HubError("invalid_request", { problem });

/** Parameters whose values are tags as they are, or behind the parameter's own name. */
const TAG_PARAMETERS = ["filter", "tags", "other"];
const PREFIXED_PARAMETERS =
  "license dataset base_model region arxiv task_categories task_ids size_categories multilinguality language_creators annotations_creators source_datasets modality format benchmark".split(
    " ",
  );
/** Models carry these tags bare, datasets behind their name. */
const BARE_OR_PREFIXED = ["language", "library"];

const GGUF = ["gguf"];
/** What a model must be tagged with for a program to run it: a format, or the library whose models it loads. */
const APPS: Readonly<Record<string, readonly string[]>> = {
  "llama.cpp": GGUF,
  ollama: GGUF,
  lmstudio: [...GGUF, "mlx"],
  jan: GGUF,
  koboldcpp: GGUF,
  "node-llama-cpp": GGUF,
  "llama-cpp-python": GGUF,
  ramalama: GGUF,
  "docker-model-runner": [...GGUF, "safetensors"],
  vllm: ["transformers"],
  sglang: ["transformers"],
  tgi: ["text-generation-inference"],
  "mlx-lm": ["mlx"],
  diffusers: ["diffusers"],
  "draw-things": ["diffusers"],
  "transformers.js": ["transformers.js"],
};

const tag = (...anyOf: string[]): Filter => ({ kind: "tag", anyOf });

/** Null where nothing can match; a parameter that names an app this hub does not know says so. */
function filtersOf(c: Ctx): Filter[] | null {
  const filters: Filter[] = [
    ...texts(c, "search").map((text): Filter => ({ kind: "search", text })),
    ...list(c, "author").map((name): Filter => ({ kind: "author", name })),
    ...TAG_PARAMETERS.flatMap((name) => list(c, name)).map((one) => tag(one)),
    ...PREFIXED_PARAMETERS.flatMap((name) => list(c, name).map((one) => tag(`${name}:${one}`))),
    ...BARE_OR_PREFIXED.flatMap((name) => list(c, name).map((one) => tag(one, `${name}:${one}`))),
    ...list(c, "pipeline_tag").map((task): Filter => ({ kind: "task", task })),
    ...texts(c, "num_parameters").map(parametersOf),
    ...texts(c, "gated").map((text): Filter => ({ kind: "gated", gated: truth("gated", text) })),
  ];
  for (const app of list(c, "apps")) {
    const tags = APPS[app.toLowerCase()];
    if (tags === undefined) {
      c.header("X-HF-Warning", `apps; this hub does not know what runs with ${app.replace(/[^\w.-]/g, "?")}`);
      return null;
    }
    filters.push(tag(...tags));
  }
  // Nothing here is served by an inference provider.
  return list(c, "inference").length > 0 || list(c, "inference_provider").length > 0 ? null : filters;
}

/** Values that may hold commas. */
const texts = (c: Ctx, name: string): string[] =>
  [...(c.req.queries(name) ?? []), ...(c.req.queries(`${name}[]`) ?? [])].filter((one) => one !== "");

function truth(name: string, text: string): boolean {
  if (/^(true|1)$/i.test(text)) return true;
  if (/^(false|0)$/i.test(text)) return false;
  throw invalid(`${name}: must be true or false`);
}

const UNITS = { "": 1, K: 1e3, M: 1e6, B: 1e9, T: 1e12 };
const isUnit = (text: string): text is keyof typeof UNITS => Object.hasOwn(UNITS, text);

/** `min:6B,max:128B`, or either. */
function parametersOf(text: string): Filter {
  const bounds = { min: 1, max: Number.MAX_SAFE_INTEGER };
  for (const part of text.split(",")) {
    const [, name, digits, unit = ""] = /^(min|max):([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMBT]?)$/i.exec(part.trim()) ?? [];
    const scale = unit.toUpperCase();
    if ((name !== "min" && name !== "max") || !isUnit(scale))
      throw invalid("num_parameters: must be like min:6B,max:128B");
    bounds[name] = Math.min(Math.round(Number(digits) * UNITS[scale]), Number.MAX_SAFE_INTEGER);
  }
  return { kind: "parameters", ...bounds };
}

/** Ids are made of the time, so that the order of one is that of the other. */
const ALIASES: Readonly<Record<string, Order>> = { id: "createdAt" };

function orderOf(c: Ctx): Pick<ListQuery, "order" | "ascending"> {
  const sort = c.req.query("sort") ?? "lastModified";
  const order = ALIASES[sort] ?? sort;
  if (!isOrder(order)) throw invalid(`"sort" must be one of [${[...ORDER_NAMES, ...Object.keys(ALIASES)].join(", ")}]`);
  const direction = c.req.query("direction") ?? "-1";
  if (direction !== "-1" && direction !== "1") throw invalid('"direction" must be -1 or 1');
  return { order, ascending: direction === "1" };
}

const keys = (text: string): readonly string[] => text.split(" ");

/** What an entry holds when nothing is asked for by name. */
const LISTED: Record<RepoType, readonly string[]> = {
  model: keys(
    "author sha lastModified createdAt private gated disabled likes downloads downloadsAllTime trendingScore tags pipeline_tag library_name",
  ),
  dataset: keys(
    "author sha lastModified createdAt private gated disabled likes downloads downloadsAllTime trendingScore tags description",
  ),
};
/** What it holds besides with each of these flags. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  full: keys("siblings description citation paperswithcode_id"),
  cardData: keys("cardData"),
  config: keys("config"),
};
const listedKeys = (c: Ctx, type: RepoType): ReadonlySet<string> =>
  new Set([...LISTED[type], ...Object.entries(FLAGS).flatMap(([name, more]) => (flag(c, name) ? more : []))]);

async function listing(c: Ctx, type: RepoType): Promise<Response> {
  const wanted = expandedKeys(type, list(c, "expand")) ?? listedKeys(c, type);
  const cursor = c.req.query("cursor");
  const query = {
    type,
    ...orderOf(c),
    limit: limitOf(c, MAX_PAGE, PAGE),
    facts: factsBehind(wanted),
    files: wanted.has("siblings"),
    ...(cursor === undefined ? {} : { cursor }),
  };
  const filters = filtersOf(c);
  if (filters === null) return c.json([]);
  const { repos, next } = await listRepos(callerOf(c), { ...query, filters });
  if (next !== null) linkNext(c, { cursor: next });
  return c.json(repos.map((one) => itemOf(one, wanted)));
}

function itemOf({ files, ...listed }: Listed, wanted: ReadonlySet<string>) {
  const siblings = files === null ? {} : { siblings: files.map((rfilename) => ({ rfilename })) };
  const bases = listed.facts?.baseModels;
  const baseModels =
    bases == null ? {} : { baseModels: { relation: bases.relation, models: bases.ids.map((id) => ({ id })) } };
  return infoJson({ ...listed, ...siblings, ...baseModels }, wanted);
}

export const listings = new Hono<AppEnv>()
  // No spaces are served: there are none to list, and none to find.
  .get("/api/spaces", (c) => c.json([]))
  .all("/api/spaces/*", () => {
    throw new HubError("repo_not_found");
  });
for (const [segment, type] of Object.entries(API_TYPES)) listings.get(`/api/${segment}`, (c) => listing(c, type));
