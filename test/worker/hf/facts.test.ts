// What the hub tells of a repository by itself: from card, configuration and headers of weights, at every revision, to whoever may see it.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it, test } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { gguf, LLAMA } from "../../kit/gguf";
import { safetensors } from "../../kit/jobs";
import { countRoundTrips } from "../../kit/round-trips";

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
});

const Info = z.looseObject({ id: z.string(), sha: z.string().optional(), tags: z.array(z.string()).optional() });
type Files = Record<string, string | Uint8Array>;

/** A repository of these files; bytes go by LFS. */
async function publish(name: string, files: Files, type: "model" | "dataset" = "model"): Promise<void> {
  await ada.post("/api/repos/create", { name, type });
  await push(name, files, type);
}

async function push(name: string, files: Files, type: "model" | "dataset" = "model"): Promise<string> {
  const lines: unknown[] = [];
  for (const [path, content] of Object.entries(files)) {
    if (typeof content === "string") lines.push(fileLine(path, content));
    else {
      const oid = await uploadLfs(ada, `ada/${name}`, content, type === "dataset" ? "datasets/" : "");
      lines.push(lfsLine(path, oid, content.byteLength));
    }
  }
  const answer = await ada.commit(`ada/${name}`, lines, { type: `${type}s` });
  expect(answer.text).toContain("commitOid");
  return z.object({ commitOid: z.string() }).parse(answer.body).commitOid;
}

async function info(path: string, client: Client = anonymous) {
  const answer = await client.get(`/api/${path}`);
  expect(answer.status, answer.text).toBe(200);
  return Info.parse(answer.body);
}

const card = (yaml: string, body = "# It\n"): string => `---\n${yaml}\n---\n${body}`;
const LLAMA_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  transformers_version: "5.18.0",
  hidden_size: 8,
};
const TOKENIZER = { bos_token: { content: "<s>", lstrip: false }, eos_token: "</s>", chat_template: "{{ messages }}" };

describe("a model", () => {
  it("of transformers tells task, library, tags, parameters and how it is loaded", async () => {
    await publish("chat", {
      "README.md": card(
        "license: apache-2.0\nlanguage: [en, de]\ndatasets: [ada/talk]\nbase_model: ada/base\ntags: [poetry]\nwidget: [{text: Hi}]",
        "By arXiv:2401.12345 and https://arxiv.org/abs/1706.03762, doi:10.5281/zenodo.123.\n",
      ),
      "config.json": JSON.stringify(LLAMA_CONFIG),
      "tokenizer_config.json": JSON.stringify(TOKENIZER),
      "model.safetensors": safetensors({ w: [1, 2, 3, 4], b: [1, 2] }, { w: [2, 2] }),
    });
    const told = await info("models/ada/chat");
    expect(told).toMatchObject({
      modelId: "ada/chat",
      author: "ada",
      private: false,
      gated: false,
      disabled: false,
      xetEnabled: true,
      library_name: "transformers",
      pipeline_tag: "text-generation",
      cardData: { license: "apache-2.0", language: ["en", "de"] },
      config: {
        architectures: ["LlamaForCausalLM"],
        model_type: "llama",
        tokenizer_config: { bos_token: "<s>", eos_token: "</s>", chat_template: "{{ messages }}" },
      },
      transformersInfo: {
        auto_model: "AutoModelForCausalLM",
        pipeline_tag: "text-generation",
        processor: "AutoTokenizer",
      },
      safetensors: { parameters: { F32: 6 }, total: 6 },
      widgetData: [{ text: "Hi" }],
      likes: 0,
      spaces: [],
    });
    expect(told.tags).toEqual([
      "transformers",
      "safetensors",
      "llama",
      "text-generation",
      "poetry",
      "conversational",
      "en",
      "de",
      "dataset:ada/talk",
      "arxiv:2401.12345",
      "arxiv:1706.03762",
      "doi:10.5281/zenodo.123",
      "base_model:ada/base",
      "base_model:finetune:ada/base",
      "license:apache-2.0",
      "endpoints_compatible",
      "region:us",
    ]);
    expect(told.usedStorage).toBeGreaterThan(100);
  });

  test.each<[string, Files, Record<string, unknown>, string[]]>([
    [
      "an adapter",
      {
        "adapter_config.json": JSON.stringify({
          base_model_name_or_path: "ada/base",
          peft_type: "LORA",
          task_type: "CAUSAL_LM",
        }),
        "adapter_model.safetensors": safetensors({ a: [1, 2] }),
      },
      {
        library_name: "peft",
        pipeline_tag: "text-generation",
        safetensors: { parameters: { F32: 2 }, total: 2 },
        config: { peft: { base_model_name_or_path: "ada/base", peft_type: "LORA", task_type: "CAUSAL_LM" } },
      },
      ["base_model:adapter:ada/base", "safetensors"],
    ],
    [
      "a merge of two",
      { "README.md": card("base_model: [ada/a, ada/b]\ntags: [merge, mergekit]") },
      {},
      ["merge", "base_model:ada/a", "base_model:merge:ada/b"],
    ],
    [
      "a quantized one with code of its own",
      {
        "README.md": card("base_model: ada/base"),
        "config.json": JSON.stringify({
          ...LLAMA_CONFIG,
          auto_map: { AutoModelForCausalLM: "modeling.MyModel" },
          quantization_config: { quant_method: "gptq", bits: 4, secret: { deep: "er" } },
        }),
      },
      {
        transformersInfo: { auto_model: "AutoModelForCausalLM", custom_class: "MyModel" },
        config: { quantization_config: { quant_method: "gptq", bits: 4 } },
      },
      ["custom_code", "4-bit", "gptq", "base_model:quantized:ada/base"],
    ],
    [
      "GGUF files",
      { "tiny.Q4_K_M.gguf": gguf(LLAMA), "mmproj-tiny.gguf": gguf({ ...LLAMA, tensors: [] }) },
      {
        library_name: "gguf",
        pipeline_tag: "text-generation",
        gguf: {
          total: 72,
          architecture: "llama",
          context_length: 2048,
          quantization: "Q4_K_M",
          chat_template: "{{ messages }}",
          bos_token: "<s>",
          eos_token: "</s>",
        },
      },
      ["gguf", "conversational", "endpoints_compatible"],
    ],
    [
      "shards of several types",
      {
        "model-00001-of-00002.safetensors": safetensors({ a: [1, 2, 3] }),
        "model-00002-of-00002.safetensors": safetensors({ b: [1, 2] }, {}, "BF16"),
        "other.safetensors": safetensors({ c: [1] }),
      },
      { safetensors: { parameters: { F32: 3, BF16: 2 }, total: 5 } },
      ["safetensors"],
    ],
    [
      "results, and a token for the mask",
      {
        "README.md": card(
          "pipeline_tag: fill-mask\nmask_token: '[MASK]'\nmodel-index: [{name: m, results: [{task: {type: t}}]}]",
        ),
        ".eval_results/a.yaml":
          "- dataset: {id: ada/quiz, task_id: default}\n  value: 0.5\n  date: 2026-01-01\n- nothing: here\n",
        ".eval_results/b.yaml": "- [",
      },
      {
        mask_token: "[MASK]",
        "model-index": [{ name: "m", results: [{ task: { type: "t" } }] }],
        cardData: { "model-index": [{ name: "m" }] },
      },
      ["model-index", "fill-mask"],
    ],
  ])("of %s", async (_, files, told, tags) => {
    await publish("it", files);
    const answer = await info("models/ada/it");
    expect(answer).toMatchObject(told);
    expect(answer.tags).toEqual(expect.arrayContaining(tags));
  });

  it("whose files are broken tells the rest", async () => {
    await publish("odd", {
      "config.json": "{",
      "tokenizer_config.json": "[1]",
      "adapter_config.json": JSON.stringify({ base_model_name_or_path: "/home/ada/x" }),
      "model.safetensors": new Uint8Array([1, 2, 3]),
      "a.gguf": new TextEncoder().encode("GGUF and no more"),
      "pytorch_model.bin": new Uint8Array([0]),
    });
    const told = await info("models/ada/odd?securityStatus=true");
    expect(told.tags).toEqual(["peft", "pytorch", "safetensors", "gguf", "region:us"]);
    expect(told).not.toHaveProperty("safetensors");
    expect(told.securityRepoStatus).toEqual({
      scansDone: false,
      filesWithIssues: [{ path: "pytorch_model.bin", level: "unsafe", status: "unscanned" }],
    });
  });
});

it("a dataset tells its kinds, formats, beginning and citation", async () => {
  await publish(
    "talk",
    {
      "README.md": card(
        "license: mit\nlanguage: en\ntask_categories: [text-classification]\nsize_categories: [n<1K]\npaperswithcode_id: talk",
        "# Talk\n\nWhat people said.\n\n```bibtex\n@misc{talk, title={Talk}}\n```\n",
      ),
      "data/train.csv": "a,b\n1,2\n",
    },
    "dataset",
  );
  const told = await info("datasets/ada/talk");
  expect(told).toMatchObject({ description: expect.stringMatching(/^What people said/), paperswithcode_id: "talk" });
  expect(told.citation).toBe("@misc{talk, title={Talk}}");
  expect(told).not.toHaveProperty("modelId");
  expect(told.tags).toEqual([
    "task_categories:text-classification",
    "size_categories:n<1K",
    "language:en",
    "license:mit",
    "format:csv",
    "library:datasets",
    "region:us",
  ]);
});

describe("expand", () => {
  beforeEach(() => publish("it", { "README.md": card("license: mit"), "config.json": JSON.stringify(LLAMA_CONFIG) }));

  test.each(["expand=tags&expand=likes", "expand[]=tags&expand[]=likes", "expand=tags,likes"])(
    "%s answers these and the id",
    async (query) => {
      const told = await info(`models/ada/it?${query}`);
      expect(Object.keys(told).sort()).toEqual(["_id", "id", "likes", "modelId", "tags"]);
    },
  );

  it("of something else is refused with what there is, for each kind of repository its own", async () => {
    const answer = await anonymous.get("/api/models/ada/it?expand=foo");
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({
      error: expect.stringMatching(/^"expand" must be one of \[author, baseModels/),
    });
    expect((await anonymous.get("/api/datasets/ada/it?expand=safetensors")).status).toBe(400);
  });

  it("of blobs tells sizes and ids of files", async () => {
    await push("it", { "model.safetensors": safetensors({ w: [1] }) });
    const told = z
      .object({ siblings: z.array(z.looseObject({ rfilename: z.string() })) })
      .parse(await info("models/ada/it?blobs=true"));
    expect(told.siblings.find((one) => one.rfilename === "model.safetensors")).toMatchObject({
      size: expect.any(Number),
      blobId: expect.stringMatching(/^[0-9a-f]{40}$/),
      lfs: { size: expect.any(Number), sha256: expect.any(String), pointerSize: expect.any(Number) },
    });
  });
});

it("each revision tells of its own files", async () => {
  await publish("it", { "README.md": card("license: mit") });
  const { sha: first } = await info("models/ada/it");
  await push("it", { "README.md": card("license: gpl-3.0\npipeline_tag: translation") });
  expect((await info(`models/ada/it/revision/${first}`)).tags).toEqual(["license:mit", "region:us"]);
  await ada.post("/api/models/ada/it/branch/old", { startingPoint: first });
  await ada.commit("ada/it", [fileLine("tf_model.h5", "x")], { branch: "old" });
  expect((await info("models/ada/it/revision/old")).tags).toEqual(["tf", "license:mit", "region:us"]);
  expect((await info("models/ada/it")).tags).toEqual(["translation", "license:gpl-3.0", "region:us"]);
});

it("weights that stay are not read again, and are told as before", async () => {
  await publish("it", { "model.safetensors": safetensors({ w: [1, 2] }), "a.gguf": gguf(LLAMA) });
  const { safetensors: before, gguf: said } = await info("models/ada/it");
  const { r2 } = await countRoundTrips(() => push("it", { "README.md": card("license: mit") }));
  // The card, as it is checked and as it is read for the facts.
  expect(r2).toBe(2);
  expect(await info("models/ada/it")).toMatchObject({ cardData: { license: "mit" }, safetensors: before, gguf: said });
  await push("it", { "model.safetensors": safetensors({ w: [1, 2, 3] }) });
  expect(await info("models/ada/it")).toMatchObject({ safetensors: { total: 3 }, gguf: said });
});

it("the facts of a repository's many revisions do not pile up", async () => {
  await publish("it", {});
  const { sha: first } = await info("models/ada/it");
  // As reading many commits leaves them.
  await env.DB.exec(
    "with recursive n (i) as (select 1 union all select i + 1 from n where i < 70) insert into tree_facts (repo_id, tree, version, facts) select r.id, 'tree ' || i, 1, '{}' from repos r, n",
  );
  await push("it", { "README.md": card("license: mit") });
  const kept = await env.DB.prepare("select count(*) as n from tree_facts").first<number>("n");
  expect(kept).toBe(51);
  expect((await info("models/ada/it")).tags).toEqual(["license:mit", "region:us"]);
  expect((await info(`models/ada/it/revision/${first}`)).tags).toEqual(["region:us"]);
});

describe("a broken card", () => {
  const broken = card("license: mit\ntags: chat");
  it("is refused with the line, by commit, proposal and creation, and nothing is published", async () => {
    await publish("it", { "README.md": card("license: mit") });
    const { sha } = await info("models/ada/it");
    const answer = await ada.commit("ada/it", [fileLine("README.md", broken), fileLine("a.txt", "a")]);
    expect(answer.status).toBe(400);
    expect(answer.headers.get("x-error-message")).toContain('"tags" must be an array');
    expect(answer.body).toMatchObject({ error: expect.stringContaining("(line 3)") });
    const proposal = await ada.raw("POST", "/api/models/ada/it/commit/main?create_pr=1", {
      body: [{ key: "header", value: { summary: "s" } }, fileLine("README.md", broken)]
        .map((line) => JSON.stringify(line))
        .join("\n"),
    });
    expect(proposal.status).toBe(400);
    const content = Buffer.from(broken).toString("base64");
    const files = [{ path: "README.md", content, encoding: "base64" }];
    expect((await ada.post("/api/repos/create", { name: "other", files })).status).toBe(400);
    expect((await anonymous.get("/api/models/ada/other")).status).not.toBe(200);
    expect((await info("models/ada/it")).sha).toBe(sha);
  });

  it("elsewhere than at the root, or with mere warnings, is nobody's business", async () => {
    await publish("it", { "docs/README.md": broken, "README.md": card("pipeline_tag: mind-reading") });
    expect((await info("models/ada/it")).pipeline_tag).toBe("mind-reading");
  });

  it("is told by validate-yaml, with warnings beside", async () => {
    const content = card("license: asdf\nlanguage: English");
    const answer = await ada.post("/api/validate-yaml", { content, repoType: "model" });
    expect(answer.status).toBe(400);
    expect(answer.body).toEqual({
      errors: [{ message: expect.stringMatching(/^Error: "license" must be one of/) }],
      warnings: [{ message: expect.stringContaining("ISO 639") }],
    });
    const plain = await ada.raw("POST", "/api/validate-yaml", {
      body: JSON.stringify({ content, repoType: "model" }),
      headers: { accept: "text/plain", "content-type": "application/json" },
    });
    expect(plain.status).toBe(400);
    expect(await plain.text()).toMatch(/^- Error: "license" must be one of .*\n- Warning: .*ISO 639/);
    const fine = await anonymous.post("/api/validate-yaml", { content: card("tags: [a]"), repoType: "space" });
    expect([fine.status, fine.body]).toEqual([200, { errors: [], warnings: [] }]);
  });
});

describe("families", () => {
  const Family = z.looseObject({ childrenModelCount: z.number().optional(), baseModels: z.unknown().optional() });
  const family = async (path: string, client?: Client) =>
    Family.parse(await info(`models/${path}?expand=childrenModelCount&expand=baseModels`, client));

  it("are counted as far as the caller sees them", async () => {
    await publish("base", {});
    await publish("open", { "README.md": card("base_model: ada/base") });
    await publish("hidden", { "README.md": card("base_model: ada/base") });
    await ada.send("PUT", "/api/models/ada/hidden/settings", { private: true });
    const eve = await user(admin, "eve");
    expect((await family("ada/base")).childrenModelCount).toBe(1);
    expect((await family("ada/base", eve)).childrenModelCount).toBe(1);
    expect((await family("ada/base", ada)).childrenModelCount).toBe(2);
  });

  it("do not tell which private models exist", async () => {
    await publish("base", {});
    await publish("child", { "README.md": card("base_model: [ada/base, ada/nothing]") });
    await ada.send("PUT", "/api/models/ada/base/settings", { private: true });
    const names = [{ id: "ada/base" }, { id: "ada/nothing" }];
    expect((await family("ada/child")).baseModels).toEqual({ relation: "merge", models: names });
    expect((await family("ada/child", ada)).baseModels).toEqual({
      relation: "merge",
      models: [{ id: "ada/base", _id: expect.any(String) }, { id: "ada/nothing" }],
    });
  });
});
