// Uploads: the hub's LFS addresses, in one part and in several, beside a bare Worker's R2 put with the digest to check.
import { randomSource } from "./kit/bytes.ts";
import { sendParts } from "./kit/hub-client.ts";
import { watchMemory } from "./kit/processes.ts";
import { printHeading, printMemory, printTransfers } from "./kit/report.ts";
import { interleave, metered, type Target } from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";
import { put } from "./kit/transfer.ts";

const BARE = "bare Worker, R2 put with sha256";
const PARTS = "hub, 64 MiB parts, without completing";

export async function benchUpload(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const { hub, bare, client } = stage;
  const mebibytes = quick ? 128 : 512;
  printHeading(`Upload of ${mebibytes} MiB, ${rounds} rounds`);
  const repo = await client.createRepo("upload", true);
  // Fresh bytes each time: the hub does not take an upload of bytes that it has.
  const overHub = (transfer: "basic" | "multipart", completes: boolean) => async () => {
    const source = randomSource(mebibytes);
    const plan = await client.openUpload(repo, source, transfer);
    return metered(hub.pids, async () => {
      const etags = await sendParts(plan, source);
      if (completes) await client.complete(plan, source, etags);
      return source.size;
    });
  };
  const targets: Target[] = [
    {
      name: BARE,
      run: () => {
        const source = randomSource(mebibytes);
        return metered(bare.pids, async () => {
          await put(`${bare.endpoint}/upload?sha256=${source.sha256}`, source.read(0, source.size), source.size);
          return source.size;
        });
      },
    },
    { name: "hub, one part", run: overHub("basic", true) },
    { name: PARTS, run: overHub("multipart", false) },
    { name: "hub, 64 MiB parts, completed", run: overHub("multipart", true) },
  ];
  const memory = { hub: watchMemory(hub.pids()), bare: watchMemory(bare.pids()) };
  const results = await interleave(targets, rounds);
  printTransfers(results, BARE);
  printMemory(memory);
}
