// Builds the Worker with wrangler, exactly as a deployment would, and lists the modules of the result.
import { execFile } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { basename, extname, join } from "node:path";
import { promisify } from "node:util";
import type { V4ModuleDefinition } from "miniflare";
import { CliError } from "./cli-error.mjs";

/** wrangler neither calls home nor looks for an account when all it does is build. */
export const offlineWrangler = {
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_HIDE_BANNER: "true",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  X_LOCAL_EXPLORER: "false",
  X_LOCAL_OBSERVABILITY: "false",
};

/** By file name, as wrangler's default rules have it. Source maps and wrangler's README are no modules. */
const moduleTypes: Record<string, V4ModuleDefinition["type"]> = {
  ".js": "ESModule",
  ".mjs": "ESModule",
  ".wasm": "CompiledWasm",
  ".bin": "Data",
  ".txt": "Text",
  ".html": "Text",
  ".sql": "Text",
};

/** `entry` stands for the one that wrangler.toml names, and has its file name. */
export async function buildWorker(root: string, outdir: string, entry?: string): Promise<void> {
  rmSync(outdir, { recursive: true, force: true });
  const wrangler = join(root, "node_modules", "wrangler", "bin", "wrangler.js");
  const named = entry === undefined ? [] : [entry];
  const args = [wrangler, "deploy", ...named, "--dry-run", "--outdir", outdir, "--config", join(root, "wrangler.toml")];
  try {
    await promisify(execFile)(process.execPath, args, {
      cwd: root,
      env: { ...process.env, ...offlineWrangler, CI: "1" },
    });
  } catch (error) {
    const output = error instanceof Error && "stderr" in error ? `${error.stderr}` : String(error);
    throw new CliError(
      `the Worker could not be built:\n${output.trim()}`,
      "Correct what is named above (`npm test` shows type errors too).",
    );
  }
}

/** The modules of a built Worker, its entry first: what workerd is given. */
export function workerModules(outdir: string, main: string): V4ModuleDefinition[] {
  const entry = `${basename(main, extname(main))}.js`;
  const names = readdirSync(outdir).sort((a, b) => Number(b === entry) - Number(a === entry) || a.localeCompare(b));
  return names.flatMap((name) => {
    const type = moduleTypes[extname(name)];
    return type === undefined ? [] : [{ type, path: join(outdir, name) }];
  });
}
