// A JSON reader for headers that attackers write: it sees duplicate keys, never rounds a number and never recurses unbounded.
import { FormatError } from "./format-error";
import { quote } from "./text";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ESCAPES = new Map([
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const AFTER_INTEGER = " \t\n\r,]}";
const LITERAL = /true|false|null/y;

export type ScannerCodes = { readonly syntax: string; readonly encoding: string; readonly duplicate: string };

/**
 * Pulls values out of a text in order; the caller says what it expects, so nesting never goes deeper than the caller does.
 * The text is already valid UTF-16 (decoded strictly), so only escapes can bring lone surrogates in.
 */
export class JsonScanner {
  readonly #text: string;
  readonly #codes: ScannerCodes;
  #at = 0;

  constructor(text: string, codes: ScannerCodes) {
    this.#text = text;
    this.#codes = codes;
  }

  /** The next character that is not white space, or "" at the end. */
  peek(): string {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) break;
      this.#at++;
    }
    return this.#text.charAt(this.#at);
  }

  /** What is left, white space included. */
  rest(): string {
    return this.#text.slice(this.#at);
  }

  fail(problem: string): never {
    throw new FormatError(this.#codes.syntax, `${problem} at character ${this.#at}`);
  }

  expect(character: string): void {
    if (this.peek() !== character) this.fail(`is not JSON: no ${character}`);
    this.#at++;
  }

  /** Calls `member` at each value; it must consume exactly that value. */
  object(member: (key: string) => void): void {
    this.expect("{");
    const keys = new Set<string>();
    if (this.peek() === "}") {
      this.#at++;
      return;
    }
    for (;;) {
      const key = this.string();
      if (keys.has(key)) throw new FormatError(this.#codes.duplicate, `has the key ${quote(key)} twice`);
      keys.add(key);
      this.expect(":");
      member(key);
      if (this.peek() === "}") break;
      this.expect(",");
    }
    this.#at++;
  }

  /** Calls `element` at each value; it must consume exactly that value. */
  array(element: () => void): void {
    this.expect("[");
    if (this.peek() === "]") {
      this.#at++;
      return;
    }
    for (;;) {
      element();
      if (this.peek() === "]") break;
      this.expect(",");
    }
    this.#at++;
  }

  /** A non-negative integer that a double holds exactly, or undefined (and nothing consumed) for any other thing. */
  integer(): number | undefined {
    const first = this.peek();
    let end = this.#at;
    for (let unit = this.#text.charCodeAt(end); unit >= 0x30 && unit <= 0x39; unit = this.#text.charCodeAt(end)) end++;
    const length = end - this.#at;
    if (length === 0 || length > 16 || (first === "0" && length > 1)) return undefined;
    const value = Number(this.#text.slice(this.#at, end));
    if (value > Number.MAX_SAFE_INTEGER || !AFTER_INTEGER.includes(this.#text.charAt(end))) return undefined;
    this.#at = end;
    return value;
  }

  string(): string {
    this.expect('"');
    const start = this.#at;
    for (let at = start; ; at++) {
      const unit = this.#text.charCodeAt(at);
      if (unit === QUOTE) {
        this.#at = at + 1;
        return this.#text.slice(start, at);
      }
      if (unit === BACKSLASH) {
        this.#at = at;
        return this.#escapedString(this.#text.slice(start, at));
      }
      if (!(unit >= 0x20)) {
        this.#at = at;
        this.fail(Number.isNaN(unit) ? "is not JSON: a string does not end" : "is not JSON: a raw control character");
      }
    }
  }

  /** The rest of a string from its first backslash on. */
  #escapedString(before: string): string {
    const parts = [before];
    let plain = this.#at;
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at);
      if (unit === QUOTE) break;
      if (unit === BACKSLASH) {
        parts.push(this.#text.slice(plain, this.#at), this.#escape());
        plain = this.#at;
      } else if (unit >= 0x20) {
        this.#at++;
      } else {
        this.fail(Number.isNaN(unit) ? "is not JSON: a string does not end" : "is not JSON: a raw control character");
      }
    }
    parts.push(this.#text.slice(plain, this.#at));
    this.#at++;
    const text = parts.join("");
    if (!text.isWellFormed())
      throw new FormatError(this.#codes.encoding, `holds half of a surrogate pair before character ${this.#at}`);
    return text;
  }

  #escape(): string {
    const letter = this.#text.charAt(this.#at + 1);
    const simple = ESCAPES.get(letter);
    if (simple !== undefined) {
      this.#at += 2;
      return simple;
    }
    const hex = this.#text.slice(this.#at + 2, this.#at + 6);
    if (letter !== "u" || !/^[0-9a-fA-F]{4}$/.test(hex)) this.fail("is not JSON: a bad escape");
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(hex, 16));
  }

  /** Reads past any value; nesting beyond `depth` is a syntax error, so the stack stays bounded. */
  skip(depth: number): void {
    const next = this.peek();
    if (next === '"') {
      this.string();
    } else if (next === "{" || next === "[") {
      if (depth === 0) this.fail("is nested too deeply");
      if (next === "{") this.object(() => this.skip(depth - 1));
      else this.array(() => this.skip(depth - 1));
    } else if (!this.#match(NUMBER) && !this.#match(LITERAL)) {
      this.fail("is not JSON: no value");
    }
  }

  #match(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }
}
