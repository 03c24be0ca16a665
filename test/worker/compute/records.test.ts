// What evaluations and trainings write back, and who may read it.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { driveJob } from "../../../src/compute/drive";
import { loadJob } from "../../../src/compute/jobs";
import { readVerifications } from "../../../src/compute/merge/verifications";
import { findSnapshot } from "../../../src/hub/repositories";
import { type JobId, parseRepoId, parseRevision } from "../../../src/ids";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import {
  CONFIG,
  digest,
  FakeCompute,
  MemorySteps,
  mergeOutputs,
  publishDataset,
  publishModel,
  safetensors,
  successOf,
  TestPlatform,
} from "../../kit/jobs";

let admin: Client;
let ada: Client;
let compute: FakeCompute;
let hub: TestPlatform;

beforeEach(async () => {
  compute = new FakeCompute();
  compute.install();
  hub = new TestPlatform();
  admin = await administrator();
  ada = await user(admin, "ada");
  await publishModel(ada, "ada/a");
  await publishDataset(ada, "ada/d");
});
afterEach(() => vi.restoreAllMocks());

const encoder = new TextEncoder();
const RECORD = {
  n: 1,
  metrics: [
    {
      metric: "accuracy",
      value: 1,
      n: 1,
      ci: { level: 0.95, lo: 0.2, hi: 1, method: "wilson" },
      higher_is_better: true,
    },
  ],
  confusion: [
    [0, 0],
    [0, 1],
  ],
  classes: ["0", "1"],
  task: { id: "toy", version: "1.0", kind: "classification" },
  sample_ids_sha256: "00",
  seed: 0,
  compute_dtype: "float32",
  device: "cpu",
  threads: 1,
};
const SAMPLES = encoder.encode('{"id":"2","target":"1","pred":"1","correct":true,"logits":[0,1]}\n');

async function run(id: JobId, files: Record<string, Uint8Array>, record: Record<string, unknown>): Promise<void> {
  const steps = new MemorySteps();
  steps.onWait = async () => {
    await compute.finish(compute.last, files, record);
  };
  await driveJob(hub.platform, steps, id, 1);
}

const Evaluated = z.object({ evaluation: z.string() });

async function evaluate(
  record: Record<string, unknown> = RECORD,
  fields: Record<string, unknown> = {},
): Promise<JobId> {
  // Ids sort by time, so each evaluation gets its own.
  hub.time++;
  const id = await hub.accept(ada, { kind: "evaluate", model: "ada/a", dataset: "ada/d", split: "test", ...fields });
  await run(id, { "samples.jsonl": SAMPLES }, record);
  return id;
}

const Page = z.object({
  evaluations: z.array(z.object({ id: z.string(), identity: z.string() })),
  next: z.string().nullable(),
});

test("an evaluation names model and data by commit and digest, and carries its results and samples", async () => {
  const id = await evaluate();
  const job = await loadJob(hub.platform, id);
  expect(job).toMatchObject({ state: "succeeded" });
  const { evaluation } = Evaluated.parse(job?.result);
  const answer = await anonymous.get(`/api/v1/evaluations/${evaluation}`);
  expect(answer.body).toMatchObject({
    schema: "owm.eval/1",
    identity: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    model: {
      repo: "ada/a",
      commit: expect.stringMatching(/^[0-9a-f]{40}$/),
      weights: [{ path: "model.safetensors", dtype: "F32" }],
    },
    dataset: { repo: "ada/d", split: "test", files: [{ path: "data/test.csv" }], n: 1 },
    task: { id: "toy", version: "1.0", metrics: ["accuracy"], seed: 0 },
    results: RECORD.metrics,
    confusion: RECORD.confusion,
    job: id,
  });
  const samples = await anonymous.raw("GET", `/api/v1/evaluations/${evaluation}/samples`);
  expect(new Uint8Array(await samples.arrayBuffer())).toEqual(SAMPLES);
  expect(compute.last.spec).toEqual({
    config: "model/config.json",
    weights: ["model/model.safetensors"],
    task: "data/task.json",
    data: "data/test.csv",
    split: "test",
    seed: 0,
    compute_dtype: "float32",
    batch_size: 256,
  });
});

test("the same evaluation again has the same identity; another seed has another", async () => {
  await evaluate();
  await evaluate({ ...RECORD, device: "cuda", threads: 8 });
  await evaluate({ ...RECORD, seed: 1 }, { seed: 1 });
  const page = Page.parse((await ada.get("/api/v1/models/ada/a/evaluations?split=test")).body);
  const [seeded, again, first] = page.evaluations;
  expect(again?.identity).toBe(first?.identity);
  expect(seeded?.identity).not.toBe(first?.identity);
});

test("evaluations are found by revision and split, and page by page", async () => {
  await evaluate();
  await evaluate();
  const first = Page.parse((await ada.get("/api/v1/models/ada/a/evaluations?revision=main&limit=1")).body);
  expect(first.evaluations).toHaveLength(1);
  const second = Page.parse((await ada.get(`/api/v1/models/ada/a/evaluations?limit=1&cursor=${first.next}`)).body);
  expect(second.evaluations[0]?.id).not.toBe(first.evaluations[0]?.id);
  await ada.post("/api/models/ada/a/tag/main", { tag: "v1" });
  await publishModel(ada, "ada/a", safetensors({ w: [9, 9], b: [9] }));
  expect(Page.parse((await ada.get("/api/v1/models/ada/a/evaluations?revision=main")).body).evaluations).toEqual([]);
  expect(Page.parse((await ada.get("/api/v1/models/ada/a/evaluations?split=train")).body).evaluations).toEqual([]);
});

test("a result on private data is seen only by who may see the data", async () => {
  const { evaluation } = Evaluated.parse((await loadJob(hub.platform, await evaluate()))?.result);
  await ada.send("PUT", "/api/datasets/ada/d/settings", { private: true });
  const eve = await user(admin, "eve");
  expect((await eve.get(`/api/v1/evaluations/${evaluation}`)).status).toBe(404);
  expect((await eve.get(`/api/v1/evaluations/${evaluation}/samples`)).status).toBe(404);
  expect(Page.parse((await eve.get("/api/v1/models/ada/a/evaluations")).body).evaluations).toEqual([]);
  expect((await ada.get(`/api/v1/evaluations/${evaluation}`)).status).toBe(200);
});

test("a record without what makes it one is not published", async () => {
  const id = await evaluate({ ...RECORD, metrics: [] });
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
});

test("a training publishes weights, config, record and card, and descends from model and data", async () => {
  const request = {
    kind: "train",
    dataset: "ada/d",
    initial: "ada/a",
    optimizer: { name: "adam", lr: 0.01 },
    epochs: 2,
    output: { repo: "ada/trained" },
  };
  const id = await hub.accept(ada, request);
  const files = {
    "model.safetensors": safetensors({ w: [7, 7], b: [7] }),
    "config.json": new TextEncoder().encode(CONFIG),
    "training.json": new TextEncoder().encode('{"loss":[1,0.5]}'),
  };
  await run(id, files, { loss: [1, 0.5] });
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "succeeded" });
  expect((await ada.get("/ada/trained/resolve/main/training.json")).body).toEqual({ loss: [1, 0.5] });
  const card = (await ada.get("/ada/trained/resolve/main/README.md")).text;
  expect(card).toContain("datasets:\n- ada/d\nbase_model:\n- ada/a\nbase_model_relation: finetune");
  const lineage = await ada.get("/api/v1/models/ada/trained/lineage/main");
  expect(lineage.body).toMatchObject({
    parents: [
      { relation: "finetune", source: { type: "model", repo: "ada/a" } },
      { relation: "dataset", source: { type: "dataset", repo: "ada/d" } },
    ],
  });
  expect(compute.last.spec).toMatchObject({
    config: null,
    initial: { config: "initial/config.json" },
    data: "data/train.csv",
    init: "default",
  });
});

test("lineage hides what the caller may not see, and keeps its place", async () => {
  await publishModel(ada, "ada/secret", safetensors({ w: [4, 4], b: [4] }), { isPrivate: true });
  const output = { repo: "ada/merged", private: false };
  const id = await hub.accept(ada, {
    kind: "merge",
    method: "linear",
    a: "ada/secret",
    b: "ada/a",
    lambda: 0.5,
    output,
  });
  await run(id, mergeOutputs(safetensors({ w: [2, 2], b: [2] })), {});
  const eve = await user(admin, "eve");
  const lineage = await eve.get("/api/v1/models/ada/merged/lineage/main");
  expect(lineage.body).toMatchObject({ parents: [{ relation: "merge", source: null }, { source: { repo: "ada/a" } }] });
});

describe("a verification", () => {
  const MERGED = safetensors({ w: [2, 3], b: [4] });
  const PROGRAM = '{"schema":"owm.merge-program/1"}';
  const Head = z.object({ sha: z.string() });

  /** A merge of `ada/a` and `ada/b` as some hub published it. */
  async function publishMerge(): Promise<void> {
    await publishModel(ada, "ada/b", safetensors({ w: [3, 4], b: [5] }));
    await publishModel(ada, "ada/merged", MERGED);
    const parents = { "ada/a": safetensors({ w: [1, 2], b: [3] }), "ada/b": safetensors({ w: [3, 4], b: [5] }) };
    const inputs = await Promise.all(
      Object.entries(parents).map(async ([repo, bytes], i) => ({
        name: `models/${i}/model.safetensors`,
        repo,
        commit: Head.parse((await ada.get(`/api/models/${repo}`)).body).sha,
        path: "model.safetensors",
        sha256: digest(bytes),
        size: bytes.byteLength,
      })),
    );
    const program = { name: "program.json", path: "merge-program.json", sha256: digest(encoder.encode(PROGRAM)) };
    const recipe = {
      schema: "owm.recipe/2",
      recipe: { merge_method: "linear" },
      recipe_sha256: "0".repeat(64),
      program: { ...program, size: PROGRAM.length },
      seed: 0,
      inputs,
      base_model: null,
      engine: { name: "owm-compute", version: "0.1.0" },
      determinism: "exact",
      outputs: [{ path: "model.safetensors", sha256: digest(MERGED), size: MERGED.byteLength }],
      copied: [],
      license: null,
    };
    await ada.commit("ada/merged", [
      fileLine("merge-program.json", PROGRAM),
      fileLine("recipe.json", JSON.stringify(recipe)),
    ]);
  }

  /** The compute service makes these bytes again, and uploads none. */
  async function verify(client: Client, made: Uint8Array): Promise<JobId> {
    hub.time++;
    const id = await hub.accept(client, { kind: "verify", model: "ada/merged" });
    const steps = new MemorySteps();
    steps.onWait = async () => {
      const { last } = compute;
      await compute.callBack(last, last.hub.result_url, successOf(last, { "model.safetensors": made }));
    };
    await driveJob(hub.platform, steps, id, 1);
    return id;
  }

  test("runs the recorded program on the recorded inputs, publishes nothing, and compares every file", async () => {
    await publishMerge();
    const eve = await user(admin, "eve");
    const id = await verify(eve, MERGED);
    expect(compute.last).toMatchObject({
      kind: "merge",
      spec: { program: "program.json", dry_run: true },
      inputs: [
        { name: "models/0/model.safetensors" },
        { name: "models/1/model.safetensors" },
        { name: "program.json" },
      ],
    });
    const file = { path: "model.safetensors", expected: digest(MERGED), published: digest(MERGED) };
    expect((await eve.get(`/api/v1/jobs/${id}`)).body).toMatchObject({
      kind: "verify",
      state: "succeeded",
      output: null,
      result: { verified: true, determinism: "exact", files: [{ ...file, got: digest(MERGED), equal: true }] },
    });
    const other = safetensors({ w: [2, 3], b: [5] });
    expect((await loadJob(hub.platform, await verify(eve, other)))?.result).toMatchObject({
      verified: false,
      files: [{ ...file, got: digest(other), equal: false }],
    });
    const snapshot = await findSnapshot(
      await hub.caller(ada),
      parseRepoId("model", "ada/merged"),
      parseRevision("main"),
    );
    expect(await readVerifications(hub.platform, snapshot)).toEqual({
      times: 2,
      equal: 1,
      last: { at: hub.time, verified: false },
    });
  });

  test("is asked for at the revision's address, by whoever may merge all of its parents", async () => {
    await publishMerge();
    vi.spyOn(env.JOBS, "create").mockRejectedValue(new Error("none is driven here"));
    const eve = await user(admin, "eve");
    const accepted = await eve.post("/api/v1/models/ada/merged/revisions/main/verify");
    expect(accepted).toMatchObject({ status: 202, body: { kind: "verify", state: "queued" } });
    expect((await eve.post("/api/v1/revisions/ada/merged/main/verify")).status).toBe(202);
    await ada.send("PUT", "/api/models/ada/b/settings", { private: true });
    expect(await eve.post("/api/v1/models/ada/merged/revisions/main/verify")).toMatchObject({
      status: 404,
      body: { code: "repo_not_found", field: "model" },
    });
    expect(await ada.post("/api/v1/models/ada/a/revisions/main/verify")).toMatchObject({
      status: 422,
      body: { code: "invalid_field", detail: expect.stringMatching(/has no recipe.json/) },
    });
  });

  test("is refused where the recorded inputs or the program are not there as recorded", async () => {
    await publishMerge();
    await ada.commit("ada/merged", [fileLine("merge-program.json", "{}")]);
    expect(await ada.post("/api/v1/models/ada/merged/revisions/main/verify")).toMatchObject({
      status: 422,
      body: { detail: expect.stringMatching(/no merge-program.json of the SHA-256/) },
    });
    const recipe = (await ada.get("/ada/merged/resolve/main/recipe.json")).text;
    await ada.commit("ada/merged", [
      fileLine("merge-program.json", PROGRAM),
      fileLine("recipe.json", recipe.replace(digest(safetensors({ w: [1, 2], b: [3] })), "1".repeat(64))),
    ]);
    expect(await ada.post("/api/v1/models/ada/merged/revisions/main/verify")).toMatchObject({
      status: 422,
      body: { detail: expect.stringMatching(/records model.safetensors of ada\/a/) },
    });
  });
});
