// Merges: the compute engine as a library beside `cp` of the same models, and a whole job through the hub.
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import * as z from "zod";
import { fileSource, MIB } from "./kit/bytes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, rate, ratio, type Sample, samplesOf, spread, type Target } from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";

const ROOT = dirname(import.meta.dirname);
const POLL_MS = 100;
const JOB_LIMIT_MS = 600_000;

const stepShape = z.object({
  work: z.number(),
  seconds: z.number(),
  cpuSeconds: z.number(),
  beforeMiB: z.number(),
  peakMiB: z.number(),
});
type Step = z.output<typeof stepShape>;

async function run(step: "make" | "merge" | "copy" | "digest", ...args: string[]): Promise<Step> {
  const service = join(ROOT, "gpu-service");
  const { stdout } = await promisify(execFile)(
    join(service, ".venv", "bin", "python"),
    [join(ROOT, "bench", "merge_pair.py"), step, ...args],
    { env: { ...process.env, PYTHONPATH: service, OMP_NUM_THREADS: "1" } },
  );
  return stepShape.parse(JSON.parse(stdout));
}

async function benchEngine(folder: string, mebibytes: number, rounds: number): Promise<void> {
  printHeading(`Linear merge of two bf16 models of ${mebibytes} MiB each, written and fsync'd, ${rounds} rounds`);
  await run("make", folder, String(mebibytes));
  const merges: Step[] = [];
  const COPY = "cp of both models";
  const targets: Target[] = [
    { name: COPY, run: () => run("copy", folder) },
    {
      name: "merge",
      run: async () => {
        const step = await run("merge", folder);
        merges.push(step);
        return step;
      },
    },
    { name: "SHA-256 of the merged model alone", run: () => run("digest", folder) },
  ];
  const results = await interleave(targets, rounds);
  printTable(
    ["", "seconds", "GB/s read", "spread (MB/s)", "beside cp", "CPU s"],
    targets.map(({ name }) => {
      const samples = samplesOf(results, name);
      return [
        name,
        median(samples.map((sample) => sample.seconds)).toFixed(2),
        (median(samples.map(rate)) / 1e9).toFixed(2),
        spread(samples, 1e6),
        ratio(results, name, COPY).toFixed(2),
        median(samples.map((sample) => sample.cpuSeconds)).toFixed(2),
      ];
    }),
  );
  const before = Math.max(...merges.map((step) => step.beforeMiB));
  const peak = Math.max(...merges.map((step) => step.peakMiB));
  console.log(
    `memory of the merging process (VmHWM): ${before.toFixed(0)} MiB with PyTorch loaded, ${peak.toFixed(0)} at most`,
  );
}

const jobShape = z.object({ id: z.string(), state: z.string(), error: z.unknown() });

/** Submits the merge and waits for its published revision; how long that took. */
async function mergeJob({ client }: Stage, models: readonly string[], round: number): Promise<Sample> {
  const [a, b] = models;
  const request = {
    kind: "merge",
    method: "linear",
    a,
    b,
    // Another one each round: known output is not a whole job again.
    lambda: 0.3 + round / 100,
    output: { repo: `${client.user}/merged-${round}` },
  };
  const started = performance.now();
  let job = await client.call("POST", "/api/v1/jobs", JSON.stringify(request), jobShape);
  while (job.state !== "succeeded") {
    if (["failed", "cancelled"].includes(job.state) || performance.now() - started > JOB_LIMIT_MS)
      throw new Error(`the merge job is ${job.state}: ${JSON.stringify(job.error)}`);
    await pause(POLL_MS);
    job = await client.call("GET", `/api/v1/jobs/${job.id}`, undefined, jobShape);
  }
  return { seconds: (performance.now() - started) / 1000, work: 1, cpuSeconds: 0 };
}

async function benchJob(stage: Stage, folder: string, mebibytes: number, rounds: number): Promise<void> {
  printHeading(`A merge job through the hub, two bf16 models of ${mebibytes} MiB each, ${rounds} rounds`);
  await run("make", folder, String(mebibytes));
  const models: string[] = [];
  for (const name of ["a", "b"]) {
    const source = await fileSource(join(folder, `${name}.safetensors`));
    const repo = await stage.client.createRepo(`model-${name}`, true);
    await stage.client.upload(repo, source, "multipart");
    await stage.client.commit(repo, { "config.json": "{}" }, { "model.safetensors": source });
    models.push(repo);
  }
  let round = 0;
  const name = "submitted → published";
  const results = await interleave([{ name, run: () => mergeJob(stage, models, round++) }], rounds);
  const seconds = samplesOf(results, name).map((sample) => sample.seconds);
  printTable(
    ["", "seconds", "spread", "MB/s read"],
    [
      [
        name,
        median(seconds).toFixed(1),
        `${Math.min(...seconds).toFixed(1)}–${Math.max(...seconds).toFixed(1)}`,
        ((2 * mebibytes * MIB) / median(seconds) / 1e6).toFixed(0),
      ],
    ],
  );
}

export async function benchMerge(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const folder = join(stage.folder, "merge");
  mkdirSync(folder);
  await benchEngine(folder, quick ? 128 : 1024, rounds);
  await benchJob(stage, folder, quick ? 64 : 256, Math.min(rounds, 3));
}
