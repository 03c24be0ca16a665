// Runs one installer with its output in a log file, hands its lines to a watcher, and turns a failure into a readable error.
import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { CliError } from "../cli-error.mjs";

const HEAD_LINES = 12;
const TAIL_LINES = 20;

/**
 * What a reader of a failed log needs: npm says the reason first, pip last.
 * @param {string} path
 */
function excerpt(path) {
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  if (lines.length <= HEAD_LINES + TAIL_LINES) return lines.join("\n");
  return [...lines.slice(0, HEAD_LINES), "…", ...lines.slice(-TAIL_LINES)].join("\n");
}

/**
 * @param {object} command
 * @param {string} command.program
 * @param {string[]} command.args
 * @param {string} command.cwd
 * @param {NodeJS.ProcessEnv} command.env
 * @param {string} command.log
 * @param {(pid: number) => void} command.remember is told the installer's process
 * @param {(line: string) => void} [command.onLine]
 * @param {string} command.fix what to try when it fails
 * @returns {Promise<void>}
 */
export async function runLogged({ program, args, cwd, env, log, remember, onLine = () => {}, fix }) {
  mkdirSync(dirname(log), { recursive: true });
  const file = createWriteStream(log);
  file.write(`$ ${[program, ...args].join(" ")}\n`);
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  if (child.pid !== undefined) remember(child.pid);
  // Ctrl-C reaches the installer through the terminal's process group; a SIGTERM to this process alone would not.
  const end = () => child.kill("SIGTERM");
  process.once("exit", end);
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      file.write(`${line}\n`);
      onLine(line);
    });
  }
  const outcome = await new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(code === 0 ? "" : `exit ${code ?? signal}`));
  });
  process.removeListener("exit", end);
  await new Promise((resolve) => file.end(resolve));
  if (outcome !== "") {
    throw new CliError(`${program} ${args[0] ?? ""} failed (${outcome}). From ${log}:\n\n${excerpt(log)}\n`, fix);
  }
}
