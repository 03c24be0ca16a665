// Errors of the hub's own API: RFC 9457 problem documents, each with a stable code, the field at fault and the request's id.
import { z } from "@hono/zod-openapi";
import type { HubError } from "../../errors";

export const Problem = z
  .looseObject({
    type: z.string().meta({ description: "`urn:owm:error:` and the code" }),
    title: z.string(),
    status: z.int(),
    code: z.string().meta({ description: "Stable: programs may rely on it" }),
    detail: z.string().meta({ description: "What is wrong, for people" }),
    field: z.string().optional().meta({ description: "The part of the request at fault" }),
    fix: z.string().optional(),
    request_id: z.string(),
  })
  .openapi("Problem");

export function problemResponse({ code, status, message, fields }: HubError, requestId: string): Response {
  const { problem: _, ...details } = fields;
  const body = {
    ...details,
    type: `urn:owm:error:${code}`,
    title: code.charAt(0).toUpperCase() + code.slice(1).replaceAll("_", " "),
    status,
    code,
    detail: message,
    request_id: requestId,
  };
  const headers = new Headers({ "content-type": "application/problem+json", "x-request-id": requestId });
  if (status === 401) headers.set("www-authenticate", "Bearer");
  if (code === "range_not_satisfiable") headers.set("content-range", `bytes */${fields.size}`);
  return new Response(JSON.stringify(body), { status, headers });
}
