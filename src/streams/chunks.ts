// Reads a body in pieces of at least 1 MiB: the runtime's default reader hands out 4 KiB, which costs five times the CPU.
import { HubError } from "../errors";

export const CHUNK_BYTES = 1 << 20;

export type ChunkReader = {
  /** The next bytes, never empty, or undefined at the end. */
  readonly next: () => Promise<Uint8Array | undefined>;
  /** Tells the source that nobody reads on. Safe at any time; never throws. */
  readonly cancel: (reason: unknown) => Promise<void>;
};

/** A reader into our own buffer, or undefined for streams that are not byte streams. */
function byobReader(body: ReadableStream<Uint8Array>): ReadableStreamBYOBReader | undefined {
  try {
    return body.getReader({ mode: "byob" });
  } catch (error) {
    if (error instanceof TypeError && !body.locked) return undefined;
    throw error;
  }
}

const quietly = async (ending: Promise<unknown>): Promise<void> => {
  await ending.catch(() => undefined);
};

/**
 * With `reuse`, a piece is overwritten by the next call of `next`: right for hashing and parsing, wrong for whatever is
 * handed on. Errors of the source come through as they are.
 */
export function readChunks(body: ReadableStream<Uint8Array>, { reuse }: { reuse: boolean }): ChunkReader {
  const byob = byobReader(body);
  if (byob === undefined) return readOrdinaryChunks(body.getReader());
  let buffer = new ArrayBuffer(CHUNK_BYTES);
  let ended = false;
  const next = async (): Promise<Uint8Array | undefined> => {
    if (ended) return undefined;
    const { value, done } = await byob.readAtLeast(CHUNK_BYTES, new Uint8Array(buffer));
    ended = done;
    if (value === undefined || value.byteLength === 0) return undefined;
    buffer = reuse ? value.buffer : new ArrayBuffer(CHUNK_BYTES);
    return value;
  };
  return { next, cancel: (reason) => quietly(byob.cancel(reason)) };
}

function readOrdinaryChunks(reader: ReadableStreamDefaultReader<Uint8Array>): ChunkReader {
  const next = async (): Promise<Uint8Array | undefined> => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return undefined;
      if (!(value instanceof Uint8Array)) throw new TypeError("a body must be a stream of bytes");
      if (value.length > 0) return value;
    }
  };
  return { next, cancel: (reason) => quietly(reader.cancel(reason)) };
}

/** A whole small body in memory; anything longer than `limit` is refused before it is read to its end. */
export async function readAll(body: ReadableStream<Uint8Array> | null, limit: number): Promise<Uint8Array> {
  if (body === null) return new Uint8Array();
  const chunks = readChunks(body, { reuse: false });
  const parts: Uint8Array[] = [];
  let size = 0;
  for (let part = await chunks.next(); part !== undefined; part = await chunks.next()) {
    size += part.length;
    if (size > limit) {
      const error = new HubError("payload_too_large", { problem: `The body has more than ${limit} bytes.`, limit });
      await chunks.cancel(error);
      throw error;
    }
    parts.push(part);
  }
  return concatBytes(parts, size);
}

export function concatBytes(parts: readonly Uint8Array[], size: number): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
