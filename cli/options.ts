// Reads the flags that `npm start` and `npm run demo` share.
import { parseArgs } from "node:util";
import { CliError } from "./cli-error.mjs";

export interface ServeOptions {
  port: number;
  computePort: number;
  state: string;
  /** Only the demo knows it: end when the demo has ended, instead of going on serving. */
  exit: boolean;
}

function portNumber(text: string, flag: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535) {
    throw new CliError(`${flag} ${text} is no port.`, "Give a whole number from 0 to 65535; 0 picks a free one.");
  }
  return port;
}

export function parseServeOptions(args: string[], usage: string, knowsExit: boolean): ServeOptions {
  const options = {
    port: { type: "string", default: "8787" },
    "compute-port": { type: "string", default: "8788" },
    state: { type: "string", default: ".owm" },
    exit: { type: "boolean", default: false },
  } as const;
  try {
    const { values } = parseArgs({ args, options, strict: true, allowPositionals: false });
    if (values.exit && !knowsExit) throw new CliError("there is no flag --exit here.", usage);
    if (values.state === "") throw new CliError("--state needs a folder.", usage);
    return {
      port: portNumber(values.port, "--port"),
      computePort: portNumber(values["compute-port"], "--compute-port"),
      state: values.state,
      exit: values.exit,
    };
  } catch (error) {
    if (error instanceof TypeError) throw new CliError(error.message, usage);
    throw error;
  }
}
