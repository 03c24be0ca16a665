// Which bytes of a file a request asks for: the Range and If-Range headers of RFC 9110 §13.1.5 and §14.
export type ByteRange =
  | { readonly kind: "full" }
  /** Both ends included, as in `Content-Range`. */
  | { readonly kind: "range"; readonly start: number; readonly end: number }
  | { readonly kind: "unsatisfiable" };

/** What is known of the file now. Give `lastModified` only where it changes with every change of the bytes. */
export type Validators = { readonly etag: string; readonly lastModified?: Date };

const FULL: ByteRange = { kind: "full" };
const UNSATISFIABLE: ByteRange = { kind: "unsatisfiable" };
/** Real clients send one short range; a long header is not worth parsing. */
const MAX_HEADER_LENGTH = 1024;
const STRONG_ETAG = /^"[\x21\x23-\x7e\x80-\xff]*"$/;
const IMF_DATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$/;

type RangeSpec = { readonly first: bigint; readonly last: bigint | undefined } | { readonly suffix: bigint };

/** One range as written, or undefined when it breaks the grammar. BigInt: the header may hold any number of digits. */
function parseSpec(text: string): RangeSpec | undefined {
  const [, firstDigits, lastDigits] = /^([0-9]*)-([0-9]*)$/.exec(text) ?? [];
  if (firstDigits === undefined || lastDigits === undefined) return undefined;
  if (firstDigits === "") return lastDigits === "" ? undefined : { suffix: BigInt(lastDigits) };
  const first = BigInt(firstDigits);
  if (lastDigits === "") return { first, last: undefined };
  const last = BigInt(lastDigits);
  return last < first ? undefined : { first, last };
}

function resolve(spec: RangeSpec, size: number): ByteRange {
  const length = BigInt(size);
  if ("suffix" in spec) {
    if (spec.suffix === 0n) return UNSATISFIABLE;
    // The last bytes of an empty file are all of it, and no Content-Range can say that.
    if (size === 0) return FULL;
    return { kind: "range", start: spec.suffix > length ? 0 : size - Number(spec.suffix), end: size - 1 };
  }
  if (spec.first >= length) return UNSATISFIABLE;
  const end = spec.last === undefined || spec.last >= length ? size - 1 : Number(spec.last);
  return { kind: "range", start: Number(spec.first), end };
}

/**
 * Reads a Range header for a file of `size` bytes. Other units and broken syntax (`bytes=9-1`) are ignored, as the RFC asks:
 * the answer is the full file. So is the answer to several ranges at once: a server may ignore them, no client of ours sends
 * them, and multipart answers are a way to make a server work for nothing.
 */
export function parseRange(header: string | null | undefined, size: number): ByteRange {
  if (header === null || header === undefined || header.length > MAX_HEADER_LENGTH) return FULL;
  const [, list] = /^[ \t]*bytes=(.*)$/is.exec(header) ?? [];
  if (list === undefined) return FULL;
  // Empty elements in a list are allowed (RFC 9110 §5.6.1.2).
  const texts = list
    .split(",")
    .map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ""))
    .filter((text) => text !== "");
  const specs = texts.map(parseSpec);
  const [only] = specs;
  if (only === undefined || specs.length !== 1) return FULL;
  return resolve(only, size);
}

/** False when the client's earlier part is of another version, so that it must start over with the full file. */
export function ifRangeMatches(header: string | null | undefined, current: Validators): boolean {
  if (header === null || header === undefined) return true;
  const value = header.trim();
  // Weak tags never match: equal meaning is not equal bytes, and parts of two encodings do not fit together.
  if (STRONG_ETAG.test(value)) return STRONG_ETAG.test(current.etag) && value === current.etag;
  if (!IMF_DATE.test(value) || current.lastModified === undefined) return false;
  return Date.parse(value) === Math.floor(current.lastModified.getTime() / 1000) * 1000;
}

/** The range to serve for a request with these headers. */
export function selectRange(headers: Pick<Headers, "get">, size: number, current: Validators): ByteRange {
  return ifRangeMatches(headers.get("if-range"), current) ? parseRange(headers.get("range"), size) : FULL;
}

/** The Content-Range header of a 206 or a 416; a full answer has none. */
export function contentRange(range: Exclude<ByteRange, { kind: "full" }>, size: number): string {
  return range.kind === "range" ? `bytes ${range.start}-${range.end}/${size}` : `bytes */${size}`;
}
