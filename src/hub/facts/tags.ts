// The tags that clients filter by, made of what a card says and what the files show.
import { isRepoName, textsField } from "../../formats/card/fields";
import type { CardData } from "../../formats/card/yaml";

/** Longer ones are no tags. Characters. */
const MAX_TAG = 200;
const MAX_TAGS = 500;
const MAX_MENTIONS = 50;

/** In the order given, each once, without what is no tag. */
export function tidy(tags: readonly string[]): string[] {
  const clean = tags.map((tag) => tag.trim()).filter((tag) => tag !== "" && tag.length <= MAX_TAG);
  return [...new Set(clean)].slice(0, MAX_TAGS);
}

export const prefixed = (prefix: string, values: readonly string[]): string[] =>
  values.map((value) => `${prefix}:${value}`);

/** Papers and DOIs that the text names. */
export function mentions(text: string): string[] {
  const found = (pattern: RegExp): string[] => [...new Set([...text.matchAll(pattern)].map(([, id]) => id ?? ""))];
  const papers = found(/\barxiv(?:\.org\/(?:abs|pdf|html)\/|:\s?)(\d{4}\.\d{4,5})/gi);
  const dois = found(/\bdoi(?:\.org\/|:\s?)(10\.\d{4,9}\/[\w.;()/:-]{1,100})/gi).map((doi) =>
    doi.replace(/[.,;:)]+$/, ""),
  );
  return [...prefixed("arxiv", papers), ...prefixed("doi", dois)].slice(0, MAX_MENTIONS);
}

export const licensesOf = (data: CardData): string[] => textsField(data, "license").map((one) => one.toLowerCase());
export const languagesOf = (data: CardData): string[] => textsField(data, "language");

const DATASET_KEYS = [
  "task_categories",
  "task_ids",
  "annotations_creators",
  "language_creators",
  "multilinguality",
  "size_categories",
  "source_datasets",
];

export function datasetTags(data: CardData, body: string, paths: readonly string[]): string[] {
  return tidy([
    ...DATASET_KEYS.flatMap((key) => prefixed(key, textsField(data, key))),
    ...prefixed("language", languagesOf(data)),
    ...prefixed("license", licensesOf(data)),
    ...dataFormats(paths),
    ...mentions(body),
    ...textsField(data, "tags"),
    "region:us",
  ]);
}

/** What kind of files a dataset is made of, and the library that reads those. */
function dataFormats(paths: readonly string[]): string[] {
  const formats: readonly (readonly [string, RegExp])[] = [
    ["parquet", /\.parquet$/],
    ["json", /\.jsonl?(\.gz|\.zst)?$/],
    ["csv", /\.[ct]sv(\.gz|\.zst)?$/],
    ["arrow", /\.arrow$/],
    ["webdataset", /\.tar$/],
    ["text", /\.txt$/],
  ];
  const found = formats.filter(([, pattern]) => paths.some((path) => pattern.test(path))).map(([format]) => format);
  const data = found.filter((format) => format !== "text" || found.length === 1);
  return data.length === 0 ? [] : [...prefixed("format", data), "library:datasets"];
}

/** Names of repositories under a key of the card. */
export const namedRepos = (data: CardData, key: string): string[] => textsField(data, key).filter(isRepoName);
