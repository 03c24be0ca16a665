// Reads Xet files as plain bytes: terms looked up, xorbs fetched by range, chunks decoded on the way.
import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import { ChunkDecoder } from "../../formats/xet/xorb";
import type { BlobStore, ByteRange, Platform } from "../../platform/platform";
import { type ChunkReader, readChunks } from "../../streams/chunks";
import { readObject } from "../objects";
import { clipTerm, type Term, termsCovering } from "./terms";
import { loadIndex } from "./xorbs";

/** Bytes of one write to the receiver: fewer, and the hand-over costs more than the copy into them. */
const WRITE_BYTES = 1 << 19;
/** A term of at most this many packed bytes is read from its beginning: sooner done than reading an index first. */
const SMALL_TERM_BYTES = 1 << 18;
/** How far before the end of what is being read the next object is opened, in packed bytes. */
const AHEAD_BYTES = 4 << 20;
/** Objects opened ahead: with the one being read, below the 6 connections that a Worker has. */
const AHEAD_OBJECTS = 3;

/** Chunks that follow each other in one object and in the file, from `offset` in the file on. */
type Run = Pick<Term, "offset" | "length" | "bytes"> & { readonly key: string };
type OpenRun = Run & { readonly chunks: Promise<ChunkReader> };

/**
 * The bytes of a range (within the file), decoded as they come. `file.terms`: the first terms, as far as they are known. What turns
 * out to be missing or damaged breaks the stream off, so that nobody takes a part for the whole. Memory: some MiB.
 * @throws content_damaged when the first bytes can't even be looked up
 */
export async function readXetFile(
  platform: Pick<Platform, "db" | "blobs">,
  file: { readonly fileId: number; readonly terms: readonly Term[] },
  range: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  if (range.length === 0) return new Blob([]).stream();
  const source = new RunSource(platform.blobs, runsOf(platform, file, range));
  const giveUp = (error: unknown): Promise<void> => source.cancel(error);
  const first = await source.next().catch(async (error: unknown) => {
    await giveUp(error);
    throw error;
  });
  const { readable, writable } = new FixedLengthStream(range.length);
  const writer = writable.getWriter();
  copyRuns(first, source, range, new Output(writer, range.length)).catch(async (cause: unknown) => {
    const error = cause instanceof FormatError ? new HubError("content_damaged", {}, { cause }) : cause;
    await Promise.all([giveUp(error), writer.abort(error).catch(() => undefined)]);
  });
  return readable;
}

/** What to read, one object after another. The chunks before the range are left out, those behind it are not asked for one by one. */
async function* runsOf(
  { db, blobs }: Pick<Platform, "db" | "blobs">,
  { fileId, terms: known }: { readonly fileId: number; readonly terms: readonly Term[] },
  range: ByteRange,
): AsyncGenerator<Run, void, void> {
  for await (const page of termsCovering(db, { fileId, known }, range)) {
    let run: Run | undefined;
    for (const whole of page) {
      const skipsMuch = whole.offset < range.offset && whole.bytes.end - whole.bytes.start > SMALL_TERM_BYTES;
      const term = skipsMuch ? clipTerm(whole, await loadIndex(blobs, whole.xorb), range) : whole;
      const { key } = term.xorb;
      if (run !== undefined && run.key === key && run.bytes.end === term.bytes.start) {
        const bytes: Run["bytes"] = { start: run.bytes.start, end: term.bytes.end };
        run = { ...run, length: run.length + term.length, bytes };
      } else {
        if (run !== undefined) yield run;
        run = { key, offset: term.offset, length: term.length, bytes: term.bytes };
      }
    }
    if (run !== undefined) yield run;
  }
}

/** Opens runs in order, some of them before they are asked for. */
class RunSource {
  readonly #blobs: BlobStore;
  readonly #runs: AsyncGenerator<Run, void, void>;
  readonly #opened: OpenRun[] = [];
  #opening: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #ended = false;
  #current: OpenRun | undefined;

  constructor(blobs: BlobStore, runs: AsyncGenerator<Run, void, void>) {
    this.#blobs = blobs;
    this.#runs = runs;
  }

  /** Starts to open what comes next. A failure is kept for `next`. */
  prepare(): void {
    if (this.#opening !== undefined || this.#ended || this.#isFull) return;
    this.#opening = this.#open()
      .catch((error: unknown) => {
        this.#failure = { error };
        this.#ended = true;
      })
      .finally(() => {
        this.#opening = undefined;
      });
  }

  get #isFull(): boolean {
    const bytes = this.#opened.reduce((sum, run) => sum + run.bytes.end - run.bytes.start, 0);
    return this.#opened.length >= AHEAD_OBJECTS || bytes >= AHEAD_BYTES;
  }

  async #open(): Promise<void> {
    do {
      const { value: run } = await this.#runs.next();
      if (run === undefined) this.#ended = true;
      if (run === undefined || this.#ended) return;
      const { start, end } = run.bytes;
      const body = readObject(this.#blobs, run.key, { offset: start, length: end - start });
      const chunks = body.then((stream) => readChunks(stream, { reuse: true }));
      // Whoever reads the run is told; until then nobody waits for it.
      chunks.catch(() => undefined);
      this.#opened.push({ ...run, chunks });
    } while (!this.#isFull);
  }

  /** The next run, its object found. Undefined at the end. */
  async next(): Promise<OpenRun | undefined> {
    if (this.#opened.length === 0) {
      this.prepare();
      await this.#opening;
      if (this.#opened.length === 0 && this.#failure !== undefined) throw this.#failure.error;
    }
    this.#current = this.#opened.shift();
    await this.#current?.chunks;
    return this.#current;
  }

  /** Closes whatever is open. Never throws. */
  async cancel(reason: unknown): Promise<void> {
    this.#ended = true;
    await this.#opening;
    const open = [this.#current, ...this.#opened].flatMap((run) => (run === undefined ? [] : [run.chunks]));
    await Promise.all(
      open.map((chunks) =>
        chunks.then(
          (reader) => reader.cancel(reason),
          () => undefined,
        ),
      ),
    );
  }
}

/** Hands on large pieces: while one is on its way to the receiver, the next is filled. */
class Output {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #filling: Uint8Array;
  #spare: Uint8Array | undefined;
  #length = 0;
  #written: Promise<void> = Promise.resolve();

  /** `size`: of everything that will come, in bytes. */
  constructor(writer: WritableStreamDefaultWriter<Uint8Array>, size: number) {
    this.#writer = writer;
    this.#filling = new Uint8Array(Math.min(size, WRITE_BYTES));
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + this.#filling.length - this.#length);
      this.#filling.set(part, this.#length);
      this.#length += part.length;
      at += part.length;
      if (this.#length === this.#filling.length) await this.#flush();
    }
  }

  /** Waits for the piece before, whose buffer is filled next: a write is done when the receiver has taken its bytes. */
  async #flush(): Promise<void> {
    await this.#written;
    const full = this.#filling;
    this.#written = this.#writer.write(full.subarray(0, this.#length));
    this.#written.catch(() => undefined);
    this.#filling = this.#spare ?? new Uint8Array(full.length);
    this.#spare = full;
    this.#length = 0;
  }

  async close(): Promise<void> {
    if (this.#length > 0) await this.#flush();
    await this.#written;
    await this.#writer.close();
  }
}

async function copyRuns(
  first: OpenRun | undefined,
  source: RunSource,
  range: ByteRange,
  output: Output,
): Promise<void> {
  let run = first;
  while (run !== undefined && !(await copyRun(run, () => source.prepare(), range, output))) run = await source.next();
  await output.close();
  await source.cancel("everything that was asked for has been read");
}

/** Returns whether the end of the range was reached. */
async function copyRun(run: OpenRun, prepareNext: () => void, range: ByteRange, output: Output): Promise<boolean> {
  const end = range.offset + range.length;
  const chunks = await run.chunks;
  const decoder = new ChunkDecoder();
  let at = run.offset;
  let packedLeft = run.bytes.end - run.bytes.start;
  for (;;) {
    if (packedLeft <= AHEAD_BYTES) prepareNext();
    const piece = await chunks.next();
    if (piece === undefined) break;
    packedLeft -= piece.length;
    for (const bytes of decoder.push(piece)) {
      const from = Math.max(range.offset - at, 0);
      const to = Math.max(end - at, 0);
      await output.write(from === 0 && to >= bytes.length ? bytes : bytes.subarray(from, to));
      at += bytes.length;
      if (at >= end) return true;
    }
  }
  decoder.finish();
  if (at !== run.offset + run.length) throw new HubError("content_damaged");
  return false;
}
