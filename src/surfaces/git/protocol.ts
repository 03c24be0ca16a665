// What the services of git's smart HTTP have in common: headers, versions, bodies, and errors within the protocol.
import { HubError } from "../../errors";
import { FLUSH_PKT, pktLine } from "../../formats/git/pkt-line";
import { readAll } from "../../streams/chunks";
import type { Ctx } from "../hf/request";

export const AGENT = "agent=owm-hub/1";

/** What the client asked for in `Git-Protocol`; who says nothing gets version 0. */
export function protocolVersion(c: Ctx): 0 | 1 | 2 {
  const wanted = (c.req.header("git-protocol") ?? "").split(":");
  if (wanted.includes("version=2")) return 2;
  return wanted.includes("version=1") ? 1 : 0;
}

/** An answer of a service, never to be cached; `kind` as in git's media types. */
export function gitResponse(
  service: "git-upload-pack" | "git-receive-pack",
  kind: "advertisement" | "result",
  body: ReadableStream<Uint8Array> | Uint8Array,
): Response {
  return new Response(body, {
    headers: {
      "content-type": `application/x-${service}-${kind}`,
      "cache-control": "no-cache, max-age=0, must-revalidate",
      expires: "Fri, 01 Jan 1980 00:00:00 GMT",
      pragma: "no-cache",
      vary: "authorization, git-protocol",
    },
  });
}

/** The first lines of an advertisement before protocol v2. */
export const serviceLine = (service: string): Uint8Array[] => [pktLine(`# service=${service}\n`), FLUSH_PKT];

/** The one line by which a service refuses a request that HTTP has nothing to object to. */
export const errorLine = (problem: string): Uint8Array => pktLine(`ERR ${problem.slice(0, 1000)}\n`);

/** The body as a stream; git compresses what is longer than some hundred bytes. */
export function requestBody(c: Ctx): ReadableStream<Uint8Array> | null {
  const { body } = c.req.raw;
  const encoding = c.req.header("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding === "identity" || body === null) return body;
  if (encoding === "gzip" || encoding === "x-gzip") return body.pipeThrough(new DecompressionStream("gzip"));
  throw new HubError("invalid_request", { problem: "Content-Encoding: this hub takes gzip, or none." });
}

/** @throws payload_too_large | invalid_request for a body that is not what it says it is */
export async function wholeBody(c: Ctx, limit: number): Promise<Uint8Array> {
  try {
    return await readAll(requestBody(c), limit);
  } catch (cause) {
    if (cause instanceof HubError) throw cause;
    throw new HubError(
      "invalid_request",
      { problem: "The body broke off, or is not compressed as it says." },
      { cause },
    );
  }
}
