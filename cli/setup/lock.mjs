// Lets one set-up at a time install: a directory as the lock, taken over when its owner is gone.
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isRunning, startTime } from "../process-identity.mjs";

const POLL_MS = 300;
/** Between making the directory and naming its owner lie microseconds; one this old without an owner was abandoned. */
const NAMELESS_AFTER_MS = 10_000;

/** @param {unknown} error @param {string} code */
function hasCode(error, code) {
  return error instanceof Error && "code" in error && error.code === code;
}

/**
 * @param {string} lock
 * @param {"owner" | "installer"} role
 * @returns {import("../process-identity.mjs").ProcessIdentity | undefined}
 */
function readHolder(lock, role) {
  try {
    const holder = JSON.parse(readFileSync(join(lock, `${role}.json`), "utf8"));
    return typeof holder?.pid === "number" && typeof holder.started === "string" ? holder : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {string} lock
 * @param {"owner" | "installer"} role
 * @param {number} pid
 */
function writeHolder(lock, role, pid) {
  writeFileSync(join(lock, `${role}.json`), JSON.stringify({ pid, started: startTime(pid) ?? "" }));
}

/**
 * An installer outlives a set-up that was killed, and goes on writing: the lock is held until it has ended too.
 * @param {string} lock
 */
function isAbandoned(lock) {
  const owner = readHolder(lock, "owner");
  const installer = readHolder(lock, "installer");
  if (installer !== undefined && isRunning(installer)) return false;
  if (owner !== undefined) return !isRunning(owner);
  try {
    return Date.now() - statSync(lock).mtimeMs > NAMELESS_AFTER_MS;
  } catch {
    return false;
  }
}

/** @param {string} lock */
function tryTake(lock) {
  try {
    mkdirSync(lock);
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  }
  writeHolder(lock, "owner", process.pid);
  return true;
}

/**
 * Moves an abandoned lock out of the way. Two may see the same abandoned lock: the one who comes late would move the
 * lock its rival has just taken, so it looks at what it moved and puts a living lock back.
 * @param {string} lock
 */
function clearAbandoned(lock) {
  const aside = `${lock}.${process.pid}`;
  try {
    renameSync(lock, aside);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return;
    throw error;
  }
  if (isAbandoned(aside)) rmSync(aside, { recursive: true, force: true });
  else renameSync(aside, lock);
}

/**
 * @param {string} lock
 * @param {import("./progress.mjs").Progress} progress
 * @param {(remember: (installer: number) => void) => Promise<void>} work is given a way to name the process that does the writing
 */
export async function withLock(lock, progress, work) {
  mkdirSync(dirname(lock), { recursive: true });
  let waiting = false;
  while (!tryTake(lock)) {
    if (isAbandoned(lock)) {
      clearAbandoned(lock);
      continue;
    }
    if (!waiting)
      progress.start(
        `Waiting for the set-up that runs already (process ${readHolder(lock, "owner")?.pid ?? "unknown"})`,
      );
    waiting = true;
    await pause(POLL_MS);
  }
  if (waiting) progress.done("it has finished");
  const release = () => rmSync(lock, { recursive: true, force: true });
  // An "exit" listener runs for process.exit too, which the signal handlers below end in.
  process.once("exit", release);
  const onInterrupt = () => process.exit(130);
  const onTerminate = () => process.exit(143);
  process.once("SIGINT", onInterrupt).once("SIGTERM", onTerminate);
  try {
    await work((installer) => writeHolder(lock, "installer", installer));
  } finally {
    process
      .removeListener("exit", release)
      .removeListener("SIGINT", onInterrupt)
      .removeListener("SIGTERM", onTerminate);
    release();
  }
}
