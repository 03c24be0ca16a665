// Where a job's inputs come from: references resolved to commits the caller may use, and those to files by digest.
import { authorize, type Caller } from "../access/caller";
import type { Purpose } from "../access/policy";
import { HubError } from "../errors";
import { FormatError } from "../formats/format-error";
import { parseSafetensorsIndex, type SafetensorsIndex } from "../formats/safetensors-index";
import { findStoredFiles, type StoredFile } from "../hub/files";
import { findSnapshots, type RevisionQuery, repoName, type Snapshot, targetOf } from "../hub/repositories";
import { parseFilePath, parseRepoId, parseRevision, type RepoType, type Revision } from "../ids";
import type { Db, Platform } from "../platform/platform";
import { readContent } from "../store/contents";
import { readAll } from "../streams/chunks";
import type { Source } from "./plan";

/** Text files that a job's acceptance reads whole: config.json, task.json, the index of a sharded model. Bytes. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;

const HEAD: Revision = parseRevision("HEAD");

export type Wanted = { readonly type: RepoType; readonly reference: string; readonly field: string };
export type Located = { readonly snapshot: Snapshot; readonly field: string };

export function revisionQuery({ type, reference, field }: Wanted): RevisionQuery {
  const at = reference.indexOf("@");
  try {
    return {
      id: parseRepoId(type, at < 0 ? reference : reference.slice(0, at)),
      revision: at < 0 ? HEAD : parseRevision(reference.slice(at + 1)),
      field,
    };
  } catch (error) {
    if (error instanceof HubError) throw new HubError(error.code, { ...error.fields, field }, { cause: error });
    throw error;
  }
}

/** The commits that the references name, each of which the caller may use for this purpose. One round trip. */
export async function locate(caller: Caller, purpose: Purpose, wanted: readonly Wanted[]): Promise<Located[]> {
  const snapshots = await findSnapshots(caller, wanted.map(revisionQuery));
  return snapshots.map((snapshot, i) => {
    authorize(caller, { action: "repo.use", repo: snapshot.repo, purpose }, targetOf(snapshot.repo));
    return { snapshot, field: wanted[i]?.field ?? "model" };
  });
}

export type ModelFiles = Located & {
  readonly config: StoredFile;
  /** In the order of the index where the model is sharded. */
  readonly weights: readonly StoredFile[];
  readonly index: SafetensorsIndex | null;
};

const missing = ({ snapshot, field }: Located, path: string, fix: string): HubError =>
  new HubError("invalid_field", {
    field,
    problem: `${repoName(snapshot.repo)} has no ${path} at ${snapshot.commit.slice(0, 12)}: ${fix}`,
    path,
  });

/** Configuration and weights of models: one query, one more where a model is sharded. @throws invalid_field */
export async function findModels(platform: Platform, models: readonly Located[]): Promise<ModelFiles[]> {
  const { db } = platform;
  const files = await findStoredFiles(
    db,
    models.flatMap(({ snapshot }) =>
      ["config.json", "model.safetensors", "model.safetensors.index.json"].map((path) => ({ snapshot, path })),
    ),
  );
  const found = await Promise.all(
    models.map(async (model, i) => {
      const [config, single, indexFile] = files.slice(i * 3, i * 3 + 3);
      if (config === undefined || config === null)
        throw missing(model, "config.json", "publish the architecture with the weights");
      if (single !== undefined && single !== null) return { ...model, config, weights: [single], index: null };
      if (indexFile === undefined || indexFile === null)
        throw missing(model, "model.safetensors", "publish the weights as safetensors, in one file or with an index");
      return { ...model, config, weights: [], index: await readIndex(platform, model, indexFile) };
    }),
  );
  return found.some(({ index }) => index !== null) ? withShards(db, found) : found;
}

async function readIndex(platform: Platform, { field }: Located, file: StoredFile): Promise<SafetensorsIndex> {
  try {
    return parseSafetensorsIndex(await readWhole(platform, file, field));
  } catch (error) {
    if (error instanceof FormatError)
      throw new HubError("invalid_weights", { field, problem: `${file.path} ${error.message}`, reason: error.code });
    throw error;
  }
}

async function withShards(db: Db, models: readonly ModelFiles[]): Promise<ModelFiles[]> {
  const wanted = models.flatMap(({ snapshot, index }) => (index?.shards ?? []).map((path) => ({ snapshot, path })));
  const shards = await findStoredFiles(db, wanted);
  let next = 0;
  return models.map((model) => {
    if (model.index === null) return model;
    const weights = model.index.shards.map((path) => {
      const shard = shards[next++];
      if (shard === undefined || shard === null)
        throw missing(model, path, "the index names it: upload the missing shard");
      return shard;
    });
    return { ...model, weights };
  });
}

export async function readWhole(platform: Platform, file: StoredFile, field: string): Promise<Uint8Array> {
  if (file.size > MAX_TEXT_BYTES)
    throw new HubError("invalid_field", {
      field,
      problem: `${file.path} has ${file.size} bytes, at most ${MAX_TEXT_BYTES} are read`,
    });
  return readAll(await readContent(platform, file), MAX_TEXT_BYTES);
}

/** The files of a source under the names that the compute service calls them by. */
export function sourceOf(
  { snapshot }: Located,
  files: readonly { readonly name: string; readonly file: StoredFile }[],
): Source {
  const { repo, commit } = snapshot;
  return {
    repoId: repo.id,
    ownerId: repo.ownerId,
    repo: repoName(repo),
    type: repo.type,
    commit,
    files: files.map(({ name, file }) => ({
      name,
      path: parseFilePath(file.path, "path"),
      sha256: file.sha256,
      size: file.size,
    })),
  };
}
