// What the headers of weight files tell before any work is queued: that they can be read, and that the parents of a merge fit each other.
import { HubError } from "../errors";
import { FormatError } from "../formats/format-error";
import { readSafetensorsHeader, type SafetensorsHeader } from "../formats/safetensors";
import { checkSafetensorsIndex } from "../formats/safetensors-index";
import type { StoredFile } from "../hub/files";
import type { Platform } from "../platform/platform";
import { readContent } from "../store/contents";
import { readAll } from "../streams/chunks";
import type { ModelFiles } from "./sources";

export type Weights = {
  /** Of all shards together. */
  readonly header: SafetensorsHeader;
  readonly files: readonly { readonly file: StoredFile; readonly dtype: string }[];
};

/** Reads the headers of a model's weight files by range. @throws invalid_weights */
export async function readWeights(platform: Platform, model: ModelFiles): Promise<Weights> {
  const shards = new Map<string, SafetensorsHeader>();
  // One after another: a header may have 25 MB, and an isolate has 128.
  for (const file of model.weights) shards.set(file.path, await readHeader(platform, model.field, file));
  if (model.index !== null)
    asHubError(
      model.field,
      "model.safetensors.index.json",
      () => model.index && checkSafetensorsIndex(model.index, shards),
    );
  const [only] = shards.values();
  const header = only !== undefined && shards.size === 1 ? only : joined([...shards.values()]);
  const files = model.weights.map((file) => ({ file, dtype: dtypesOf(shards.get(file.path)) }));
  return { header, files };
}

/** Headers of most files fit. Bytes. */
const FIRST_READ = 64 << 10;

/** In one read for most files: the length and the header come together. `spend` hears of what a larger one has. @throws invalid_weights */
export async function readHeader(
  platform: Platform,
  field: string,
  file: StoredFile,
  spend: (bytes: number) => void = () => undefined,
): Promise<SafetensorsHeader> {
  const bytes = async (offset: number, length: number): Promise<Uint8Array> =>
    readAll(await readContent(platform, file, { offset, length }), length);
  try {
    const first = await bytes(0, Math.min(FIRST_READ, file.size));
    return await readSafetensorsHeader((offset, length) => {
      if (offset + length <= first.length) return Promise.resolve(first.subarray(offset, offset + length));
      spend(length);
      return bytes(offset, length);
    }, file.size);
  } catch (error) {
    throw invalidWeights(field, file.path, error);
  }
}

function asHubError<T>(field: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw invalidWeights(field, path, error);
  }
}

/** A codec's complaint about a file of weights, as the hub's. */
export const invalidWeights = (field: string, path: string, error: unknown): unknown =>
  error instanceof FormatError
    ? new HubError("invalid_weights", { field, problem: `${path} ${error.message}`, path, reason: error.code })
    : error;

function joined(headers: readonly SafetensorsHeader[]): SafetensorsHeader {
  return {
    tensors: new Map(headers.flatMap((header) => [...header.tensors])),
    metadata: new Map(),
    headerBytes: 0,
    parameters: headers.reduce((sum, header) => sum + header.parameters, 0),
  };
}

const dtypesOf = (header: SafetensorsHeader | undefined): string =>
  [...new Set([...(header?.tensors.values() ?? [])].map((tensor) => tensor.dtype))].sort().join("+");
