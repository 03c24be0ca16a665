// A body of any length that is read more than once: its last piece in memory, what came before in the bucket until the request ends.
import { sql } from "drizzle-orm";
import { asJson } from "../db/client";
import type { Platform } from "../platform/platform";
import { readAll } from "../streams/chunks";
import { newSpoolKey } from "./keys";
import { condemnObjects, readObject, stageObjects } from "./objects";

export const PIECE_BYTES = 4 << 20;
/** Pieces in memory beside the one that is being filled. */
const HELD_PIECES = 2;

type Piece = { readonly key: string; bytes: Uint8Array | null };

export class Spool {
  readonly #platform: Platform;
  /** All of them full. */
  readonly #pieces: Piece[] = [];
  #last = new Uint8Array(PIECE_BYTES);
  #filled = 0;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#filled === PIECE_BYTES) await this.#store();
      const part = bytes.subarray(at, at + PIECE_BYTES - this.#filled);
      this.#last.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
    }
  }

  /** Each object has its row before its first byte: what a crash leaves is condemned a day later. */
  async #store(): Promise<void> {
    const { db, blobs, now } = this.#platform;
    const key = newSpoolKey();
    await db.run(stageObjects([key], now()));
    await blobs.put(key, this.#last);
    this.#pieces.push({ key, bytes: null });
    this.#last = new Uint8Array(PIECE_BYTES);
    this.#filled = 0;
  }

  /** A copy, or a view where the range lies in one piece. */
  async read(offset: number, end: number): Promise<Uint8Array> {
    const first = Math.floor(offset / PIECE_BYTES);
    const start = first * PIECE_BYTES;
    if (end <= start + PIECE_BYTES) return (await this.#piece(first)).subarray(offset - start, end - start);
    const whole = new Uint8Array(end - offset);
    for (let at = offset; at < end; ) {
      const n = Math.floor(at / PIECE_BYTES);
      const part = (await this.#piece(n)).subarray(at - n * PIECE_BYTES, end - n * PIECE_BYTES);
      whole.set(part, at - offset);
      at += part.length;
    }
    return whole;
  }

  async #piece(n: number): Promise<Uint8Array> {
    const piece = this.#pieces[n];
    if (piece === undefined) return this.#last.subarray(0, this.#filled);
    if (piece.bytes === null) {
      const held = this.#pieces.filter(({ bytes }) => bytes !== null);
      if (held.length >= HELD_PIECES) for (const one of held) one.bytes = null;
      piece.bytes = await readAll(await readObject(this.#platform.blobs, piece.key), PIECE_BYTES);
    }
    return piece.bytes;
  }

  /** The objects go some time later; the answer need not wait for it. */
  discard(): void {
    const keys = this.#pieces.map(({ key }) => key);
    this.#pieces.length = 0;
    if (keys.length === 0) return;
    const { db, now, defer } = this.#platform;
    defer(db.run(condemnObjects(sql`select value from json_each(${asJson(keys)})`, now())));
  }
}
