// What evaluations and trainings write back, and who may read it.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as z from "zod";
import { driveJob } from "../../../src/compute/drive";
import { loadJob } from "../../../src/compute/jobs";
import type { JobId } from "../../../src/ids";
import { administrator, anonymous, type Client, user } from "../../kit/actors";
import {
  CONFIG,
  FakeCompute,
  MemorySteps,
  publishDataset,
  publishModel,
  safetensors,
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
const SAMPLES = new TextEncoder().encode('{"id":"2","target":"1","pred":"1","correct":true,"logits":[0,1]}\n');

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
  expect(card).toContain('datasets:\n- "ada/d"\nbase_model:\n- "ada/a"\nbase_model_relation: finetune');
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
  await run(id, { "model.safetensors": safetensors({ w: [2, 2], b: [2] }) }, {});
  const eve = await user(admin, "eve");
  const lineage = await eve.get("/api/v1/models/ada/merged/lineage/main");
  expect(lineage.body).toMatchObject({ parents: [{ relation: "merge", source: null }, { source: { repo: "ada/a" } }] });
});
