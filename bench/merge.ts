// Merges: the engine beside `cp` of the same bytes and beside mergekit, as whole processes; and a whole job through the hub.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import * as z from "zod";
import { fileSource, MIB } from "./kit/bytes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, ratio, type Sample, samplesOf, type Target } from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";

const ROOT = dirname(import.meta.dirname);
const PYTHON = join(ROOT, "gpu-service", ".venv", "bin", "python");
const MODELS = join(ROOT, "bench", "merge_models.py");
const POLL_MS = 100;
const JOB_LIMIT_MS = 600_000;
/** A program that takes mergekit-yaml's arguments, in an environment of its own. */
const MERGEKIT = process.env.OWM_BENCH_MERGEKIT;
/** `M:linear,S:ties`: these merges only, and no job through the hub. */
const CHOSEN = process.env.OWM_BENCH_MERGES?.split(",");
/** What mergekit is too slow for in every round is measured less often. */
const SLOW = new Set(["ties", "dare_ties", "della"]);

const measuredShape = z.object({
  seconds: z.number(),
  cpuSeconds: z.number(),
  peakMiB: z.number(),
  status: z.number(),
  stdout: z.string(),
  stderr: z.string(),
});
type Measured = z.output<typeof measuredShape>;

async function measured(command: string, ...args: string[]): Promise<Measured> {
  const { stdout } = await promisify(execFile)(PYTHON, [join(ROOT, "bench", "kit", "measured.py"), command, ...args], {
    env: { ...process.env, PYTHONPATH: join(ROOT, "gpu-service"), OMP_NUM_THREADS: "2" },
    maxBuffer: 64 * MIB,
  });
  const answer = measuredShape.parse(JSON.parse(stdout));
  if (answer.status !== 0) throw new Error(`${command} ${args.join(" ")} failed: ${answer.stderr}`);
  return answer;
}

/** A shell line whose output files are on the disk when it ends. */
const durable = (line: string, out: string): Promise<Measured> =>
  measured("sh", "-c", `rm -rf '${out}' && mkdir '${out}' && ${line} && sync '${out}'/*.safetensors`);

type Competitor = { readonly name: string; readonly run: () => Promise<Measured> };

function competitors(folder: string, size: string, run: string): Competitor[] {
  const out = join(folder, "out");
  const engine = (threads: number): Competitor => ({
    name: `engine, ${threads === 1 ? "1 thread" : `${threads} threads`}`,
    run: () => durable(`OWM_THREADS=${threads} '${PYTHON}' '${MODELS}' merge '${folder}' ${size} ${run} '${out}'`, out),
  });
  const inputs = ["one", "two"].map((name) => `'${join(folder, size, name)}'`);
  const copies = inputs.map(
    (place, i) => `for f in ${place}/*.safetensors; do cp "$f" '${out}'/${i}-$(basename "$f"); done`,
  );
  const found: Competitor[] = [
    { name: "cp of two models", run: () => durable(copies.join(" && "), out) },
    engine(1),
    engine(2),
  ];
  if (MERGEKIT !== undefined && existsSync(MERGEKIT)) {
    const recipe = join(folder, `${run}.yml`);
    found.push({
      name: "mergekit",
      run: () => durable(`'${MERGEKIT}' '${recipe}' '${out}' --no-copy-tokenizer --quiet`, out),
    });
  }
  return found;
}

async function benchEngine(folder: string, size: string, run: string, rounds: number): Promise<void> {
  printHeading(`${run} of Llama-shaped bf16 checkpoints, size ${size}, whole processes, fsync'd, ${rounds} rounds`);
  const { stdout } = await measured(PYTHON, MODELS, "configuration", folder, size, run);
  writeFileSync(join(folder, `${run}.yml`), stdout);
  const taken = new Map<string, Measured[]>();
  const targets: Target[] = competitors(folder, size, run).map(({ name, run: once }) => ({
    name,
    run: async () => {
      const result = await once();
      taken.set(name, [...(taken.get(name) ?? []), result]);
      return { seconds: result.seconds, work: 1, cpuSeconds: result.cpuSeconds };
    },
  }));
  const results = await interleave(targets, rounds);
  const [copy] = targets;
  printTable(
    ["", "seconds", "min–max", "speed beside cp", "CPU s", "peak MiB"],
    targets.map(({ name }) => {
      const samples = samplesOf(results, name);
      const seconds = samples.map((sample) => sample.seconds);
      return [
        name,
        median(seconds).toFixed(1),
        `${Math.min(...seconds).toFixed(1)}–${Math.max(...seconds).toFixed(1)}`,
        ratio(results, name, copy?.name ?? name).toFixed(2),
        median(samples.map((sample) => sample.cpuSeconds)).toFixed(1),
        Math.max(...(taken.get(name) ?? []).map((one) => one.peakMiB)).toFixed(0),
      ];
    }),
  );
}

/** What a process spends before it merges anything: a program that is started for each merge pays it each time. */
async function printStarts(): Promise<void> {
  const engine = await measured(PYTHON, "-c", "import owm_compute.merge.engine");
  const starts = [
    `the engine's imports take ${engine.cpuSeconds.toFixed(1)} CPU s (a job's process has made them already)`,
  ];
  if (MERGEKIT === undefined || !existsSync(MERGEKIT))
    starts.push("mergekit is not measured: set OWM_BENCH_MERGEKIT to a program that takes mergekit-yaml's arguments");
  else starts.push(`mergekit's ${(await measured(MERGEKIT, "--help")).cpuSeconds.toFixed(1)} CPU s`);
  console.log(`\n${starts.join("; ")}`);
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

async function benchJob(stage: Stage, folder: string, rounds: number): Promise<void> {
  printHeading(`A merge job through the hub, two bf16 models of 110 M parameters each, ${rounds} rounds`);
  const models: string[] = [];
  let size = 0;
  for (const name of ["one", "two"]) {
    const [shard] = readdirSync(join(folder, "S", name)).filter((file) => file.endsWith(".safetensors"));
    if (shard === undefined) throw new Error("there is no checkpoint to upload");
    const source = await fileSource(join(folder, "S", name, shard));
    const repo = await stage.client.createRepo(`model-${name}`, true);
    await stage.client.upload(repo, source, "multipart");
    await stage.client.commit(repo, { "config.json": "{}" }, { "model.safetensors": source });
    models.push(repo);
    size += source.size;
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
        (size / median(seconds) / 1e6).toFixed(0),
      ],
    ],
  );
}

const RUNS = [
  ["M", ["passthrough", "linear", "slerp", "task_arithmetic", "model_stock", "karcher"]],
  ["S", ["linear", "ties", "dare_ties", "della"]],
  ["T", ["linear"]],
] as const;

export async function benchMerge(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const folder = join(stage.folder, "merge");
  mkdirSync(folder);
  await measured(PYTHON, MODELS, "make", folder, "S");
  await printStarts();
  for (const [size, all] of RUNS) {
    const runs = all.filter((run) => CHOSEN?.includes(`${size}:${run}`) ?? (size === "S" || !quick));
    if (runs.length === 0) continue;
    await measured(PYTHON, MODELS, "make", folder, size);
    for (const run of runs) await benchEngine(folder, size, run, SLOW.has(run) ? Math.min(rounds, 3) : rounds);
    if (size !== "S") rmSync(join(folder, size), { recursive: true });
  }
  if (CHOSEN === undefined) await benchJob(stage, folder, Math.min(rounds, 3));
}
