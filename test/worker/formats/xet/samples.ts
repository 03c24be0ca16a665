// What the tests of the Xet formats share: sample bytes, the code of an error, and shards written by hand.
import { FormatError } from "../../../../src/formats/format-error";
import { xetHashBytes } from "../../../../src/formats/xet/hash";
import type { XetHash } from "../../../../src/ids";

/** The generator that the ecosystem's own chunking vectors use, little-endian words. */
export function splitMix64(size: number, seed: number): Uint8Array {
  const words = new BigUint64Array(Math.ceil(size / 8));
  let state = BigInt(seed);
  for (let at = 0; at < words.length; at++) {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    words[at] = z ^ (z >> 31n);
  }
  return new Uint8Array(words.buffer, 0, size);
}

/** Numbers from 0 to `below`, the same on each run. */
export function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.floor(((state >>> 0) / 2 ** 32) * below);
  };
}

/** Bytes that repeat much, some, or nothing, by `kind`; floats vary slowly, so their groups pack where the whole does not. */
export function sampleBytes(kind: "random" | "text" | "floats" | "zeros", size: number, seed = 1): Uint8Array {
  if (kind === "random") return splitMix64(size, seed);
  const roll = dice(seed);
  if (kind === "text") {
    const words = ["weights ", "of ", "an ", "open ", "model, ", "layer ", "norm ", "attention "];
    let text = "";
    while (text.length < size) text += words[roll(words.length)];
    return new TextEncoder().encode(text.slice(0, size));
  }
  const bytes = new Uint8Array(size);
  if (kind === "zeros") return bytes;
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 4 <= size; at += 4) view.setFloat32(at, 1 + roll(65536) / 2 ** 20, true);
  return bytes;
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A copy with the bytes at `at` replaced. */
export function patched(bytes: Uint8Array, at: number, ...values: readonly number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
}

/** `bytes` in pieces of the given sizes by turns. */
export function* pieces(bytes: Uint8Array, ...sizes: readonly number[]): Generator<Uint8Array, void, void> {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? bytes.length;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** A source that overwrites each piece once the next is asked for, as the reader of a body does. */
export function sourceOf(bytes: Uint8Array, size = 1000): () => Promise<Uint8Array | undefined> {
  let at = 0;
  let given = new Uint8Array();
  return async () => {
    given.fill(0xee);
    if (at >= bytes.length) return undefined;
    given = bytes.slice(at, at + size);
    at += size;
    return given;
  };
}

/** The code of the FormatError that `action` throws, or "accepted"; any other error comes through. */
export async function codeOf(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof FormatError) return error.code;
    throw error;
  }
  return "accepted";
}

export function record(hash: Uint8Array | XetHash, ...fields: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(48);
  bytes.set(typeof hash === "string" ? xetHashBytes(hash) : hash);
  const view = new DataView(bytes.buffer);
  for (const [field, value] of fields.entries()) view.setUint32(32 + 4 * field, value, true);
  return bytes;
}
export const bookend = record(new Uint8Array(32).fill(0xff));

/** The first record of a shard. */
export function prologue(footerBytes = 0, version = 2): Uint8Array {
  const bytes = new Uint8Array(48);
  bytes.set(new TextEncoder().encode("HFRepoMetaData\0"));
  bytes.set([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169], 15);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(32, BigInt(version), true);
  view.setBigUint64(40, BigInt(footerBytes), true);
  return bytes;
}
