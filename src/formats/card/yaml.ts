// The YAML of a card: the core schema only, within bounds that hold before anything is built, and the line of each thing in it.
import { Composer, type CST, type Document, isMap, isNode, isPair, isScalar, isSeq, LineCounter, Parser } from "yaml";
import { FormatError } from "../format-error";
import { splitFrontMatter } from "./front-matter";

const MAX_DEPTH = 32;
const MAX_ALIASES = 100;
/** Values, counted once for each place an alias puts them. */
const MAX_VALUES = 200_000;
/** Characters of all texts and keys, counted likewise. */
const MAX_CHARACTERS = 1_200_000;

export type CardProblem = {
  /** Of the README, from 1. */
  readonly line: number;
  readonly message: string;
};

export type CardData = Readonly<Record<string, unknown>>;

export type Card = {
  readonly data: CardData;
  /** The line on which what is at this path stands, or the nearest thing around it. */
  readonly lineOf: (path: readonly PropertyKey[]) => number;
};

export type CardText = { readonly card: Card } | { readonly problems: readonly CardProblem[] };

class TooMuch extends Error {}
const TOO_LARGE = "The YAML holds too much, its aliases filled in: write less, and without them";

/** What the front matter of a README says; an empty card where there is none. */
export function parseCard(readme: string): CardText {
  let front: ReturnType<typeof splitFrontMatter>;
  try {
    front = splitFrontMatter(readme);
  } catch (error) {
    if (error instanceof FormatError) return problemAt(1, `The front matter ${error.message}: shorten it`);
    throw error;
  }
  const { yaml, firstLine } = front;
  const parsed = yaml === undefined ? null : parseYaml(yaml, firstLine);
  if (parsed === null) return { card: { data: {}, lineOf: () => firstLine } };
  if ("problems" in parsed) return parsed;
  const { value, lineOf } = parsed;
  if (value === null || value === undefined) return { card: { data: {}, lineOf } };
  if (typeof value !== "object" || Array.isArray(value))
    return problemAt(firstLine, "The front matter must be a mapping: write each fact as `key: value`");
  return { card: { data: Object.fromEntries(Object.entries(value)), lineOf } };
}

type YamlDocument = {
  readonly value: unknown;
  readonly lineOf: Card["lineOf"];
  /** Tags that were not understood: their values were read as if they had none. */
  readonly warnings: readonly CardProblem[];
};

export type YamlText = YamlDocument | { readonly problems: readonly CardProblem[] };

/** One YAML document; `firstLine` is where it begins in its file. */
export function parseYaml(yaml: string, firstLine = 1): YamlText {
  const parsed = parseYamlDocuments(yaml, firstLine);
  if ("problems" in parsed) return parsed;
  const [document, second] = parsed.documents;
  if (second !== undefined) return problemAt(second.lineOf([]), "A second YAML document begins here: keep one");
  return document ?? { value: null, lineOf: () => firstLine, warnings: [] };
}

/** All documents of a stream, within one bound for all of them. */
export function parseYamlDocuments(
  yaml: string,
  firstLine = 1,
): { readonly documents: readonly YamlDocument[] } | { readonly problems: readonly CardProblem[] } {
  const lines = new LineCounter();
  const lineAt = (offset: number): number => firstLine - 1 + Math.max(1, lines.linePos(offset).line);
  const sum = { values: 0, characters: 0 };
  const documents: YamlDocument[] = [];
  try {
    const composer = new Composer({
      schema: "core",
      // The library compares each key with each other one.
      uniqueKeys: false,
      merge: false,
      prettyErrors: false,
      logLevel: "error",
    });
    const tokens = withinDepth(new Parser(lines.addNewLine).parse(yaml), lineAt);
    for (const document of composer.compose(tokens, false, yaml.length)) {
      if (document.errors.length > 0)
        return { problems: document.errors.map(({ message, pos }) => ({ line: lineAt(pos[0]), message })) };
      const repeated = repeatedKey(document.contents);
      if (repeated !== null) return problemAt(lineAt(repeated), "Map keys must be unique: this one comes twice");
      const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
      measure(value, sum, 0);
      const warnings = document.warnings.map(({ message, pos }) => ({ line: lineAt(pos[0]), message }));
      documents.push({ value, lineOf: (path) => lineAt(offsetOf(document, path)), warnings });
    }
    return { documents };
  } catch (error) {
    if (error instanceof TooMuch) return problemAt(firstLine, error.message);
    // The library's own recursion, or its own bound on aliases.
    if (error instanceof RangeError || error instanceof ReferenceError)
      return problemAt(firstLine, `The YAML can't be read: ${error.message}`);
    throw error;
  }
}

const problemAt = (line: number, message: string) => ({ problems: [{ line, message }] });

/** Nesting and number are bounded on the tokens, which are parsed without recursion: what is composed of them is not. */
function* withinDepth(tokens: Iterable<CST.Token>, lineAt: (offset: number) => number): Generator<CST.Token> {
  let values = 0;
  for (const token of tokens) {
    const open: { token: CST.Token; depth: number }[] = [{ token, depth: 0 }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { depth } = next;
      if (++values > MAX_VALUES) throw new TooMuch(TOO_LARGE);
      if (depth > MAX_DEPTH)
        throw new TooMuch(
          `The YAML is nested more than ${MAX_DEPTH} deep at line ${lineAt(next.token.offset)}: write it flatter`,
        );
      for (const inner of childrenOf(next.token)) open.push({ token: inner, depth: depth + 1 });
    }
    yield token;
  }
}

function childrenOf(token: CST.Token): CST.Token[] {
  if (token.type === "document") return token.value === undefined ? [] : [token.value];
  if (token.type !== "block-map" && token.type !== "block-seq" && token.type !== "flow-collection") return [];
  return token.items.flatMap(({ key, value }) => [key, value].filter((one) => one !== null && one !== undefined));
}

/** Where a key stands that its mapping has already; the nesting is bounded. */
function repeatedKey(node: unknown): number | null {
  if (isMap(node)) {
    const seen = new Set<string>();
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : null;
      if (name !== null && seen.has(name)) return isNode(key) ? (key.range?.[0] ?? 0) : 0;
      if (name !== null) seen.add(name);
      const below = repeatedKey(key) ?? repeatedKey(value);
      if (below !== null) return below;
    }
  } else if (isSeq(node)) {
    for (const item of node.items) {
      const below = repeatedKey(isPair(item) ? item.value : item);
      if (below !== null) return below;
    }
  }
  return null;
}

/** @throws TooMuch when aliases make more of it than a card can be, or a name is one that JavaScript objects treat specially */
function measure(value: unknown, sum: { values: number; characters: number }, depth: number): void {
  sum.values++;
  if (typeof value === "string") sum.characters += value.length;
  if (sum.values > MAX_VALUES || sum.characters > MAX_CHARACTERS || depth > MAX_DEPTH) throw new TooMuch(TOO_LARGE);
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (key === "__proto__") throw new TooMuch("The YAML has a key __proto__: rename it");
    sum.characters += key.length;
    measure(inner, sum, depth + 1);
  }
}

function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = document.range[0];
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find((one) => isScalar(one.key) && String(one.key.value) === String(part));
      if (pair === undefined) return offset;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(part)];
      if (isPair(node)) node = node.key;
      if (isNode(node)) offset = node.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}
