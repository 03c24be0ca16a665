// The texts that a published revision carries beside its weights: the recipe that anyone can recompute it from, and a model card.
import { canonicalJson } from "../formats/canonical-json";
import type { Engine, OutputFile } from "./contract";
import type { MergePlan, Source, TrainPlan } from "./plan";

const encoder = new TextEncoder();

const reference = ({ repo, commit }: Pick<Source, "repo" | "commit">) => ({ repo, commit });
const digests = (source: Source) => source.files.map(({ path, sha256 }) => ({ path, sha256 }));

/** Everything that decides the bytes of a merge, and the digest that recomputing it must give. */
export function recipe(plan: MergePlan, engine: Engine, output: OutputFile): Uint8Array {
  return encoder.encode(
    canonicalJson({
      schema: "owm.recipe/1",
      method: plan.compute.method,
      normalize: plan.compute.normalize,
      out_dtype: plan.compute.out_dtype,
      models: plan.parents.map((parent) => ({ ...reference(parent), files: digests(parent), weight: parent.weight })),
      base_model: plan.base,
      engine: { name: engine.name, version: engine.version },
      output: { path: output.path, sha256: output.sha256, size: output.size },
    }),
  );
}

/** Strings as JSON, which YAML reads too, so that no name can be taken for something else. */
const yamlList = (key: string, values: readonly string[]): string[] =>
  values.length === 0 ? [] : [`${key}:`, ...values.map((value) => `- ${JSON.stringify(value)}`)];

const card = (frontMatter: readonly string[], text: readonly string[]): Uint8Array =>
  encoder.encode(["---", ...frontMatter, "---", "", ...text, ""].join("\n"));

const unique = (values: readonly string[]): string[] => [...new Set(values)];

export function mergeCard(title: string, plan: MergePlan, engine: Engine): Uint8Array {
  const base = plan.base === null ? [] : [plan.base.repo];
  return card(
    [
      "library_name: owm",
      "tags:",
      "- merge",
      ...yamlList("base_model", unique([...base, ...plan.parents.map((parent) => parent.repo)])),
      "base_model_relation: merge",
    ],
    [
      `# ${title}`,
      "",
      `A linear merge of ${plan.parents.length} models: the weighted sum of their tensors${plan.compute.normalize === true ? ", divided by the sum of the weights" : ""}.`,
      "",
      "| model | commit | weight |",
      "|--|--|--|",
      ...plan.parents.map(({ repo, commit, weight }) => `| ${repo} | \`${commit.slice(0, 12)}\` | ${weight ?? ""} |`),
      "",
      `Made by ${engine.name} ${engine.version}. \`recipe.json\` names every input by its digest: the same recipe gives the same bytes on any machine.`,
    ],
  );
}

export function trainingCard(title: string, plan: TrainPlan): Uint8Array {
  const { dataset, initial } = plan;
  const start =
    initial === null ? "Trained from scratch" : `Trained on from ${initial.repo} at \`${initial.commit.slice(0, 12)}\``;
  return card(
    [
      "library_name: owm",
      ...yamlList("datasets", [dataset.repo]),
      ...(initial === null ? [] : [...yamlList("base_model", [initial.repo]), "base_model_relation: finetune"]),
    ],
    [
      `# ${title}`,
      "",
      `${start}, on the split \`${plan.split}\` of ${dataset.repo} at \`${dataset.commit.slice(0, 12)}\`.`,
      "",
      "`training.json` is the record of the training: data digest, optimizer, hyperparameters, initialization, seed and loss curve.",
    ],
  );
}
