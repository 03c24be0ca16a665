// The process that runs the bare Worker, with the settings that cli/edge.ts gives the hub's; ends with its IPC channel.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { unstable_readConfig } from "wrangler";
import * as z from "zod";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const HOST = "127.0.0.1";

const argumentsShape = z.tuple([z.coerce.number().int().positive(), z.string()]);
const configShape = z.object({ compatibility_date: z.string() });

const [port, persist] = argumentsShape.parse(process.argv.slice(2));
const { compatibility_date } = configShape.parse(unstable_readConfig({ config: join(ROOT, "wrangler.toml") }));
const { code } = transformSync(readFileSync(join(ROOT, "bench", "bare-worker.ts"), "utf8"), { loader: "ts" });
const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    host: HOST,
    resourcePersistencePath: persist,
    cf: false,
    logRequests: false,
    log: new Log(LogLevel.WARN),
    handleStructuredLogs: ({ message }) => console.log(message),
    workers: [
      {
        name: "bare",
        modules: true,
        script: code,
        compatibilityDate: compatibility_date,
        r2Buckets: ["BLOBS"],
        d1Databases: ["DB"],
        unsafeDirectSockets: [{ host: HOST, port }],
      },
    ],
  }),
);

async function end(): Promise<never> {
  await miniflare.dispose();
  process.exit(0);
}
process.once("disconnect", end);
process.once("SIGTERM", end);
