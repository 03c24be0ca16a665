// The header of a safetensors file, read more strictly than the reference does: one file, one meaning, for every reader of it.
import { FormatError } from "./format-error";
import { JsonScanner } from "./json-scanner";
import { decodeUtf8, quote } from "./text";

/** Larger headers (500 000 tensors) are real but rare; reading one whole would not fit the memory of an edge isolate. */
export const MAX_HEADER_BYTES = 25_000_000;
export const MAX_RANK = 8;
export const MAX_DIMENSION = 2 ** 32;
export const MAX_NAME_LENGTH = 512;
const LENGTH_BYTES = 8;

/** Bits of an element by dtype. */
export const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ["BOOL", 8],
  ["F4", 4],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["U8", 8],
  ["I8", 8],
  ["F8_E5M2", 8],
  ["F8_E4M3", 8],
  ["F8_E8M0", 8],
  ["F8_E4M3FNUZ", 8],
  ["F8_E5M2FNUZ", 8],
  ["I16", 16],
  ["U16", 16],
  ["F16", 16],
  ["BF16", 16],
  ["I32", 32],
  ["U32", 32],
  ["F32", 32],
  ["C64", 64],
  ["F64", 64],
  ["I64", 64],
  ["U64", 64],
]);

export type TensorInfo = {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes from the end of the header. */
  readonly begin: number;
  readonly end: number;
};

export type SafetensorsHeader = {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** N, the length of the JSON text with its padding: the data starts at 8 + N. */
  readonly headerBytes: number;
  /** How many numbers the tensors hold together. */
  readonly parameters: number;
};

function reject(code: string, problem: string): never {
  throw new FormatError(`st.${code}`, problem);
}

/** N from the first 8 bytes, checked before anything is allocated or read for it. */
function headerLength(start: Uint8Array, fileSize: number): number {
  if (fileSize < LENGTH_BYTES || start.length < LENGTH_BYTES)
    return reject("too_small", `has ${fileSize} bytes; a safetensors file starts with 8 bytes of header length`);
  const length = new DataView(start.buffer, start.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    return reject("header_too_large", `declares a header of ${length} bytes; at most ${MAX_HEADER_BYTES} are read`);
  const headerBytes = Number(length);
  if (LENGTH_BYTES + headerBytes > fileSize)
    return reject("header_past_eof", `declares a header of ${headerBytes} bytes in a file of ${fileSize}`);
  return headerBytes;
}

/** Controls and bidi controls, as one pattern: names are checked by the hundred thousand. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the point
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

/** Code points, not UTF-16 units: what other languages count. */
const codePoints = (text: string): number => Array.from(text).length;

function checkTensorName(name: string): void {
  if (name === "") reject("name", "has a tensor without a name");
  // Plain objects in JavaScript treat this key specially, and readers downstream use plain objects.
  if (name === "__proto__") reject("name", "has a tensor named __proto__");
  if (name.length > 2 * MAX_NAME_LENGTH || (name.length > MAX_NAME_LENGTH && codePoints(name) > MAX_NAME_LENGTH))
    reject("name", `has a tensor name longer than ${MAX_NAME_LENGTH}: ${quote(name)}`);
  if (HIDDEN.test(name)) reject("name", `has a tensor name with a control character: ${quote(name)}`);
}

/** Problems are worded only when there is one: quoting a name costs more than reading its entry. */
function rejectField(code: string, field: string, name: string, problem: string): never {
  return reject(code, `${field} of tensor ${quote(name)} ${problem}`);
}

function readInteger(scanner: JsonScanner, field: string, name: string): number {
  return (
    scanner.integer() ?? rejectField("integer", field, name, "holds something other than an integer from 0 to 2^53-1")
  );
}

function readShape(scanner: JsonScanner, name: string): number[] {
  if (scanner.peek() !== "[") rejectField("shape", "shape", name, "is not an array");
  const shape: number[] = [];
  // Zeros are left out, so that a zero cannot hide dimensions whose product overflows in another reader.
  let product = 1;
  scanner.array(() => {
    if (shape.length === MAX_RANK) rejectField("shape", "shape", name, `has more than ${MAX_RANK} dimensions`);
    const dimension = readInteger(scanner, "shape", name);
    if (dimension > MAX_DIMENSION) rejectField("shape", "shape", name, "has a dimension above 2^32");
    product *= dimension || 1;
    if (product > Number.MAX_SAFE_INTEGER) rejectField("shape", "shape", name, "multiplies to more than 2^53-1");
    shape.push(dimension);
  });
  return shape;
}

function readOffsets(scanner: JsonScanner, name: string): [number, number] {
  if (scanner.peek() !== "[") rejectField("offsets", "data_offsets", name, "is not an array");
  const offsets: number[] = [];
  scanner.array(() => {
    if (offsets.length === 2) rejectField("offsets", "data_offsets", name, "has more than two numbers");
    offsets.push(readInteger(scanner, "data_offsets", name));
  });
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined)
    return rejectField("offsets", "data_offsets", name, "has fewer than two numbers");
  return [begin, end];
}

function readDtype(scanner: JsonScanner, name: string): string {
  const dtype = scanner.peek() === '"' ? scanner.string() : undefined;
  if (dtype === undefined || !DTYPE_BITS.has(dtype))
    return reject("dtype", `tensor ${quote(name)} has no known dtype${dtype === undefined ? "" : `: ${quote(dtype)}`}`);
  return dtype;
}

function readTensor(scanner: JsonScanner, name: string): TensorInfo {
  const next = scanner.peek();
  if (next !== "{" && next !== "") reject("entry", `tensor ${quote(name)} is not described by an object`);
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: [number, number] | undefined;
  scanner.object((key) => {
    if (key === "dtype") dtype = readDtype(scanner, name);
    else if (key === "shape") shape = readShape(scanner, name);
    else if (key === "data_offsets") offsets = readOffsets(scanner, name);
    else reject("entry", `tensor ${quote(name)} has the unknown field ${quote(key)}`);
  });
  if (dtype === undefined || shape === undefined || offsets === undefined)
    return reject("entry", `tensor ${quote(name)} lacks dtype, shape or data_offsets`);
  return { dtype, shape, begin: offsets[0], end: offsets[1] };
}

function readMetadata(scanner: JsonScanner): Map<string, string> {
  const metadata = new Map<string, string>();
  const next = scanner.peek();
  if (next !== "{" && next !== "") reject("metadata", "has a __metadata__ that is not an object of strings");
  scanner.object((key) => {
    if (key === "__proto__") reject("metadata", "has the metadata key __proto__");
    const value = scanner.peek();
    if (value !== '"' && value !== "")
      reject("metadata", `has a metadata value that is not a string, at ${quote(key)}`);
    metadata.set(key, scanner.string());
  });
  return metadata;
}

const elementCount = (shape: readonly number[]): number => shape.reduce((product, dimension) => product * dimension, 1);

/** Throws unless the bytes of the tensor are exactly what its shape and dtype need. */
function checkTensorSize(name: string, { dtype, shape, begin, end }: TensorInfo): void {
  if (begin > end) reject("offsets", `tensor ${quote(name)} begins at ${begin}, after its end ${end}`);
  // The product with the bits may pass 2^53 though the count does not, hence BigInt.
  const bits = BigInt(elementCount(shape)) * BigInt(DTYPE_BITS.get(dtype) ?? 0);
  if (bits !== BigInt(end - begin) * 8n)
    reject(
      "size",
      `tensor ${quote(name)} has ${end - begin} bytes, but shape [${shape}] of ${dtype} needs ${bits} bits`,
    );
}

/** Throws unless the tensors cover the data without hole and overlap; returns where they end. */
function checkTiling(tensors: ReadonlyMap<string, TensorInfo>): number {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { begin, end }] of inOrder) {
    if (begin !== at)
      reject("offsets", `tensor ${quote(name)} begins at ${begin}, but the bytes before it end at ${at}`);
    at = end;
  }
  return at;
}

/** Parses the first 8 + N bytes of a file of `fileSize` bytes. Bytes after those are not looked at. */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number): SafetensorsHeader {
  const headerBytes = headerLength(bytes, fileSize);
  const header = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + headerBytes);
  if (header.length !== headerBytes)
    throw new RangeError(`the header has ${headerBytes} bytes, ${header.length} were given`);
  if (header[0] !== 0x7b) reject("json", "has a header that does not start with {");
  const text = decodeUtf8(header, "st.utf8", "has a header that is not UTF-8");
  const scanner = new JsonScanner(text, { syntax: "st.json", encoding: "st.utf8", duplicate: "st.duplicate" });
  const tensors = new Map<string, TensorInfo>();
  let metadata = new Map<string, string>();
  scanner.object((key) => {
    if (key === "__metadata__") {
      metadata = readMetadata(scanner);
    } else {
      checkTensorName(key);
      tensors.set(key, readTensor(scanner, key));
    }
  });
  if (/[^ ]/.test(scanner.rest())) scanner.fail("has something other than spaces after its header");

  let parameters = 0;
  for (const [name, tensor] of tensors) {
    checkTensorSize(name, tensor);
    parameters += elementCount(tensor.shape);
  }
  const end = LENGTH_BYTES + headerBytes + checkTiling(tensors);
  if (end > fileSize) reject("truncated", `has ${fileSize} bytes, but its tensors end at ${end}`);
  if (end < fileSize) reject("trailing_data", `has ${fileSize - end} bytes after its last tensor`);
  return { tensors, metadata, headerBytes, parameters };
}

/** Reads the header through `read(offset, length)`, which must return exactly `length` bytes. */
export async function readSafetensorsHeader(
  read: (offset: number, length: number) => Promise<Uint8Array>,
  fileSize: number,
): Promise<SafetensorsHeader> {
  const start = fileSize < LENGTH_BYTES ? new Uint8Array() : await read(0, LENGTH_BYTES);
  const whole = LENGTH_BYTES + headerLength(start, fileSize);
  return parseSafetensorsHeader(await read(0, whole), fileSize);
}
