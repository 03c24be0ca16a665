// The routes that clients call most, on a hub with 10,000 models: requests a second beside an empty route, and the rows that D1 reads.
import { dirname, join } from "node:path";
import * as z from "zod";
import { startHub } from "../cli/hub.ts";
import { HubClient } from "./kit/hub-client.ts";
import { type Call, describeLoad, load } from "./kit/load.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, metered, rate, ratio, samplesOf, spread } from "./kit/rounds.ts";
import type { Server, Stage } from "./kit/stage.ts";

const ROOT = dirname(import.meta.dirname);
const SECONDS = 2;
const BARE = "bare Worker, empty route";
const HEALTH = "hub, /healthz";

const SIZES = { models: 10_000, files: 10_000, commits: 100, branches: 50 };
const QUICK = { models: 1000, files: 500, commits: 5, branches: 5 };

const reportShape = z.object({ status: z.number(), rows: z.number(), d1: z.object({ all: z.number() }) });

/** A repository with many files in one directory and in several, many commits and many branches. */
async function publish(client: HubClient, sizes: typeof SIZES): Promise<string> {
  const repo = await client.createRepo("large", false);
  const files = Object.fromEntries(
    Array.from({ length: sizes.files }, (_, i) => [
      `data/part-${i % 10}/file-${String(i).padStart(5, "0")}.json`,
      "{}",
    ]),
  );
  await client.commit(repo, { "config.json": "{}", ...files }, {});
  for (let i = 1; i < sizes.commits; i++) await client.commit(repo, { "note.txt": `note ${i}` }, {});
  for (let i = 0; i < sizes.branches; i++)
    await client.call("POST", `/api/models/${repo}/branch/branch-${i}`, "{}", z.unknown());
  return repo;
}

const routesOf = (repo: string): readonly (readonly [name: string, path: string])[] => [
  ["model info, 10 files", "/api/models/{small}"],
  ["model info, all files", `/api/models/${repo}`],
  ["model info, expand=downloads", `/api/models/${repo}?expand=downloads`],
  ["list, newest 30", "/api/models?limit=30"],
  ["list, newest 1000", "/api/models?limit=1000"],
  ["list, most downloads 30", "/api/models?limit=30&sort=downloads"],
  ["list, a tag of all", "/api/models?limit=30&filter=safetensors&sort=likes"],
  ["list, a task of half", "/api/models?limit=30&pipeline_tag=text-generation&sort=downloads"],
  ["list, a tag of 1 in 100", "/api/models?limit=30&filter=rare&sort=downloads"],
  ["search, one result", "/api/models?limit=30&search=needle"],
  ["search, many results", "/api/models?limit=30&search=model-1&sort=downloads"],
  ["tree, a directory of a tenth", `/api/models/${repo}/tree/main/data/part-1`],
  ["tree, recursive, first page", `/api/models/${repo}/tree/main?recursive=true`],
  ["refs", `/api/models/${repo}/refs`],
  ["commits, first page", `/api/models/${repo}/commits/main`],
];

type Route = { readonly name: string; readonly server: Server; readonly call: Call };

export async function benchApi(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const sizes = quick ? QUICK : SIZES;
  const seconds = quick ? 1 : SECONDS;
  printHeading(
    `API of a hub with ${sizes.models} models, one of ${sizes.files} files, ${sizes.commits} commits, ${sizes.branches} branches; no token; ${describeLoad(seconds)}, ${rounds} rounds`,
  );
  const hub = await startHub({
    state: join(stage.folder, "api"),
    entry: join(ROOT, "test", "kit", "measured", "worker.ts"),
  });
  try {
    const client = new HubClient(hub);
    await fetch(`${hub.endpoint}/`, { headers: { "x-plant": String(sizes.models) } });
    const repo = await publish(client, sizes);
    const small = await client.createRepo("small", false);
    await client.commit(small, Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`file-${i}.json`, "{}"])), {});
    const server: Server = { endpoint: hub.endpoint, pids: () => hub.workerPids() };
    const paths = routesOf(repo).map(([name, path]) => [name, path.replace("{small}", small)] as const);
    const route = (name: string, on: Server, path: string): Route => ({
      name,
      server: on,
      call: { method: "GET", url: `${on.endpoint}${path}`, headers: {} },
    });
    const routes = [
      route(BARE, stage.bare, "/empty"),
      route(HEALTH, server, "/healthz"),
      ...paths.map(([name, path]) => route(name, server, path)),
    ];
    const read = new Map<string, z.output<typeof reportShape>>();
    for (const [name, path] of paths) {
      const response = await fetch(`${hub.endpoint}${path}`, { headers: { "x-measure": "GET,0,0" } });
      const report = reportShape.parse(await response.json());
      if (report.status !== 200) throw new Error(`${path} was answered ${report.status}`);
      read.set(name, report);
    }
    const targets = routes.map(({ name, server: { pids }, call }) => ({
      name,
      run: () => metered(pids, () => load(call, seconds)),
    }));
    const results = await interleave(targets, rounds);
    printTable(
      [
        "",
        "requests/s",
        "spread",
        "beside bare empty",
        "beside /healthz",
        "CPU ms/request",
        "D1 round trips",
        "D1 rows read",
      ],
      routes.map(({ name }) => {
        const samples = samplesOf(results, name);
        const report = read.get(name);
        return [
          name,
          median(samples.map(rate)).toFixed(0),
          spread(samples, 1),
          ratio(results, name, BARE).toFixed(3),
          ratio(results, name, HEALTH).toFixed(3),
          median(samples.map((sample) => (sample.cpuSeconds * 1000) / sample.work)).toFixed(2),
          report === undefined ? "" : String(report.d1.all),
          report === undefined ? "" : String(report.rows),
        ];
      }),
    );
  } finally {
    await hub.stop();
  }
}
