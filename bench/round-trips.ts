// Round trips before the first byte of a download: how many queries and reads one after another, and the time that they make far away.
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import * as z from "zod";
import { startHub } from "../cli/hub.ts";
import { randomSource } from "./kit/bytes.ts";
import { HubClient } from "./kit/hub-client.ts";
import { printHeading, printTable } from "./kit/report.ts";
import type { Stage } from "./kit/stage.ts";

const ROOT = dirname(import.meta.dirname);
/** Added to each query and each read: a database on another continent, a bucket in another region. */
const D1_MS = 100;
const R2_MS = 30;
const FILE = "model.safetensors";
const INGESTED_MS = 120_000;
/** Longer than the benchmark: nothing becomes a Xet file meanwhile. */
const NEVER_MS = "86400000";

const countShape = z.object({ all: z.number(), inTurn: z.number() });
const reportShape = z.object({ status: z.number(), ms: z.number(), d1: countShape, r2: countShape });
type Report = z.infer<typeof reportShape>;

async function measured(method: string, url: string, headers: Record<string, string>): Promise<Report> {
  // The Worker answers with the report, and HEAD would lose it: a GET says which method is meant.
  const response = await fetch(url, {
    method: "GET",
    headers: { ...headers, "x-measure": `${method},${D1_MS},${R2_MS}` },
  });
  const report = reportShape.parse(await response.json());
  if (report.status !== 200) throw new Error(`${method} ${url} was answered ${report.status}`);
  return report;
}

const cells = ({ d1, r2, ms }: Report): string[] => [`${d1.inTurn}`, `${r2.inTurn} of ${r2.all}`, `${ms}`];

const infoShape = z.object({ sha: z.string() });
const connectionShape = z.object({ casUrl: z.string(), accessToken: z.string() });

/** The hub has made a Xet file of what came as one upload. */
async function ingested(client: HubClient, repo: string): Promise<string> {
  for (const limit = Date.now() + INGESTED_MS; ; await pause(250)) {
    const response = await fetch(`${client.endpoint}/${repo}/resolve/main/${FILE}`, { method: "HEAD" });
    const hash = response.headers.get("x-xet-hash");
    if (hash !== null) return hash;
    if (Date.now() > limit) throw new Error(`${repo} holds no Xet file after ${INGESTED_MS / 1000} s`);
  }
}

async function rowsOf(kind: "one segment" | "Xet", client: HubClient, mib: number): Promise<string[][]> {
  const rows: string[][] = [];
  let seed = 0;
  for (const method of ["HEAD", "GET"])
    for (const revision of ["commit", "branch"])
      for (const who of ["anonymous", "token"]) {
        // A repository of its own, so that nothing of it is cached.
        const repo = await client.createRepo(`trips-${++seed}`, false);
        const source = randomSource(mib);
        await client.upload(repo, source, "basic");
        await client.commit(repo, {}, { [FILE]: source });
        if (kind === "Xet") await ingested(client, repo);
        const { sha } = await client.call("GET", `/api/models/${repo}`, undefined, infoShape);
        const url = `${client.endpoint}/${repo}/resolve/${revision === "commit" ? sha : "main"}/${FILE}`;
        const headers = who === "token" ? client.authorization : {};
        const cold = await measured(method, url, headers);
        await pause(SETTLE_MS);
        const warm = await measured(method, url, headers);
        rows.push([`${kind}, ${method} by ${revision}, ${who}`, ...cells(cold), ...cells(warm)]);
      }
  return rows;
}

/** What is kept for the next request is put away after the answer. */
const SETTLE_MS = 500;

async function reconstructionRow(client: HubClient, mib: number): Promise<string[]> {
  const repo = await client.createRepo("trips-reconstruction", false);
  const source = randomSource(mib);
  await client.upload(repo, source, "basic");
  await client.commit(repo, {}, { [FILE]: source });
  const hash = await ingested(client, repo);
  const connection = await client.call("GET", `/api/models/${repo}/xet-read-token/main`, undefined, connectionShape);
  const url = `${connection.casUrl}/v2/reconstructions/${hash}`;
  const headers = { authorization: `Bearer ${connection.accessToken}` };
  const cold = await measured("GET", url, headers);
  await pause(SETTLE_MS);
  return [`reconstruction of ${mib} MiB`, ...cells(cold), ...cells(await measured("GET", url, headers))];
}

/** In a hub of its own, whose Worker is watched and whose edge cache is on. */
async function onWatchedHub<T>(
  stage: Stage,
  name: string,
  bindings: Record<string, string>,
  work: (client: HubClient) => Promise<T>,
) {
  const hub = await startHub({
    state: join(stage.folder, name),
    entry: join(ROOT, "test", "kit", "measured", "worker.ts"),
    bindings: { EDGE_CACHE: "on", ...bindings },
  });
  try {
    return await work(new HubClient(hub));
  } finally {
    await hub.stop();
  }
}

export async function benchRoundTrips(stage: Stage, { quick }: { readonly quick: boolean }): Promise<void> {
  const mib = quick ? 5 : 16;
  printHeading(
    `Before the first byte of ${mib} MiB, with ${D1_MS} ms added to each query of D1 and ${R2_MS} ms to each read of R2`,
  );
  const segments = await onWatchedHub(stage, "trips-segments", { UPKEEP_DELAY_MS: NEVER_MS }, (client) =>
    rowsOf("one segment", client, mib),
  );
  const xet = await onWatchedHub(stage, "trips-xet", {}, async (client) => [
    ...(await rowsOf("Xet", client, mib)),
    await reconstructionRow(client, mib),
  ]);
  const columns = ["", "D1 cold", "R2 cold", "ms cold", "D1 warm", "R2 warm", "ms warm"];
  printTable(columns, [...segments, ...xet]);
  console.log(
    "D1 and R2: one after another (of R2 also: of how many, as some are read ahead). Warm: asked the second time.",
  );
}
