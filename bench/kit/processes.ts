// What the kernel knows of running processes: the CPU time they used and the memory they reached at most.
import { readFileSync, writeFileSync } from "node:fs";

/** USER_HZ, the unit of /proc/PID/stat: 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** User and system time of these processes so far. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** The same of the children of a process that have ended and been waited for, and of theirs. */
export function cpuSecondsOfChildren(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}

function statusMiB(pid: number, field: "VmHWM" | "VmRSS"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
  if (found === undefined) throw new Error(`/proc/${pid}/status has no ${field}`);
  return Number(found) / 1024;
}

export type MemoryWatch = { readonly beforeMiB: number; peakMiB(): number };

/** From now on: the most memory that the processes held, added up. */
export function watchMemory(pids: readonly number[]): MemoryWatch {
  const sum = (field: "VmHWM" | "VmRSS") => pids.reduce((total, pid) => total + statusMiB(pid, field), 0);
  // Writing 5 sets VmHWM back to what is held now.
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, "5");
  return { beforeMiB: sum("VmRSS"), peakMiB: () => sum("VmHWM") };
}
