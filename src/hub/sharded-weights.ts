// All headers of a model's weights at once, by the index that names its files: what a client would else ask for file by file.
import { authorize, type Caller } from "../access/caller";
import { HubError } from "../errors";
import type { SafetensorsHeader } from "../formats/safetensors";
import { parseSafetensorsIndex } from "../formats/safetensors-index";
import { type FilePath, parseRevision, type RepoId } from "../ids";
import { readContent } from "../store/contents";
import { readAll } from "../streams/chunks";
import { findStoredFiles, type StoredFile } from "./files";
import { EntryNotFound, findSnapshot, targetOf } from "./repositories";
import { readTensors } from "./tensors";

const MAX_INDEX_BYTES = 8 << 20;
const MAX_SHARDS = 500;
/** Of all headers together. Bytes. */
const MAX_HEADERS_BYTES = 32 << 20;
/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;

export type ShardedWeights = {
  readonly totalSize: number | undefined;
  readonly headers: ReadonlyMap<string, SafetensorsHeader>;
};

/** Of `main`. @throws repo_not_found | EntryNotFound | forbidden | payload_too_large | invalid_weights */
export async function readShardedWeights(caller: Caller, id: RepoId, path: FilePath): Promise<ShardedWeights> {
  const { platform } = caller;
  const snapshot = await findSnapshot(caller, id, parseRevision("HEAD"));
  const { repo } = snapshot;
  authorize(caller, { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const [file] = await findStoredFiles(platform.db, [{ snapshot, path }]);
  if (file == null) throw new EntryNotFound(snapshot, path);
  if (file.size > MAX_INDEX_BYTES)
    throw new HubError("payload_too_large", { problem: `${path} is larger than an index of weights can be` });
  const index = parseSafetensorsIndex(await readAll(await readContent(platform, file), MAX_INDEX_BYTES));
  if (index.shards.length > MAX_SHARDS)
    throw new HubError("payload_too_large", { problem: `${path} names more than ${MAX_SHARDS} files` });
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const paths = index.shards.map((shard) => `${folder}${shard}`);
  const files = await findStoredFiles(
    platform.db,
    paths.map((one) => ({ snapshot, path: one })),
  );
  const headers = new Map<string, SafetensorsHeader>();
  let left = MAX_HEADERS_BYTES;
  for (let i = 0; i < index.shards.length; i += CONCURRENCY) {
    const some = index.shards.slice(i, i + CONCURRENCY);
    // Those read side by side share what is left, so that no more than that is ever in memory.
    const most = Math.floor(left / some.length);
    const read = await Promise.all(some.map((_, j) => headerOf(caller, paths[i + j] ?? "", files[i + j], most)));
    some.forEach((shard, j) => {
      const header = read[j];
      if (header === undefined) return;
      left -= header.headerBytes;
      headers.set(shard, header);
    });
  }
  return { totalSize: index.totalSize, headers };
}

const tooLarge = (): HubError =>
  new HubError("payload_too_large", { problem: "The headers of these weights are too large to be read at once" });

async function headerOf(caller: Caller, path: string, file: StoredFile | null | undefined, most: number) {
  if (file == null)
    throw new HubError("invalid_weights", { field: path, problem: "is named by the index and missing" });
  const tensors = await readTensors(caller.platform, file, most);
  if (tensors.kind === "too_large") throw tooLarge();
  if (tensors.kind === "invalid") throw new HubError("invalid_weights", { field: path, problem: tensors.problem });
  return tensors.header;
}
