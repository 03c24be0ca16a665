// The stock Python client and its Xet library, each step a process of its own whose time, CPU and memory the kernel counts.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import * as z from "zod";
import { cpuSeconds } from "./processes.ts";
import type { Sample } from "./rounds.ts";
import type { Server } from "./stage.ts";

const ROOT = dirname(dirname(import.meta.dirname));
const PYTHON = join(ROOT, "gpu-service", ".venv", "bin", "python");
const KIT = join(ROOT, "bench", "kit");
const MAX_OUTPUT = 1 << 20;
const QUIET_MS = 1500;
/** Of the CPU, while nothing happens: the scheduled handler runs once a minute. */
const QUIET_SHARE = 0.05;
const SETTLE_LIMIT_MS = 300_000;

const measuredShape = z.object({
  seconds: z.number(),
  cpuSeconds: z.number(),
  peakMiB: z.number(),
  status: z.int(),
  stdout: z.string(),
  stderr: z.string(),
});
export type Measured = z.output<typeof measuredShape>;

/** Who `hf` talks to, and as whom. */
export type Account = { readonly endpoint: string; readonly token: string };

/** Runs a program to its end. Its client's settings are those of `HF_` in `env` alone. */
export async function measure(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Measured> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(HF_|HUGGING|PYTHON)/.test(name));
  const { stdout } = await promisify(execFile)(PYTHON, [join(KIT, "measured.py"), program, ...args], {
    env: { ...Object.fromEntries(inherited), ...env },
    maxBuffer: MAX_OUTPUT,
  });
  const measured = measuredShape.parse(JSON.parse(stdout));
  if (measured.status !== 0)
    throw new Error(`${program} ${args.join(" ")} ended with ${measured.status}: ${measured.stderr}`);
  return measured;
}

/** Caches and settings of a machine that has never used the client. The caller removes it. */
export const newHome = (folder: string): string => mkdtempSync(join(folder, "hf-home-"));

/** Does something on a machine that has never used the client, and forgets that machine. */
export async function onNewMachine<T>(folder: string, act: (home: string) => Promise<T>): Promise<T> {
  const home = newHome(folder);
  try {
    return await act(home);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** The client's command line. */
export const hf = (home: string, { endpoint, token }: Account, ...args: string[]): Promise<Measured> =>
  measure(PYTHON, ["-m", "huggingface_hub.cli.hf", ...args], {
    HF_HOME: home,
    HF_ENDPOINT: endpoint,
    HF_TOKEN: token,
    HF_HUB_DISABLE_TELEMETRY: "1",
    HF_HUB_DISABLE_UPDATE_CHECK: "1",
    HF_HUB_DISABLE_PROGRESS_BARS: "1",
  });

const writtenShape = z.object({ hash: z.string(), size: z.int() });
export type Written = z.output<typeof writtenShape>;

const storeEndpoint = (store: string): string => `local://${store}`;

/** A file into the Xet library's own store on disk; `store/xet/xorbs/xorbs` has the xorbs then. */
export async function writeLocally(home: string, store: string, file: string): Promise<[Measured, Written]> {
  const measured = await measure(PYTHON, [join(KIT, "xet_store.py"), "write", storeEndpoint(store), file], {
    HF_HOME: home,
  });
  return [measured, writtenShape.parse(JSON.parse(measured.stdout))];
}

export const readLocally = (home: string, store: string, { hash, size }: Written, into: string): Promise<Measured> =>
  measure(PYTHON, [join(KIT, "xet_store.py"), "read", storeEndpoint(store), hash, String(size), into], {
    HF_HOME: home,
  });

export type Content = "random" | "weights";

/** Writes a file: for weights each change is a seed that other five of the hundred tensors are made with. */
export async function makeFile(
  path: string,
  content: Content,
  mebibytes: number,
  seed: number,
  changes: readonly number[] = [],
): Promise<void> {
  const numbers = [mebibytes, seed, ...changes].map(String);
  await measure(PYTHON, [join(KIT, "weights.py"), content, path, ...numbers]);
}

/** A transfer as both sides of it were counted. */
export type TwoSided = Sample & { readonly client: Measured };

/** Times a client's process, and meanwhile the CPU of the server; `server` is undefined where there is none. */
export async function twoSided(
  server: Server | undefined,
  work: number,
  run: () => Promise<Measured>,
): Promise<TwoSided> {
  const before = cpuSeconds(server?.pids() ?? []);
  const client = await run();
  return { seconds: client.seconds, work, cpuSeconds: cpuSeconds(server?.pids() ?? []) - before, client };
}

/** Waits until the server has nothing to do any more. Resolves to the CPU seconds that it used meanwhile. */
export async function settled({ pids }: Server): Promise<number> {
  const first = cpuSeconds(pids());
  const limit = Date.now() + SETTLE_LIMIT_MS;
  for (let before = first; ; ) {
    await pause(QUIET_MS);
    const now = cpuSeconds(pids());
    if (now - before < (QUIET_SHARE * QUIET_MS) / 1000) return now - first;
    if (Date.now() > limit) throw new Error("the server does not come to rest");
    before = now;
  }
}
