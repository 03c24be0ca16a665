// Errors as git shows them: plain text, and a challenge that makes it ask for a token.
import type { Actor } from "../../access/policy";
import type { HubError } from "../../errors";

/** Whether an address is one that git asks for. */
export const isGitAddress = (path: string): boolean => /\/(info\/refs|git-upload-pack|git-receive-pack)$/.test(path);

export function renderGitError(error: HubError, actor: Actor, requestId: string): Response {
  // Who has not said who they are does not learn whether a private repository is there, and git asks them for a token.
  const isUnseen = error.code === "repo_not_found" && actor.kind === "anonymous";
  const status = isUnseen ? 401 : error.status;
  const headers = new Headers({
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "x-request-id": requestId,
  });
  if (status === 401) headers.set("www-authenticate", 'Basic realm="OWM Hub: a token as password", charset="UTF-8"');
  const text = isUnseen ? "No such repository, or it is private: send a token as password." : error.message;
  return new Response(`${text}\n`, { status, headers });
}
