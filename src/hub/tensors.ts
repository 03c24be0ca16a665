// What a stored weight file holds, read from its header by range: the tensors' names, dtypes and shapes, never their numbers.
import { FormatError } from "../formats/format-error";
import { readSafetensorsHeader, type SafetensorsHeader } from "../formats/safetensors";
import type { Platform } from "../platform/platform";
import { type Readable, readContent } from "../store/contents";
import { readAll } from "../streams/chunks";

export type Tensors =
  | { readonly kind: "read"; readonly header: SafetensorsHeader }
  | { readonly kind: "too_large" }
  | { readonly kind: "invalid"; readonly problem: string };

class HeaderTooLarge extends Error {}

/** Reads at most `most` bytes. A file that is no safetensors file is an answer, not a failure. */
export async function readTensors(platform: Platform, file: Readable, most: number): Promise<Tensors> {
  try {
    const header = await readSafetensorsHeader(async (offset, length) => {
      if (length > most) throw new HeaderTooLarge();
      return readAll(await readContent(platform, file, { offset, length }), length);
    }, file.size);
    return { kind: "read", header };
  } catch (error) {
    if (error instanceof HeaderTooLarge) return { kind: "too_large" };
    if (error instanceof FormatError) return { kind: "invalid", problem: error.message };
    throw error;
  }
}

export type DtypeShare = { readonly dtype: string; readonly parameters: number };

/** How many numbers of each dtype, most first. */
export function dtypeShares(header: SafetensorsHeader): DtypeShare[] {
  const shares = new Map<string, number>();
  for (const { dtype, shape } of header.tensors.values())
    shares.set(dtype, (shares.get(dtype) ?? 0) + shape.reduce((product, dimension) => product * dimension, 1));
  return [...shares].map(([dtype, parameters]) => ({ dtype, parameters })).sort((a, b) => b.parameters - a.parameters);
}
