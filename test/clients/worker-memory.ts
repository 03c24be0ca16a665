// The memory that the Worker's process holds, as the kernel counts it, sampled while something happens.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import * as z from "zod";

const SAMPLE_EVERY_MS = 50;

const Run = z.object({
  services: z.array(z.object({ name: z.string(), members: z.array(z.object({ pid: z.number() })) })),
});

/** The pid of workerd, which runs the Worker together with its D1 and R2, of the hub that runs on a state folder. */
export function workerPid(state: string): number {
  const { services } = Run.parse(JSON.parse(readFileSync(join(state, "run.json"), "utf8")));
  const members = services.find(({ name }) => name === "edge")?.members ?? [];
  const found = members.find(({ pid }) => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd");
  if (found === undefined) throw new Error("workerd does not run");
  return found.pid;
}

/** Memory of a process that is its own: what it maps of files, and what the kernel caches for it, is not counted. Bytes. */
export function ownMemory(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** Does the work. @returns how much memory the process held at most meanwhile, in bytes */
export async function peakMemory(pid: number, work: () => Promise<void>): Promise<number> {
  let peak = ownMemory(pid);
  let working = true;
  const sampling = (async () => {
    while (working) {
      await pause(SAMPLE_EVERY_MS);
      peak = Math.max(peak, ownMemory(pid));
    }
  })();
  try {
    await work();
  } finally {
    working = false;
    await sampling;
  }
  return peak;
}
