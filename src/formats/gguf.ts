// The header of a GGUF file: what it says of the model, and the tensors' shapes; read in windows, so that a vocabulary of megabytes needs little memory.
import { FormatError } from "./format-error";
import { decodeUtf8, quote } from "./text";

/** Versions before 2 counted in 32 bits; no file in use has one. */
const VERSIONS = [2, 3];
const MAX_ENTRIES = 100_000;
const MAX_TENSORS = 1_000_000;
const MAX_KEY_BYTES = 65_535;
const MAX_KEPT_BYTES = 1 << 20;
const MAX_DIMENSIONS = 8;
const MAX_ARRAY_DEPTH = 4;
/** Vocabularies in use have up to some hundred thousand tokens. */
const MAX_TOKENS = 1 << 20;
/** First windows are small: many headers are read for a few fields at their start. */
const FIRST_WINDOW = 64 << 10;
const WINDOW = 1 << 20;
/** Of the whole header, tensors included. */
export const MAX_GGUF_HEADER_BYTES = 64 << 20;

export type GgufHeader = {
  readonly version: number;
  readonly architecture: string | undefined;
  readonly contextLength: number | undefined;
  /** What most tensors are quantized to, as `Q4_K_M`. */
  readonly quantization: string | undefined;
  readonly chatTemplate: string | undefined;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly tensors: number;
  /** How many numbers the tensors hold together. */
  readonly parameters: number;
};

export type GgufTensor = {
  readonly name: string;
  /** By number, as in ggml. */
  readonly type: number;
  /** Fastest axis first, as the file has it. */
  readonly dimensions: readonly number[];
};

const reject = (code: string, problem: string): never => {
  throw new FormatError(`gguf.${code}`, problem);
};

/** Bytes of values by type; strings (8) and arrays (9) have none of their own. */
const SIZES = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);
const STRING = 8;
const ARRAY = 9;

/** `general.file_type`, by number. */
const FILE_TYPES = new Map(
  Object.entries({
    F32: 0,
    F16: 1,
    Q4_0: 2,
    Q4_1: 3,
    Q8_0: 7,
    Q5_0: 8,
    Q5_1: 9,
    Q2_K: 10,
    Q3_K_S: 11,
    Q3_K_M: 12,
    Q3_K_L: 13,
    Q4_K_S: 14,
    Q4_K_M: 15,
    Q5_K_S: 16,
    Q5_K_M: 17,
    Q6_K: 18,
    IQ2_XXS: 19,
    IQ2_XS: 20,
    Q2_K_S: 21,
    IQ3_XS: 22,
    IQ3_XXS: 23,
    IQ1_S: 24,
    IQ4_NL: 25,
    IQ3_S: 26,
    IQ3_M: 27,
    IQ2_S: 28,
    IQ2_M: 29,
    IQ4_XS: 30,
    IQ1_M: 31,
    BF16: 32,
    TQ1_0: 36,
    TQ2_0: 37,
    MXFP4_MOE: 38,
  }).map(([label, number]) => [number, label]),
);

export type ReadRange = (offset: number, length: number) => Promise<Uint8Array>;

/** Walks through a file; what it needs next is fetched in windows, and what is skipped is not fetched at all. */
class Cursor {
  readonly #read: ReadRange;
  readonly #size: number;
  #window: DataView = new DataView(new ArrayBuffer(0));
  #start = 0;
  #step = FIRST_WINDOW;
  #fetched = 0;
  at = 0;

  constructor(read: ReadRange, size: number) {
    this.#read = read;
    this.#size = size;
  }

  has(length: number): boolean {
    return this.at >= this.#start && this.at + length <= this.#start + this.#window.byteLength;
  }

  /** Makes the next bytes available. */
  async need(length: number): Promise<void> {
    if (this.has(length)) return;
    if (this.at + length > this.#size) reject("truncated", `ends at byte ${this.#size}, inside its header`);
    const wanted = Math.min(Math.max(length, this.#step), this.#size - this.at);
    this.#fetched += wanted;
    if (this.#fetched > MAX_GGUF_HEADER_BYTES)
      reject("header_too_large", `has a header of more than ${MAX_GGUF_HEADER_BYTES} bytes`);
    const bytes = await this.#read(this.at, wanted);
    this.#window = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#start = this.at;
    this.#step = Math.min(4 * this.#step, WINDOW);
    if (!this.has(length)) reject("truncated", `ends at byte ${this.at + bytes.byteLength}, inside its header`);
  }

  skip(length: number): void {
    if (this.at + length > this.#size) reject("truncated", `ends at byte ${this.#size}, inside its header`);
    this.at += length;
  }

  /** The readers below take what `need` has made available. */
  u32(): number {
    const value = this.#window.getUint32(this.at - this.#start, true);
    this.at += 4;
    return value;
  }

  u64(what: string): number {
    const value = this.#window.getBigUint64(this.at - this.#start, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) reject("number", `has ${value} as ${what}: more than 2^53-1`);
    this.at += 8;
    return Number(value);
  }

  number(type: number): number {
    const at = this.at - this.#start;
    this.at += SIZES.get(type) ?? 0;
    switch (type) {
      case 0:
      case 7:
        return this.#window.getUint8(at);
      case 1:
        return this.#window.getInt8(at);
      case 2:
        return this.#window.getUint16(at, true);
      case 3:
        return this.#window.getInt16(at, true);
      case 4:
        return this.#window.getUint32(at, true);
      case 5:
        return this.#window.getInt32(at, true);
      case 6:
        return this.#window.getFloat32(at, true);
      case 10:
        return Number(this.#window.getBigUint64(at, true));
      case 11:
        return Number(this.#window.getBigInt64(at, true));
      default:
        return this.#window.getFloat64(at, true);
    }
  }

  text(length: number): string {
    const bytes = new Uint8Array(this.#window.buffer, this.#window.byteOffset + this.at - this.#start, length);
    this.at += length;
    return decodeUtf8(bytes, "gguf.utf8", "has a text that is not UTF-8");
  }
}

async function readText(cursor: Cursor, what: string, most: number): Promise<string> {
  await cursor.need(8);
  const length = cursor.u64(`the length of ${what}`);
  if (length > most) return reject("text", `has ${what} of ${length} bytes; at most ${most} are read`);
  await cursor.need(length);
  return cursor.text(length);
}

/** The positions of the strings, where they are wanted and not too many. */
async function skipStrings(cursor: Cursor, count: number, keep: boolean): Promise<Float64Array | undefined> {
  const positions = keep && count <= MAX_TOKENS ? new Float64Array(count) : undefined;
  for (let i = 0; i < count; i++) {
    // Awaiting each of some hundred thousand strings would cost more than reading them.
    if (!cursor.has(8)) await cursor.need(8);
    if (positions !== undefined) positions[i] = cursor.at;
    cursor.skip(cursor.u64("the length of a text"));
  }
  return positions;
}

async function skipArray(cursor: Cursor, keep: boolean, depth = 1): Promise<Float64Array | undefined> {
  if (depth > MAX_ARRAY_DEPTH) reject("array", `nests arrays more than ${MAX_ARRAY_DEPTH} deep`);
  await cursor.need(12);
  const type = cursor.u32();
  const count = cursor.u64("the length of an array");
  const size = SIZES.get(type);
  if (size !== undefined) {
    cursor.skip(count * size);
    return undefined;
  }
  if (type === STRING) return skipStrings(cursor, count, keep);
  if (type !== ARRAY) reject("type", `has an array of the unknown type ${type}`);
  for (let i = 0; i < count; i++) await skipArray(cursor, false, depth + 1);
  return undefined;
}

const TOKENS = "tokenizer.ggml.tokens";
const TEXTS = new Set(["general.architecture", "tokenizer.chat_template"]);
const isNumber = (key: string): boolean =>
  /^(general\.file_type|[\w.-]+\.context_length|tokenizer\.ggml\.(bos|eos)_token_id)$/.test(key);

type Said = {
  readonly texts: ReadonlyMap<string, string>;
  readonly numbers: ReadonlyMap<string, number>;
  readonly tokens: Float64Array | undefined;
};

async function readMetadata(cursor: Cursor, entries: number): Promise<Said> {
  const seen = new Set<string>();
  const texts = new Map<string, string>();
  const numbers = new Map<string, number>();
  let tokens: Float64Array | undefined;
  for (let i = 0; i < entries; i++) {
    const key = await readText(cursor, "a key", MAX_KEY_BYTES);
    if (seen.has(key)) reject("duplicate", `has the key ${quote(key)} twice`);
    seen.add(key);
    await cursor.need(4);
    const type = cursor.u32();
    const size = SIZES.get(type);
    if (size !== undefined) {
      await cursor.need(size);
      if (isNumber(key)) numbers.set(key, cursor.number(type));
      else cursor.skip(size);
    } else if (type === STRING && TEXTS.has(key)) texts.set(key, await readText(cursor, key, MAX_KEPT_BYTES));
    else if (type === STRING) {
      await cursor.need(8);
      cursor.skip(cursor.u64(`the length of ${quote(key)}`));
    } else if (type === ARRAY) {
      const positions = await skipArray(cursor, key === TOKENS);
      if (key === TOKENS) tokens = positions;
    } else reject("type", `has the unknown type ${type} at ${quote(key)}`);
  }
  return { texts, numbers, tokens };
}

/** How many numbers the tensors hold together; each is told to `take`. */
async function readTensors(cursor: Cursor, tensors: number, take: (tensor: GgufTensor) => void): Promise<number> {
  let total = 0;
  for (let i = 0; i < tensors; i++) {
    const name = await readText(cursor, "a tensor's name", MAX_KEY_BYTES);
    await cursor.need(4);
    const dimensions = cursor.u32();
    if (dimensions > MAX_DIMENSIONS) reject("shape", `tensor ${quote(name)} has ${dimensions} dimensions`);
    await cursor.need(8 * dimensions + 12);
    const shape: number[] = [];
    for (let axis = 0; axis < dimensions; axis++) shape.push(cursor.u64(`a dimension of ${quote(name)}`));
    take({ name, type: cursor.u32(), dimensions: shape });
    cursor.skip(8);
    total += shape.reduce((product, dimension) => product * dimension, 1);
    if (total > Number.MAX_SAFE_INTEGER) reject("shape", "has more than 2^53-1 numbers");
  }
  return total;
}

/** Reads the header through `read(offset, length)`, which must return exactly `length` bytes; `take` is told of each tensor. */
export async function readGgufHeader(
  read: ReadRange,
  fileSize: number,
  take: (tensor: GgufTensor) => void = () => undefined,
): Promise<GgufHeader> {
  const cursor = new Cursor(read, fileSize);
  await cursor.need(24);
  if (cursor.text(4) !== "GGUF") reject("magic", "does not start with GGUF");
  const version = cursor.u32();
  if (!VERSIONS.includes(version))
    reject("version", `has version ${version}; versions 2 and 3, little-endian, are read`);
  const tensors = cursor.u64("its number of tensors");
  const entries = cursor.u64("its number of entries");
  if (tensors > MAX_TENSORS) reject("tensors", `declares ${tensors} tensors; at most ${MAX_TENSORS} are read`);
  if (entries > MAX_ENTRIES) reject("entries", `declares ${entries} entries; at most ${MAX_ENTRIES} are read`);
  const { texts, numbers, tokens } = await readMetadata(cursor, entries);
  const parameters = await readTensors(cursor, tensors, take);
  const architecture = texts.get("general.architecture");
  const token = async (name: "bos" | "eos"): Promise<string | undefined> => {
    const position = tokens?.[numbers.get(`tokenizer.ggml.${name}_token_id`) ?? -1];
    if (position === undefined) return undefined;
    cursor.at = position;
    return readText(cursor, "a token", MAX_KEY_BYTES);
  };
  return {
    version,
    architecture,
    contextLength: numbers.get(`${architecture}.context_length`),
    quantization: FILE_TYPES.get(numbers.get("general.file_type") ?? -1),
    chatTemplate: texts.get("tokenizer.chat_template"),
    bosToken: await token("bos"),
    eosToken: await token("eos"),
    tensors,
    parameters,
  };
}
