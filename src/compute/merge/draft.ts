// A recipe with everything that can be known of it before it runs: its models, its program, what is wrong with it, and what may be said of the result.
import { type Caller, may } from "../../access/caller";
import type { Purpose } from "../../access/policy";
import { HubError } from "../../errors";
import { conflictOf, type Licence, nameOf as licenceName, licenceOf, strictest } from "../../formats/card/licences";
import { FormatError } from "../../formats/format-error";
import { canonicalRecipe } from "../../formats/recipe/canonical";
import { type Compared, compareModels, type Finding } from "../../formats/recipe/compatibility";
import { compile } from "../../formats/recipe/compile";
import type { Compiled } from "../../formats/recipe/models";
import { parseRecipe, parseRecipeObject } from "../../formats/recipe/parse";
import type { Document, Recipe } from "../../formats/recipe/recipe";
import { referencesOf } from "../../formats/recipe/references";
import { MEMORY_BYTES } from "../plan";
import type { RecipeSource } from "../requests";
import { type Model, type ReadModels, readModels } from "./models";
import { findParents, labelOf, leftOut, listed } from "./parents";

export type Draft = ReadModels & {
  readonly recipe: Recipe;
  readonly canonical: object;
  /** The YAML that was sent; null where it was JSON. */
  readonly text: string | null;
  readonly compiled: Compiled;
  /** Errors first. */
  readonly findings: readonly Finding[];
  readonly licence: Licence | null;
  /** Whose configuration and tokenizer the output has. */
  readonly donor: Model | null;
};

/** Writes nothing. @throws invalid_field for what is no recipe, and what keeps its models from being read */
export async function draftMerge(caller: Caller, { recipe: sent, fieldOf }: RecipeSource): Promise<Draft> {
  const recipe = readRecipe(sent, fieldOf);
  const located = await findParents(caller, referencesOf(recipe), fieldOf);
  const read = await readModels(caller.platform, located, outputOf(recipe));
  const compiled = compile(recipe, new Map(read.models.map((model) => [model.facts.key, model.facts])));
  const donor = read.models.find(({ facts: { key } }) => key === compiled.donor) ?? null;
  const holding = strictest(read.parents.flatMap(({ licences }) => (licences.length === 0 ? [UNKNOWN] : licences)));
  const findings: Finding[] = [
    ...read.problems.map((problem) => ({ ...problem, severity: "error" as const })),
    ...compiled.problems.map((problem) => ({ ...problem, field: fieldOf(problem.field), severity: "error" as const })),
    ...comparisons(outputOf(recipe), read, donor),
    ...tooLarge(compiled, fieldOf("")),
    ...licenceFindings(outputOf(recipe), read, holding),
    ...rightsNotes(caller, read),
    ...weightsNotes(read),
    ...compiled.notes.map((note) => ({ ...note, field: fieldOf(note.field), severity: "note" as const, fix: null })),
  ];
  return {
    ...read,
    recipe,
    canonical: canonicalRecipe(recipe),
    text: typeof sent === "string" ? sent : null,
    compiled,
    findings: findings.sort((a, b) => RANK[a.severity] - RANK[b.severity]),
    licence: licenceOf(holding),
    donor,
  };
}

const RANK = { error: 0, warning: 1, note: 2 } as const;

/** The document whose result is published. */
export const outputOf = ({ documents }: Recipe): Document => documents[documents.length - 1] ?? documents[0];

function readRecipe(sent: string | object, fieldOf: RecipeSource["fieldOf"]): Recipe {
  try {
    return typeof sent === "string" ? parseRecipe(sent) : parseRecipeObject(sent);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const { code, field = "", line, fix, message } = error;
    throw new HubError("invalid_field", {
      field: fieldOf(field),
      problem: line === undefined ? message : `${message} (line ${line})`,
      fix,
      line,
      reason: code,
    });
  }
}

/** Mixtures of experts and conversions take models as they are; what is merged tensor by tensor is compared. */
function comparisons(output: Document, { models }: ReadModels, donor: Model | null): Finding[] {
  if (output.kind !== "merge" || donor === null) return [];
  const compared = [donor, ...models.filter((model) => model !== donor)].map(
    ({ located: { field }, facts: { label, config, tensors }, tokenizer, chatTemplate }): Compared => ({
      field,
      label,
      config,
      tensors,
      tokenizer,
      chatTemplate,
    }),
  );
  return compareModels(compared, { tokenizer: output.tokenizer !== null, chatTemplate: output.chatTemplate !== null });
}

function tooLarge({ totals, program }: Compiled, field: string): Finding[] {
  if (program === null || totals.memoryBytes <= MEMORY_BYTES) return [];
  return [
    {
      code: "memory",
      severity: "error",
      field,
      message: `the merge needs ${totals.memoryBytes} bytes of memory at once, a job has ${MEMORY_BYTES}`,
      fix: "use a method that needs no whole matrices, or merge fewer models at once",
    },
  ];
}

const UNKNOWN: Licence = { id: "unknown", name: null, link: null };

function licenceFindings(output: Document, { parents }: ReadModels, holding: readonly Licence[]): Finding[] {
  const silent = parents.filter(({ licences }) => licences.length === 0);
  const findings: Finding[] = silent.map((parent) => ({
    code: "licence_unknown",
    severity: "warning",
    field: parent.field,
    message: `the card of ${labelOf(parent)} names no licence: the result is published without one`,
    fix: "name the licence in its card, if you know it",
  }));
  // Another format is no changed work.
  const conflict = output.kind === "convert" ? null : conflictOf(holding);
  if (conflict !== null) {
    const of = (licence: Licence) =>
      parents.find(({ licences }) => licences.some((one) => licenceName(one) === licenceName(licence)));
    const [a, b] = [of(conflict.a), of(conflict.b)];
    findings.push({
      code: "licence_conflict",
      severity: "error",
      field: (b ?? a)?.field ?? "",
      message:
        conflict.a === conflict.b
          ? `${licenceName(conflict.a)}${a === undefined ? "" : ` of ${labelOf(a)}`} lets nobody pass on a changed work`
          : `what is under ${licenceName(conflict.a)}${a === undefined ? "" : ` (${labelOf(a)})`} may be passed on under no terms that ${licenceName(conflict.b)}${b === undefined ? "" : ` (${labelOf(b)})`} also allows`,
      fix: "merge models whose licences go together, or ask the author for another licence",
    });
  } else if (holding.length > 1 && licenceOf(holding) !== null)
    findings.push({
      code: "licence_several",
      severity: "note",
      field: parents[0]?.field ?? "",
      message: `all of these hold for the result: ${holding.map(licenceName).join(", ")}`,
      fix: null,
    });
  return findings;
}

const PURPOSES: readonly Purpose[] = ["download", "merge", "evaluate", "train"];

/** What the caller may use a parent for, by the policy. */
export const purposesOf = (caller: Caller, { snapshot: { repo } }: ReadModels["parents"][number]): Purpose[] =>
  PURPOSES.filter((purpose) => may(caller, { action: "repo.use", repo, purpose }));

/** Parents that not everyone may use as they like: their rights are asked again, and do not pass to the result by themselves. */
function weightsNotes({ parents, models }: ReadModels): Finding[] {
  return models.flatMap(({ located, weights, facts }) => {
    const parent = parents[located.parent];
    const names = parent === undefined ? [] : leftOut(parent, located, weights);
    if (names.length === 0) return [];
    return [
      {
        code: "weights_left_out",
        severity: "note" as const,
        field: located.field,
        message: `${facts.label} has weights that the merge does not read: ${listed(names)}`,
        fix: null,
      },
    ];
  });
}

function rightsNotes(caller: Caller, { parents }: ReadModels): Finding[] {
  return parents.flatMap((parent) => {
    const { repo } = parent.snapshot;
    const refused = PURPOSES.filter((purpose) => !purposesOf(caller, parent).includes(purpose));
    if (!repo.private && repo.gated === null && refused.length === 0) return [];
    const why = repo.private ? "private" : repo.gated === null ? "restricted" : "gated";
    const except = refused.length === 0 ? "" : `; you may not use it to ${refused.join(" or ")}`;
    return [
      {
        code: "parent_restricted",
        severity: "note" as const,
        field: parent.field,
        message: `${labelOf(parent)} is ${why}${except}. The right to merge it is asked again when the work starts and when the result is published, and the result is private unless asked otherwise`,
        fix: null,
      },
    ];
  });
}
