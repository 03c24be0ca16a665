// Moves a body of declared size to where it belongs and hashes it on the way: the gate every uploaded byte passes.
import { createHash } from "node:crypto";
import { HubError } from "../errors";
import { parseSha256, type Sha256 } from "../ids";
import { type ChunkReader, readChunks } from "./chunks";

export type PumpOptions = {
  readonly expectedSize: number;
  /** Checked before `to` is closed, so that a store commits nothing on a mismatch. */
  readonly expectedSha256?: Sha256;
  /** Closed when everything matched, aborted otherwise. */
  readonly to?: WritableStream<Uint8Array>;
  /** Aborted when nobody reads `to` any more, which may show in no other way. */
  readonly signal?: AbortSignal;
};

export type Pumped = { readonly size: number; readonly sha256: Sha256 };

/** The next bytes of a body of which `actual` bytes have come. @throws body_interrupted when the source breaks off */
export async function nextOrInterrupted(
  chunks: ChunkReader,
  actual: number,
  expected: number | string,
): Promise<Uint8Array | undefined> {
  try {
    return await chunks.next();
  } catch (cause) {
    throw new HubError("body_interrupted", { actual, expected }, { cause });
  }
}

/**
 * Reads the body to its end. Fails with `body_interrupted` when the source breaks off, `size_mismatch` when it ends early
 * or goes on too long, `digest_mismatch` when it holds other bytes than declared; errors of `to` come through as they are.
 */
export async function pump(body: ReadableStream<Uint8Array>, options: PumpOptions): Promise<Pumped> {
  const { expectedSize, expectedSha256, to, signal } = options;
  // What is written may be queued by the receiver, so its buffer must not be filled again.
  const chunks = readChunks(body, { reuse: to === undefined });
  const writer = to?.getWriter();
  signal?.addEventListener("abort", () => void writer?.abort(signal.reason).catch(() => undefined));
  const hash = createHash("sha256");
  let size = 0;
  try {
    for (;;) {
      const chunk = await nextOrInterrupted(chunks, size, expectedSize);
      if (chunk === undefined) break;
      size += chunk.length;
      // Refused at the first byte too many: an endless body must not be read to an end it does not have.
      if (size > expectedSize)
        throw new HubError("size_mismatch", { actual: `more than ${expectedSize}`, expected: expectedSize });
      hash.update(chunk);
      await writer?.write(chunk);
    }
    if (size < expectedSize) throw new HubError("size_mismatch", { actual: size, expected: expectedSize });
    const sha256 = parseSha256(hash.digest("hex"), "sha256");
    if (expectedSha256 !== undefined && sha256 !== expectedSha256)
      throw new HubError("digest_mismatch", { actual: sha256, expected: expectedSha256 });
    await writer?.close();
    return { size, sha256 };
  } catch (error) {
    await Promise.all([chunks.cancel(error), writer?.abort(error).catch(() => undefined)]);
    // workerd tells a pending write only that the stream is closed, not why.
    signal?.throwIfAborted();
    throw error;
  }
}
