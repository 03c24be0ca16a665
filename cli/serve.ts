// `npm start`: runs the hub until it is told to stop, and says `ready {…}` on stdout, alone there, once both services answer.
import { CliError, printError } from "./cli-error.mjs";
import { startHub } from "./hub.ts";
import { parseServeOptions } from "./options.ts";
import { type StopRequest, stopRequested } from "./stop-request.ts";

const USAGE = "npm start -- [--port N] [--state DIR] [--compute-port M]";

async function main(stop: StopRequest): Promise<void> {
  const { port, computePort, state } = parseServeOptions(process.argv.slice(2), USAGE, false);
  const report = (line: string) => console.error(line);
  report(`Starting the hub on ${state} …`);
  const hub = await startHub({ state, port, computePort, superviseCompute: true, report, signal: stop.signal });
  console.log(`ready ${JSON.stringify({ endpoint: hub.endpoint, compute: hub.computeUrl, state: hub.state })}`);
  report(`Open ${hub.endpoint}; the administrator's token is in ${hub.state}/bootstrap.json. Ctrl-C stops the hub.`);
  const failure = await Promise.race([stop.requested, hub.workerFailed]);
  await hub.stop();
  if (failure !== undefined) throw new CliError(failure, "See the log named above; the state is kept: start again.");
  report("Stopped.");
}

const stop = stopRequested();
main(stop).catch((error) => {
  // Stopped before it was ready is stopped, not failed.
  if (stop.signal.aborted) return;
  printError(error);
  process.exitCode = 1;
});
