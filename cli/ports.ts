// Finds and checks the ports of a hub before anything is started on them.
import { createServer } from "node:net";
import { CliError } from "./cli-error.mjs";

const HOST = "127.0.0.1";

async function tryListen(port: number): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, HOST, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("a TCP server has a numeric port");
  return address.port;
}

/** The port to use: the one asked for, or a free one for 0. */
export async function claimPort(port: number, flag: string): Promise<number> {
  try {
    return await tryListen(port);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EADDRINUSE") {
      throw new CliError(
        `port ${port} is in use by another program.`,
        `Stop that program, or choose another port with ${flag} N.`,
      );
    }
    if (code === "EACCES") {
      throw new CliError(`port ${port} may not be used by this user.`, `Choose a port above 1023 with ${flag} N.`);
    }
    throw error;
  }
}
