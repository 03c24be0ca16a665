// CPU of the hub: for checking xorbs, beside what the bucket's put alone costs, and for unpacking files into plain HTTP answers.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "./kit/bytes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import {
  interleave,
  median,
  metered,
  type Results,
  rate,
  ratio,
  samplesOf,
  spread,
  type Target,
} from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";
import { type Content, hf, makeFile, measure, onNewMachine, settled } from "./kit/stock-client.ts";
import { get, put } from "./kit/transfer.ts";
import { buildXorbs, XetConnection, type Xorb } from "./kit/xet-upload.ts";

const CONTENTS: readonly Content[] = ["random", "weights"];
const LABELS: Record<Content, string> = { random: "random, as it is", weights: "weights, BG4+LZ4" };
/** The kernel counts CPU in hundredths of a second: one xorb alone would be counted coarsely. */
const AT_ONCE = 4;

const barePut = (content: Content): string => `${LABELS[content]}: bare Worker's R2 put`;
const bareGet = (content: Content): string => `${LABELS[content]}: bare Worker`;

/** `work` is the unpacked bytes. */
function print(results: Results, baseOf: (name: string) => string): void {
  printTable(
    ["", "MB/s", "spread", "beside bare", "CPU ms/MiB", "spread"],
    [...results.keys()].map((name) => {
      const samples = samplesOf(results, name);
      const costs = samples.map(({ cpuSeconds, work }) => (cpuSeconds * 1000) / (work / MIB));
      return [
        name,
        (median(samples.map(rate)) / 1e6).toFixed(0),
        spread(samples, 1e6),
        ratio(results, name, baseOf(name)).toFixed(2),
        median(costs).toFixed(2),
        `${Math.min(...costs).toFixed(2)}–${Math.max(...costs).toFixed(2)}`,
      ];
    }),
  );
}

const contentOf = (name: string): Content => (name.startsWith(LABELS.random) ? "random" : "weights");

async function benchVerification({ client, hub, bare, folder }: Stage, quick: boolean, rounds: number): Promise<void> {
  const perSample = quick ? 1 : AT_ONCE;
  printHeading(`Xet: ${perSample} xorbs of 64 MiB of content, one after another, ${rounds} rounds; per MiB of content`);
  const repo = await client.createRepo("xet-verification", true);
  const connection = await XetConnection.open(client, repo);
  const targets: Target[] = [];
  for (const content of CONTENTS) {
    const xorbs = await buildXorbs(folder, content, perSample * (rounds + 2), 5 + CONTENTS.indexOf(content));
    const unpacked = perSample * 64 * MIB;
    const known = xorbs.splice(0, perSample);
    for (const xorb of known) await connection.sendXorb(xorb);
    const packed = known.reduce((sum, { body }) => sum + body.length, 0);
    console.log(`${LABELS[content]}: ${(packed / perSample / MIB).toFixed(1)} MiB a xorb`);
    const each =
      (server: Stage["hub"], some: () => readonly Xorb[], sendOne: (xorb: Xorb) => Promise<unknown>) => () => {
        const sent = some();
        return metered(server.pids, async () => {
          for (const xorb of sent) await sendOne(xorb);
          return unpacked;
        });
      };
    targets.push(
      {
        name: barePut(content),
        run: each(
          bare,
          () => known,
          ({ hash, body }) => put(`${bare.endpoint}/xorb-${hash}`, [body], body.length),
        ),
      },
      {
        name: `${LABELS[content]}: hub, new xorb`,
        run: each(
          hub,
          () => xorbs.splice(0, perSample),
          (xorb) => connection.sendXorb(xorb),
        ),
      },
      {
        name: `${LABELS[content]}: hub, known xorb (checked, not stored)`,
        run: each(
          hub,
          () => known,
          (xorb) => connection.sendXorb(xorb),
        ),
      },
    );
  }
  await settled(hub);
  print(await interleave(targets, rounds), (name) => barePut(contentOf(name)));
}

async function benchDecoding(stage: Stage, quick: boolean, rounds: number): Promise<void> {
  const { client, hub, bare, folder } = stage;
  const mebibytes = quick ? 128 : 512;
  printHeading(`Xet: plain HTTP download of a file of ${mebibytes} MiB that is kept as Xet, ${rounds} rounds`);
  const targets: Target[] = [];
  for (const content of CONTENTS) {
    const path = join(folder, "to-decode");
    await makeFile(path, content, mebibytes, 11);
    const repo = await client.createRepo(`xet-decoding-${content}`, true);
    const account = { endpoint: hub.endpoint, token: client.token };
    await onNewMachine(folder, (home) => hf(home, account, "upload", repo, path, "model.bin"));
    await measure("curl", ["-sSf", "-T", path, `${bare.endpoint}/decoded-${content}`]);
    rmSync(path);
    const add = (name: string, server: Stage["hub"], url: string, headers: Record<string, string> = {}): void => {
      targets.push({ name, run: () => metered(server.pids, () => get(url, { headers })) });
    };
    add(bareGet(content), bare, `${bare.endpoint}/decoded-${content}`);
    const url = `${hub.endpoint}/${repo}/resolve/main/model.bin`;
    add(`${LABELS[content]}: hub, resolve`, hub, url, client.authorization);
  }
  await settled(hub);
  print(await interleave(targets, rounds), (name) => bareGet(contentOf(name)));
}

export async function benchXetCpu(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  await benchVerification(stage, quick, rounds);
  await benchDecoding(stage, quick, rounds);
}
