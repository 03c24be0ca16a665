// The stock Python client in its versions, each step of it a process with an environment and a cache of its own.
import { type ChildProcess, execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { inject } from "vitest";
import * as z from "zod";
import { sha256 } from "./scratch.ts";

const exec = promisify(execFile);

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const PYTHON = join(ROOT, "gpu-service", ".venv", "bin", "python");
const SCRIPTS = join(ROOT, "test", "clients", "python");
/** More than any step prints. Bytes. */
const MAX_OUTPUT = 64 * 1024 * 1024;

/** The version that the project itself installs, and the last one before it that still spoke through the older HTTP library. */
export const VERSIONS = ["2.4.0", "1.33.0"] as const;
/** Those that files are sent through as Xet by. */
export const XET_VERSIONS = [...VERSIONS, "2.0.0"] as const;
export type Version = (typeof XET_VERSIONS)[number];
/** The hf_xet that came with an older version. */
const OLDER_XET = "1.6.0";

/** `transformers` and `datasets` with what the environment lacks of their dependencies. */
const ECOSYSTEM = [
  "transformers==5.24.0",
  "tokenizers==0.23.3",
  "regex==2026.11.19",
  "datasets==5.2.0",
  "pyarrow==26.0.1",
  "pandas==3.1.1",
  "python-dateutil==4.0.0",
  "dill==0.4.1",
  "multiprocess==0.70.19",
  "xxhash==4.1.0",
];

/** Where packages lie that the environment does not have; installed there on first use. What else they need is the environment's own. */
async function installed(name: string, packages: readonly string[]): Promise<string> {
  const cache = join(ROOT, ".cache");
  const place = join(cache, name);
  // `dill`, which `datasets` hashes by, knows libraries by this name in their path.
  const packagesFolder = join(place, "site-packages");
  if (existsSync(place)) return packagesFolder;
  mkdirSync(cache, { recursive: true });
  // Installed beside its place and then moved: an interrupted install leaves nothing that looks finished.
  const draft = mkdtempSync(join(cache, "installing-"));
  try {
    await exec(PYTHON, [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--no-deps",
      "--target",
      join(draft, "site-packages"),
      ...packages,
    ]);
    renameSync(draft, place);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return packagesFolder;
}

async function packagesOf({ version, ecosystem }: Session): Promise<string[]> {
  const packages: Promise<string>[] = [];
  if (version !== "2.4.0") {
    const older = [`huggingface_hub==${version}`, `hf-xet==${OLDER_XET}`];
    packages.push(installed(`huggingface_hub-${version}-with-hf_xet-${OLDER_XET}`, older));
  }
  if (ecosystem === true) packages.push(installed(`ecosystem-${sha256(ECOSYSTEM.join(" ")).slice(0, 12)}`, ECOSYSTEM));
  return Promise.all(packages);
}

export type Session = {
  readonly version: Version;
  /** Absent for a visitor. */
  readonly token?: string;
  /** The client's cache and settings. */
  readonly home: string;
  readonly endpoint?: string;
  /** As a client without hf_xet: files go by LFS. */
  readonly withoutXet?: boolean;
  /** With the libraries that models and datasets are used through. */
  readonly ecosystem?: boolean;
  /** More of the client's environment. */
  readonly settings?: Readonly<Record<string, string>>;
};

/** The environment of a program that uses the client, with nothing in it of who runs the tests. */
export async function pythonEnvironment(session: Session): Promise<NodeJS.ProcessEnv> {
  const packages = await packagesOf(session);
  const inherited = Object.entries(process.env).filter(([name]) => !/^(HF_|HUGGING|PYTHON)/.test(name));
  return {
    ...Object.fromEntries(inherited),
    HF_ENDPOINT: session.endpoint ?? inject("endpoint"),
    HF_HOME: session.home,
    HF_HUB_DISABLE_TELEMETRY: "1",
    HF_HUB_DISABLE_UPDATE_CHECK: "1",
    HF_HUB_DISABLE_PROGRESS_BARS: "1",
    NO_COLOR: "1",
    PYTHONDONTWRITEBYTECODE: "1",
    ...(session.withoutXet === true ? { HF_HUB_DISABLE_XET: "1" } : {}),
    ...(session.token === undefined ? {} : { HF_TOKEN: session.token }),
    ...(packages.length === 0 ? {} : { PYTHONPATH: packages.join(delimiter) }),
    ...session.settings,
  };
}

export type Running<T> = { readonly child: ChildProcess; readonly answer: Promise<T> };

/** Starts a step of a script in `python/`, for a test that ends it early. */
export async function startStep<T>(
  session: Session,
  script: string,
  step: string,
  args: Record<string, unknown>,
  answer: z.ZodType<T>,
): Promise<Running<T>> {
  const running = exec(PYTHON, [join(SCRIPTS, script), step], {
    env: await pythonEnvironment(session),
    maxBuffer: MAX_OUTPUT,
  });
  running.child.stdin?.end(JSON.stringify(args));
  const checked = running.then(({ stdout }) => {
    const result = z.object({ version: z.string(), answer }).parse(JSON.parse(stdout));
    if (result.version !== session.version) throw new Error(`the step ran with version ${result.version}`);
    return result.answer;
  });
  return { child: running.child, answer: checked };
}

/** Runs a step of a script in `python/` and returns what it answered. */
export async function pythonStep<T>(
  session: Session,
  script: string,
  step: string,
  args: Record<string, unknown>,
  answer: z.ZodType<T>,
): Promise<T> {
  return (await startStep(session, script, step, args, answer)).answer;
}

/** Runs the client's command line, `hf`. @returns what it printed on stdout */
export async function hf(session: Session, ...args: string[]): Promise<string> {
  const { stdout } = await exec(PYTHON, ["-m", "huggingface_hub.cli.hf", ...args], {
    env: await pythonEnvironment(session),
    maxBuffer: MAX_OUTPUT,
  });
  return stdout;
}
