// Answers a GET or HEAD of stored bytes by RFC 9110: ranges, If-Range, conditional requests.
import { HubError } from "../errors";
import type { Platform } from "../platform/platform";
import { readContent, type StoredContent } from "../store/contents";
import { contentRange, selectRange } from "../streams/ranges";

export type ContentAnswer = {
  /** Strong, quoted. */
  readonly etag: string;
  readonly headers: Record<string, string>;
};

/** @throws range_not_satisfiable */
export async function serveContent(
  request: Request,
  platform: Platform,
  content: Pick<StoredContent, "segments" | "size">,
  answer: ContentAnswer,
): Promise<Response> {
  const headers = new Headers({ ...answer.headers, etag: answer.etag, "accept-ranges": "bytes" });
  if (matches(request.headers.get("if-none-match"), answer.etag)) return new Response(null, { status: 304, headers });
  const range = selectRange(request.headers, content.size, { etag: answer.etag });
  if (range.kind === "unsatisfiable") throw new HubError("range_not_satisfiable", { size: content.size });
  const span =
    range.kind === "range"
      ? { offset: range.start, length: range.end - range.start + 1 }
      : { offset: 0, length: content.size };
  headers.set("content-length", String(span.length));
  if (range.kind === "range") headers.set("content-range", contentRange(range, content.size));
  const status = range.kind === "range" ? 206 : 200;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  return new Response(await readContent(platform.blobs, content, span), { status, headers });
}

function matches(header: string | null, etag: string): boolean {
  return (
    header !== null && header.split(",").some((one) => one.trim().replace(/^W\//, "") === etag || one.trim() === "*")
  );
}
