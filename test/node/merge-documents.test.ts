// The documents that a merge publishes beside its weights, for a merge with more in it than the hub's own tests run.
import { expect, test } from "vitest";
import { kindOf, mergeCard } from "../../src/compute/merge/card";
import { provenance } from "../../src/compute/merge/provenance";
import { methodsOf, parseRecipeDocument, recipeDocument } from "../../src/compute/merge/recipe-document";
import { type MergePlan, Plan } from "../../src/compute/plan";
import { parseCard } from "../../src/formats/card/yaml";
import { parseJobId, parseSha256 } from "../../src/ids";

const sha256 = (digit: string) => parseSha256(digit.repeat(64), "sha256");
const engine = { name: "owm-compute", version: "0.2.0", torch: "2.13.0", device: "cpu" };

const parent = (repo: string, role: string, licence: string | null, weight: number | null = null) => ({
  repoId: repo,
  ownerId: "o",
  repo,
  type: "model",
  commit: "a".repeat(40),
  files: [{ name: `${repo}/model.safetensors`, path: "model.safetensors", sha256: sha256("1"), size: 8 }],
  role,
  field: "models",
  licence,
  weight,
});

function planOf(fields: Record<string, unknown> = {}): MergePlan {
  const plan = Plan.parse({
    kind: "merge",
    compute: {},
    recipe: { merge_method: "ties", parameters: { density: 0.5 } },
    recipeSha256: sha256("2"),
    recipeText: null,
    program: { name: "program.json", sha256: sha256("3"), size: 100 },
    parents: [parent("lab/base", "base", "apache-2.0"), parent("ada/math", "model", "llama3 | `x`", 0.5)],
    base: { repo: "lab/base", commit: "a".repeat(40) },
    donor: { repo: "lab/base", commit: "a".repeat(40) },
    copied: [],
    outputs: ["model.safetensors", "merge-record.jsonl"],
    licence: { id: "other", name: "llama3", link: "https://llama.com/license" },
    libraryName: "transformers",
    pipelineTag: "text-generation",
    documents: [],
    notes: ["`ada/math` has 3 tokens more than `lab/base`."],
    determinism: "exact",
    seed: 7,
    message: null,
    ...fields,
  });
  if (plan.kind !== "merge") throw new Error("no merge");
  return plan;
}

const cardOf = (plan: MergePlan, mergekit: string | null = null) => {
  const text = mergeCard({ publicUrl: "https://hub.test", repo: "ada/merged", plan, engine, mergekit });
  const parsed = parseCard(text);
  if (!("card" in parsed)) throw new Error("the card is broken");
  return { text, data: parsed.card.data };
};

test("the card of a merge tells the ecosystem its parents, licence and task, and people the recipe and how to check it", () => {
  const { text, data } = cardOf(planOf(), "merge_method: ties # ```\n");
  expect(data).toEqual({
    license: "other",
    license_name: "llama3",
    license_link: "https://llama.com/license",
    library_name: "transformers",
    pipeline_tag: "text-generation",
    tags: ["mergekit", "merge"],
    base_model: ["lab/base", "ada/math"],
    base_model_relation: "merge",
  });
  expect(text).toContain("| ada/math | `aaaaaaaaaaaa` | model | 0.5 | other |");
  expect(text).toContain("````yaml\nmerge_method: ties # ```\n````");
  expect(text).toContain("- `ada/math` has 3 tokens more than `lab/base`.");
  expect(text).toContain("https://hub.test/api/v1/models/ada/merged/revisions/main/verify");
});

test("an extracted adapter names the model that it is loaded onto, and what loads it", () => {
  const plan = planOf({
    recipe: { extract_lora: { model: "ada/math", base_model: "lab/base", max_rank: 8 } },
    outputs: ["adapter_model.safetensors", "adapter_config.json", "merge-record.jsonl"],
    determinism: "tolerance",
  });
  const { data, text } = cardOf(plan);
  expect(kindOf(plan)).toBe("adapter");
  expect(data).toMatchObject({
    library_name: "peft",
    tags: ["lora"],
    base_model: ["lab/base"],
    base_model_relation: "adapter",
  });
  expect(text).toContain("determinism class `tolerance`");
});

test("what is no merge by a method is called what it is", () => {
  const mixture = cardOf(planOf({ recipe: { base_model: "lab/base", experts: [{ source_model: "ada/math" }] } }));
  expect(mixture.data).toMatchObject({ tags: ["moe", "merge"], base_model_relation: "merge" });
  expect(mixture.text).toContain("A mixture of experts, assembled from the dense weights of 1 model.");
  const converted = cardOf(planOf({ recipe: { convert: { model: "ada/math" } } }));
  expect(converted.data).not.toHaveProperty("base_model_relation");
  expect(converted.data).not.toHaveProperty("tags");
  expect(converted.text).toContain("The weights of ada/math as safetensors.");
});

test("names in a card can't be taken for anything else by a reader of YAML 1.1", () => {
  expect(cardOf(planOf({ licence: { id: "no", name: "null", link: null } })).text).toContain(
    'license: "no"\nlicense_name: "null"\n',
  );
});

test("recipe.json says all that a verification needs, and is read again as it was written", () => {
  const outputs = [{ path: "model.safetensors", sha256: sha256("4"), size: 8 }];
  const text = recipeDocument(planOf(), engine, outputs);
  expect(parseRecipeDocument(text)).toMatchObject({
    recipe: { merge_method: "ties" },
    recipe_sha256: sha256("2"),
    program: { name: "program.json", path: "merge-program.json", sha256: sha256("3") },
    inputs: [{ repo: "lab/base", path: "model.safetensors" }, { repo: "ada/math" }],
    seed: 7,
    outputs,
  });
  const duplicate = text.replaceAll("ada/math/model.safetensors", "lab/base/model.safetensors");
  for (const broken of [
    duplicate,
    text.replace('"path":"merge-program.json"', '"path":"../program"'),
    text.replace(sha256("3"), "none"),

    "",
    "[]",
    '{"schema":"owm.recipe/1"}',
    `${"[".repeat(1000)}`,
    text.replace('"seed":7', '"seed":"7"'),
  ])
    expect(parseRecipeDocument(broken)).toBeNull();
});

test("methods are found wherever a recipe names them, each once", () => {
  const recipe = {
    documents: [{ merge_method: "ties" }, { merge_method: "slerp" }, { slices: [{ merge_method: "ties" }] }],
  };
  expect(methodsOf(recipe)).toEqual(["ties", "slerp"]);
});

test("the provenance is an in-toto statement of every file, with the parents' files as dependencies", () => {
  const job = { id: parseJobId(`job_${"0".repeat(26)}`, "id"), createdAt: 0, startedAt: 1000 };
  const line = provenance({ publicUrl: "https://hub.test", job, plan: planOf(), engine, finishedAt: 2000 }, [
    { path: "model.safetensors", sha256: sha256("4") },
  ]);
  expect(line.indexOf("\n")).toBe(line.length - 1);
  const revision = { repo: "lab/base", commit: "a".repeat(40) };
  expect(JSON.parse(line)).toMatchObject({
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: "model.safetensors", digest: { sha256: sha256("4") } }],
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        externalParameters: { recipe: { merge_method: "ties" } },
        resolvedDependencies: [
          {
            uri: `https://hub.test/lab/base/resolve/${"a".repeat(40)}/model.safetensors`,
            digest: { sha256: sha256("1") },
            annotations: revision,
          },
          { annotations: { repo: "ada/math" } },
        ],
      },
      runDetails: {
        builder: { id: "https://hub.test", version: { "owm-compute": "0.2.0" } },
        metadata: { startedOn: "1970-01-01T00:00:01.000Z", finishedOn: "1970-01-01T00:00:02.000Z" },
      },
    },
  });
});
