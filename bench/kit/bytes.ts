// Bytes to send: made up in memory, or those of a file, each with its digest known beforehand.
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, statSync } from "node:fs";

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

export interface Source {
  readonly size: number;
  /** Lower-case hex. */
  readonly sha256: string;
  read(offset: number, length: number): Iterable<Buffer> | AsyncIterable<Buffer>;
}

/** Random bytes, other ones each time: a fresh first MiB, then one block over and over. Cut at whole MiB only. */
export function randomSource(mebibytes: number): Source {
  const head = randomBytes(MIB);
  const block = randomBytes(MIB);
  function* read(offset: number, length: number): Generator<Buffer> {
    if (offset % MIB !== 0 || length % MIB !== 0) throw new Error("random bytes are cut at whole MiB");
    for (let at = offset; at < offset + length; at += MIB) yield at === 0 ? head : block;
  }
  const size = mebibytes * MIB;
  const hash = createHash("sha256");
  for (const chunk of read(0, size)) hash.update(chunk);
  return { size, sha256: hash.digest("hex"), read };
}

export async function fileSource(path: string): Promise<Source> {
  const read = (offset: number, length: number): AsyncIterable<Buffer> =>
    createReadStream(path, { start: offset, end: offset + length - 1, highWaterMark: MIB });
  const { size } = statSync(path);
  const hash = createHash("sha256");
  for await (const chunk of read(0, size)) hash.update(chunk);
  return { size, sha256: hash.digest("hex"), read };
}
