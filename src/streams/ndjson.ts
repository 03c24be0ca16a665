// Newline-delimited JSON as a stream of lines: a commit of 100 MB passes without ever being in memory whole.
import { HubError } from "../errors";
import { FormatError } from "../formats/format-error";
import { decodeUtf8 } from "../formats/text";
import { concatBytes, readChunks } from "./chunks";

export type NdjsonLine = { readonly line: number; readonly text: string };
export type NdjsonOptions = {
  /** A base64 file of 10 MB makes a line of 14 MB. */
  readonly maxLineBytes: number;
  /** How deep objects and arrays may nest; JSON.parse on deeper text would cost far more than the text did. */
  readonly maxDepth?: number;
};

const DEFAULT_DEPTH = 32;
const LINE_FEED = 0x0a;
const BLANK = /^[ \t\r]*$/;

/** Where the string that starts at `at` ends: the index of its closing quote, or the length of the text. */
function endOfString(text: string, start: number): number {
  for (let at = start; ; at++) {
    at = text.indexOf('"', at);
    if (at === -1) return text.length;
    let backslashes = 0;
    while (at - 1 - backslashes >= start && text.charAt(at - 1 - backslashes) === "\\") backslashes++;
    if (backslashes % 2 === 0) return at;
  }
}

/** True when brackets outside strings nest deeper than `limit`. Looks at nothing else; strings are skipped at memchr speed. */
export function jsonNestsDeeperThan(text: string, limit: number): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === '"') at = endOfString(text, at + 1);
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (depth > limit) return true;
  }
  return false;
}

/** The raw lines, without their line feeds. A last line without line feed counts when it is not empty. */
async function* readLines(
  body: ReadableStream<Uint8Array>,
  maxLineBytes: number,
): AsyncGenerator<{ line: number; bytes: Uint8Array }> {
  const chunks = readChunks(body, { reuse: true });
  let parts: Uint8Array[] = [];
  let pending = 0;
  let line = 1;
  let received = 0;
  const bounded = (length: number): void => {
    if (length > maxLineBytes)
      throw new FormatError("ndjson.line_too_long", `line ${line} has more than ${maxLineBytes} bytes`, { line });
  };
  try {
    for (;;) {
      const chunk = await chunks.next().catch((cause: unknown) => {
        throw new HubError("body_interrupted", { actual: received, expected: "an unknown number of" }, { cause });
      });
      if (chunk === undefined) break;
      received += chunk.length;
      let start = 0;
      for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
        bounded(pending + end - start);
        parts.push(chunk.subarray(start, end));
        yield { line, bytes: concatBytes(parts, pending + end - start) };
        parts = [];
        pending = 0;
        line++;
        start = end + 1;
      }
      bounded(pending + chunk.length - start);
      // A copy: the reader fills the chunk's buffer again.
      if (start < chunk.length) parts.push(chunk.slice(start));
      pending += chunk.length - start;
    }
    if (pending > 0) yield { line, bytes: concatBytes(parts, pending) };
  } finally {
    await chunks.cancel(undefined);
  }
}

/**
 * The lines as text, in order, each strict UTF-8 and no deeper than allowed; parsing them is the caller's. Blank lines are
 * allowed at the end only. Throws FormatErrors `ndjson.…` with the line number.
 */
export async function* readNdjson(
  body: ReadableStream<Uint8Array>,
  options: NdjsonOptions,
): AsyncGenerator<NdjsonLine> {
  const maxDepth = options.maxDepth ?? DEFAULT_DEPTH;
  let blank: number | undefined;
  for await (const { line, bytes } of readLines(body, options.maxLineBytes)) {
    const text = decodeUtf8(bytes, "ndjson.utf8", `line ${line} is not UTF-8`, line);
    if (BLANK.test(text)) {
      blank ??= line;
      continue;
    }
    if (blank !== undefined)
      throw new FormatError("ndjson.blank_line", `line ${blank} is empty`, { line: blank, fix: "remove it" });
    if (jsonNestsDeeperThan(text, maxDepth))
      throw new FormatError("ndjson.too_deep", `line ${line} nests deeper than ${maxDepth} levels`, { line });
    yield { line, text };
  }
}
