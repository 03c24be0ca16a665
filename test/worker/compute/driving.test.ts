// From an accepted job to a published revision, through crashes, repeats and an unreliable compute service.
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { driveJob } from "../../../src/compute/drive";
import { fileLine } from "../../kit/actors";
import { Crash, digest, MemorySteps, mergeOutputs, safetensors, successOf } from "../../kit/jobs";
import { MERGED, MergeScenario } from "../../kit/merge-scenario";

const at = new MergeScenario();

const Outcome = z.object({ repo: z.string(), branch: z.string(), commit: z.string() });

describe("a merge", () => {
  test("is published as a revision with weights, config, recipe and card, and with its lineage", async () => {
    const id = await at.accept();
    await at.drive(id);
    const job = await at.job(id);
    expect(job).toMatchObject({ state: "succeeded", error: null });
    const { commit } = Outcome.parse(job.result);
    expect((await at.commits())[0]).toMatchObject({ id: commit, title: "Merge 0.5 · ada/a + 0.5 · ada/b" });
    const tree = await at.paths(commit);
    expect(tree).toEqual(
      expect.arrayContaining([
        "README.md",
        "config.json",
        "model.safetensors",
        "provenance.intoto.jsonl",
        "recipe.json",
      ]),
    );
    const weights = await at.ada.raw("GET", `/ada/merged/resolve/${commit}/model.safetensors`);
    expect(new Uint8Array(await weights.arrayBuffer())).toEqual(MERGED);
    const recipe = await at.ada.get(`/ada/merged/resolve/main/recipe.json`);
    expect(recipe.body).toMatchObject({
      schema: "owm.recipe/2",
      recipe: { merge_method: "linear" },
      inputs: expect.arrayContaining([
        expect.objectContaining({ repo: "ada/a", path: "model.safetensors" }),
        expect.objectContaining({ repo: "ada/b", path: "model.safetensors" }),
      ]),
      outputs: expect.arrayContaining([{ path: "model.safetensors", sha256: digest(MERGED), size: MERGED.byteLength }]),
    });
    const provenance = await at.ada.get(`/ada/merged/resolve/main/provenance.intoto.jsonl`);
    expect(JSON.parse(provenance.text)).toMatchObject({
      predicateType: "https://slsa.dev/provenance/v1",
      subject: expect.arrayContaining([{ name: "model.safetensors", digest: { sha256: digest(MERGED) } }]),
    });
    const card = await at.ada.get(`/ada/merged/resolve/main/README.md`);
    expect(card.text).toContain("base_model:\n- ada/a\n- ada/b\nbase_model_relation: merge");
    const lineage = await at.ada.get("/api/v1/models/ada/merged/lineage/main");
    expect(lineage.body).toMatchObject({
      commit,
      parents: [
        {
          relation: "merge",
          source: { repo: "ada/a", files: [{ path: "config.json" }, { path: "model.safetensors" }] },
        },
        { relation: "merge", source: { repo: "ada/b" } },
      ],
    });
    const children = await at.ada.get("/api/v1/models/ada/a/lineage/main");
    expect(children.body).toMatchObject({ children: [{ relation: "merge", source: { repo: "ada/merged", commit } }] });
  });

  test("hands over what the contract says, and nothing else of the hub", async () => {
    const id = await at.accept();
    await at.drive(id);
    expect(at.compute.submissions).toHaveLength(1);
    expect(at.compute.last).toMatchObject({
      id,
      attempt: 1,
      kind: "merge",
      spec: { program: "program.json", output_bytes: expect.any(Number) },
      hub: { result_url: `http://hub.test/api/v1/jobs/${id}/result` },
    });
    expect(at.compute.last.inputs.map((input) => input.name)).toEqual([
      "models/0/config.json",
      "models/0/model.safetensors",
      "models/1/config.json",
      "models/1/model.safetensors",
      "program.json",
    ]);
  });

  test("goes to a branch that is not there yet, which starts from main", async () => {
    await at.drive(await at.accept());
    const [mainHead] = await at.commits();
    const id = await at.accept({ branch: "half", message: "Half and half" });
    at.compute.becomes(id, "queued");
    await at.drive(id, new MemorySteps(), mergeOutputs(safetensors({ w: [9, 9], b: [9] })));
    const commits = await at.commits("ada/merged", "half");
    expect(commits[0]).toMatchObject({ title: "Half and half" });
    expect(commits[1]?.id).toBe(mainHead?.id);
    expect((await at.commits())[0]?.id).toBe(mainHead?.id);
  });

  test("takes the weights and records of the revision before out of the tree", async () => {
    await at.ada.post("/api/repos/create", { name: "merged", organization: "ada" });
    await at.ada.commit("ada/merged", [
      fileLine("training.json", "{}"),
      fileLine("notes.txt", "kept"),
      fileLine("model.safetensors.index.json", "{}"),
      fileLine("mergekit_config.yml", "models: []"),
    ]);
    await at.drive(await at.accept());
    const tree = await at.paths();
    expect(tree).toContain("notes.txt");
    expect(tree).not.toContain("training.json");
    const mergekit = await at.ada.get("/ada/merged/resolve/main/mergekit_config.yml");
    expect(mergekit.text).toMatch(/merge_method: linear/);
    expect(tree).not.toContain("model.safetensors.index.json");
  });
});

describe("a crash", () => {
  /** Drives a job again and again, each time crashing at the next point, until a run meets none. */
  async function surviveCrashes(arm: (steps: MemorySteps, point: number, crash: () => never) => void): Promise<number> {
    const id = await at.accept();
    const crash = () => {
      throw new Crash();
    };
    for (let point = 1; ; point++) {
      const steps = new MemorySteps();
      arm(steps, point, crash);
      try {
        await at.drive(id, steps);
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        continue;
      } finally {
        at.hub.beforeBatch = at.hub.afterBatch = () => {};
      }
      expect(await at.job(id)).toMatchObject({ state: "succeeded", attempt: 1 });
      expect(await at.commits()).toHaveLength(2);
      expect(await at.count("events", `type = 'job.ended' and subject = 'job:${id}'`)).toBe(1);
      expect(await at.count("lineage")).toBe(2);
      expect(at.compute.submissions).toHaveLength(1);
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
        at.hub[side] = () => {
          batches++;
          if (batches === point) crash();
        };
      });
      expect(crashes).toBeGreaterThan(0);
    },
  );

  test("that loses every answer: a second driver finishes what the first began", async () => {
    const id = await at.accept();
    const lost = new MemorySteps();
    lost.crash = { step: 2, when: "after" };
    await expect(at.drive(id, lost)).rejects.toThrow(Crash);
    await at.drive(id, new MemorySteps());
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
    expect(at.compute.submissions).toHaveLength(1);
    expect(await at.commits()).toHaveLength(2);
  });

  test("of the compute service, which loses its journal: the same attempt is submitted again", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      waits++;
      if (waits === 1) at.compute.becomes(id, "running");
      if (waits === 2) at.compute.forget();
      if (waits === 3) await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(at.compute.submissions.map((one) => one.attempt)).toEqual([1, 1]);
    expect(await at.job(id)).toMatchObject({ state: "succeeded", attempt: 1 });
  });
});

describe("the compute service", () => {
  test("that is away or full is asked again", async () => {
    const id = await at.accept();
    let calls = 0;
    at.compute.answer = () => {
      calls++;
      if (calls === 1) throw new TypeError("connection refused");
      if (calls === 2) return new Response("{}", { status: 429, headers: { "retry-after": "7" } });
      return calls === 3 ? new Response("bad gateway", { status: 502 }) : null;
    };
    const waits: number[] = [];
    const steps = new MemorySteps();
    steps.onWait = async (ms) => {
      waits.push(ms);
      if (at.compute.submissions.length > 0) await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(waits[1]).toBe(7000);
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
  });

  test("that refuses the spec fails the job with its code, field and fix", async () => {
    const id = await at.accept();
    at.compute.answer = (method) =>
      method === "POST"
        ? Response.json(
            { code: "weights_sum_zero", detail: "sum to 0", field: "spec.models", fix: "change them" },
            { status: 422 },
          )
        : null;
    await at.drive(id);
    expect(await at.job(id)).toMatchObject({
      state: "failed",
      error: { code: "weights_sum_zero", message: "sum to 0", field: "spec.models", fix: "change them" },
    });
  });

  test("whose callback is lost is found out by asking", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      for (const bytes of Object.values(mergeOutputs(MERGED))) await at.compute.upload(at.compute.last, bytes);
      at.compute.becomes(id, "succeeded", successOf(at.compute.last, mergeOutputs(MERGED)));
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
  });

  test("whose worker died gets the work again as a new attempt, and the old attempt is heard no more", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      waits++;
      const [first] = at.compute.submissions;
      if (waits === 1)
        await at.compute.callBack(at.compute.last, at.compute.last.hub.result_url, {
          attempt: 1,
          state: "failed",
          error: { code: "worker_died", message: "signal 9", retryable: true },
        });
      if (waits === 2 && first !== undefined) {
        const late = await at.compute.finish(first, mergeOutputs(safetensors({ w: [0, 0], b: [0] })));
        expect(late.status).toBe(409);
        expect(
          await (await at.compute.callBack(first, first.hub.events_url, { attempt: 1, events: [] })).json(),
        ).toEqual({
          cancel: true,
        });
        await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
      }
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(at.compute.submissions.map((one) => one.attempt)).toEqual([1, 2]);
    const job = await at.job(id);
    expect(job).toMatchObject({ state: "succeeded", attempt: 2 });
    const weights = await at.ada.raw("GET", "/ada/merged/resolve/main/model.safetensors");
    expect(new Uint8Array(await weights.arrayBuffer())).toEqual(MERGED);
  });

  test("that reports bytes which were not uploaded for this job publishes nothing", async () => {
    const first = await at.accept();
    await at.drive(first);
    // The bytes are on the hub, in another repository: knowing their digest is not enough.
    const id = await at.accept({ repo: "ada/other" });
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await at.compute.callBack(
        at.compute.last,
        at.compute.last.hub.result_url,
        successOf(at.compute.last, mergeOutputs(MERGED)),
      );
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(await at.commits("ada/other")).toHaveLength(1);
  });

  test("that reports other files than the kind makes publishes nothing", async () => {
    const id = await at.accept();
    await at.drive(id, new MemorySteps(), { ...mergeOutputs(MERGED), "../evil": new Uint8Array([1]) });
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(await at.commits()).toHaveLength(1);
  });
});

describe("callbacks", () => {
  test("repeated and late ones change nothing", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      expect((await at.compute.finish(at.compute.last, mergeOutputs(MERGED))).status).toBe(204);
      expect((await at.compute.finish(at.compute.last, mergeOutputs(MERGED))).status).toBe(204);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    const ended = await at.job(id);
    const again = await at.compute.callBack(
      at.compute.last,
      at.compute.last.hub.result_url,
      successOf(at.compute.last, mergeOutputs(MERGED)),
    );
    expect(again.status).toBe(204);
    const other = { attempt: 1, state: "failed", error: { code: "x", message: "y" } };
    expect((await at.compute.callBack(at.compute.last, at.compute.last.hub.result_url, other)).status).toBe(409);
    expect(await at.job(id)).toEqual(ended);
    expect(await at.commits()).toHaveLength(2);
  });

  test("progress is kept once, in order, and moves the job to running", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    const event = (seq: number, done: number) => ({
      seq,
      ts: "2026-11-22T00:00:00.000Z",
      type: "progress",
      data: { done, total: 3, unit: "tensors" },
    });
    steps.onWait = async () => {
      const { events_url: url } = at.compute.last.hub;
      await at.compute.callBack(at.compute.last, url, { attempt: 1, events: [event(1, 1), event(2, 2)] });
      await at.compute.callBack(at.compute.last, url, { attempt: 1, events: [event(2, 2), event(3, 3)] });
      expect(await at.job(id)).toMatchObject({ state: "running", progress: { done: 3, total: 3 } });
      await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
    };
    await driveJob(at.hub.platform, steps, id, 1);
    const rows = await env.DB.prepare("select type, data from job_events where job_id = ? order by seq")
      .bind(id)
      .all<{ type: string; data: string }>();
    expect(
      rows.results.map(({ type, data }) => (type === "state" ? JSON.parse(data).state : JSON.parse(data).done)),
    ).toEqual(["queued", "running", 1, 2, 3, "publishing", "succeeded"]);
  });
});
