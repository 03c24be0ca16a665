// Text that came from outside: strict UTF-8, and the code points that make one name look like another.
import { FormatError } from "./format-error";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export const encodeUtf8 = (text: string): Uint8Array => encoder.encode(text);

/** Decodes without repair; a byte order mark stays in the text, so that re-encoding gives the same bytes. */
export function decodeUtf8(bytes: Uint8Array, code: string, problem: string, line?: number): string {
  try {
    return strict.decode(bytes);
  } catch (cause) {
    throw new FormatError(code, problem, line === undefined ? {} : { line }, { cause });
  }
}

/** C0, DEL and C1: they break terminals, logs and headers. */
export function isControl(codePoint: number): boolean {
  return codePoint <= 0x1f || (codePoint >= 0x7f && codePoint <= 0x9f);
}

/** Embeddings, overrides and isolates: they show `gpj.exe` as `exe.jpg`. */
export function isBidiControl(codePoint: number): boolean {
  return (codePoint >= 0x202a && codePoint <= 0x202e) || (codePoint >= 0x2066 && codePoint <= 0x2069);
}

/** A string for an error message: escaped, and cut so that the sender does not choose how long our message is. */
export function quote(text: string, limit = 80): string {
  const shown = text.length > limit ? `${text.slice(0, limit).toWellFormed()}…` : text;
  let escaped = "";
  for (const character of JSON.stringify(shown)) {
    const codePoint = character.codePointAt(0) ?? 0;
    const hidden = isControl(codePoint) || isBidiControl(codePoint);
    escaped += hidden ? `\\u${codePoint.toString(16).padStart(4, "0")}` : character;
  }
  return escaped;
}
