// Memory of the hub's processes while many large xorbs come at once, beside the bare Worker's puts of the same, and with a large shard.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { MIB } from "./kit/bytes.ts";
import { watchMemory } from "./kit/processes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import type { Stage } from "./kit/stage.ts";
import { settled } from "./kit/stock-client.ts";
import { put } from "./kit/transfer.ts";
import { buildXorbs, XetConnection } from "./kit/xet-upload.ts";

const ROOT = dirname(import.meta.dirname);
/** Shards of 8000 terms a file; 64 MiB is the most that a hub takes. */
const FILES = 80;

/** Node compiles WebAssembly while it runs; workerd has it done beforehand. */
const compiledWasm = {
  name: "compiled-wasm",
  setup(bundling: Parameters<NonNullable<Parameters<typeof build>[0]["plugins"]>[number]["setup"]>[0]): void {
    bundling.onLoad({ filter: /\.wasm$/ }, ({ path }) => {
      const bytes = readFileSync(path).toString("base64");
      return { contents: `export default new WebAssembly.Module(Buffer.from("${bytes}", "base64"));` };
    });
  },
};

/** A shard that has little else than terms. */
async function largeShard(
  folder: string,
  files: number,
): Promise<{ xorb: { hash: string; body: Buffer }; shard: Buffer }> {
  const outfile = join(folder, "large-shard.mjs");
  const entry = join(ROOT, "bench", "kit", "large-shard.ts");
  const format = { bundle: true, format: "esm", platform: "node" } as const;
  await build({ entryPoints: [entry], outfile, ...format, plugins: [compiledWasm] });
  const into = join(folder, "large-shard");
  mkdirSync(into);
  const { stdout } = await promisify(execFile)(process.execPath, [outfile, into, String(files)]);
  return { xorb: { hash: stdout, body: readFileSync(join(into, "xorb")) }, shard: readFileSync(join(into, "shard")) };
}

export async function benchXetMemory(stage: Stage, { quick }: { quick: boolean }): Promise<void> {
  const { client, hub, bare, folder } = stage;
  printHeading("Xet: memory of node and workerd, R2 and D1 simulators included");
  const connection = await XetConnection.open(client, await client.createRepo("xet-memory", true));
  const rows: string[][] = [];
  const watched = async (name: string, server: Stage["hub"], act: () => Promise<unknown>): Promise<void> => {
    const memory = watchMemory(server.pids());
    const started = performance.now();
    await act();
    const seconds = (performance.now() - started) / 1000;
    const peak = memory.peakMiB();
    rows.push([
      name,
      ...[memory.beforeMiB, peak, peak - memory.beforeMiB].map((mib) => mib.toFixed(0)),
      seconds.toFixed(1),
    ]);
  };
  for (const count of quick ? [1, 4] : [1, 4, 12]) {
    const xorbs = await buildXorbs(folder, "random", count, 50 + count);
    await watched(`bare Worker, ${count} × 64 MiB put at once`, bare, () =>
      Promise.all(xorbs.map(({ hash, body }) => put(`${bare.endpoint}/memory-${hash}`, [body], body.length))),
    );
    await watched(`hub, ${count} × xorb of 64 MiB at once`, hub, () =>
      Promise.all(xorbs.map((xorb) => connection.sendXorb(xorb))),
    );
  }
  const { xorb, shard } = await largeShard(folder, quick ? FILES / 8 : FILES);
  await connection.sendXorb(xorb);
  const size = `${(shard.length / MIB).toFixed(0)} MiB`;
  await watched(`hub, shard of ${size}`, hub, () => connection.sendShard(shard));
  await settled(hub);
  await watched(`hub, the same shard again`, hub, () => connection.sendShard(shard));
  printTable(["MiB", "before", "at most", "growth", "seconds"], rows);
}
