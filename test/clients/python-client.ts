// The stock Python client in its versions, each step of it a process with an environment and a cache of its own.
import { type ChildProcess, execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { inject } from "vitest";
import * as z from "zod";

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

/** Where an older version lies with its hf_xet; installed there on first use. Its other dependencies are the environment's own. */
async function packagesOf(version: Version): Promise<string | undefined> {
  if (version === "2.4.0") return undefined;
  const cache = join(ROOT, ".cache");
  const place = join(cache, `huggingface_hub-${version}-hf_xet-${OLDER_XET}`);
  if (existsSync(place)) return place;
  mkdirSync(cache, { recursive: true });
  // Installed beside its place and then moved: an interrupted install leaves nothing that looks finished.
  const draft = mkdtempSync(join(cache, "installing-"));
  try {
    const what = [`huggingface_hub==${version}`, `hf-xet==${OLDER_XET}`];
    await exec(PYTHON, ["-m", "pip", "install", "--quiet", "--no-deps", "--target", draft, ...what]);
    renameSync(draft, place);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return place;
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
  /** More of the client's environment. */
  readonly settings?: Readonly<Record<string, string>>;
};

/** The environment of a program that uses the client, with nothing in it of who runs the tests. */
export async function pythonEnvironment(session: Session): Promise<NodeJS.ProcessEnv> {
  const packages = await packagesOf(session.version);
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
    ...(packages === undefined ? {} : { PYTHONPATH: packages }),
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
