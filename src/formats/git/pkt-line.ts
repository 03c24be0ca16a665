// pkt-lines, the frames of git's smart protocol: four hex digits of length, then that much, the digits included.
import { FormatError } from "../format-error";
import { encodeUtf8 } from "../text";

/** `flush` ends a message, `delim` a section of it, `end` a whole response (protocol v2). */
export type PktLine =
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "flush" | "delim" | "end" };

const SPECIAL = ["flush", "delim", "end"] as const;
/** git's own bound for one line, its length digits included. Bytes. */
export const MAX_PKT_BYTES = 65_520;
const DIGITS = 4;

/** One data line. @throws FormatError when it holds more than a line can */
export function pktLine(content: string | Uint8Array): Uint8Array {
  const bytes = typeof content === "string" ? encodeUtf8(content) : content;
  const length = bytes.length + DIGITS;
  if (length > MAX_PKT_BYTES)
    throw new FormatError("git.pkt_line", `has ${bytes.length} bytes, more than a line holds`);
  const line = new Uint8Array(length);
  line.set(encodeUtf8(length.toString(16).padStart(DIGITS, "0")));
  line.set(bytes, DIGITS);
  return line;
}

export const FLUSH_PKT = encodeUtf8("0000");
export const DELIM_PKT = encodeUtf8("0001");

/**
 * The line at `offset`, and where the next one starts; null when the bytes end within it. Data of a line is a view, no copy.
 * @throws FormatError for digits that are no length
 */
export function readPktLine(
  bytes: Uint8Array,
  offset: number,
): { readonly line: PktLine; readonly next: number } | null {
  if (bytes.length - offset < DIGITS) return null;
  const digits = String.fromCharCode(...bytes.subarray(offset, offset + DIGITS));
  if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new FormatError("git.pkt_line", "starts with what is no length");
  const length = Number.parseInt(digits, 16);
  const special = SPECIAL[length];
  if (special !== undefined) return { line: { kind: special }, next: offset + DIGITS };
  if (length < DIGITS || length > MAX_PKT_BYTES)
    throw new FormatError("git.pkt_line", `claims a length of ${length} bytes`);
  const next = offset + length;
  return next > bytes.length ? null : { line: { kind: "data", bytes: bytes.subarray(offset + DIGITS, next) }, next };
}
