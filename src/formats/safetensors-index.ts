// The index of a sharded safetensors model: which shard holds which tensor, and whether the shards agree.
import { FormatError } from "./format-error";
import { JsonScanner } from "./json-scanner";
import { checkFilePath } from "./paths";
import { MAX_HEADER_BYTES, type SafetensorsHeader } from "./safetensors";
import { decodeUtf8, quote } from "./text";

const METADATA_DEPTH = 32;

export type SafetensorsIndex = {
  readonly weightMap: ReadonlyMap<string, string>;
  /** The shard names, each once, in order of first mention. */
  readonly shards: readonly string[];
  readonly totalSize: number | undefined;
};

export type IndexWarning = {
  readonly code: "st.index_total_size" | "st.index_unlisted_tensor";
  readonly message: string;
};

const reject = (code: string, problem: string): never => {
  throw new FormatError(`st.index_${code}`, problem);
};

/** A shard lies beside its index: its name is a plain file name, and no percent sign waits for a second decoding. */
function checkShardName(shard: string): void {
  try {
    checkFilePath(shard);
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError("st.index_path", `names the shard ${quote(shard)}, which is no file name`, {}, { cause });
  }
  if (/[/:%]/.test(shard)) reject("path", `names the shard ${quote(shard)}, which is no plain file name`);
  if (!shard.endsWith(".safetensors"))
    reject("shard_type", `names the shard ${quote(shard)}, which is not a .safetensors file`);
}

function readTotalSize(scanner: JsonScanner): number | undefined {
  let totalSize: number | undefined;
  if (scanner.peek() !== "{") scanner.fail("has metadata that is not an object");
  scanner.object((key) => {
    if (key === "total_size")
      totalSize = scanner.integer() ?? scanner.fail("has a total_size that is not a whole number");
    else scanner.skip(METADATA_DEPTH);
  });
  return totalSize;
}

function readWeightMap(scanner: JsonScanner): Map<string, string> {
  const weightMap = new Map<string, string>();
  const checked = new Set<string>();
  scanner.object((name) => {
    if (name === "" || name === "__proto__") scanner.fail(`maps a tensor named ${quote(name)}`);
    const shard = scanner.string();
    if (!checked.has(shard)) checkShardName(shard);
    checked.add(shard);
    weightMap.set(name, shard);
  });
  if (weightMap.size === 0) scanner.fail("maps no tensor");
  return weightMap;
}

/** Parses `model.safetensors.index.json`. Whether the shards fit it is `checkSafetensorsIndex`'s matter. */
export function parseSafetensorsIndex(bytes: Uint8Array): SafetensorsIndex {
  if (bytes.length > MAX_HEADER_BYTES)
    reject("too_large", `has ${bytes.length} bytes; at most ${MAX_HEADER_BYTES} are read`);
  const text = decodeUtf8(bytes, "st.index_json", "is not UTF-8");
  const codes = { syntax: "st.index_json", encoding: "st.index_json", duplicate: "st.index_duplicate" };
  const scanner = new JsonScanner(text, codes);
  let totalSize: number | undefined;
  let weightMap = new Map<string, string>();
  scanner.object((key) => {
    if (key === "metadata") totalSize = readTotalSize(scanner);
    else if (key === "weight_map") weightMap = readWeightMap(scanner);
    else scanner.skip(METADATA_DEPTH);
  });
  if (scanner.peek() !== "") scanner.fail("goes on after its object");
  if (weightMap.size === 0) scanner.fail("has no weight_map");
  return { weightMap, shards: [...new Set(weightMap.values())], totalSize };
}

/**
 * Throws unless every tensor lies in the shard that the index names and in no other. What a loader would survive, but its
 * author should know, comes back as warnings.
 */
export function checkSafetensorsIndex(
  index: SafetensorsIndex,
  shards: ReadonlyMap<string, Pick<SafetensorsHeader, "tensors">>,
): IndexWarning[] {
  const homes = new Map<string, string>();
  const warnings: IndexWarning[] = [];
  let bytes = 0;
  for (const shard of index.shards) {
    const header = shards.get(shard) ?? reject("missing_shard", `names the shard ${quote(shard)}, which is not there`);
    for (const [name, tensor] of header.tensors) {
      const home = homes.get(name);
      if (home !== undefined) reject("duplicate", `tensor ${quote(name)} is in ${quote(home)} and in ${quote(shard)}`);
      homes.set(name, shard);
      if (index.weightMap.has(name)) bytes += tensor.end - tensor.begin;
      else
        warnings.push({
          code: "st.index_unlisted_tensor",
          message: `${quote(shard)} holds ${quote(name)}, which the index does not list`,
        });
    }
  }
  for (const [name, shard] of index.weightMap) {
    if (homes.get(name) !== shard) reject("missing_tensor", `tensor ${quote(name)} is not in ${quote(shard)}`);
  }
  if (index.totalSize !== undefined && index.totalSize !== bytes)
    warnings.push({
      code: "st.index_total_size",
      message: `total_size is ${index.totalSize}, its tensors have ${bytes} bytes`,
    });
  return warnings;
}
