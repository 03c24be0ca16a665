// The model card of a merge: metadata that the ecosystem filters by, and for people what was merged, how, and how to check it.
import { writeCard } from "../../formats/card/write";
import { findMethod, type Method } from "../../formats/recipe/methods";
import type { Engine } from "../contract";
import type { MergePlan } from "../plan";
import { methodsOf, PROGRAM_PATH, RECORD_PATH } from "./recipe-document";

export type CardFacts = {
  readonly publicUrl: string;
  /** owner/name of what the card is of. */
  readonly repo: string;
  readonly plan: MergePlan;
  readonly engine: Engine;
  /** The recipe in mergekit's language; null where that can't say it. */
  readonly mergekit: string | null;
};

const DETERMINISM: Readonly<Record<MergePlan["determinism"], string>> = {
  exact: "The same inputs give the same bytes on any machine (determinism class `exact`).",
  tolerance:
    "The same inputs give the same weights up to the rounding of a machine's linear algebra (determinism class `tolerance`).",
};

/** Whether the merge made a LoRA adapter instead of a model. */
export const makesAdapter = (plan: MergePlan): boolean => plan.outputs.some((path) => path === "adapter_config.json");

export function mergeCard({ publicUrl, repo, plan, engine, mergekit }: CardFacts): string {
  const { licence, pipelineTag, libraryName } = plan;
  const adapter = makesAdapter(plan);
  const methods = methodsOf(plan.recipe);
  return writeCard(
    {
      license: licence?.id,
      license_name: licence?.name,
      license_link: licence?.link,
      library_name: adapter ? "peft" : libraryName,
      pipeline_tag: pipelineTag,
      tags: adapter ? ["lora"] : [...(mergekit === null ? [] : ["mergekit"]), "merge"],
      base_model: baseModels(plan),
      base_model_relation: adapter ? "adapter" : "merge",
    },
    [
      `# ${repo.slice(repo.indexOf("/") + 1)}`,
      "",
      ...(adapter ? [`A LoRA adapter for ${baseModels(plan).join(", ")}.`] : summary(plan, methods)),
      "",
      ...parents(plan),
      ...(plan.notes.length === 0 ? [] : ["", ...plan.notes.map((note) => `- ${note}`)]),
      ...recipe(plan, mergekit),
      "",
      "## How it was made, and how to check it",
      "",
      `Made by ${engine.name} ${engine.version}. ${DETERMINISM[plan.determinism]}`,
      "",
      `\`recipe.json\` names every input by commit and SHA-256, \`${PROGRAM_PATH}\` holds the parameters of every tensor, \`${RECORD_PATH}\` tells of each tensor what went in and what came out.`,
      "Whoever may use the models above can have the merge recomputed and every file compared:",
      "",
      "```sh",
      `curl -X POST -H "Authorization: Bearer $HF_TOKEN" ${publicUrl}/api/v1/models/${repo}/revisions/main/verify`,
      "```",
    ],
  );
}

/** An adapter belongs to the model that it is loaded onto; a merge comes from all of its models. */
function baseModels(plan: MergePlan): string[] {
  const roles = makesAdapter(plan) ? ["base"] : ["base", "model", "adapter"];
  const repos = plan.parents.filter(({ role }) => roles.includes(role)).map(({ repo }) => repo);
  return [...new Set([...(plan.base === null ? [] : [plan.base.repo]), ...repos])];
}

function summary(plan: MergePlan, methods: readonly string[]): string[] {
  const models = plan.parents.filter(({ role }) => role === "model").length;
  const by = methods.length === 0 ? "" : ` by ${methods.map((name) => `\`${name}\``).join(", ")}`;
  const known = methods.flatMap((name) => findMethod(name) ?? []);
  return [
    `A merge of ${models} ${models === 1 ? "model" : "models"}${by}.`,
    ...known.flatMap((method) => ["", explanation(method)]),
  ];
}

const explanation = ({ name, summary, reference }: Method): string => `\`${name}\`: ${summary} (${reference})`;

function parents({ parents }: MergePlan): string[] {
  return [
    "| model | commit | used as | weight | licence |",
    "|--|--|--|--|--|",
    ...parents.map(
      ({ repo, commit, role, weight, licence }) =>
        `| ${repo} | \`${commit.slice(0, 12)}\` | ${role} | ${weight ?? ""} | ${licence === null ? "" : plainWord(licence)} |`,
    ),
  ];
}

/** What another card says stands in a table here: nothing in it may end the cell. */
const plainWord = (text: string): string => (/^[\w.+-]{1,60}$/.test(text) ? text : "other");

function recipe(plan: MergePlan, mergekit: string | null): string[] {
  const text = mergekit ?? JSON.stringify(plan.recipe, null, 2);
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return ["", "## Recipe", "", `${fence}${mergekit === null ? "json" : "yaml"}`, text.trimEnd(), fence];
}
