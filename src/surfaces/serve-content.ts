// Answers a GET or HEAD of stored bytes by RFC 9110: ranges, If-Range, conditional requests.
import { HubError } from "../errors";
import type { ByteRange, Platform } from "../platform/platform";
import { type Readable, readContent } from "../store/contents";
import { contentRange, selectRange } from "../streams/ranges";

export type ContentAnswer = {
  /** Strong, quoted. */
  readonly etag: string;
  readonly headers: Record<string, string>;
  /** Where the bytes come from; from where they are kept unless given. */
  readonly read?: (range: ByteRange) => Promise<ReadableStream<Uint8Array>>;
};

/**
 * The bytes that a request will probably be answered with, said before the file and its size are known, so that what reading them
 * takes can be looked up with it; undefined where that can't be said, or nothing will be read.
 */
export function likelySpan({ method, headers }: Request): ByteRange | undefined {
  if (method !== "GET") return undefined;
  const range = headers.get("range");
  if (range === null) return { offset: 0, length: Number.MAX_SAFE_INTEGER };
  const [, first, last] = /^bytes=([0-9]{1,15})-([0-9]{0,15})$/.exec(range) ?? [];
  // With If-Range the answer may be all of the file after all.
  if (first === undefined || headers.has("if-range")) return undefined;
  const offset = Number(first);
  const end = last === undefined || last === "" ? Number.MAX_SAFE_INTEGER : Number(last) + 1;
  return end > offset ? { offset, length: end - offset } : undefined;
}

/** @throws range_not_satisfiable */
export async function serveContent(
  request: Request,
  platform: Platform,
  content: Readable,
  answer: ContentAnswer,
): Promise<Response> {
  const headers = new Headers({ ...answer.headers, etag: answer.etag, "accept-ranges": "bytes" });
  if (isKnown(request, answer.etag)) return new Response(null, { status: 304, headers });
  const range = selectRange(request.headers, content.size, { etag: answer.etag });
  // The JavaScript client learns a file's size by asking for its first byte, which an empty file has not: a server may ignore
  // a range (RFC 9110 §14.2), and in a 200 Content-Range says nothing more than that size.
  const isProbe = content.size === 0 && request.headers.get("range") === "bytes=0-0";
  if (isProbe) headers.set("content-range", "bytes */0");
  else if (range.kind === "unsatisfiable") throw new HubError("range_not_satisfiable", { size: content.size });
  const span =
    range.kind === "range"
      ? { offset: range.start, length: range.end - range.start + 1 }
      : { offset: 0, length: content.size };
  headers.set("content-length", String(span.length));
  if (range.kind === "range") headers.set("content-range", contentRange(range, content.size));
  const status = range.kind === "range" ? 206 : 200;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  const read = answer.read ?? ((range) => readContent(platform, content, range));
  return new Response(await read(span), { status, headers });
}

/** Whether the client has this version already. */
export function isKnown(request: Request, etag: string): boolean {
  const header = request.headers.get("if-none-match");
  return header?.split(",").some((one) => one.trim().replace(/^W\//, "") === etag || one.trim() === "*") ?? false;
}
