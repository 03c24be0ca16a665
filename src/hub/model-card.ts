// Model cards: the YAML front matter of a README, read in YAML's core schema only.
import { parseDocument } from "yaml";
import { splitFrontMatter } from "../formats/model-card";

const MAX_ALIASES = 50;

/** The card's data; null when there is none or it is no mapping. */
export function cardData(readme: string): Record<string, unknown> | null {
  const { yaml } = splitFrontMatter(readme);
  if (yaml === undefined) return null;
  const document = parseDocument(yaml, { schema: "core", uniqueKeys: true, merge: false });
  if (document.errors.length > 0) return null;
  const data: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
  return typeof data === "object" && data !== null && !Array.isArray(data)
    ? Object.fromEntries(Object.entries(data))
    : null;
}

/** What is wrong with the front matter, each with its line. No front matter is fine. */
export function checkFrontMatter(readme: string): string[] {
  const { yaml } = splitFrontMatter(readme);
  if (yaml === undefined) return [];
  const document = parseDocument(yaml, { schema: "core", uniqueKeys: true, merge: false });
  if (document.errors.length > 0) return document.errors.map((error) => error.message);
  try {
    const data: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    const isMapping = data === null || (typeof data === "object" && !Array.isArray(data));
    return isMapping ? [] : ["The front matter must be a mapping of keys to values"];
  } catch (error) {
    return [error instanceof Error ? error.message : "The front matter can't be read"];
  }
}
