// Whether a card says what it says in the way the ecosystem's readers understand: errors keep it from being published, warnings do not.
import { quote } from "../text";
import { isRepoName } from "./fields";
import { checks, type Path, type Report } from "./rules";
import { PIPELINE_TAGS, SIZE_CATEGORIES } from "./vocabulary";
import { type Card, type CardData, type CardProblem, parseCard } from "./yaml";

export type CardCheck = { readonly errors: readonly CardProblem[]; readonly warnings: readonly CardProblem[] };

/** A card with more problems is looked at again when the first ones are mended. */
const MAX_PROBLEMS = 50;

/** Each problem names key, line and what would be right. */
export function checkCard(type: "model" | "dataset", readme: string): CardCheck {
  const parsed = parseCard(readme);
  if ("problems" in parsed)
    return { errors: parsed.problems.map(({ line, message }) => worded(line, message)), warnings: [] };
  const { card } = parsed;
  const errors: CardProblem[] = [];
  const warnings: CardProblem[] = [];
  for (const [key, check] of Object.entries(checks[type])) {
    const value = card.data[key];
    // A key without a value is what templates leave behind.
    if (value !== undefined && value !== null) check(value, [key], reportTo(card, errors));
  }
  if (Object.keys(card.data).length === 0)
    warnings.push({ line: 1, message: "There is no metadata: begin the card with YAML between two lines of ---" });
  for (const warn of type === "model" ? [...WARNINGS, ...MODEL_WARNINGS] : [...WARNINGS, ...DATASET_WARNINGS])
    warn(card.data, reportTo(card, warnings));
  return { errors: errors.slice(0, MAX_PROBLEMS), warnings: warnings.slice(0, MAX_PROBLEMS) };
}

const worded = (line: number, message: string): CardProblem => ({ line, message: `${message} (line ${line})` });

const reportTo =
  (card: Card, problems: CardProblem[]): Report =>
  (path, problem) => {
    if (problems.length > MAX_PROBLEMS) return;
    problems.push(worded(card.lineOf(path), `"${shown(path)}" ${problem}`));
  };

/** `widget[2].text` */
const shown = (path: Path): string =>
  path.map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? part : `.${part}`)).join("");

type Warn = (data: CardData, report: Report) => void;

/** The texts under a key, whether one or a list, each with its path. */
function* textsAt(data: CardData, key: string): Generator<[string, Path]> {
  const value = data[key];
  if (typeof value === "string") yield [value, [key]];
  else if (Array.isArray(value))
    for (const [i, one] of value.entries()) if (typeof one === "string") yield [one, [key, i]];
}

const LANGUAGE = /^([a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code)$/;

const WARNINGS: readonly Warn[] = [
  (data, report) => {
    for (const [language, path] of textsAt(data, "language"))
      if (!LANGUAGE.test(language))
        report(path, `is ${quote(language)}: use a code of ISO 639 such as "en", or "multilingual" or "code"`);
  },
  (data, report) => {
    const [license] = textsAt(data, "license").next().value ?? [];
    if (license === "other" && (data.license_name === undefined || data.license_link === undefined))
      report(
        ["license"],
        'is "other": add `license_name`, and `license_link` with an address or a file such as LICENSE',
      );
  },
];

const knownTasks =
  (key: string): Warn =>
  (data, report) => {
    for (const [task, path] of textsAt(data, key))
      if (!PIPELINE_TAGS.has(task))
        report(path, `is ${quote(task)}, which no client knows: use a task such as "text-generation", or leave it out`);
  };

const repoNames =
  (key: string): Warn =>
  (data, report) => {
    for (const [name, path] of textsAt(data, key))
      if (!isRepoName(name)) report(path, `is ${quote(name)}, which names no repository: use \`owner/name\``);
  };

const MODEL_WARNINGS: readonly Warn[] = [
  knownTasks("pipeline_tag"),
  repoNames("base_model"),
  repoNames("new_version"),
  repoNames("datasets"),
  (data, report) => {
    const index = data["model-index"];
    if (Array.isArray(index))
      for (const [i, entry] of index.entries()) checkIndexEntry(entry, ["model-index", i], report);
  },
];

const DATASET_WARNINGS: readonly Warn[] = [
  knownTasks("task_categories"),
  (data, report) => {
    for (const [size, path] of textsAt(data, "size_categories"))
      if (!SIZE_CATEGORIES.has(size)) report(path, `is ${quote(size)}: use one of ${[...SIZE_CATEGORIES].join(", ")}`);
  },
];

/** Results of old cards break every rule: they are kept, and their author is told. */
function checkIndexEntry(entry: unknown, path: Path, report: Report): void {
  const results = typeof entry === "object" && entry !== null && "results" in entry ? entry.results : undefined;
  if (!Array.isArray(results)) {
    report(path, "has no list of `results`: add one");
    return;
  }
  for (const [i, result] of results.entries()) {
    const isMapping = typeof result === "object" && result !== null;
    for (const key of ["task", "dataset", "metrics"])
      if (!isMapping || !(key in result))
        report([...path, "results", i], `has no \`${key}\`: results without it are not shown`);
  }
}
