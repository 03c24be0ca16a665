// What tests of pages look at: repositories with cards and weights, a sweep of merges, and evaluations of each.
import { driveJob } from "../../../src/compute/drive";
import type { JobId } from "../../../src/ids";
import { type Answer, answerOf, type Client } from "../../kit/actors";
import { type FakeCompute, MemorySteps, mergeOutputs, safetensors, type TestPlatform } from "../../kit/jobs";

/** A page as a browser asks for it. */
export const open = async (client: Client, path: string): Promise<Answer> =>
  answerOf(await client.raw("GET", path, { headers: { accept: "text/html,application/xhtml+xml,*/*;q=0.8" } }));

/** Runs an accepted job to its end; the compute service makes these files. */
export async function run(
  hub: TestPlatform,
  compute: FakeCompute,
  id: JobId,
  files: Record<string, Uint8Array>,
  record: Record<string, unknown> = {},
): Promise<void> {
  const steps = new MemorySteps();
  let finished = false;
  steps.onWait = async () => {
    if (finished) return;
    finished = true;
    await compute.finish(compute.last, files, record);
  };
  await driveJob(hub.platform, steps, id, 1);
}

/** `w = λ·ada/a + (1 − λ)·ada/b` on a branch of `ada/merged`. */
export async function merge(
  hub: TestPlatform,
  compute: FakeCompute,
  client: Client,
  lambda: number,
  branch: string,
): Promise<JobId> {
  const id = await hub.accept(client, {
    kind: "merge",
    method: "linear",
    a: "ada/a",
    b: "ada/b",
    lambda,
    output: { repo: "ada/merged", branch },
  });
  await run(hub, compute, id, mergeOutputs(safetensors({ w: [lambda, 2], b: [3] })));
  return id;
}

/** The record of a run with this share of correct answers among 100. */
export function recordOf(accuracy: number): Record<string, unknown> {
  const right = Math.round(accuracy * 50);
  const metric = (name: string, value: number) => ({
    metric: name,
    value,
    n: 100,
    ci: { level: 0.95, lo: value - 0.05, hi: Math.min(1, value + 0.04), method: "wilson" },
    higher_is_better: true,
  });
  return {
    n: 100,
    metrics: [metric("accuracy", accuracy), metric("f1", accuracy - 0.01)],
    confusion: [
      [right, 50 - right],
      [50 - right, right],
    ],
    classes: ["zero", "<one>"],
    task: { id: "toy", version: "1.0", kind: "classification" },
    sample_ids_sha256: "d".repeat(64),
    seed: 0,
    compute_dtype: "float32",
    device: "cpu",
    threads: 1,
  };
}

export async function evaluate(
  hub: TestPlatform,
  compute: FakeCompute,
  client: Client,
  model: string,
  accuracy: number,
): Promise<JobId> {
  const id = await hub.accept(client, { kind: "evaluate", model, dataset: "ada/digits", split: "test" });
  await run(hub, compute, id, { "samples.jsonl": new TextEncoder().encode(`{"id":"${model}"}\n`) }, recordOf(accuracy));
  return id;
}
