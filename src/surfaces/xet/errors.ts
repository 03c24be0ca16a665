// Renders the hub's errors for Xet clients: they act on the status and show the text.
import type { HubError } from "../../errors";

export function renderXetError({ code, status, message, fields }: HubError, requestId: string): Response {
  const headers = new Headers({ "x-request-id": requestId });
  if (code === "range_not_satisfiable") headers.set("content-range", `bytes */${fields.size}`);
  if (status === 401) headers.set("www-authenticate", "Bearer");
  // The protocol knows one status for what was sent wrong.
  const known = status === 422 ? 400 : status;
  const field = fields.field === undefined ? {} : { field: fields.field };
  return Response.json({ error: message, code, ...field }, { status: known, headers });
}
