// What the headers of weight files tell before any work is queued: that they can be read, and that the parents of a merge fit each other.
import { HubError } from "../errors";
import { FormatError } from "../formats/format-error";
import { compareHeaders, readSafetensorsHeader, type SafetensorsHeader } from "../formats/safetensors";
import { checkSafetensorsIndex } from "../formats/safetensors-index";
import type { StoredFile } from "../hub/files";
import { repoName } from "../hub/repositories";
import type { Platform } from "../platform/platform";
import { readContent } from "../store/contents";
import { readAll } from "../streams/chunks";
import { jsonNestsDeeperThan } from "../streams/ndjson";
import { type ModelFiles, readWhole } from "./sources";

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

async function readHeader(platform: Platform, field: string, file: StoredFile): Promise<SafetensorsHeader> {
  try {
    return await readSafetensorsHeader(
      async (offset, length) => readAll(await readContent(platform, file, { offset, length }), length),
      file.size,
    );
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

const invalidWeights = (field: string, path: string, error: unknown): unknown =>
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

/** That the models can be merged tensor by tensor into one of the first's architecture. @throws invalid_weights | merge_mismatch */
export async function checkMergeable(platform: Platform, models: readonly ModelFiles[]): Promise<void> {
  const [first, ...others] = models;
  if (first === undefined) return;
  const config = parseConfig(first, await readWhole(platform, first.config, first.field));
  const base = (await readWeights(platform, first)).header;
  for (const model of others) {
    if (model.config.sha256 !== first.config.sha256) {
      const other = parseConfig(model, await readWhole(platform, model.config, model.field));
      const key = firstDifference(config, other);
      if (key !== null)
        throw new HubError("merge_mismatch", {
          field: model.field,
          problem: `config.json differs from that of ${nameOf(first)} at ${key}: only models of one architecture can be merged`,
          key,
        });
    }
    compare(first, base, model, (await readWeights(platform, model)).header);
  }
}

const MAX_CONFIG_DEPTH = 64;

const nameOf = (model: ModelFiles): string => `${repoName(model.snapshot.repo)}@${model.snapshot.commit.slice(0, 12)}`;

function parseConfig(model: ModelFiles, bytes: Uint8Array): Record<string, unknown> {
  try {
    const text = new TextDecoder().decode(bytes);
    const value: unknown = jsonNestsDeeperThan(text, MAX_CONFIG_DEPTH) ? null : JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return Object.fromEntries(Object.entries(value));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new HubError("invalid_field", {
    field: model.field,
    problem: `config.json of ${nameOf(model)} is no JSON object of a sane depth: fix the file`,
  });
}

/** Keys that say where a file comes from, not what the model is. */
const PROVENANCE = new Set(["_name_or_path", "transformers_version"]);

/** Spelled differently, two files may still say the same: the first key whose value differs, or null. */
function firstDifference(a: Record<string, unknown>, b: Record<string, unknown>): string | null {
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => !PROVENANCE.has(key));
  return keys.find((key) => !sameJson(a[key], b[key])) ?? null;
}

function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (
    typeof a !== "object" ||
    typeof b !== "object" ||
    a === null ||
    b === null ||
    Array.isArray(a) !== Array.isArray(b)
  )
    return false;
  const [left, right] = [Object.entries(a), new Map(Object.entries(b))];
  return left.length === right.size && left.every(([key, value]) => right.has(key) && sameJson(value, right.get(key)));
}

function compare(first: ModelFiles, base: SafetensorsHeader, model: ModelFiles, header: SafetensorsHeader): void {
  const { missing, extra, shapes, dtypes } = compareHeaders(base, header);
  const refuse = (tensor: string, what: string): never => {
    throw new HubError("merge_mismatch", {
      field: model.field,
      problem: `${what}: merge models whose tensors agree`,
      tensor,
    });
  };
  const [lost] = missing;
  if (lost !== undefined)
    refuse(lost, `tensor ${JSON.stringify(lost)} of ${nameOf(first)} is missing in ${nameOf(model)}`);
  const [added] = extra;
  if (added !== undefined)
    refuse(added, `tensor ${JSON.stringify(added)} of ${nameOf(model)} is missing in ${nameOf(first)}`);
  const [shape] = shapes;
  if (shape !== undefined)
    refuse(
      shape.name,
      `tensor ${JSON.stringify(shape.name)} has shape [${shape.actual}] in ${nameOf(model)} and [${shape.expected}] in ${nameOf(first)}`,
    );
  const [dtype] = dtypes;
  if (dtype !== undefined)
    refuse(
      dtype.name,
      `tensor ${JSON.stringify(dtype.name)} is ${dtype.actual} in ${nameOf(model)} and ${dtype.expected} in ${nameOf(first)}`,
    );
}
