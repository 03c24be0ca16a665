// Addresses of repositories that have another name now lead there: the one place that knows every form of such an address.
import { HubError } from "../errors";
import { findMoved } from "../hub/move";
import { parseRepoId, type RepoType } from "../ids";
import type { Ctx } from "./hf/request";

/** What stands before `owner/name`, in every protocol. */
const FORMS: readonly (readonly [prefix: RegExp, type: RepoType])[] = [
  [/^\/api\/models\//, "model"],
  [/^\/api\/datasets\//, "dataset"],
  [/^\/api\/v1\/(?:models|repos\/model)\//, "model"],
  [/^\/api\/v1\/(?:datasets|repos\/dataset)\//, "dataset"],
  [/^\/datasets\//, "dataset"],
  [/^\//, "model"],
];

/**
 * 307 to where the repository is now, for whom it would otherwise not be found: it keeps method, body and query. Relative, as clients follow
 * redirects to other hosts without their token.
 */
export async function redirectToMoved(c: Ctx, error: HubError): Promise<Response | null> {
  if (error.code !== "repo_not_found") return null;
  const { pathname, search } = new URL(c.req.url);
  for (const [prefix, type] of FORMS) {
    const [before] = prefix.exec(pathname) ?? [];
    if (before === undefined) continue;
    const [owner = "", name = "", ...rest] = pathname.slice(before.length).split("/");
    const git = name.endsWith(".git") ? ".git" : "";
    const moved = await findAt(c, type, owner, git === "" ? name : name.slice(0, -git.length));
    if (moved === null) return null;
    const path = [`${before}${moved.owner}`, `${moved.name}${git}`, ...rest].join("/");
    return new Response(null, { status: 307, headers: { location: `${path}${search}`, "cache-control": "no-store" } });
  }
  return null;
}

async function findAt(c: Ctx, type: RepoType, owner: string, name: string) {
  try {
    const id = parseRepoId(type, `${decodeURIComponent(owner)}/${decodeURIComponent(name)}`);
    return await findMoved(c.var.caller, id);
  } catch (error) {
    // No name of a repository, or not even text.
    if (error instanceof HubError || error instanceof URIError) return null;
    throw error;
  }
}
