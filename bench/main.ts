// `npm run bench -- [download|upload|requests|start|api|round-trips|git|merge|xet|xet-bytes|xet-cpu|xet-memory …] [--rounds N] [--quick]`: starts what is compared, measures, prints, cleans up.
import { parseArgs } from "node:util";
import { CliError, printError } from "../cli/cli-error.mjs";
import { benchApi } from "./api.ts";
import { benchDownload } from "./download.ts";
import { benchGit } from "./git.ts";
import { printMachine } from "./kit/report.ts";
import { onStage } from "./kit/stage.ts";
import { benchMerge } from "./merge.ts";
import { benchRequests } from "./requests.ts";
import { benchRoundTrips } from "./round-trips.ts";
import { benchStart } from "./start.ts";
import { benchUpload } from "./upload.ts";
import { benchXet } from "./xet.ts";
import { benchXetBytes } from "./xet-bytes.ts";
import { benchXetCpu } from "./xet-cpu.ts";
import { benchXetMemory } from "./xet-memory.ts";

const USAGE =
  "npm run bench -- [download|upload|requests|start|api|round-trips|git|merge|xet|xet-bytes|xet-cpu|xet-memory …] [--rounds N] [--quick]";
const MAX_ROUNDS = 50;

const benches = new Map([
  ["download", benchDownload],
  ["upload", benchUpload],
  ["requests", benchRequests],
  ["start", benchStart],
  ["api", benchApi],
  ["round-trips", benchRoundTrips],
  ["git", benchGit],
  ["merge", benchMerge],
  ["xet", benchXet],
  ["xet-bytes", benchXetBytes],
  ["xet-cpu", benchXetCpu],
  ["xet-memory", benchXetMemory],
]);

function parseOptions(args: string[]) {
  const options = { rounds: { type: "string", default: "5" }, quick: { type: "boolean", default: false } } as const;
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS)
    throw new CliError(`--rounds ${values.rounds} is no whole number from 1 to ${MAX_ROUNDS}.`, USAGE);
  const names = positionals.length === 0 ? [...benches.keys()] : positionals;
  const chosen = names.map((name) => {
    const bench = benches.get(name);
    if (bench === undefined) throw new CliError(`there is no benchmark ${name}.`, USAGE);
    return bench;
  });
  return { chosen, rounds, quick: values.quick };
}

async function main(): Promise<void> {
  const { chosen, rounds, quick } = parseOptions(process.argv.slice(2));
  printMachine();
  await onStage(async (stage) => {
    for (const bench of chosen) await bench(stage, { rounds, quick });
  });
}

main().catch((error) => {
  printError(error);
  process.exitCode = 1;
});
