// What the headers of a model's weights tell: how many numbers of which type, and what a GGUF file says of itself.
import { FormatError } from "../../formats/format-error";
import { type GgufHeader, readGgufHeader } from "../../formats/gguf";
import { readSafetensorsHeader } from "../../formats/safetensors";
import { dtypeShares } from "../tensors";
import type { Facts } from "./facts";
import { type Gathered, type HeadReader, isDamaged, isGguf } from "./gather";

/** Of all headers of one model together: what is larger costs more to read than it tells. Bytes. */
const MAX_SAFETENSORS_BYTES = 32 << 20;
const MAX_GGUF_BYTES = 64 << 20;
/** Characters. */
const MAX_TEMPLATE = 200_000;
/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;

class TooMuchToRead extends Error {}

/** One budget for several readers. */
function bounded(most: number): (read: HeadReader) => HeadReader {
  let left = most;
  return (read) => async (offset, length) => {
    left -= length;
    if (left < 0) throw new TooMuchToRead();
    return read(offset, length);
  };
}

/** The results in the order of the items; null when one of the files is broken or all of them are too much. */
async function readHeaders<T>(
  gathered: Gathered,
  paths: readonly string[],
  most: number,
  parse: (read: HeadReader, size: number) => Promise<T>,
): Promise<T[] | null> {
  const within = bounded(most);
  const headers: T[] = [];
  try {
    for (let i = 0; i < paths.length; i += CONCURRENCY)
      headers.push(
        ...(await Promise.all(
          paths.slice(i, i + CONCURRENCY).map(async (path) => {
            const file = gathered.readerOf(path);
            if (file === null) throw new TooMuchToRead();
            return parse(within(file.read), file.size);
          }),
        )),
      );
  } catch (error) {
    if (error instanceof TooMuchToRead || error instanceof FormatError || isDamaged(error)) return null;
    throw error;
  }
  return headers;
}

const SHARD = /-(\d{5})-of-(\d{5})\.[a-z]+$/i;

/** The files that together are one model: the whole set of shards that the first of them belongs to, or the one. */
function shardsOf(paths: readonly string[], first: string): string[] {
  const match = SHARD.exec(first);
  if (match === null) return [first];
  const set = paths.filter(
    (path) => path.startsWith(first.slice(0, match.index)) && SHARD.exec(path)?.[2] === match[2],
  );
  return set.length === Number(match[2]) ? set : [];
}

/** Of the files at the root: the model itself, else the only weights there are. */
export async function safetensorsOf(gathered: Gathered): Promise<Facts["safetensors"]> {
  const paths = gathered.files.map(({ path }) => path).filter((path) => /^[^/]+\.safetensors$/.test(path));
  const first =
    paths.find((path) => /^model-00001-of-\d{5}\.safetensors$/.test(path)) ??
    paths.find((path) => path === "model.safetensors") ??
    (paths.length === 1 ? paths[0] : paths.find((path) => path === "adapter_model.safetensors"));
  const shards = first === undefined ? [] : shardsOf(paths, first);
  if (shards.length === 0) return null;
  const headers = await readHeaders(gathered, shards, MAX_SAFETENSORS_BYTES, async (read, size) => {
    const header = await readSafetensorsHeader(read, size);
    return dtypeShares(header);
  });
  if (headers === null) return null;
  const parameters: Record<string, number> = {};
  let total = 0;
  for (const { dtype, parameters: count } of headers.flat()) {
    parameters[dtype] = (parameters[dtype] ?? 0) + count;
    total += count;
  }
  return { parameters, total };
}

export async function ggufOf(gathered: Gathered): Promise<Facts["gguf"]> {
  const paths = gathered.files.map(({ path }) => path).filter(isGguf);
  const [first] = paths;
  const shards = first === undefined ? [] : shardsOf(paths, first);
  const headers = await readHeaders(gathered, shards, MAX_GGUF_BYTES, readGgufHeader);
  const [head] = headers ?? [];
  if (headers === null || head === undefined) return null;
  return { total: headers.reduce((sum, { parameters }) => sum + parameters, 0), ...saidBy(head) };
}

function saidBy({ architecture, contextLength, quantization, chatTemplate, bosToken, eosToken }: GgufHeader) {
  return {
    ...(architecture === undefined ? {} : { architecture }),
    ...(contextLength === undefined ? {} : { context_length: contextLength }),
    ...(quantization === undefined ? {} : { quantization }),
    ...(chatTemplate === undefined || chatTemplate.length > MAX_TEMPLATE ? {} : { chat_template: chatTemplate }),
    ...(bosToken === undefined ? {} : { bos_token: bosToken }),
    ...(eosToken === undefined ? {} : { eos_token: eosToken }),
  };
}
