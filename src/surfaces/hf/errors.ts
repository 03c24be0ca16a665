// Renders the hub's errors as the Hugging Face clients read them: headers decide the exception, the body only explains.
import type { Actor } from "../../access/policy";
import type { ErrorCode, HubError } from "../../errors";
import { EntryNotFound } from "../../hub/repositories";

const ERROR_CODES: Partial<Record<ErrorCode, string>> = {
  repo_not_found: "RepoNotFound",
  revision_not_found: "RevisionNotFound",
  entry_not_found: "EntryNotFound",
  content_deleted: "EntryNotFound",
  gated_repo: "GatedRepo",
  gated_repo_anonymous: "GatedRepo",
};

export function renderHfError(error: HubError, actor: Actor, requestId: string, origin: string): Response {
  // The ecosystem's hub answers 401 to who has not said who they are; without a token a private repository looks like none.
  const status = error.code === "repo_not_found" && actor.kind === "anonymous" ? 401 : error.status;
  const headers = new Headers({
    "x-request-id": requestId,
    "x-error-message": headerText(error.message),
  });
  const code = ERROR_CODES[error.code];
  if (code !== undefined) headers.set("x-error-code", code);
  if (error instanceof EntryNotFound) headers.set("x-repo-commit", error.snapshot.commit);
  if (error.code === "range_not_satisfiable") headers.set("content-range", `bytes */${error.fields.size}`);
  const body: Record<string, unknown> = { error: error.message };
  if (error.fields.field !== undefined) body.field = error.fields.field;
  if (error.fields.slug !== undefined) body.slug = error.fields.slug;
  if (error.code === "repo_exists")
    body.url = `${origin}/${error.fields.type === "dataset" ? "datasets/" : ""}${error.fields.repo}`;
  return Response.json(body, { status, headers });
}

/** Header values hold no line breaks and only Latin-1. */
const headerText = (text: string): string => text.replace(/[^\x20-\x7e]/g, "?");
