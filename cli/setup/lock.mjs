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
 * @returns {{ pid: number, started: string } | undefined}
 */
function readOwner(lock) {
  try {
    const owner = JSON.parse(readFileSync(join(lock, "owner.json"), "utf8"));
    return typeof owner?.pid === "number" && typeof owner.started === "string" ? owner : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} lock */
function isAbandoned(lock) {
  const owner = readOwner(lock);
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
  writeFileSync(join(lock, "owner.json"), JSON.stringify({ pid: process.pid, started: startTime(process.pid) ?? "" }));
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
 * @param {() => Promise<void>} work
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
      progress.start(`Waiting for the set-up that runs already (process ${readOwner(lock)?.pid ?? "unknown"})`);
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
    await work();
  } finally {
    process
      .removeListener("exit", release)
      .removeListener("SIGINT", onInterrupt)
      .removeListener("SIGTERM", onTerminate);
    release();
  }
}
