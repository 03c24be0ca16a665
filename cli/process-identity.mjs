// Tells whether a process noted down earlier still runs: a pid alone may by now belong to another program.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

const hasProc = existsSync("/proc/self/stat");

/** @param {number | string} pid */
function statFields(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name, in brackets, may itself hold spaces and brackets: count the fields after the last one.
    const [state, , group, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state, group: Number(group), startTicks: rest[16] };
  } catch {
    return undefined;
  }
}

/** @param {string[]} args */
function ps(...args) {
  try {
    return execFileSync("ps", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

/**
 * When the process started, in the words of the operating system; undefined when no such process runs.
 * @param {number} pid
 * @returns {string | undefined}
 */
export function startTime(pid) {
  if (hasProc) {
    const fields = statFields(pid);
    return fields?.state === "Z" ? undefined : fields?.startTicks;
  }
  const started = ps("-o", "lstart=", "-p", String(pid));
  return started === "" ? undefined : started;
}

/**
 * @typedef {{ pid: number, started: string }} ProcessIdentity
 * @param {ProcessIdentity} process
 */
export function isRunning({ pid, started }) {
  return startTime(pid) === started;
}

/**
 * The living processes of a process group, zombies left out: nobody may ever collect those.
 * @param {number} group
 * @returns {ProcessIdentity[]}
 */
export function groupMembers(group) {
  const pids = hasProc
    ? readdirSync("/proc").filter((name) => /^\d+$/.test(name) && statFields(name)?.group === group)
    : ps("-A", "-o", "pid=,pgid=")
        .split("\n")
        .map((line) => line.trim().split(/\s+/))
        .filter(([, pgid]) => Number(pgid) === group)
        .map(([pid]) => pid ?? "");
  return pids.flatMap((name) => {
    const started = startTime(Number(name));
    return started === undefined ? [] : [{ pid: Number(name), started }];
  });
}
