// A hub that is stopped and started again on its folder has lost nothing, and leaves no process behind.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import * as z from "zod";
import { startHub } from "../../cli/hub.ts";
import { isRunning, type ProcessIdentity, startTime } from "../../cli/process-identity.mjs";
import { type Administered, callHub } from "./people.ts";
import { pythonStep, ROOT } from "./python-client.ts";
import { type Sample, sampleFiles, writeFiles } from "./sample-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const READY_WITHIN_MS = 240_000;
const Job = z.looseObject({ id: z.string(), state: z.string() });
const Digests = z.record(z.string(), z.string());

async function download(hub: Administered, repo: string) {
  const session = { version: "2.4.0", home: scratch("home"), token: hub.token, endpoint: hub.endpoint } as const;
  const args = { repo, type: "model", revision: "main", into: scratch("into") };
  return pythonStep(session, "files.py", "download", args, z.object({ commit: z.string(), cached: Digests }));
}

async function publish(hub: Administered, repo: string, files: Record<string, Sample>): Promise<void> {
  const folder = scratch("folder");
  writeFiles(folder, files);
  const session = { version: "2.4.0", home: scratch("home"), token: hub.token, endpoint: hub.endpoint } as const;
  await pythonStep(session, "refusals.py", "prepare", { repo, private: false, folder }, z.null());
}

/** Submits a merge of two models and waits for its end. */
async function merge(hub: Administered, a: string, b: string, repo: string): Promise<unknown> {
  const request = { kind: "merge", method: "linear", a, b, lambda: 0.5, output: { repo } };
  let job = Job.parse(await callHub(hub, "POST", "/jobs", request));
  while (!["succeeded", "failed", "cancelled"].includes(job.state)) {
    await pause(200);
    job = Job.parse(await callHub(hub, "GET", `/jobs/${job.id}`));
  }
  expect(job).toMatchObject({ state: "succeeded" });
  return job;
}

/** Everything that the hub can be asked for, of what was put there before. */
async function contents(hub: Administered, repos: string[]) {
  const jobs = await callHub(hub, "GET", "/jobs");
  const files = [];
  for (const repo of repos) files.push(await download(hub, repo));
  return { jobs, files };
}

/** The process and all that descend from it. */
function family(pid: number): ProcessIdentity[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [pid];
  for (const one of found) found.push(...[...parents].filter(([, parent]) => parent === one).map(([child]) => child));
  return found.flatMap((one) => {
    const started = startTime(one);
    return started === undefined ? [] : [{ pid: one, started }];
  });
}

it("keeps repositories, files, jobs and tokens through a restart, and ends without a trace", async () => {
  const state = scratch("state");
  const files = { ...sampleFiles("restart"), "config.json": { bytes: Buffer.from("{}"), lfs: false } };
  const other = { ...sampleFiles("another"), "config.json": { bytes: Buffer.from("{}"), lfs: false } };
  const first = await startHub({ state });
  const before = await (async () => {
    try {
      await publish(first, "admin/one", files);
      await publish(first, "admin/two", other);
      await merge(first, "admin/one", "admin/two", "admin/merged");
      return await contents(first, ["admin/one", "admin/two", "admin/merged"]);
    } finally {
      await first.stop();
    }
  })();
  const bootstrap = join(state, "bootstrap.json");
  expect(statSync(bootstrap).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(bootstrap, "utf8"))).toEqual({
    endpoint: first.endpoint,
    user: first.user,
    token: first.token,
  });

  const again = spawn(
    process.execPath,
    [join(ROOT, "cli", "serve.ts"), "--state", state, "--port", "0", "--compute-port", "0"],
    { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] },
  );
  let printed = "";
  again.stdout.on("data", (chunk: Buffer) => {
    printed += chunk.toString();
  });
  let told = "";
  again.stderr.on("data", (chunk: Buffer) => {
    told += chunk.toString();
  });
  const ended = once(again, "close");
  let processes: ProcessIdentity[] = [];
  try {
    const limit = Date.now() + READY_WITHIN_MS;
    while (!printed.includes("\n") && Date.now() < limit && again.exitCode === null) await pause(100);
    expect(printed, told).toMatch(/^ready \{.*\}\n$/);
    const json: unknown = JSON.parse(printed.slice("ready ".length));
    const { endpoint } = z.object({ endpoint: z.url() }).parse(json);
    expect(await contents({ endpoint, token: first.token }, ["admin/one", "admin/two", "admin/merged"])).toEqual(
      before,
    );
    processes = family(again.pid ?? 0);
    // This program, the Worker's node and workerd, and the compute service.
    expect(processes.length).toBeGreaterThanOrEqual(4);
  } finally {
    again.kill("SIGTERM");
  }
  expect(await ended, told).toEqual([0, null]);
  expect(processes.filter(isRunning)).toEqual([]);
  expect(printed.split("\n")).toEqual([expect.stringMatching(/^ready \{/), ""]);
});
