// `npm run demo`: starts the hub, lets the demo program use it as any client would, and keeps serving what it made.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { CliError, printError } from "./cli-error.mjs";
import { type Hub, startHub } from "./hub.ts";
import { parseServeOptions } from "./options.ts";
import { type StopRequest, stopRequested } from "./stop-request.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const USAGE = "npm run demo -- [--port N] [--state DIR] [--compute-port M] [--exit]";

/** Resolves to the program's exit code; undefined when it was stopped along with the hub. */
function runDemo(hub: Hub, stop: StopRequest): Promise<number | undefined> {
  const service = join(ROOT, "gpu-service");
  return new Promise((resolve, reject) => {
    const child = spawn(join(service, ".venv", "bin", "python"), [join("demo", "digits.py")], {
      cwd: ROOT,
      stdio: ["ignore", "inherit", "inherit"],
      env: {
        ...process.env,
        PYTHONPATH: service,
        PYTHONUNBUFFERED: "1",
        HF_ENDPOINT: hub.endpoint,
        HF_HOME: join(hub.state, "huggingface"),
        HF_HUB_DISABLE_TELEMETRY: "1",
        OWM_TOKEN: hub.token,
      },
    });
    stop.signal.addEventListener("abort", () => child.kill("SIGTERM"));
    child.once("error", reject);
    child.once("exit", (code) => resolve(stop.signal.aborted ? undefined : (code ?? 1)));
  });
}

async function main(stop: StopRequest): Promise<void> {
  const { port, computePort, state, exit } = parseServeOptions(process.argv.slice(2), USAGE, true);
  const report = (line: string) => console.error(line);
  report(`Starting the hub on ${state} …`);
  const hub = await startHub({ state, port, computePort, superviseCompute: true, report, signal: stop.signal });
  try {
    const code = await Promise.race([runDemo(hub, stop), hub.workerFailed]);
    if (typeof code === "string") throw new CliError(code, "See the log named above.");
    process.exitCode = code ?? 0;
    if (code !== undefined && code !== 0)
      report(`The demo failed with exit code ${code}; logs are in ${hub.state}/logs.`);
    if (code === undefined || exit) return;
    report(`The hub keeps serving at ${hub.endpoint} (token in ${hub.state}/bootstrap.json). Ctrl-C stops it.`);
    const failure = await Promise.race([stop.requested, hub.workerFailed]);
    if (failure !== undefined) throw new CliError(failure, "See the log named above; the state is kept: npm start.");
  } finally {
    await hub.stop();
  }
}

const stop = stopRequested();
main(stop).catch((error) => {
  // Stopped before it was ready is stopped, not failed.
  if (stop.signal.aborted) return;
  printError(error);
  process.exitCode = 1;
});
