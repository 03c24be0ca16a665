// From an accepted job to a published revision, through crashes, repeats and races.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { driveJob } from "../../../src/compute/drive";
import { cancelJob, loadJob } from "../../../src/compute/jobs";
import type { JobId } from "../../../src/ids";
import { administrator, type Client, fileLine, user } from "../../kit/actors";
import {
  Crash,
  FakeCompute,
  MemorySteps,
  problemAnswer,
  publishModel,
  safetensors,
  successOf,
  TestPlatform,
} from "../../kit/jobs";

const MERGED = safetensors({ w: [2, 3], b: [4] });

let ada: Client;
let compute: FakeCompute;
let hub: TestPlatform;

beforeEach(async () => {
  compute = new FakeCompute();
  compute.install();
  hub = new TestPlatform();
  ada = await user(await administrator(), "ada");
  await publishModel(ada, "ada/a", safetensors({ w: [1, 2], b: [3] }));
  await publishModel(ada, "ada/b", safetensors({ w: [3, 4], b: [5] }));
});
afterEach(() => vi.restoreAllMocks());

const acceptMerge = (output: Record<string, unknown> = {}): Promise<JobId> =>
  hub.accept(ada, {
    kind: "merge",
    method: "linear",
    a: "ada/a",
    b: "ada/b@main",
    lambda: 0.5,
    output: { repo: "ada/merged", ...output },
  });

/** Drives the job; the compute service finishes while the driver waits for the first time. */
async function drive(
  id: JobId,
  steps = new MemorySteps(),
  files: Record<string, Uint8Array> = { "model.safetensors": MERGED },
) {
  let finished = false;
  steps.onWait = async () => {
    if (finished) return;
    finished = true;
    await compute.finish(compute.last, files);
  };
  await driveJob(hub.platform, steps, id, 1);
  return steps;
}

const jobOf = async (id: JobId) => {
  const job = await loadJob(hub.platform, id);
  if (job === null) throw new Error("the job is gone");
  return job;
};

const Outcome = z.object({ repo: z.string(), branch: z.string(), commit: z.string() });
const Named = z.array(z.object({ path: z.string() }));
const commitsOf = async (repo: string, branch = "main") =>
  z
    .array(z.object({ id: z.string(), title: z.string() }))
    .parse((await ada.get(`/api/models/${repo}/commits/${branch}`)).body);

async function count(table: string, where = "1"): Promise<number> {
  const row = await env.DB.prepare(`select count(*) as n from ${table} where ${where}`).first<{ n: number }>();
  return row?.n ?? -1;
}

describe("a merge", () => {
  test("is published as a revision with weights, config, recipe and card, and with its lineage", async () => {
    const id = await acceptMerge();
    await drive(id);
    const job = await jobOf(id);
    expect(job).toMatchObject({ state: "succeeded", error: null });
    const { commit } = Outcome.parse(job.result);
    expect((await commitsOf("ada/merged"))[0]).toMatchObject({ id: commit, title: "Merge 0.5 · ada/a + 0.5 · ada/b" });
    const tree = Named.parse((await ada.get(`/api/models/ada/merged/tree/${commit}`)).body).map((entry) => entry.path);
    expect(tree).toEqual([".gitattributes", "README.md", "config.json", "model.safetensors", "recipe.json"]);
    const weights = await ada.raw("GET", `/ada/merged/resolve/${commit}/model.safetensors`);
    expect(new Uint8Array(await weights.arrayBuffer())).toEqual(MERGED);
    const recipe = await ada.get(`/ada/merged/resolve/main/recipe.json`);
    expect(recipe.body).toMatchObject({
      method: "linear",
      normalize: true,
      models: [{ repo: "ada/a", weight: 0.5 }, { repo: "ada/b" }],
    });
    const card = await ada.get(`/ada/merged/resolve/main/README.md`);
    expect(card.text).toContain('base_model:\n- "ada/a"\n- "ada/b"\nbase_model_relation: merge');
    const lineage = await ada.get("/api/v1/models/ada/merged/lineage/main");
    expect(lineage.body).toMatchObject({
      commit,
      parents: [
        { relation: "merge", source: { repo: "ada/a", files: [{ path: "model.safetensors" }] } },
        { relation: "merge", source: { repo: "ada/b" } },
      ],
    });
    const children = await ada.get("/api/v1/models/ada/a/lineage/main");
    expect(children.body).toMatchObject({ children: [{ relation: "merge", source: { repo: "ada/merged", commit } }] });
  });

  test("hands over what the contract says, and nothing else of the hub", async () => {
    const id = await acceptMerge();
    await drive(id);
    expect(compute.submissions).toHaveLength(1);
    expect(compute.last).toMatchObject({
      id,
      attempt: 1,
      kind: "merge",
      spec: {
        method: "linear",
        models: [
          { weights: ["models/0/model.safetensors"], weight: 0.5 },
          { weights: ["models/1/model.safetensors"], weight: 0.5 },
        ],
        normalize: true,
        out_dtype: null,
        output: "model.safetensors",
      },
      hub: { result_url: `http://hub.test/api/v1/jobs/${id}/result` },
    });
    expect(compute.last.inputs.map((input) => input.name)).toEqual([
      "models/0/model.safetensors",
      "models/1/model.safetensors",
    ]);
  });

  test("goes to a branch that is not there yet, which starts from main", async () => {
    await drive(await acceptMerge());
    const [mainHead] = await commitsOf("ada/merged");
    const id = await acceptMerge({ branch: "half", message: "Half and half" });
    compute.becomes(id, "queued");
    await drive(id, new MemorySteps(), { "model.safetensors": safetensors({ w: [9, 9], b: [9] }) });
    const commits = await commitsOf("ada/merged", "half");
    expect(commits[0]).toMatchObject({ title: "Half and half" });
    expect(commits[1]?.id).toBe(mainHead?.id);
    expect((await commitsOf("ada/merged"))[0]?.id).toBe(mainHead?.id);
  });

  test("takes the weights and records of the revision before out of the tree", async () => {
    await ada.post("/api/repos/create", { name: "merged", organization: "ada" });
    await ada.commit("ada/merged", [
      fileLine("training.json", "{}"),
      fileLine("notes.txt", "kept"),
      fileLine("model.safetensors.index.json", "{}"),
    ]);
    await drive(await acceptMerge());
    const tree = Named.parse((await ada.get("/api/models/ada/merged/tree/main")).body).map((entry) => entry.path);
    expect(tree).toContain("notes.txt");
    expect(tree).not.toContain("training.json");
    expect(tree).not.toContain("model.safetensors.index.json");
  });
});

describe("a crash", () => {
  /** Drives a job again and again, each time crashing at the next point, until a run meets none. */
  async function surviveCrashes(arm: (steps: MemorySteps, point: number, crash: () => never) => void): Promise<number> {
    const id = await acceptMerge();
    const crash = () => {
      throw new Crash();
    };
    for (let point = 1; ; point++) {
      const steps = new MemorySteps();
      arm(steps, point, crash);
      try {
        await drive(id, steps);
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        continue;
      } finally {
        hub.beforeBatch = hub.afterBatch = () => {};
      }
      expect(await jobOf(id)).toMatchObject({ state: "succeeded", attempt: 1 });
      expect(await commitsOf("ada/merged")).toHaveLength(2);
      expect(await count("events", `type = 'job.ended' and subject = 'job:${id}'`)).toBe(1);
      expect(await count("lineage")).toBe(2);
      expect(compute.submissions).toHaveLength(1);
      return point - 1;
    }
  }

  test.each(["before", "after"] as const)("%s each step: the rerun publishes exactly once", async (when) => {
    const crashes = await surviveCrashes((steps, step) => {
      steps.crash = { step, when };
    });
    expect(crashes).toBeGreaterThan(0);
  });

  test.each(["beforeBatch", "afterBatch"] as const)(
    "%s, at each that the job commits: the rerun publishes exactly once",
    async (side) => {
      const crashes = await surviveCrashes((_, point, crash) => {
        let batches = 0;
        hub[side] = () => {
          batches++;
          if (batches === point) crash();
        };
      });
      expect(crashes).toBeGreaterThan(0);
    },
  );

  test("that loses every answer: a second driver finishes what the first began", async () => {
    const id = await acceptMerge();
    const lost = new MemorySteps();
    lost.crash = { step: 2, when: "after" };
    await expect(drive(id, lost)).rejects.toThrow(Crash);
    await drive(id, new MemorySteps());
    expect(await jobOf(id)).toMatchObject({ state: "succeeded" });
    expect(compute.submissions).toHaveLength(1);
    expect(await commitsOf("ada/merged")).toHaveLength(2);
  });

  test("of the compute service, which loses its journal: the same attempt is submitted again", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      waits++;
      if (waits === 1) compute.becomes(id, "running");
      if (waits === 2) compute.forget();
      if (waits === 3) await compute.finish(compute.last, { "model.safetensors": MERGED });
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(compute.submissions.map((one) => one.attempt)).toEqual([1, 1]);
    expect(await jobOf(id)).toMatchObject({ state: "succeeded", attempt: 1 });
  });
});

describe("the compute service", () => {
  test("that is away or full is asked again", async () => {
    const id = await acceptMerge();
    let calls = 0;
    compute.answer = () => {
      calls++;
      if (calls === 1) throw new TypeError("connection refused");
      if (calls === 2) return new Response("{}", { status: 429, headers: { "retry-after": "7" } });
      return calls === 3 ? new Response("bad gateway", { status: 502 }) : null;
    };
    const waits: number[] = [];
    const steps = new MemorySteps();
    steps.onWait = async (ms) => {
      waits.push(ms);
      if (compute.submissions.length > 0) await compute.finish(compute.last, { "model.safetensors": MERGED });
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(waits[1]).toBe(7000);
    expect(await jobOf(id)).toMatchObject({ state: "succeeded" });
  });

  test("that refuses the spec fails the job with its code, field and fix", async () => {
    const id = await acceptMerge();
    compute.answer = (method) =>
      method === "POST"
        ? Response.json(
            { code: "weights_sum_zero", detail: "sum to 0", field: "spec.models", fix: "change them" },
            { status: 422 },
          )
        : null;
    await drive(id);
    expect(await jobOf(id)).toMatchObject({
      state: "failed",
      error: { code: "weights_sum_zero", message: "sum to 0", field: "spec.models", fix: "change them" },
    });
  });

  test("whose callback is lost is found out by asking", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await compute.upload(compute.last, MERGED);
      compute.becomes(id, "succeeded", successOf(compute.last, { "model.safetensors": MERGED }));
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(await jobOf(id)).toMatchObject({ state: "succeeded" });
  });

  test("whose worker died gets the work again as a new attempt, and the old attempt is heard no more", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      waits++;
      const [first] = compute.submissions;
      if (waits === 1)
        await compute.callBack(compute.last, compute.last.hub.result_url, {
          attempt: 1,
          state: "failed",
          error: { code: "worker_died", message: "signal 9", retryable: true },
        });
      if (waits === 2 && first !== undefined) {
        const late = await compute.finish(first, { "model.safetensors": safetensors({ w: [0, 0], b: [0] }) });
        expect(late.status).toBe(409);
        expect(await (await compute.callBack(first, first.hub.events_url, { attempt: 1, events: [] })).json()).toEqual({
          cancel: true,
        });
        await compute.finish(compute.last, { "model.safetensors": MERGED });
      }
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(compute.submissions.map((one) => one.attempt)).toEqual([1, 2]);
    const job = await jobOf(id);
    expect(job).toMatchObject({ state: "succeeded", attempt: 2 });
    const weights = await ada.raw("GET", "/ada/merged/resolve/main/model.safetensors");
    expect(new Uint8Array(await weights.arrayBuffer())).toEqual(MERGED);
  });

  test("that reports bytes which were not uploaded for this job publishes nothing", async () => {
    const first = await acceptMerge();
    await drive(first);
    // The bytes are on the hub, through another job: knowing their digest is not enough.
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await compute.callBack(
        compute.last,
        compute.last.hub.result_url,
        successOf(compute.last, { "model.safetensors": MERGED }),
      );
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(await jobOf(id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(await commitsOf("ada/merged")).toHaveLength(2);
  });

  test("that reports other files than the kind makes publishes nothing", async () => {
    const id = await acceptMerge();
    await drive(id, new MemorySteps(), { "model.safetensors": MERGED, "../evil": new Uint8Array([1]) });
    expect(await jobOf(id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(await commitsOf("ada/merged")).toHaveLength(1);
  });
});

describe("callbacks", () => {
  test("repeated and late ones change nothing", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      expect((await compute.finish(compute.last, { "model.safetensors": MERGED })).status).toBe(204);
      expect((await compute.finish(compute.last, { "model.safetensors": MERGED })).status).toBe(204);
    };
    await driveJob(hub.platform, steps, id, 1);
    const ended = await jobOf(id);
    const again = await compute.callBack(
      compute.last,
      compute.last.hub.result_url,
      successOf(compute.last, { "model.safetensors": MERGED }),
    );
    expect(again.status).toBe(204);
    const other = { attempt: 1, state: "failed", error: { code: "x", message: "y" } };
    expect((await compute.callBack(compute.last, compute.last.hub.result_url, other)).status).toBe(409);
    expect(await jobOf(id)).toEqual(ended);
    expect(await commitsOf("ada/merged")).toHaveLength(2);
  });

  test("progress is kept once, in order, and moves the job to running", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    const event = (seq: number, done: number) => ({
      seq,
      ts: "2026-11-22T00:00:00.000Z",
      type: "progress",
      data: { done, total: 3, unit: "tensors" },
    });
    steps.onWait = async () => {
      const { events_url: url } = compute.last.hub;
      await compute.callBack(compute.last, url, { attempt: 1, events: [event(1, 1), event(2, 2)] });
      await compute.callBack(compute.last, url, { attempt: 1, events: [event(2, 2), event(3, 3)] });
      expect(await jobOf(id)).toMatchObject({ state: "running", progress: { done: 3, total: 3 } });
      await compute.finish(compute.last, { "model.safetensors": MERGED });
    };
    await driveJob(hub.platform, steps, id, 1);
    const rows = await env.DB.prepare("select type, data from job_events where job_id = ? order by seq")
      .bind(id)
      .all<{ type: string; data: string }>();
    expect(
      rows.results.map(({ type, data }) => (type === "state" ? JSON.parse(data).state : JSON.parse(data).done)),
    ).toEqual(["queued", "running", 1, 2, 3, "publishing", "succeeded"]);
  });
});

describe("an end that nobody wished for", () => {
  test("a cancelled job publishes nothing, whatever the compute service reports afterwards", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await cancelJob(await hub.caller(ada), id);
      expect((await compute.finish(compute.last, { "model.safetensors": MERGED })).status).toBe(409);
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(await jobOf(id)).toMatchObject({ state: "cancelled" });
    expect(compute.cancelled).toEqual([id]);
    expect(await commitsOf("ada/merged")).toHaveLength(1);
    expect(await count("events", `type = 'job.ended' and subject = 'job:${id}'`)).toBe(1);
  });

  test("a job cancelled while it is being published ends as one of the two", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await compute.finish(compute.last, { "model.safetensors": MERGED });
      await cancelJob(await hub.caller(ada), id);
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(await jobOf(id)).toMatchObject({ state: "cancelled", result: null });
    expect(await commitsOf("ada/merged")).toHaveLength(1);
  });

  test("a job past its deadline fails and is stopped at the compute service", async () => {
    const id = await acceptMerge();
    const steps = new MemorySteps();
    steps.onWait = () => {
      hub.time += hub.platform.config.jobTimeoutS * 1000;
    };
    compute.answer = (_, path) => {
      if (!path.endsWith("/cancel")) return null;
      compute.cancelled.push(path);
      return problemAnswer(404, "job_not_found");
    };
    await driveJob(hub.platform, steps, id, 1);
    expect(await jobOf(id)).toMatchObject({ state: "failed", error: { code: "deadline_exceeded" } });
    expect(compute.cancelled).toHaveLength(1);
  });

  test("who lost the right to write meanwhile publishes nothing", async () => {
    const admin = await administrator();
    await admin.post("/api/v1/organizations", { name: "lab" });
    await admin.send("PUT", "/api/v1/organizations/lab/members/ada", { role: "write" });
    const id = await acceptMerge({ repo: "lab/merged" });
    await admin.send("DELETE", "/api/v1/organizations/lab/members/ada");
    await drive(id);
    expect(await jobOf(id)).toMatchObject({ state: "failed", error: { code: "forbidden" } });
    const commits = await admin.get("/api/models/lab/merged/commits/main");
    expect(commits.body).toHaveLength(1);
  });

  test("an output repository that is gone fails the job with that reason", async () => {
    const id = await acceptMerge();
    await ada.send("DELETE", "/api/repos/delete", { name: "merged", organization: "ada" });
    await drive(id);
    expect(await jobOf(id)).toMatchObject({ state: "failed", error: { code: "repo_not_found" } });
  });
});

test("a branch that moves while the job publishes is followed, not overwritten", async () => {
  const id = await acceptMerge();
  let moved = false;
  const steps = new MemorySteps();
  steps.onWait = async () => {
    await compute.finish(compute.last, { "model.safetensors": MERGED });
    // Between reading the head and moving the branch: as late as another commit can come.
    hub.beforeBatch = async () => {
      if (moved) return;
      moved = true;
      await ada.commit("ada/merged", [fileLine("notes.txt", "mine")]);
    };
  };
  await driveJob(hub.platform, steps, id, 1);
  const tree = Named.parse((await ada.get("/api/models/ada/merged/tree/main")).body).map((entry) => entry.path);
  expect(moved).toBe(true);
  expect(tree).toEqual(expect.arrayContaining(["notes.txt", "model.safetensors"]));
  expect(await commitsOf("ada/merged")).toHaveLength(3);
});
