// Bytes that arrive in pieces of any size, looked at in one window: as much as was asked for, or what is left.

/** The next bytes, never empty, or undefined at the end. */
export type NextBytes = () => Promise<Uint8Array | undefined>;

export class ByteSource {
  readonly #next: NextBytes;
  #buffer = new Uint8Array(0);
  #start = 0;
  #end = 0;
  #ended = false;
  #taken = 0;

  constructor(next: NextBytes) {
    this.#next = next;
  }

  /** How many bytes were taken so far. */
  get taken(): number {
    return this.#taken;
  }

  /** At least `count` bytes from here on, or all that are left; good until the next call. */
  async window(count: number): Promise<Uint8Array> {
    while (this.#end - this.#start < count && !this.#ended) {
      const piece = await this.#next();
      if (piece === undefined) this.#ended = true;
      else this.#append(piece);
    }
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /** Goes on by `count` bytes of the window and gives them; good until the next call. */
  take(count: number): Uint8Array {
    const bytes = this.#buffer.subarray(this.#start, this.#start + count);
    this.#start += bytes.length;
    this.#taken += bytes.length;
    // With nothing left in it the room is given back: what comes next may need less, or nothing may come.
    if (this.#start === this.#end) {
      this.#buffer = new Uint8Array(0);
      this.#start = 0;
      this.#end = 0;
    }
    return bytes;
  }

  #append(piece: Uint8Array): void {
    const held = this.#end - this.#start;
    if (this.#end + piece.length > this.#buffer.length) {
      // Twice what is needed: so each byte is moved a few times at most, however small the pieces are.
      const room = held + piece.length > this.#buffer.length ? new Uint8Array(2 * (held + piece.length)) : this.#buffer;
      room.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = room;
      this.#start = 0;
      this.#end = held;
    }
    this.#buffer.set(piece, this.#end);
    this.#end += piece.length;
  }
}
