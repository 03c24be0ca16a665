// What the stock client sends when most of a file is known already, counted on the way to the hub.
import { rmSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { FaultyNetwork, type Passed } from "../test/faults/proxy.ts";
import { MIB } from "./kit/bytes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import type { Stage } from "./kit/stage.ts";
import { type Account, hf, type Measured, makeFile, measure, newHome, settled } from "./kit/stock-client.ts";

const NAME = "model.safetensors";
const EDIT_BYTES = 16;

const storageShape = z.object({ revisions: z.tuple([z.object({ commit: z.string(), new_bytes: z.number() })]) });

const kilobytes = (bytes: number): string => (bytes / 1000).toLocaleString("en-US", { maximumFractionDigits: 1 });

function rowOf(name: string, size: number, passed: readonly Passed[], stored: string, { seconds }: Measured): string[] {
  const sent = (path: RegExp) => passed.reduce((sum, one) => sum + (path.test(one.path) ? one.sent : 0), 0);
  const received = (path: RegExp) => passed.reduce((sum, one) => sum + (path.test(one.path) ? one.received : 0), 0);
  return [
    name,
    kilobytes(size),
    kilobytes(sent(/./)),
    kilobytes(sent(/\/xorbs\//)),
    kilobytes(sent(/\/shards$/)),
    kilobytes(received(/\/chunks\//)),
    stored,
    String(passed.length),
    seconds.toFixed(1),
  ];
}

async function edit(path: string, at: number): Promise<void> {
  await measure("dd", ["if=/dev/urandom", `of=${path}`, "bs=1", `seek=${at}`, `count=${EDIT_BYTES}`, "conv=notrunc"]);
}

export async function benchXetBytes(stage: Stage, { quick }: { quick: boolean }): Promise<void> {
  const { client, hub, folder } = stage;
  const large = quick ? 128 : 1024;
  const edited = quick ? 32 : 200;
  printHeading("Xet: bytes sent of a changed file");
  const network = await FaultyNetwork.start({ passHost: true });
  network.target = hub.endpoint;
  const account: Account = { endpoint: network.url, token: client.token };
  const rows: string[][] = [];
  const path = join(folder, NAME);
  const homes: string[] = [];
  const machine = (): string => {
    const home = newHome(folder);
    homes.push(home);
    return home;
  };
  const upload = async (name: string, home: string, repo: string, size: number): Promise<void> => {
    network.heal();
    const measured = await hf(home, account, "upload", repo, path, NAME);
    const passed = network.log;
    await settled(hub);
    rows.push(rowOf(name, size, passed, await stored(repo), measured));
  };
  /** By the hub's own account of its newest revision. */
  let lastCommit = "";
  const stored = async (repo: string): Promise<string> => {
    const { revisions } = await client.call(
      "GET",
      `/api/v1/repos/model/${repo}/storage?limit=1`,
      undefined,
      storageShape,
    );
    const [{ commit, new_bytes }] = revisions;
    const isNew = commit !== lastCommit;
    lastCommit = commit;
    return isNew ? kilobytes(new_bytes) : "no commit";
  };
  try {
    const weights = await client.createRepo("xet-bytes-weights", true);
    const first = machine();
    await makeFile(path, "weights", large, 1);
    await upload(`${large} MiB of weights, first version`, first, weights, large * MIB);
    await makeFile(path, "weights", large, 1, [2]);
    await upload("5 % of the tensors changed, same machine", first, weights, large * MIB);
    await makeFile(path, "weights", large, 1, [2, 3]);
    await upload("other 5 % changed, another machine", machine(), weights, large * MIB);
    await makeFile(path, "weights", large, 1, [2, 3]);
    await upload("nothing changed, another machine", machine(), weights, large * MIB);

    const random = await client.createRepo("xet-bytes-random", true);
    await makeFile(path, "random", edited, 1);
    await upload(`${edited} MiB of random bytes, first version`, machine(), random, edited * MIB);
    await edit(path, (edited / 2) * MIB);
    await upload(`${EDIT_BYTES} bytes in the middle edited, another machine`, machine(), random, edited * MIB);
  } finally {
    await network.close();
    for (const home of homes) rmSync(home, { recursive: true, force: true });
    rmSync(path, { force: true });
  }
  printTable(
    ["kB", "file", "sent", "in xorbs", "in shards", "told of known chunks", "new in storage", "requests", "seconds"],
    rows,
  );
}
