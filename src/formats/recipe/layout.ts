// How the tensors of an output lie in files: in natural order of their names, cut by size.
import { DTYPE_BITS } from "../safetensors";

/** Names with their numbers compared as numbers: layer 2 before layer 10. */
export function compareNatural(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const [left, right] = [a.charCodeAt(i), b.charCodeAt(j)];
    if (isDigit(left) && isDigit(right)) {
      const [endA, endB] = [endOfDigits(a, i), endOfDigits(b, j)];
      const difference = Number(a.slice(i, endA)) - Number(b.slice(j, endB));
      if (difference !== 0) return difference;
      i = endA;
      j = endB;
    } else {
      if (left !== right) return left - right;
      i++;
      j++;
    }
  }
  // Equal but for leading zeros: the order must not depend on where they came from.
  return a.length - i - (b.length - j) || (a < b ? -1 : a > b ? 1 : 0);
}

const isDigit = (code: number): boolean => code >= 48 && code <= 57;

function endOfDigits(text: string, from: number): number {
  let end = from;
  while (end < text.length && isDigit(text.charCodeAt(end))) end++;
  return end;
}

export const countOf = (shape: readonly number[]): number => shape.reduce((product, axis) => product * axis, 1);

/** Bytes of a tensor in a safetensors file. */
export const bytesOf = (dtype: string, shape: readonly number[]): number =>
  Math.ceil((countOf(shape) * (DTYPE_BITS.get(dtype) ?? 8)) / 8);

/** Cuts items into files of at most `most` bytes, or of one item where that alone is larger. */
export function cutBySize<T extends { readonly bytes: number }>(items: readonly T[], most: number): T[][] {
  const files: T[][] = [];
  let room = 0;
  for (const item of items) {
    const file = files.at(-1);
    if (file === undefined || item.bytes > room) {
      files.push([item]);
      room = most - item.bytes;
    } else {
      file.push(item);
      room -= item.bytes;
    }
  }
  return files;
}

export const WEIGHTS = "model.safetensors";

/** `model.safetensors`, or `model-00001-of-00003.safetensors`. */
export const shardName = (file: string, index: number, count: number): string =>
  count === 1
    ? file
    : file.replace(/(?=\.safetensors$)/, `-${String(index + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}`);

/** The file that a shard is of: `model.safetensors` for `model-00001-of-00003.safetensors`. */
export const wholeName = (path: string): string => path.replace(/-\d{5}-of-\d{5}(?=\.safetensors$)/, "");

/** The indices that the engine writes beside shards. */
export const indicesOf = (paths: readonly string[]): string[] => [
  ...new Set(paths.filter((path) => wholeName(path) !== path).map((path) => `${wholeName(path)}.index.json`)),
];
