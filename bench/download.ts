// Downloads of one large file: the hub's resolve beside nginx and a bare Worker that streams the same bytes from R2.
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MIB, randomSource, type Source } from "./kit/bytes.ts";
import { watchMemory } from "./kit/processes.ts";
import { printHeading, printMemory, printTransfers } from "./kit/report.ts";
import { interleave, metered, type Target } from "./kit/rounds.ts";
import type { Server, Stage } from "./kit/stage.ts";
import { get, put, sha256At } from "./kit/transfer.ts";

const BARE = "bare Worker, R2 object";

type Download = {
  readonly name: string;
  readonly server: Server;
  readonly url: string;
  readonly headers: Record<string, string>;
};

/** Puts the file everywhere: in nginx's folder, in the bare Worker's bucket, and twice in the hub. */
async function publish(stage: Stage, source: Source): Promise<Download[]> {
  const { client, hub, bare, nginx, folder } = stage;
  const bareUrl = `${bare.endpoint}/download`;
  await put(`${bareUrl}?sha256=${source.sha256}`, source.read(0, source.size), source.size);
  const downloads: Download[] = [{ name: BARE, server: bare, url: bareUrl, headers: {} }];
  // A private file, so that the token is looked up too.
  const headers = client.authorization;
  for (const transfer of ["basic", "multipart"] as const) {
    const { source: own, name } =
      transfer === "basic"
        ? { source, name: "hub, file of one segment" }
        : // Known bytes are not uploaded again, so the segmented file has other ones.
          { source: randomSource(source.size / MIB), name: "hub, file of 64 MiB segments" };
    const repo = await client.createRepo(`download-${transfer}`, true);
    await client.upload(repo, own, transfer);
    await client.commit(repo, {}, { "model.bin": own });
    const url = `${hub.endpoint}/${repo}/resolve/main/model.bin`;
    downloads.push({ name, server: hub, url, headers });
    if ((await sha256At(url, headers)) !== own.sha256) throw new Error(`${url} holds other bytes than were uploaded`);
  }
  if (nginx !== undefined) {
    await pipeline(Readable.from(source.read(0, source.size)), createWriteStream(join(folder, "served", "download")));
    downloads.push({ name: "nginx, file", server: nginx, url: `${nginx.endpoint}/download`, headers: {} });
  }
  return downloads;
}

export async function benchDownload(
  stage: Stage,
  { rounds, quick }: { rounds: number; quick: boolean },
): Promise<void> {
  const source = randomSource(quick ? 128 : 1024);
  printHeading(`Download of ${source.size / MIB} MiB, ${rounds} rounds`);
  const downloads = await publish(stage, source);
  const memory = { hub: watchMemory(stage.hub.pids()), bare: watchMemory(stage.bare.pids()) };
  const targets: Target[] = downloads.map(({ name, server, url, headers }) => ({
    name,
    run: () => metered(server.pids, () => get(url, { headers })),
  }));
  const results = await interleave(targets, rounds);
  printTransfers(results, BARE);
  printMemory(memory);
}
