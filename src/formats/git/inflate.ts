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
  let given = 0;
  inflate.on("data", (content: Uint8Array) => {
    seen += content.length;
    if (seen <= size) take(content);
  });
  const failure = (cause?: unknown): FormatError =>
    new FormatError(
      "git.pack_size",
      `holds an object that can't be inflated to the ${size} bytes it claims`,
      {},
      { cause },
    );
  const ended = new Promise<"ended">((resolve, reject) => {
    inflate.once("end", () => resolve("ended"));
    inflate.once("error", (cause) => reject(failure(cause)));
  });
  // Who waits for it is told; where nobody does any more, it is no news.
  ended.catch(() => undefined);
  try {
    // It takes less than it was given when its stream ended within that: so it is asked once more where both end together.
    while (inflate.bytesWritten === given) {
      const piece = await pieces();
      if (piece.length === 0 || seen > size) throw failure();
      given += piece.length;
      // Copied, as the piece is overwritten by the next.
      await Promise.race([ended, new Promise<void>((resolve) => inflate.write(piece.slice(), () => resolve()))]);
    }
    await ended;
    if (seen !== size) throw failure();
    return inflate.bytesWritten;
  } finally {
    inflate.destroy();
  }
}
