// Small requests: the hub's hot routes beside its empty one and beside a bare Worker that asks D1 as often.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import * as z from "zod";
import { offlineWrangler } from "../cli/worker-bundle.ts";
import { randomSource } from "./kit/bytes.ts";
import { type Call, describeLoad, load } from "./kit/load.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, metered, rate, ratio, samplesOf, spread } from "./kit/rounds.ts";
import type { Server, Stage } from "./kit/stage.ts";

const ROOT = dirname(import.meta.dirname);
const SECONDS = 3;
const BARE = "bare Worker, empty route";

type Route = { readonly name: string; readonly server: Server; readonly call: Call; readonly queries: number };

const bareName = (queries: number): string => `bare Worker, ${queries} × select 1 in D1`;

async function prepare({ client, hub, bare }: Stage): Promise<Route[]> {
  const repo = await client.createRepo("requests", true);
  const open = await client.createRepo("requests-open", false);
  const weights = randomSource(1);
  const small = Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [`part-${i % 3}/file-${i}.json`, `{"n":${i}}`]),
  );
  for (const one of [repo, open]) {
    if (one === repo) await client.upload(one, weights, "basic");
    await client.commit(one, { "config.json": "{}", ...small }, { "model.safetensors": weights });
  }
  const route = (
    name: string,
    server: Server,
    queries: number,
    method: Call["method"],
    path: string,
    headers = {},
  ): Route => ({
    name,
    server,
    queries,
    call: { method, url: `${server.endpoint}${path}`, headers },
  });
  const token = client.authorization;
  return [
    route(BARE, bare, 0, "GET", "/empty"),
    ...[1, 2, 3].map((queries) => route(bareName(queries), bare, queries, "GET", `/d1?queries=${queries}`)),
    route("hub, /healthz", hub, 0, "GET", "/healthz"),
    route("hub, HEAD resolve, public, no token", hub, 1, "HEAD", `/${open}/resolve/main/model.safetensors`),
    route("hub, HEAD resolve", hub, 2, "HEAD", `/${repo}/resolve/main/model.safetensors`, token),
    route("hub, GET repo info", hub, 3, "GET", `/api/models/${repo}`, token),
    route("hub, GET tree", hub, 3, "GET", `/api/models/${repo}/tree/main?recursive=true`, token),
  ];
}

const vitestShape = z.object({
  testResults: z.array(z.object({ assertionResults: z.array(z.object({ title: z.string(), status: z.string() })) })),
});

/** The test that counts D1's round trips has them in its titles. */
async function printQueries(folder: string): Promise<void> {
  const report = join(folder, "queries.json");
  const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
  const test = join("test", "worker", "hf", "queries.test.ts");
  const args = [vitest, "run", "--project", "worker", test, "--reporter=json", `--outputFile=${report}`];
  await promisify(execFile)(process.execPath, args, { cwd: ROOT, env: { ...process.env, ...offlineWrangler } });
  const { testResults } = vitestShape.parse(JSON.parse(readFileSync(report, "utf8")));
  console.log(`\nQueries to D1 a request (${test}):`);
  for (const { title, status } of testResults.flatMap((file) => file.assertionResults))
    console.log(`  ${status}: ${title}`);
}

export async function benchRequests(
  stage: Stage,
  { rounds, quick }: { rounds: number; quick: boolean },
): Promise<void> {
  const seconds = quick ? 1 : SECONDS;
  printHeading(`Small requests, ${describeLoad(seconds)}, ${rounds} rounds`);
  const routes = await prepare(stage);
  const targets = routes.map(({ name, server, call }) => ({
    name,
    run: () => metered(server.pids, () => load(call, seconds)),
  }));
  const results = await interleave(targets, rounds);
  printTable(
    ["", "requests/s", "spread", "beside bare empty", "beside /healthz", "beside bare D1", "CPU ms/request"],
    routes.map(({ name, queries }) => {
      const samples = samplesOf(results, name);
      return [
        name,
        median(samples.map(rate)).toFixed(0),
        spread(samples, 1),
        ratio(results, name, BARE).toFixed(2),
        ratio(results, name, "hub, /healthz").toFixed(2),
        queries === 0 ? "" : ratio(results, name, bareName(queries)).toFixed(2),
        median(samples.map((sample) => (sample.cpuSeconds * 1000) / sample.work)).toFixed(2),
      ];
    }),
  );
  await printQueries(stage.folder);
}
