// What a job is refused for, before anything is written; what is written when it is accepted.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { HubError } from "../../../src/errors";
import { administrator, type Client, user } from "../../kit/actors";
import { CONFIG, FakeCompute, publishDataset, publishModel, safetensors, TestPlatform } from "../../kit/jobs";

let admin: Client;
let ada: Client;
let hub: TestPlatform;

beforeEach(async () => {
  new FakeCompute().install();
  hub = new TestPlatform();
  admin = await administrator();
  ada = await user(admin, "ada");
});
afterEach(() => vi.restoreAllMocks());

const merge = (fields: Record<string, unknown> = {}) => ({
  kind: "merge",
  method: "linear",
  a: "ada/a",
  b: "ada/b",
  lambda: 0.5,
  output: { repo: "ada/merged" },
  ...fields,
});

const Problem = z.object({
  code: z.string(),
  detail: z.string(),
  field: z.string().optional(),
  tensor: z.string().optional(),
});

/** Asks at the front door, where nothing is started because nothing is accepted. */
async function refusal(body: unknown, client = ada) {
  const answer = await client.post("/api/v1/jobs", body);
  return { status: answer.status, ...Problem.parse(answer.body) };
}

async function nothingWritten(): Promise<void> {
  const rows = await env.DB.prepare(
    "select (select count(*) from jobs) + (select count(*) from job_inputs) + (select count(*) from job_events) + (select count(*) from repos where name = 'merged') as n",
  ).first<{ n: number }>();
  expect(rows?.n).toBe(0);
}

describe("a request that can't be one", () => {
  test.each([
    [{ kind: "distil" }, "kind", /merge, verify, evaluate or train/],
    [merge({ method: "slerp" }), "method", /linear/],
    [merge({ lambda: 1.5 }), "lambda", /from 0 to 1/],
    [merge({ lambda: -0.1 }), "lambda", /from 0 to 1/],
    [merge({ lambda: "0.5" }), "lambda", /number/],
    [merge({ lambda: null }), "lambda", /number/],
    [merge({ lambda: undefined }), "lambda", /a, b and lambda come together/],
    [
      merge({
        models: [
          { model: "ada/a", weight: 1 },
          { model: "ada/b", weight: 1 },
        ],
      }),
      "models",
      /instead of/,
    ],
    [merge({ a: undefined, b: undefined, lambda: undefined }), "models", /at least two/],
    [
      merge({ a: undefined, b: undefined, lambda: undefined, models: [{ model: "ada/a", weight: 1 }] }),
      "models",
      /at least two/,
    ],
    [
      merge({
        a: undefined,
        b: undefined,
        lambda: undefined,
        models: [
          { model: "ada/a", weight: 0.1 },
          { model: "ada/b", weight: "x" },
        ],
      }),
      "models[1].weight",
      /number/,
    ],
    [
      merge({
        a: undefined,
        b: undefined,
        lambda: undefined,
        models: [
          { model: "ada/a", weight: 0.3 },
          { model: "ada/b", weight: -0.3 },
        ],
      }),
      "models",
      /sum to 0/,
    ],
    [merge({ a: "ada" }), "a", /owner\/name@revision/],
    [merge({ out_dtype: "I8" }), "out_dtype", /F32, F16 or BF16/],
    [merge({ outptu: {} }), "outptu", /remove it/],
    [merge({ output: { repo: "merged" } }), "output.repo", /owner\/name/],
    [merge({ output: { repo: "ada/merged", branch: "a..b" } }), "output.branch", /git's rules/],
    [{ kind: "evaluate", model: "ada/a", dataset: "ada/d" }, "split", /string/],
    [{ kind: "evaluate", model: "ada/a", dataset: "ada/d", split: "test", batch_size: 0 }, "batch_size", /at least 1/],
    [
      { kind: "train", dataset: "ada/d", optimizer: { name: "sgd", lr: 0.1 }, epochs: 1, output: { repo: "ada/t" } },
      "architecture",
      /instead of initial/,
    ],
    [
      {
        kind: "train",
        dataset: "ada/d",
        architecture: {},
        optimizer: { name: "lion", lr: 0.1 },
        epochs: 1,
        output: { repo: "ada/t" },
      },
      "optimizer.name",
      /sgd/,
    ],
  ])("%j names %s", async (body, field, detail) => {
    const answer = await refusal(body);
    expect(answer).toMatchObject({ status: 422, code: "invalid_field", field, detail: expect.stringMatching(detail) });
    await nothingWritten();
  });

  test("a body that is no JSON, or none of ours, is told so", async () => {
    const send = async (body: string, type = "application/json") =>
      (await ada.raw("POST", "/api/v1/jobs", { body, headers: { "content-type": type } })).json();
    expect(await send('{"kind":')).toMatchObject({ status: 400, code: "invalid_request" });
    expect(await send("kind=merge", "application/x-www-form-urlencoded")).toMatchObject({ code: "invalid_request" });
    expect(await send(`{"kind":${"[".repeat(5000)}${"]".repeat(5000)}}`)).toMatchObject({ code: "invalid_request" });
    expect(await send(`{"kind":"${"x".repeat(2_000_000)}"}`)).toMatchObject({ status: 413, code: "payload_too_large" });
  });
});

describe("inputs", () => {
  test("that are not there are named by field", async () => {
    await publishModel(ada, "ada/a");
    expect(await refusal(merge())).toMatchObject({ status: 404, code: "repo_not_found", field: "b" });
    expect(await refusal(merge({ b: "ada/a@nowhere" }))).toMatchObject({
      status: 404,
      code: "revision_not_found",
      field: "b",
    });
    await nothingWritten();
  });

  test("without weights are told what to publish", async () => {
    await publishModel(ada, "ada/a");
    await ada.post("/api/repos/create", { name: "b", organization: "ada" });
    expect(await refusal(merge())).toMatchObject({
      code: "invalid_field",
      field: "b",
      detail: expect.stringContaining("no model.safetensors"),
    });
  });

  test.each([
    ["a name", safetensors({ w: [1, 2], c: [3] }), "b", "b"],
    ["a tensor more", safetensors({ w: [1, 2], b: [3], z: [1] }), "z", "a"],
    ["a shape", safetensors({ w: [1, 2, 3, 4], b: [3] }, { w: [2, 2] }), "w", "models"],
  ])("that differ in %s are refused with the tensor", async (_, weights, tensor, field) => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", weights);
    expect(await refusal(merge())).toMatchObject({ status: 422, code: "merge_mismatch", field, tensor });
    await nothingWritten();
  });

  test("of another architecture are refused with the key that differs", async () => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", undefined, { config: CONFIG.replace('"num_labels":2', '"num_labels":3') });
    const answer = await refusal(merge());
    expect(answer).toMatchObject({ code: "merge_mismatch", field: "b", detail: expect.stringContaining("num_labels") });
  });

  test("whose configuration only spells the same differently are accepted", async () => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", undefined, { config: JSON.stringify(JSON.parse(CONFIG), null, 2) });
    await expect(hub.accept(ada, merge())).resolves.toMatch(/^job_/);
  });

  test("whose weights are no safetensors are refused before any work", async () => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", new TextEncoder().encode("PK\u0003\u0004 a pickle in a zip, perhaps"));
    expect(await refusal(merge())).toMatchObject({ status: 422, code: "invalid_weights", field: "b" });
  });

  test("of an evaluation: an unknown split is answered with those there are", async () => {
    await publishModel(ada, "ada/a");
    await publishDataset(ada, "ada/d");
    const ask = (split: string) => refusal({ kind: "evaluate", model: "ada/a", dataset: "ada/d", split });
    expect(await ask("dev")).toMatchObject({ field: "split", detail: expect.stringContaining("train, test") });
    expect(await ask("__proto__")).toMatchObject({ field: "split" });
  });

  test.each([
    ["no object", "[]", "dataset"],
    ["no JSON", "{", "dataset"],
    ["a path out of the dataset", { splits: { test: "../../secret" } }, "dataset: the path of split test in task.json"],
    ["a file that is not there", { splits: { test: "data/none.csv" } }, "split"],
  ])("of an evaluation: a task.json that is %s", async (_, task, field) => {
    await publishModel(ada, "ada/a");
    await publishDataset(ada, "ada/d", task);
    expect(await refusal({ kind: "evaluate", model: "ada/a", dataset: "ada/d", split: "test" })).toMatchObject({
      status: 422,
      field,
    });
  });
});

describe("rights", () => {
  test("a private input that the caller may not see does not exist, and the attempt is in the trail", async () => {
    const eve = await user(admin, "eve");
    await publishModel(ada, "ada/a", undefined, { isPrivate: true });
    await publishModel(eve, "eve/b");
    const caller = await hub.caller(eve);
    const { acceptJob } = await import("../../../src/compute/accept");
    const { JobRequest } = await import("../../../src/compute/requests");
    const request = JobRequest.parse(merge({ b: "eve/b", output: { repo: "eve/merged" } }));
    await expect(acceptJob(caller, request)).rejects.toMatchObject({ code: "repo_not_found", fields: { field: "a" } });
    expect(hub.recorded).toMatchObject([
      { type: "access.denied", subject: "model:ada/a", actor: "user:eve", decision: "deny" },
    ]);
    await nothingWritten();
  });

  test("writing the output needs the right to, in a repository and in a namespace", async () => {
    const eve = await user(admin, "eve");
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b");
    expect(await refusal(merge({ output: { repo: "ada/a" } }), eve)).toMatchObject({ status: 403, code: "forbidden" });
    expect(await refusal(merge(), eve)).toMatchObject({ status: 403, code: "forbidden" });
    expect(await refusal(merge(), await user(admin, "reader", "read"))).toMatchObject({ status: 403 });
    const anonymous = await refusal(merge(), new (await import("../../kit/actors")).Client());
    expect(anonymous).toMatchObject({ status: 401, code: "authentication_required" });
    await nothingWritten();
  });

  test("an output that must be there already is not created", async () => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b");
    expect(await refusal(merge({ output: { repo: "ada/merged", create: false } }))).toMatchObject({
      status: 404,
      field: "output.repo",
    });
    await nothingWritten();
  });

  test("what is made from a private model is private unless asked otherwise", async () => {
    await publishModel(ada, "ada/a", undefined, { isPrivate: true });
    await publishModel(ada, "ada/b");
    await hub.accept(ada, merge());
    expect((await ada.get("/api/models/ada/merged")).body).toMatchObject({ private: true });
    await hub.accept(ada, merge({ output: { repo: "ada/open", private: false } }));
    expect((await ada.get("/api/models/ada/open")).body).toMatchObject({ private: false });
  });
});

describe("an accepted job", () => {
  beforeEach(async () => {
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", safetensors({ w: [5, 6], b: [7] }));
  });

  test("is in the trail, and so is each use of an input with its purpose", async () => {
    const id = await hub.accept(ada, merge());
    const rows = await env.DB.prepare(
      "select type, subject, purpose, data from events where type in ('job.created', 'content.used') order by seq",
    ).all<{
      type: string;
      subject: string;
      purpose: string | null;
      data: string;
    }>();
    expect(rows.results.map(({ type, subject, purpose }) => [type, subject, purpose])).toEqual([
      ["job.created", `job:${id}`, null],
      ["content.used", "model:ada/a", "merge"],
      ["content.used", "model:ada/b", "merge"],
    ]);
    expect(JSON.parse(rows.results[1]?.data ?? "{}")).toMatchObject({
      job: id,
      files: [{ path: "config.json" }, { path: "model.safetensors" }],
    });
    await hub.settled();
    expect(hub.started).toEqual([[id, 1]]);
  });

  test("stays on the commits of its acceptance when branches move on", async () => {
    const id = await hub.accept(ada, merge());
    const before = await env.DB.prepare("select commit_id, sha256 from job_inputs where job_id = ? order by name")
      .bind(id)
      .all();
    await publishModel(ada, "ada/a", safetensors({ w: [8, 8], b: [8] }));
    const after = await env.DB.prepare("select commit_id, sha256 from job_inputs where job_id = ? order by name")
      .bind(id)
      .all();
    expect(after.results).toEqual(before.results);
  });

  test("is given again for the same key and body, and refused for the same key and another body", async () => {
    const id = await hub.accept(ada, merge(), "key-1");
    expect(await hub.accept(ada, merge(), "key-1")).toBe(id);
    // Spelled out, the defaults are the same request.
    expect(await hub.accept(ada, merge({ normalize: true }), "key-1")).toBe(id);
    await expect(hub.accept(ada, merge({ lambda: 0.6 }), "key-1")).rejects.toThrow(HubError);
    await expect(hub.accept(ada, merge({ lambda: 0.6 }), "key-1")).rejects.toMatchObject({
      code: "idempotency_key_reused",
    });
    expect(await hub.accept(ada, merge(), "key-2")).not.toBe(id);
    const eve = await user(admin, "eve");
    expect(await hub.accept(eve, merge({ output: { repo: "eve/merged" } }), "key-1")).not.toBe(id);
  });

  test("is one, when the same key arrives twice at once", async () => {
    const ids = await Promise.all([hub.accept(ada, merge(), "twice"), hub.accept(ada, merge(), "twice")]);
    expect(new Set(ids).size).toBe(1);
    const rows = await env.DB.prepare(
      "select (select count(*) from jobs) as jobs, (select count(*) from events where type = 'job.created') as events",
    ).first();
    expect(rows).toEqual({ jobs: 1, events: 1 });
  });
});
