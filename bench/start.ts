// Starting: how long until a hub answers, on an empty folder and on its own, and what the first requests after that cost.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { startHub } from "../cli/hub.ts";
import { claimPort } from "../cli/ports.ts";
import { HubClient } from "./kit/hub-client.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { median } from "./kit/rounds.ts";
import { type Stage, startBare } from "./kit/stage.ts";

const STOP_GRACE_MS = 5000;
const ROWS = [
  "bare Worker, until it answers",
  "hub on an empty folder, until both services answer",
  "hub on its own folder, until both services answer",
  "first model info",
  "second model info",
  "hundredth model info",
] as const;

async function timed<T>(times: number[], work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  times.push(performance.now() - started);
  return result;
}

async function startOnce(folder: string, times: ReadonlyMap<(typeof ROWS)[number], number[]>): Promise<void> {
  const of = (row: (typeof ROWS)[number]): number[] => times.get(row) ?? [];
  mkdirSync(folder);
  const port = await claimPort(0, "");
  const bare = await timed(of("bare Worker, until it answers"), () => startBare(folder, port));
  await bare.stop(STOP_GRACE_MS);
  const state = join(folder, "state");
  const empty = await timed(of("hub on an empty folder, until both services answer"), () => startHub({ state }));
  const model = await new HubClient(empty).createRepo("model", false);
  await empty.stop();
  const again = await timed(of("hub on its own folder, until both services answer"), () => startHub({ state }));
  try {
    const info = async (): Promise<void> => {
      const response = await fetch(`${again.endpoint}/api/models/${model}`);
      if (!response.ok) throw new Error(`model info was answered ${response.status}`);
      await response.arrayBuffer();
    };
    await timed(of("first model info"), info);
    await timed(of("second model info"), info);
    for (let i = 3; i < 100; i++) await info();
    await timed(of("hundredth model info"), info);
  } finally {
    await again.stop();
  }
}

export async function benchStart(stage: Stage, { rounds }: { rounds: number }): Promise<void> {
  printHeading(`Starting, ${rounds} rounds`);
  const times = new Map(ROWS.map((row): [typeof row, number[]] => [row, []]));
  for (let round = 0; round < rounds; round++) await startOnce(join(stage.folder, `start-${round}`), times);
  const base = median(times.get(ROWS[0]) ?? []);
  printTable(
    ["", "ms", "fastest–slowest", "beside the bare Worker's start"],
    [...times].map(([row, samples]) => [
      row,
      median(samples).toFixed(0),
      `${Math.min(...samples).toFixed(0)}–${Math.max(...samples).toFixed(0)}`,
      (median(samples) / base).toFixed(2),
    ]),
  );
}
