// What a schema found wrong, as the hub's error: the field, and what would be right.
import type * as core from "zod/v4/core";
import { HubError } from "../errors";

/** The first problem that a schema found, with the field written as clients write it: `models[0].weight`, below `at`. */
export function fieldError(error: core.$ZodError, at = ""): HubError {
  const [issue] = error.issues;
  if (issue === undefined) return new HubError("invalid_request", { problem: "The request is malformed" });
  const unknown = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const field = fieldName(at, unknown === undefined ? issue.path : [...issue.path, unknown]);
  const problem = unknown === undefined ? issue.message : "is no field that is known here: remove it";
  return field === ""
    ? new HubError("invalid_request", { problem })
    : new HubError("invalid_field", { field, problem });
}

const fieldName = (at: string, path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (name, key) => (typeof key === "number" ? `${name}[${key}]` : name === "" ? String(key) : `${name}.${String(key)}`),
    at,
  );
