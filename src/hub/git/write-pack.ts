// The objects of a fetch: those that are kept as entries of packs from there, the others one by one, which is a reason to keep them.
import { HubError } from "../../errors";
import type { Platform } from "../../platform/platform";
import { packTask, wakeUpkeep } from "../../store/tasks";
import { objectCount, type PackContents } from "./fetch";
import { KeptPacks } from "./kept-packs";
import { type Sink, writeObjects } from "./pack-objects";

/** Fewer are as well read one by one. */
const WORTH_KEEPING = 200;
/** A Worker may ask the bucket and the database some ten thousand times in one request. */
const MOST_READS = 8000;
/** How long a client is kept waiting for what is too much to be read one by one. */
const WAIT_MS = 5000;
const MOST_WAITS = 120;

export async function writePack(
  platform: Platform,
  repoId: string,
  contents: PackContents,
  sink: Sink,
  say: (text: string) => Promise<void>,
): Promise<void> {
  if (objectCount(contents) < WORTH_KEEPING) return writeObjects(platform, repoId, contents, sink);
  let kept = await KeptPacks.load(platform, repoId);
  let missing = kept.missing(contents);
  if (objectCount(missing) >= WORTH_KEEPING) {
    await platform.db.run(packTask(repoId, platform.now()));
    wakeUpkeep(platform);
  }
  for (let waits = 0; missing.blobs.size > MOST_READS; waits++) {
    if (waits === MOST_WAITS) throw new HubError("pack_pending");
    await say(`Preparing objects: ${objectCount(contents) - objectCount(missing)} of ${objectCount(contents)}\r`);
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    kept = await KeptPacks.load(platform, repoId);
    missing = kept.missing(contents);
  }
  await writeObjects(platform, repoId, await kept.write(platform, contents, sink), sink);
}
