// Base64 with one spelling only: the bytes that a client meant, or an error that says what is wrong with the text.
import { Buffer } from "node:buffer";
import { FormatError } from "../formats/format-error";
import { quote } from "../formats/text";

/** Why a text is no base64; called only once that is known, so it may be slow. */
function explain(text: string): string {
  const stray = /[^A-Za-z0-9+/=]/u.exec(text);
  if (stray !== null)
    return `holds ${quote(stray[0])} at character ${stray.index}, which is not in the base64 alphabet`;
  if (text.length % 4 !== 0) return `has ${text.length} characters, not a multiple of 4`;
  if (/=[^=]|={3}/.test(text)) return "has padding where none belongs";
  return "has bits set in its last character that no byte holds";
}

/** Decodes the standard alphabet with padding, and nothing else: no white space, no URL alphabet, no stray bits. */
export function decodeBase64(text: string, field: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  // Buffer skips what it does not know. Only the one canonical spelling comes back equal, and comparing is cheap.
  if (bytes.toString("base64") !== text)
    throw new FormatError("base64", explain(text), { field, fix: "send standard base64 (RFC 4648 §4) with padding" });
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}
