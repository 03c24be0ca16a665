// The model card of a merge: metadata that the ecosystem filters by, and for people what was merged, how, and how to check it.
import { writeCard } from "../../formats/card/write";
import { findMethod } from "../../formats/recipe/methods";
import type { Engine } from "../contract";
import type { MergePlan } from "../plan";
import { methodsOf, outputDocument, PROGRAM_PATH, RECORD_PATH } from "./recipe-document";

export type CardFacts = {
  readonly publicUrl: string;
  /** owner/name of what the card is of. */
  readonly repo: string;
  readonly plan: MergePlan;
  readonly engine: Engine;
  /** The recipe in mergekit's language; null where that can't say it. */
  readonly mergekit: string | null;
};

type Kind = "merge" | "mixture" | "adapter" | "conversion";

/** What a merge makes: a model of its models, a mixture of experts, a LoRA adapter, or the same weights in another format. */
export function kindOf({ recipe }: MergePlan): Kind {
  const document = outputDocument(recipe);
  if ("extract_lora" in document) return "adapter";
  if ("convert" in document) return "conversion";
  return "experts" in document ? "mixture" : "merge";
}

const TAGS: Readonly<Record<Kind, readonly string[]>> = {
  merge: ["merge"],
  mixture: ["moe", "merge"],
  adapter: ["lora"],
  conversion: [],
};

/** The ecosystem has no word for the same weights in another format. */
const RELATIONS: Readonly<Record<Kind, string | null>> = {
  merge: "merge",
  mixture: "merge",
  adapter: "adapter",
  conversion: null,
};

const DETERMINISM: Readonly<Record<MergePlan["determinism"], string>> = {
  exact: "The same inputs give the same bytes on any machine (determinism class `exact`).",
  tolerance:
    "The same inputs give the same weights up to the rounding of a machine's linear algebra (determinism class `tolerance`).",
};

export function mergeCard({ publicUrl, repo, plan, engine, mergekit }: CardFacts): string {
  const { licence, pipelineTag, libraryName, notes } = plan;
  const kind = kindOf(plan);
  return writeCard(
    {
      license: licence?.id,
      license_name: licence?.name,
      license_link: licence?.link,
      library_name: kind === "adapter" ? "peft" : libraryName,
      pipeline_tag: pipelineTag,
      tags: [...(mergekit === null ? [] : ["mergekit"]), ...TAGS[kind]],
      base_model: baseModels(plan),
      base_model_relation: RELATIONS[kind],
    },
    [
      `# ${repo.slice(repo.indexOf("/") + 1)}`,
      "",
      ...summary(plan, kind),
      "",
      ...parents(plan),
      ...(notes.length === 0 ? [] : ["", ...notes.map((note) => `- ${note}`)]),
      ...recipe(plan, mergekit),
      "",
      "## How it was made, and how to check it",
      "",
      `Made by ${engine.name} ${engine.version}. ${DETERMINISM[plan.determinism]}`,
      "",
      `\`recipe.json\` names every input by commit and SHA-256, \`${PROGRAM_PATH}\` holds the parameters of every tensor, \`${RECORD_PATH}\` tells of each tensor what went in and what came out.`,
      "Whoever may use the models above can have it computed again and every file compared:",
      "",
      "```sh",
      `curl -X POST -H "Authorization: Bearer $HF_TOKEN" \\\n  ${publicUrl}/api/v1/models/${repo}/revisions/main/verify`,
      "```",
    ],
  );
}

/** An adapter belongs to the model that it is loaded onto; a merge comes from all of its models. */
function baseModels(plan: MergePlan): string[] {
  const roles = kindOf(plan) === "adapter" ? ["base"] : ["base", "model", "adapter"];
  const repos = plan.parents.filter(({ role }) => roles.includes(role)).map(({ repo }) => repo);
  return [...new Set([...(plan.base === null ? [] : [plan.base.repo]), ...repos])];
}

function summary(plan: MergePlan, kind: Kind): string[] {
  const models = plan.parents.filter(({ role }) => role === "model");
  const count = `${models.length} ${models.length === 1 ? "model" : "models"}`;
  const names = models.map(({ repo }) => repo).join(", ");
  switch (kind) {
    case "adapter":
      return [`What ${names} has learned beyond ${baseModels(plan).join(", ")}, as a LoRA adapter of the latter.`];
    case "conversion":
      return [`The weights of ${names} as safetensors.`];
    case "mixture":
      return [`A mixture of experts, assembled from the dense weights of ${count}.`];
    case "merge": {
      const methods = methodsOf(plan.recipe);
      const known = methods.flatMap((name) => findMethod(name) ?? []);
      return [
        `A merge of ${count} by ${methods.map((name) => `\`${name}\``).join(", ")}.`,
        ...known.flatMap(({ name, summary, reference }) => ["", `\`${name}\`: ${summary} (${reference})`]),
      ];
    }
  }
}

function parents({ parents }: MergePlan): string[] {
  const weighted = parents.some(({ weight }) => weight !== null);
  const row = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const columns = ["model", "commit", "used as", ...(weighted ? ["weight"] : []), "licence"];
  return [
    row(columns),
    row(columns.map(() => "--")),
    ...parents.map(({ repo, commit, role, weight, licence }) =>
      row([
        repo,
        `\`${commit.slice(0, 12)}\``,
        role,
        ...(weighted ? [weight ?? ""] : []),
        licence === null ? "" : plainWord(licence),
      ]),
    ),
  ];
}

/** What another card says stands in a table here: nothing in it may end the cell. */
const plainWord = (text: string): string => (/^[\w.+, -]{1,100}$/.test(text) ? text : "other");

function recipe(plan: MergePlan, mergekit: string | null): string[] {
  const text = mergekit ?? JSON.stringify(plan.recipe, null, 2);
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return ["", "## Recipe", "", `${fence}${mergekit === null ? "json" : "yaml"}`, text.trimEnd(), fence];
}
