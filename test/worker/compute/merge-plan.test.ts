// What a recipe comes to before it runs: told from headers, with everything that is wrong with it, and nothing written.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { administrator, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { digest, FakeCompute, safetensors, TestPlatform } from "../../kit/jobs";

let ada: Client;
let bob: Client;

beforeEach(async () => {
  new FakeCompute().install();
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
});
afterEach(() => vi.restoreAllMocks());

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  num_hidden_layers: 1,
  vocab_size: 2,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};
const EMBEDDING = "model.embed_tokens.weight";
const LAYER = "model.layers.0.mlp.up_proj.weight";
const SHAPES = { [EMBEDDING]: [2, 2], [LAYER]: [2, 2] };
const llama = (first: number) =>
  safetensors({ [EMBEDDING]: [first, 2, 3, 4], [LAYER]: [1, 2, 3, 4], "model.norm.weight": [1, 1] }, SHAPES);

type Publication = {
  readonly weights?: Uint8Array | Record<string, Uint8Array>;
  readonly config?: unknown;
  readonly texts?: Record<string, string>;
  readonly licence?: string;
};

/** Files: weights by path, or as model.safetensors. */
async function publish(
  client: Client,
  repo: string,
  { weights = llama(1), config = LLAMA, texts = {}, licence }: Publication,
) {
  const [organization, name] = repo.split("/");
  await client.post("/api/repos/create", { name, organization });
  const files = weights instanceof Uint8Array ? { "model.safetensors": weights } : weights;
  const lines = [];
  for (const [path, bytes] of Object.entries(files))
    lines.push(lfsLine(path, await uploadLfs(client, repo, bytes), bytes.byteLength));
  if (config !== null) lines.push(fileLine("config.json", JSON.stringify(config)));
  for (const [path, text] of Object.entries(texts)) lines.push(fileLine(path, text));
  if (licence !== undefined) lines.push(fileLine("README.md", `---\nlicense: ${licence}\n---\n`));
  await client.commit(repo, lines);
}

const Plan = z.looseObject({
  ok: z.boolean(),
  findings: z.array(
    z.looseObject({
      code: z.string(),
      severity: z.string(),
      field: z.string(),
      message: z.string(),
      fix: z.string().nullable(),
    }),
  ),
  models: z.array(z.looseObject({ repo: z.string(), licence: z.string().nullable() })),
  output: z.looseObject({ licence: z.looseObject({ id: z.string(), name: z.string().nullable() }).nullable() }),
  identical: z.object({ tensors: z.number(), bytes: z.number() }),
  work: z.looseObject({ bytes_read: z.number(), bytes_written: z.number() }),
});

async function plan(recipe: unknown, output?: unknown, client = ada) {
  const answer = await client.post("/api/v1/merges/plan", { recipe, output });
  expect(answer.status).toBe(200);
  const read = Plan.parse(answer.body);
  return { ...read, codes: read.findings.map(({ code }) => code) };
}

async function rows(): Promise<unknown> {
  return env.DB.prepare(
    "select (select count(*) from jobs) as jobs, (select count(*) from repos) as repos, (select count(*) from contents) as contents",
  ).first();
}

const linear = (a: string, b: string, more = "") =>
  `merge_method: linear\nmodels:\n- model: ${a}\n  parameters: {weight: 0.5}\n- model: ${b}\n  parameters: {weight: 0.5}\n${more}`;

describe("a plan", () => {
  test("tells models, output, work and licence, and writes nothing", async () => {
    const template = JSON.stringify({ chat_template: "{{ messages }}" });
    await publish(ada, "ada/a", {
      licence: "mit",
      texts: { "tokenizer.json": "{}", "tokenizer_config.json": template },
    });
    await publish(bob, "bob/b", { weights: llama(9), licence: "apache-2.0", texts: { "tokenizer.json": "{}" } });
    const before = await rows();
    const told = await plan(linear("ada/a", "bob/b"), { repo: "ada/merged" });
    expect(told).toMatchObject({
      ok: true,
      models: [
        {
          repo: "ada/a",
          field: "recipe.models[0].model",
          architecture: "LlamaForCausalLM",
          tensors: 3,
          parameters: 10,
          dtypes: ["F32"],
          vocabulary_size: 2,
          tied_embeddings: false,
          rope: { rope_theta: 10_000 },
          licence: "mit",
          files: [{ path: "model.safetensors", sha256: digest(llama(1)), size: llama(1).byteLength }],
          purposes: ["download", "merge", "evaluate", "train"],
        },
        { repo: "bob/b", licence: "apache-2.0" },
      ],
      method: [{ name: "linear", base: "forbidden", base_model: null }],
      identical: { tensors: 0, bytes: 0 },
      output: {
        repo: "ada/merged",
        branch: "main",
        creates: true,
        private: false,
        files: [{ path: "model.safetensors", tensors: 3, bytes: 40 }],
        exact: true,
        tensors: 3,
        parameters: 10,
        licence: { id: "apache-2.0", name: null, link: null },
      },
      work: {
        bytes_read: 80,
        bytes_written: 40,
        seconds: expect.any(Number),
        seconds_from: expect.stringMatching(/assumed/),
      },
      determinism: "exact",
    });
    expect(told.output.documents).toEqual(
      expect.arrayContaining(["config.json", "tokenizer.json", "merge-record.jsonl", "mergekit_config.yml"]),
    );
    expect(told.codes).toEqual(["chat_template_mismatch"]);
    expect(await rows()).toEqual(before);
  });

  test("tells how models differ that fit all the same, and which tensors they share", async () => {
    await publish(ada, "ada/a", { licence: "mit", texts: { "tokenizer.json": "{}" } });
    const config = { ...LLAMA, rope_theta: 500_000, tie_word_embeddings: true, attention_bias: false };
    await publish(ada, "ada/b", { config, licence: "mit", texts: { "tokenizer.json": '{"other":1}' } });
    const told = await plan(linear("ada/a", "ada/b"));
    expect(told.ok).toBe(true);
    expect(told.identical).toEqual({ tensors: 3, bytes: 40 });
    expect(Object.fromEntries(told.findings.map(({ code, severity, field }) => [code, [severity, field]]))).toEqual({
      rope_mismatch: ["warning", "recipe.models[1].model"],
      tied_embeddings_mismatch: ["warning", "recipe.models[1].model"],
      tokenizer_mismatch: ["warning", "recipe.models[1].model"],
      config_differs: ["note", "recipe.models[1].model"],
    });
    expect(
      told.findings.every(({ message, fix, code }) => message !== "" && (fix !== null || code === "config_differs")),
    ).toBe(true);
  });

  test("of a recipe that can't run says so, with tensor, place and fix", async () => {
    await publish(ada, "ada/a", { licence: "mit" });
    const wide = safetensors(
      { [EMBEDDING]: [1, 2, 3, 4, 5, 6], [LAYER]: [1, 2, 3, 4, 5, 6], "model.norm.weight": [1, 1] },
      { [EMBEDDING]: [3, 2], [LAYER]: [3, 2] },
    );
    await publish(ada, "ada/b", { weights: wide, licence: "mit", config: { ...LLAMA, vocab_size: 3 } });
    const told = await plan(linear("ada/a", "ada/b"));
    expect(told.ok).toBe(false);
    expect(told.findings[0]).toMatchObject({ severity: "error", tensor: LAYER, fix: expect.any(String) });
    expect(told.codes).toContain("vocabulary_mismatch");
    const other = { ...LLAMA, architectures: ["MistralForCausalLM"], model_type: "mistral" };
    await publish(ada, "ada/c", { config: other, licence: "mit" });
    expect(await plan(linear("ada/a", "ada/c"))).toMatchObject({ ok: false, codes: ["architecture_mismatch"] });
  });

  test("of licences that exclude each other is no plan; without one, the result has none", async () => {
    await publish(ada, "ada/free", { licence: "gpl-3.0" });
    await publish(ada, "ada/paid", { licence: "cc-by-nc-4.0" });
    await publish(ada, "ada/silent", {});
    const conflict = await plan(linear("ada/free", "ada/paid"));
    expect(conflict).toMatchObject({ ok: false, codes: ["licence_conflict"] });
    expect(conflict.findings[0]?.message).toMatch(/gpl-3.0 .*cc-by-nc-4.0/);
    const silent = await plan(linear("ada/paid", "ada/silent"));
    expect(silent).toMatchObject({ ok: true, codes: ["licence_unknown"], output: { licence: null } });
  });

  test("of a gated parent says that rights are asked again; who may not merge it gets no plan", async () => {
    await publish(bob, "bob/gated", { licence: "mit" });
    await publish(bob, "bob/open", { licence: "mit" });
    await bob.send("PUT", "/api/models/bob/gated/settings", { gated: "manual" });
    const own = await plan(linear("bob/gated", "bob/open"), undefined, bob);
    expect(own.codes).toEqual(["parent_restricted"]);
    const refused = await ada.post("/api/v1/merges/plan", { recipe: linear("bob/gated", "bob/open") });
    expect(refused).toMatchObject({ status: 403, body: { code: "gated_repo" } });
  });

  test.each([
    ["merge_method: linaer\nmodels: []\n", "recipe.merge_method", /linear/],
    ["merge_method: linear\nmodel: []\n", "recipe.model", /models/],
    ["merge_method: [\n", "recipe", /./],
    [
      { merge_method: "linear", models: [{ model: "/mnt/models/a", parameters: { weight: 1 } }] },
      "recipe.models[0].model",
      /disk/,
    ],
    [
      { merge_method: "linear", models: [{ model: "ada/none", parameters: { weight: 1 } }] },
      "recipe.models[0].model",
      /not found/,
    ],
  ])("of what is no recipe is refused with its place: %j", async (recipe, field, detail) => {
    const answer = await ada.post("/api/v1/merges/plan", { recipe });
    expect([404, 422]).toContain(answer.status);
    expect(answer.body).toMatchObject({ field, detail: expect.stringMatching(detail) });
  });
});

describe("sources", () => {
  test("in shards and with an adapter are read by their headers", async () => {
    const index = {
      metadata: {},
      weight_map: {
        [EMBEDDING]: "model-1.safetensors",
        [LAYER]: "model-2.safetensors",
        "model.norm.weight": "model-2.safetensors",
      },
    };
    const shards = {
      "model-1.safetensors": safetensors({ [EMBEDDING]: [1, 2, 3, 4] }, SHAPES),
      "model-2.safetensors": safetensors({ [LAYER]: [1, 2, 3, 4], "model.norm.weight": [1, 1] }, SHAPES),
    };
    await publish(ada, "ada/a", {
      weights: shards,
      licence: "mit",
      texts: { "model.safetensors.index.json": JSON.stringify(index) },
    });
    const adapter = safetensors(
      {
        [`base_model.model.${LAYER.replace(".weight", ".lora_A.weight")}`]: [1, 2],
        [`base_model.model.${LAYER.replace(".weight", ".lora_B.weight")}`]: [1, 2],
      },
      {
        [`base_model.model.${LAYER.replace(".weight", ".lora_A.weight")}`]: [1, 2],
        [`base_model.model.${LAYER.replace(".weight", ".lora_B.weight")}`]: [2, 1],
      },
    );
    const settings = JSON.stringify({ peft_type: "LORA", r: 1, lora_alpha: 2 });
    await publish(ada, "ada/lora", {
      weights: { "adapter_model.safetensors": adapter },
      config: null,
      licence: "cc-by-4.0",
      texts: { "adapter_config.json": settings },
    });
    const told = await plan(linear("ada/a", "ada/a+ada/lora"));
    expect(told).toMatchObject({
      ok: true,
      models: [
        { files: [{ path: "model-1.safetensors" }, { path: "model-2.safetensors" }], adapter: null },
        {
          adapter: {
            repo: "ada/lora",
            files: [{ path: "adapter_config.json" }, { path: "adapter_model.safetensors" }],
          },
        },
      ],
      output: { licence: { id: "cc-by-4.0" } },
    });
    const alone = await ada.post("/api/v1/merges/plan", { recipe: linear("ada/a", "ada/lora") });
    expect(alone).toMatchObject({
      status: 422,
      body: { field: "recipe.models[1].model", detail: expect.stringMatching(/is an adapter/) },
    });
  });
});

describe("weights", () => {
  const pipeline = (first: number, folders = ["unet", "vae"]): Publication => ({
    weights: Object.fromEntries(
      folders.map((folder) => [
        `${folder}/diffusion_pytorch_model.safetensors`,
        safetensors({ "conv.weight": [first, 1] }),
      ]),
    ),
    config: null,
    licence: "mit",
    texts: {
      "model_index.json": "{}",
      "scheduler/scheduler_config.json": "{}",
      ...Object.fromEntries(folders.map((folder) => [`${folder}/config.json`, `{"of":"${folder}"}`])),
    },
  });

  test("of a pipeline lie in folders, and so do those of the result", async () => {
    await publish(ada, "ada/a", pipeline(1));
    const beside = { ...pipeline(2).weights, "whole.safetensors": safetensors({ w: [1] }) };
    await publish(ada, "ada/b", { ...pipeline(2), weights: beside });
    const told = await plan(linear("ada/a", "ada/b"));
    expect(told).toMatchObject({
      ok: true,
      codes: ["weights_left_out", "architecture_unknown"],
      findings: [{ field: "recipe.models[1].model", message: expect.stringMatching(/whole.safetensors/) }, {}],
      models: [{ tensors: 2, architecture: null }, { tensors: 2 }],
      output: {
        files: [
          { path: "unet/diffusion_pytorch_model.safetensors", tensors: 1, bytes: 8 },
          { path: "vae/diffusion_pytorch_model.safetensors", tensors: 1, bytes: 8 },
        ],
        documents: [
          "merge-record.jsonl",
          "mergekit_config.yml",
          "model_index.json",
          "scheduler/scheduler_config.json",
          "unet/config.json",
          "vae/config.json",
        ],
      },
      work: { bytes_read: 32, bytes_written: 16 },
    });
    await publish(ada, "ada/c", pipeline(3, ["unet"]));
    expect(await plan(linear("ada/a", "ada/c"))).toMatchObject({
      ok: false,
      findings: [{ message: expect.stringMatching(/ada\/c.* lacks tensor "?vae\/conv.weight/) }, {}],
    });
  });

  test("in one file of any name are found, and keep that name; of several files the recipe can't mean one", async () => {
    const checkpoint = (first: number) => ({ "vit_tiny.safetensors": safetensors({ "head.weight": [first] }) });
    await publish(ada, "ada/a", { weights: checkpoint(1), config: null, licence: "mit" });
    await publish(ada, "ada/b", { weights: checkpoint(2), config: null, licence: "mit" });
    expect(await plan(linear("ada/a", "ada/b"))).toMatchObject({
      ok: true,
      codes: ["architecture_unknown"],
      output: { files: [{ path: "vit_tiny.safetensors", tensors: 1 }] },
    });
    const several = { ...checkpoint(1), "other.safetensors": safetensors({ w: [1] }) };
    await publish(ada, "ada/c", { weights: several, config: null });
    const half = { ...pipeline(1), weights: { "unet/diffusion_pytorch_model.bin": new Uint8Array([1]) } };
    await publish(ada, "ada/d", half);
    for (const [repo, detail] of [
      ["ada/c", /2 files of weights.*other.safetensors, vit_tiny.safetensors/],
      ["ada/d", /unet\/model.safetensors.*what is there: config.json, diffusion_pytorch_model.bin/],
    ] as const)
      expect(await ada.post("/api/v1/merges/plan", { recipe: linear("ada/a", repo) })).toMatchObject({
        status: 422,
        body: { field: "recipe.models[1].model", detail: expect.stringMatching(detail) },
      });
  });
});

describe("a job", () => {
  test("by a recipe is accepted with its program, and every file that the program reads is an input", async () => {
    await publish(ada, "ada/a", { licence: "mit" });
    await publish(ada, "ada/b", { weights: llama(9), licence: "mit" });
    const recipe =
      "merge_method: task_arithmetic\nbase_model: ada/a\nmodels:\n- model: ada/b\n  parameters: {weight: 0.3}\n";
    const hub = new TestPlatform();
    const id = await hub.accept(ada, { kind: "merge", recipe, output: { repo: "ada/merged" } });
    const row = await env.DB.prepare("select spec from jobs where id = ?").bind(id).first<{ spec: string }>();
    expect(JSON.parse(row?.spec ?? "{}")).toMatchObject({
      recipe: { merge_method: "task_arithmetic", base_model: "ada/a" },
      recipeText: recipe,
      parents: [
        { repo: "ada/b", role: "model", weight: null },
        { repo: "ada/a", role: "base" },
      ],
      base: { repo: "ada/a" },
      outputs: ["model.safetensors", "config.json", "merge-record.jsonl"],
      licence: { id: "mit" },
    });
    const inputs = await env.DB.prepare(
      "select name from job_inputs where job_id = ? union all select name from job_contents where job_id = ? order by 1",
    )
      .bind(id, id)
      .all();
    expect(inputs.results.map(({ name }) => name)).toEqual([
      "models/0/config.json",
      "models/0/model.safetensors",
      "models/1/config.json",
      "models/1/model.safetensors",
      "program.json",
    ]);
  });

  test("by a recipe that can't run is refused with the first error, and so are two ways of asking at once", async () => {
    await publish(ada, "ada/a", { licence: "mit" });
    await publish(ada, "ada/b", { weights: safetensors({ w: [1] }), licence: "mit" });
    const output = { repo: "ada/merged" };
    const before = await rows();
    const ask = async (body: object) => (await ada.post("/api/v1/jobs", { kind: "merge", output, ...body })).body;
    expect(await ask({ recipe: linear("ada/a", "ada/b") })).toMatchObject({
      status: 422,
      code: "merge_mismatch",
      field: expect.stringMatching(/^recipe\.models\[/),
      fix: expect.any(String),
    });
    expect(await ask({ recipe: linear("ada/a", "ada/b"), lambda: 0.5 })).toMatchObject({
      field: "lambda",
      detail: expect.stringMatching(/instead of recipe/),
    });
    expect(await ask({})).toMatchObject({ field: "method" });
    expect(await rows()).toEqual(before);
  });
});
