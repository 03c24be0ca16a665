// side-band-64k: pack, progress and a last error in one stream of pkt-lines, each beginning with the number of its band.
import { encodeUtf8 } from "../text";
import { MAX_PKT_BYTES, pktLine } from "./pkt-line";

const PACK = 1;
const PROGRESS = 2;
const ERROR = 3;
const HEAD_BYTES = 5;
/** What old clients take, who ask for `side-band`. Bytes of a line. */
export const SMALL_BAND = 1000;
/** Lines that are put together before they are handed on. */
const LINES = 8;

/** Band 1 in lines as long as they may be; the bytes given out are never written to again. */
export class SideBand {
  readonly #line: number;
  readonly #give: (bytes: Uint8Array) => Promise<void>;
  #lines: Uint8Array;
  #at = 0;
  #filled = 0;

  constructor(give: (bytes: Uint8Array) => Promise<void>, line = MAX_PKT_BYTES) {
    this.#give = give;
    this.#line = line;
    this.#lines = new Uint8Array(line * LINES);
  }

  async pack(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const room = this.#line - HEAD_BYTES - this.#filled;
      const part = bytes.subarray(from, from + room);
      this.#lines.set(part, this.#at + HEAD_BYTES + this.#filled);
      this.#filled += part.length;
      from += part.length;
      if (part.length === room) await this.#endLine();
    }
  }

  async progress(text: string): Promise<void> {
    await this.flush();
    await this.#give(bandLine(PROGRESS, text));
  }

  /** The client shows it and gives up. */
  async fail(text: string): Promise<void> {
    await this.#give(bandLine(ERROR, `${text}\n`));
  }

  /** Hands on what is there. */
  async flush(): Promise<void> {
    if (this.#filled > 0) await this.#endLine();
    if (this.#at === 0) return;
    const lines = this.#lines.subarray(0, this.#at);
    this.#lines = new Uint8Array(this.#line * LINES);
    this.#at = 0;
    await this.#give(lines);
  }

  async #endLine(): Promise<void> {
    const length = HEAD_BYTES + this.#filled;
    this.#lines.set(encodeUtf8(length.toString(16).padStart(4, "0")), this.#at);
    this.#lines[this.#at + HEAD_BYTES - 1] = PACK;
    this.#at += length;
    this.#filled = 0;
    if (this.#at + this.#line > this.#lines.length) await this.flush();
  }
}

function bandLine(band: number, text: string): Uint8Array {
  const content = encodeUtf8(text.slice(0, 900));
  const bytes = new Uint8Array(content.length + 1);
  bytes[0] = band;
  bytes.set(content, 1);
  return pktLine(bytes);
}
