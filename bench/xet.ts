// The stock client through the hub, in parts as Xet has it, beside its Xet library on its own store on disk, nginx and a bare Worker.
import { createHash } from "node:crypto";
import { copyFileSync, createReadStream, rmSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { GIB, MIB } from "./kit/bytes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, type Results, rate, ratio, samplesOf, spread, type Target } from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";
import {
  type Account,
  type Content,
  hf,
  type Measured,
  makeFile,
  measure,
  onNewMachine,
  readLocally,
  settled,
  type TwoSided,
  twoSided,
  type Written,
  writeLocally,
} from "./kit/stock-client.ts";

const CONTENTS: readonly Content[] = ["random", "weights"];
const NAME = "model.safetensors";

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** What was counted of clients' processes: the rounds keep only what all benchmarks have. */
type Ledger = Map<string, TwoSided[]>;

function target(name: string, ledger: Ledger, run: () => Promise<TwoSided>): Target {
  ledger.set(name, []);
  return {
    name,
    run: async () => {
      const sample = await run();
      ledger.get(name)?.push(sample);
      return sample;
    },
  };
}

/** The first entry of the ledger is the round that does not count. */
const counted = (ledger: Ledger, name: string): TwoSided[] => ledger.get(name)?.slice(1) ?? [];

function printTwoSided(results: Results, ledger: Ledger, baseOf: (name: string) => string): void {
  printTable(
    ["", "seconds", "MB/s", "spread", "beside local://", "client CPU s/GiB", "server CPU s/GiB", "client memory MiB"],
    [...results.keys()].map((name) => {
      const samples = samplesOf(results, name);
      return [
        name,
        median(samples.map(({ seconds }) => seconds)).toFixed(1),
        (median(samples.map(rate)) / 1e6).toFixed(0),
        spread(samples, 1e6),
        ratio(results, name, baseOf(name)).toFixed(2),
        median(counted(ledger, name).map(({ client, work }) => client.cpuSeconds / (work / GIB))).toFixed(2),
        median(samples.map(({ cpuSeconds, work }) => cpuSeconds / (work / GIB))).toFixed(2),
        median(counted(ledger, name).map(({ client }) => client.peakMiB)).toFixed(0),
      ];
    }),
  );
}

const contentOf = (name: string): string => name.split(":")[0] ?? "";
const localOf = (name: string): string => `${contentOf(name)}: hf_xet, local://`;

async function benchUploads(
  { client, hub, bare, folder }: Stage,
  account: Account,
  mebibytes: number,
  rounds: number,
): Promise<void> {
  printHeading(`Xet: upload of ${mebibytes} MiB, ${rounds} rounds`);
  const repo = await client.createRepo("xet-upload", true);
  const ledger: Ledger = new Map();
  const afterwards = new Map<Content, number[]>(CONTENTS.map((content) => [content, []]));
  let seed = 0;
  // Other bytes each time: neither side takes what it has.
  const fresh = async (content: Content, run: (file: string) => Promise<TwoSided>): Promise<TwoSided> => {
    const file = join(folder, "upload");
    await makeFile(file, content, mebibytes, ++seed);
    try {
      return await run(file);
    } finally {
      rmSync(file);
    }
  };
  const work = mebibytes * MIB;
  const targets = CONTENTS.flatMap((content): Target[] => [
    target(localOf(content), ledger, () =>
      fresh(content, (file) =>
        onNewMachine(folder, (home) =>
          twoSided(undefined, work, async () => (await writeLocally(home, join(home, "store"), file))[0]),
        ),
      ),
    ),
    target(`${content}: hf upload, hub`, ledger, () =>
      fresh(content, async (file) => {
        const sample = await onNewMachine(folder, (home) =>
          twoSided(hub, work, () => hf(home, account, "upload", repo, file, NAME)),
        );
        afterwards.get(content)?.push(await settled(hub));
        return sample;
      }),
    ),
    target(`${content}: curl, bare Worker's R2 put`, ledger, () =>
      fresh(content, (file) =>
        twoSided(bare, work, () => measure("curl", ["-sSf", "-T", file, `${bare.endpoint}/xet-upload`])),
      ),
    ),
  ]);
  printTwoSided(await interleave(targets, rounds), ledger, localOf);
  for (const [content, seconds] of afterwards)
    console.log(
      `${content}: CPU of the hub after the answer, SHA-256 in the background included: ${median(seconds.slice(1).map((used) => used / (mebibytes / 1024))).toFixed(2)} s/GiB`,
    );
}

type Published = { readonly content: Content; readonly repo: string; readonly store: string; readonly file: Written };

/** The file in the hub, in a store on disk, in nginx's folder and in the bare Worker's bucket. */
async function publish(
  { client, bare, hub, folder }: Stage,
  account: Account,
  content: Content,
  mebibytes: number,
): Promise<Published & { readonly digest: string }> {
  const path = join(folder, "published");
  await makeFile(path, content, mebibytes, 1000 + CONTENTS.indexOf(content));
  const repo = await client.createRepo(`xet-download-${content}`, true);
  const store = join(folder, `store-${content}`);
  await onNewMachine(folder, (home) => hf(home, account, "upload", repo, path, NAME));
  const [, file] = await onNewMachine(folder, (home) => writeLocally(home, store, path));
  copyFileSync(path, join(folder, "served", content));
  await measure("curl", ["-sSf", "-T", path, `${bare.endpoint}/xet-${content}`]);
  const digest = await sha256Of(path);
  rmSync(path);
  await settled(hub);
  return { content, repo, store, file, digest };
}

async function benchDownloads(stage: Stage, account: Account, mebibytes: number, rounds: number): Promise<void> {
  const { hub, bare, nginx, client, folder } = stage;
  printHeading(`Xet: download of ${mebibytes} MiB to a file, ${rounds} rounds`);
  const ledger: Ledger = new Map();
  const work = mebibytes * MIB;
  const into = join(folder, "downloaded");
  const targets: Target[] = [];
  for (const content of CONTENTS) {
    const { repo, store, file, digest } = await publish(stage, account, content, mebibytes);
    const checked = new Set<string>();
    /** The first time, the uncounted one, what came is looked at. */
    const add = (
      name: string,
      server: Stage["hub"] | undefined,
      run: (home: string) => Promise<Measured>,
      file = into,
    ): void => {
      targets.push(
        target(name, ledger, async () => {
          const sample = await onNewMachine(folder, (home) => twoSided(server, work, () => run(home)));
          if (!checked.has(name) && (await sha256Of(file)) !== digest) throw new Error(`${name} brought other bytes`);
          checked.add(name);
          rmSync(file);
          return sample;
        }),
      );
    };
    const curl = (url: string, ...headers: string[]) => measure("curl", ["-sSf", "-o", into, ...headers, url]);
    const authorization = `authorization: ${client.authorization.authorization}`;
    add(localOf(content), undefined, (home) => readLocally(home, store, file, into));
    const place = join(folder, "downloads");
    add(
      `${content}: hf download, hub`,
      hub,
      (home) => hf(home, account, "download", repo, NAME, "--local-dir", place),
      join(place, NAME),
    );
    add(`${content}: curl, hub`, hub, () => curl(`${hub.endpoint}/${repo}/resolve/main/${NAME}`, "-H", authorization));
    add(`${content}: curl, bare Worker`, bare, () => curl(`${bare.endpoint}/xet-${content}`));
    if (nginx !== undefined) add(`${content}: curl, nginx`, nginx, () => curl(`${nginx.endpoint}/${content}`));
  }
  printTwoSided(await interleave(targets, rounds), ledger, localOf);
}

export async function benchXet(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const mebibytes = quick ? 128 : 1024;
  const account = { endpoint: stage.hub.endpoint, token: stage.client.token };
  const start = await onNewMachine(stage.folder, (home) => hf(home, account, "version"));
  await benchUploads(stage, account, mebibytes, rounds);
  await benchDownloads(stage, account, mebibytes, rounds);
  console.log(`of each hf, its start takes ${start.seconds.toFixed(2)} s (${start.cpuSeconds.toFixed(2)} s of CPU)`);
}
