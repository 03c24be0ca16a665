// Zlib streams that lie one after another, as in a pack: each inflated, and where the next one begins.
import { createInflate, inflateSync } from "node:zlib";
import { FormatError } from "../format-error";

export type Inflated = {
  readonly content: Uint8Array;
  /** How many bytes the compressed form took. */
  readonly packed: number;
};

/** More than any compressor makes of that many bytes. */
export const packedBound = (size: number): number => size + (size >> 3) + 1024;

const isInflated = (value: unknown): value is { buffer: Uint8Array; engine: { bytesWritten: number } } =>
  typeof value === "object" && value !== null && "buffer" in value && "engine" in value;

/**
 * What begins at the start of `bytes` and is `size` bytes long unpacked; what follows is left alone.
 * @throws FormatError when it is broken, cut off, or of another size
 */
export function inflateFirst(bytes: Uint8Array, size: number): Inflated {
  let result: unknown;
  try {
    // One byte of room more than is right, so that too much is told from enough; in one piece, so that nothing is joined.
    result = inflateSync(bytes.subarray(0, packedBound(size)), {
      info: true,
      maxOutputLength: size + 1,
      chunkSize: Math.max(64, size + 1),
    });
  } catch (cause) {
    throw new FormatError(
      "git.pack_data",
      "holds an object that can't be inflated to the size it claims",
      {},
      { cause },
    );
  }
  if (!isInflated(result) || result.buffer.length !== size)
    throw new FormatError("git.pack_size", `holds an object that is not of the ${size} bytes it claims`);
  return { content: result.buffer, packed: result.engine.bytesWritten };
}

/**
 * The same for what is too large for memory: fed piece by piece, its content given to `take`.
 * @returns how many bytes the compressed form took
 */
export async function inflateLarge(
  pieces: () => Promise<Uint8Array>,
  size: number,
  take: (content: Uint8Array) => void,
): Promise<number> {
  const inflate = createInflate();
  let seen = 0;
  let ended = false;
  const failures: unknown[] = [];
  inflate.on("error", (error) => failures.push(error));
  inflate.on("end", () => {
    ended = true;
  });
  inflate.on("data", (content: Uint8Array) => {
    seen += content.length;
    if (seen <= size) take(content);
  });
  while (!ended && failures.length === 0 && seen <= size) {
    const piece = await pieces();
    if (piece.length === 0) break;
    // Copied, as the piece is overwritten by the next; the callback says that it was used up, or that nothing more is wanted.
    await new Promise<void>((resolve) => {
      inflate.once("end", resolve);
      inflate.once("error", () => resolve());
      inflate.write(piece.slice(), () => resolve());
    });
    // "end" comes after the last data was read, some turns later.
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  inflate.destroy();
  if (failures.length > 0 || !ended || seen !== size)
    throw new FormatError(
      "git.pack_size",
      `holds an object that can't be inflated to the ${size} bytes it claims`,
      {},
      failures.length > 0 ? { cause: failures[0] } : undefined,
    );
  return inflate.bytesWritten;
}
