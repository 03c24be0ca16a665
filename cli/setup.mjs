// Installs whatever the project still needs (Node packages, Python environment), then runs one program of this folder:
// `node cli/setup.mjs [serve|demo|test] [arguments]`. Plain JavaScript, because it runs before anything is installed.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { CliError, printError } from "./cli-error.mjs";
import { withLock } from "./setup/lock.mjs";
import { installNodePackages, nodePackagesMissing } from "./setup/node-packages.mjs";
import { Progress } from "./setup/progress.mjs";
import { installPythonPackages, pythonPackagesMissing } from "./setup/python.mjs";

const OLDEST_NODE = 20;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @type {ReadonlyMap<string, string>} */
const programs = new Map([
  ["serve", "cli/serve.ts"],
  ["demo", "cli/demo.ts"],
  ["test", "cli/test.ts"],
]);

function checkNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < OLDEST_NODE) {
    throw new CliError(
      `Node ${OLDEST_NODE} or newer is needed to start; this is Node ${process.versions.node}.`,
      "Install a current Node from https://nodejs.org (the project then brings the exact version it runs on).",
    );
  }
}

/** Resolves to whether anything had to be installed. */
async function install() {
  if (!nodePackagesMissing(root) && !pythonPackagesMissing(root)) return false;
  const progress = new Progress(process.stderr);
  try {
    await withLock(join(root, ".cache", "setup.lock"), progress, async (remember) => {
      // Asked again under the lock: another set-up may have done the work while this one waited.
      if (nodePackagesMissing(root)) await installNodePackages(root, progress, remember);
      if (pythonPackagesMissing(root)) await installPythonPackages(root, progress, remember);
    });
  } finally {
    progress.close();
  }
  return true;
}

/**
 * Runs a TypeScript program on the project's own Node and ends with its exit code. The IPC channel lets the program
 * notice when this process is killed outright, so that it does not go on alone.
 * @param {string} program
 * @param {string[]} args
 */
function handOver(program, args) {
  const node = join(root, "node_modules", ".bin", "node");
  const child = spawn(node, [join(root, program), ...args], {
    cwd: root,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
  });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => {
    console.error(`${node} could not be started: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal !== null) console.error(`${program} was ended by ${signal}`);
    process.exitCode = code ?? 1;
  });
}

async function main() {
  const [name, ...args] = process.argv.slice(2);
  const program = name === undefined ? undefined : programs.get(name);
  if (name !== undefined && program === undefined) {
    throw new CliError(`There is no program "${name}".`, `Use one of: ${[...programs.keys()].join(", ")}.`);
  }
  checkNode();
  const installed = await install();
  if (program === undefined) {
    console.error(installed ? "Everything is installed now." : "Everything is installed already.");
  } else {
    handOver(program, args);
  }
}

main().catch((error) => {
  printError(error);
  process.exitCode = 1;
});
