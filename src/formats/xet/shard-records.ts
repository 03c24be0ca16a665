// The 48-byte records that shards are made of: read piece by piece, kept as the bytes they came as.
import { FormatError } from "../format-error";

export const RECORD_BYTES = 48;
export const MAX_SHARD_BYTES = 64 << 20;
/** Records are kept in segments of this many (768 KiB): memory grows with what has come, and nothing is copied twice. */
const SEGMENT_RECORDS = 16_384;

export function rejectShard(code: string, problem: string): never {
  throw new FormatError(`xet.shard_${code}`, problem);
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Consecutive records of one kind. */
export class Records {
  readonly count: number;
  readonly #segments: readonly Uint8Array[];

  constructor(count: number, segments: readonly Uint8Array[]) {
    this.count = count;
    this.#segments = segments;
  }

  /** A view of one record. */
  at(index: number): Uint8Array {
    const segment = this.#segments[Math.floor(index / SEGMENT_RECORDS)];
    if (!(index >= 0 && index < this.count) || segment === undefined)
      throw new RangeError(`there is no record ${index} of ${this.count}`);
    const start = (index % SEGMENT_RECORDS) * RECORD_BYTES;
    return segment.subarray(start, start + RECORD_BYTES);
  }
}

/** Reads a source of pieces in the lengths asked for, up to the size limit of a shard. */
export class ShardReader {
  readonly #next: () => Promise<Uint8Array | undefined>;
  #piece: Uint8Array = new Uint8Array();
  #at = 0;
  #received = 0;

  constructor(next: () => Promise<Uint8Array | undefined>) {
    this.#next = next;
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#received - (this.#piece.length - this.#at);
  }

  /** A view of at most `length` of the bytes that are there, or undefined at the end. */
  async #part(length: number): Promise<Uint8Array | undefined> {
    while (this.#at === this.#piece.length) {
      // Forgotten first: asking for the next piece may take the memory of this one away, and its length with it.
      this.#piece = new Uint8Array();
      this.#at = 0;
      const piece = await this.#next();
      if (piece === undefined) return undefined;
      this.#received += piece.length;
      if (this.#received > MAX_SHARD_BYTES) rejectShard("too_large", `has more than ${MAX_SHARD_BYTES} bytes`);
      this.#piece = piece;
    }
    const part = this.#piece.subarray(this.#at, this.#at + length);
    this.#at += part.length;
    return part;
  }

  /** Exactly `length` bytes, a copy. Throws `xet.shard_truncated`. */
  async bytes(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      const part = await this.#part(length - filled);
      if (part === undefined) return rejectShard("truncated", `ends after ${this.position} bytes, inside a record`);
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }

  /** `count` records. A count larger than what a shard can hold fails at once, one larger than what comes when it ends. */
  async records(count: number): Promise<Records> {
    if (count * RECORD_BYTES > MAX_SHARD_BYTES - this.position)
      rejectShard("count", `declares ${count} records, more than a shard can hold`);
    const segments: Uint8Array[] = [];
    for (let rest = count; rest > 0; rest -= SEGMENT_RECORDS)
      segments.push(await this.bytes(Math.min(rest, SEGMENT_RECORDS) * RECORD_BYTES));
    return new Records(count, segments);
  }

  /** Reads to the end and keeps the last `length` bytes (fewer when fewer came). */
  async last(length: number): Promise<Uint8Array> {
    let kept: Uint8Array = new Uint8Array();
    for (let part = await this.#part(MAX_SHARD_BYTES); part !== undefined; part = await this.#part(MAX_SHARD_BYTES)) {
      const joined = new Uint8Array(Math.min(length, kept.length + part.length));
      const fresh = part.subarray(Math.max(0, part.length - joined.length));
      const old = joined.length - fresh.length;
      if (old > 0) joined.set(kept.subarray(kept.length - old));
      joined.set(fresh, old);
      kept = joined;
    }
    return kept;
  }
}
