// Shows what the set-up is doing: one line that updates itself on a terminal, plain lines elsewhere.

const TERMINAL_INTERVAL_MS = 200;
const PLAIN_INTERVAL_MS = 10_000;

/** @param {number} ms */
export function elapsed(ms) {
  const seconds = Math.floor(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** @param {number} bytes */
export function megabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/** One task at a time is under way; its detail is asked for whenever the line is drawn. */
export class Progress {
  #out;
  #terminal;
  #task = "";
  #since = 0;
  /** @type {() => string} */
  #detail = () => "";
  #lastPlain = "";
  /** @type {NodeJS.Timeout | undefined} */
  #timer;

  /** @param {NodeJS.WriteStream} out */
  constructor(out) {
    this.#out = out;
    this.#terminal = out.isTTY === true;
  }

  /**
   * @param {string} task
   * @param {() => string} [detail]
   */
  start(task, detail = () => "") {
    this.#task = task;
    this.#detail = detail;
    this.#since = Date.now();
    this.#lastPlain = "";
    this.#draw();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#draw(), this.#terminal ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS);
    this.#timer.unref();
  }

  /** @param {string} outcome */
  done(outcome) {
    this.#stop();
    this.#out.write(`${this.#task}: ${outcome} (${elapsed(Date.now() - this.#since)})\n`);
    this.#task = "";
  }

  close() {
    this.#stop();
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#terminal && this.#task !== "") this.#out.write("\r\x1b[K");
  }

  #draw() {
    const detail = this.#detail();
    const what = detail === "" ? this.#task : `${this.#task}: ${detail}`;
    if (this.#terminal) {
      const line = `${what} … ${elapsed(Date.now() - this.#since)}`;
      // A line longer than the terminal would wrap and could not be overwritten.
      this.#out.write(`\r\x1b[K${line.slice(0, Math.max(20, this.#out.columns - 1))}`);
    } else if (what !== this.#lastPlain) {
      this.#lastPlain = what;
      this.#out.write(`${what} … ${elapsed(Date.now() - this.#since)}\n`);
    }
  }
}
