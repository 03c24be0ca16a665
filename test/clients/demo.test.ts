// The main job on real data: the demo against the running hub, judged by how its figures relate, and run a second time.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, inject, it } from "vitest";
import * as z from "zod";
import { callHub, sharedHub } from "./people.ts";
import { PYTHON, pythonEnvironment, ROOT } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";

const exec = promisify(execFile);
const scratch = scratchFolder();

const Metric = z.object({
  metric: z.string(),
  value: z.number().min(0).max(1),
  n: z.number().int().positive(),
  ci: z.object({ lo: z.number(), hi: z.number() }),
});
const Candidate = z.object({ lambda: z.number(), model: z.string(), accuracy: Metric });
const Record = z.object({ id: z.string(), results: z.array(z.looseObject({ metric: z.string() })) });
const Comparison = z.object({ difference: z.number(), lo: z.number(), hi: z.number(), p_value: z.number() });
const Report = z.object({
  sweep: z.array(Candidate),
  chosen: Candidate,
  tested: z.object({ base: Record, a: Record, b: Record, merged: Record }),
  comparisons: z.object({ a: Comparison, b: Comparison }),
  check: z.object({
    sha256: z.string(),
    announced_sha256: z.string(),
    candidate_sha256: z.string(),
    accuracy: z.number(),
    recorded_accuracy: z.number(),
    verified: z.boolean(),
  }),
});

async function runDemo(): Promise<z.output<typeof Report>> {
  const report = scratch("report.json");
  const environment = await pythonEnvironment({ version: "2.4.0", home: scratch("home") });
  await exec(PYTHON, [join("demo", "digits.py")], {
    cwd: ROOT,
    env: {
      ...environment,
      PYTHONPATH: join(ROOT, "gpu-service"),
      OWM_TOKEN: inject("token"),
      OWM_DEMO_REPORT: report,
    },
  });
  return Report.parse(JSON.parse(readFileSync(report, "utf8")));
}

const Page = z.object({
  jobs: z.array(z.object({ id: z.string(), kind: z.string(), state: z.string(), attempt: z.number() })),
  next: z.string().nullable(),
});

async function allJobs() {
  const jobs = [];
  for (let cursor = ""; ; ) {
    const page = Page.parse(await callHub(sharedHub(), "GET", `/jobs?limit=20${cursor}`));
    jobs.push(...page.jobs);
    if (page.next === null) return jobs;
    cursor = `&cursor=${page.next}`;
  }
}

const REPOS = ["datasets/lab/digits", "models/lab/digits-base", "models/lab/digits-merged"];
const Refs = z.object({ branches: z.array(z.object({ name: z.string(), targetCommit: z.string() })) });

/** Every branch of every repository of the demo, with its commit. */
async function allBranches(): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const repo of [...REPOS, "models/team-a/digits", "models/team-b/digits"]) {
    const response = await fetch(`${inject("endpoint")}/api/${repo}/refs`);
    for (const { name, targetCommit } of Refs.parse(await response.json()).branches)
      found[`${repo} ${name}`] = targetCommit;
  }
  return found;
}

function metricOf(record: z.output<typeof Record>, name: string): z.output<typeof Metric> {
  return Metric.parse(record.results.find((one) => one.metric === name));
}

describe("the demo", () => {
  let report: z.output<typeof Report>;

  beforeAll(async () => {
    report = await runDemo();
  });

  it("merges with eleven λ and chooses the one that does best on the validation split", () => {
    const { sweep, chosen } = report;
    expect(sweep.map(({ lambda }) => lambda)).toEqual([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]);
    expect(new Set(sweep.map(({ model }) => model)).size).toBe(11);
    for (const { accuracy } of sweep) expect(chosen.accuracy.value).toBeGreaterThanOrEqual(accuracy.value);
    expect(sweep).toContainEqual(chosen);
    expect(chosen.lambda).toBeGreaterThan(0);
    expect(chosen.lambda).toBeLessThan(1);
  });

  it("finds the merge better than either team's model on the test split, beyond chance", () => {
    const { tested, comparisons } = report;
    const accuracy = (record: z.output<typeof Record>) => metricOf(record, "accuracy").value;
    for (const team of ["a", "b"] as const) {
      const { difference, lo, hi } = comparisons[team];
      expect(accuracy(tested[team])).toBeGreaterThan(accuracy(tested.base));
      expect(difference).toBeCloseTo(accuracy(tested.merged) - accuracy(tested[team]), 9);
      expect(lo).toBeGreaterThan(0);
      expect(hi).toBeGreaterThanOrEqual(difference);
      expect(difference).toBeGreaterThanOrEqual(lo);
    }
  });

  it("records every metric with its count and a 95 % interval around it", () => {
    for (const record of Object.values(report.tested))
      for (const name of ["accuracy", "precision", "recall", "f1", "roc_auc"]) {
        const { value, ci } = metricOf(record, name);
        expect(ci.lo).toBeLessThanOrEqual(value);
        expect(ci.hi).toBeGreaterThanOrEqual(value);
        expect(ci.hi - ci.lo).toBeGreaterThan(0);
      }
    const sizes = new Set(Object.values(report.tested).map((record) => metricOf(record, "accuracy").n));
    expect(sizes.size).toBe(1);
  });

  it("downloads the bytes that were announced, which score what is on record", () => {
    const { sha256, announced_sha256, candidate_sha256, accuracy, recorded_accuracy, verified } = report.check;
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(announced_sha256).toBe(sha256);
    // The choice was merged a second time, for main: from one recipe come the same bytes.
    expect(candidate_sha256).toBe(sha256);
    expect(verified).toBe(true);
    expect(accuracy).toBe(recorded_accuracy);
    expect(recorded_accuracy).toBe(metricOf(report.tested.merged, "accuracy").value);
  });

  it("computes the published merge again from what its revision records, to the same bytes", async () => {
    const asked = await callHub(sharedHub(), "POST", "/models/lab/digits-merged/revisions/main/verify");
    const { id } = z.object({ id: z.string() }).parse(asked);
    await expect
      .poll(() => callHub(sharedHub(), "GET", `/jobs/${id}`), { timeout: 60_000, interval: 200 })
      .toMatchObject({
        state: "succeeded",
        result: {
          verified: true,
          files: expect.arrayContaining([
            expect.objectContaining({ path: "model.safetensors", got: report.check.sha256, equal: true }),
          ]),
        },
      });
  });

  it("does none of the work again when it runs again", async () => {
    const [jobs, branches] = [await allJobs(), await allBranches()];
    expect(jobs.filter(({ kind }) => kind === "merge")).toHaveLength(12);
    expect(jobs.every(({ state }) => state === "succeeded")).toBe(true);
    expect(Object.keys(branches)).toContain("models/lab/digits-merged lambda-0.5");
    expect(await runDemo()).toEqual(report);
    expect(await allJobs()).toEqual(jobs);
    expect(await allBranches()).toEqual(branches);
  });
});
