// The one place where other failures become the hub's error.
import { HTTPException } from "hono/http-exception";
import { HubError } from "../errors";
import { FormatError } from "../formats/format-error";

/** Nothing of an unknown failure reaches the client; the log has it under the request's id. */
export function asHubError(error: unknown, requestId: string): HubError {
  if (error instanceof HubError) return error;
  if (error instanceof FormatError)
    return new HubError("invalid_field", { field: error.field ?? "body", problem: error.message });
  // The router's own refusals: no body where one is needed, or one of another type.
  if (error instanceof HTTPException && error.status < 500)
    return new HubError("invalid_request", {
      problem: `${error.message}: send JSON with Content-Type: application/json`,
    });
  console.error(
    JSON.stringify({
      level: "error",
      msg: "unexpected failure",
      request_id: requestId,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      cause: error instanceof Error && error.cause instanceof Error ? error.cause.message : undefined,
    }),
  );
  return new HubError("internal");
}
