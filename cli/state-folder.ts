// The folder a hub keeps everything in: where each thing lies, who may use it, and the small files we write there ourselves.
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as z from "zod";
import { CliError } from "./cli-error.mjs";
import { startTime } from "./process-identity.mjs";

/** How many earlier logs of a service are kept. */
const KEPT_LOGS = 3;

const secretsShape = z.object({ OWM_SECRET: z.string().min(32), OWM_COMPUTE_SECRET: z.string().min(32) });
const bootstrapShape = z.object({ endpoint: z.url(), user: z.string().min(1), token: z.string().min(1) });
const identityShape = z.object({ pid: z.int().positive(), started: z.string() });
const runShape = z.object({
  pid: z.int().positive(),
  endpoint: z.string(),
  services: z.array(identityShape.extend({ name: z.string(), members: z.array(identityShape) })),
});

export type Secrets = z.infer<typeof secretsShape>;
export type Bootstrap = z.infer<typeof bootstrapShape>;
/** Who runs on this folder: enough to find and stop every process again, should the supervisor be killed. */
export type RunRecord = z.infer<typeof runShape>;

export function stateFolder(path: string) {
  const root = resolve(path);
  return {
    root,
    edge: join(root, "edge"),
    compute: join(root, "compute"),
    worker: join(root, "worker"),
    scratch: join(root, "scratch"),
    logs: join(root, "logs"),
    lock: join(root, "lock.sqlite"),
    secrets: join(root, "secrets.json"),
    bootstrap: join(root, "bootstrap.json"),
    run: join(root, "run.json"),
  };
}
export type StateFolder = ReturnType<typeof stateFolder>;

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function readShape<T>(path: string, shape: z.ZodType<T>, fix: string): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    return shape.parse(JSON.parse(text));
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw new CliError(`${path} cannot be read: ${reason}`, fix);
  }
}

/** The file is there whole or not at all, and only its owner can read it. */
function writeWhole(path: string, value: unknown): void {
  const draft = `${path}.${process.pid}.new`;
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", 0o600);
  try {
    writeSync(file, `${JSON.stringify(value)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}

/**
 * Takes the folder for this process. The lock is the kernel's (held through SQLite), so it ends with its holder however
 * that dies; run.json is read only to say who holds it.
 */
export function lockState(folder: StateFolder): { release(): void } {
  mkdirSync(folder.root, { recursive: true, mode: 0o700 });
  const database = new DatabaseSync(folder.lock);
  try {
    database.exec("BEGIN EXCLUSIVE");
  } catch {
    database.close();
    const running = readRun(folder);
    throw new CliError(
      `a hub already runs on ${folder.root}${running === undefined ? "" : ` (process ${running.pid}, at ${running.endpoint})`}.`,
      "Use that one, stop it first, or choose another folder with --state DIR.",
    );
  }
  return { release: () => database.close() };
}

/** The secrets of this hub, made on its first start. */
export function loadSecrets(folder: StateFolder): Secrets {
  const known = readShape(
    folder.secrets,
    secretsShape,
    "Restore the file from a backup. Without it tokens and links signed by this hub are void; deleting it makes new secrets.",
  );
  if (known !== undefined) return known;
  const secret = () => randomBytes(32).toString("base64url");
  const made = { OWM_SECRET: secret(), OWM_COMPUTE_SECRET: secret() };
  writeWhole(folder.secrets, made);
  return made;
}

export function readBootstrap(folder: StateFolder): Bootstrap | undefined {
  return readShape(
    folder.bootstrap,
    bootstrapShape,
    "Delete the file: the next start issues a new administrator token.",
  );
}

export function writeBootstrap(folder: StateFolder, bootstrap: Bootstrap): void {
  writeWhole(folder.bootstrap, bootstrap);
}

export function readRun(folder: StateFolder): RunRecord | undefined {
  return readShape(folder.run, runShape, "Delete the file, and stop by hand what may still run of an earlier hub.");
}

export function writeRun(folder: StateFolder, run: RunRecord): void {
  writeWhole(folder.run, run);
}

export function removeRun(folder: StateFolder): void {
  rmSync(folder.run, { force: true });
}

/** Who a process is, for run.json; undefined when it has ended already. */
export function identify(pid: number): { pid: number; started: string } | undefined {
  const started = startTime(pid);
  return started === undefined ? undefined : { pid, started };
}

/** Gives a service a fresh log and keeps the last few: edge.log, edge.1.log, edge.2.log … */
export function rotateLog(folder: StateFolder, service: string): string {
  mkdirSync(folder.logs, { recursive: true });
  const name = (age: number) => join(folder.logs, age === 0 ? `${service}.log` : `${service}.${age}.log`);
  for (let age = KEPT_LOGS - 1; age >= 0; age--) {
    try {
      renameSync(name(age), name(age + 1));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  return name(0);
}
