// How the hub's other surfaces tell a client where Xet is, and give it a token.
import type { Caller } from "../../access/caller";
import { issueXetToken } from "../../access/xet-tokens";
import { type Repository, repoName } from "../../hub/repositories";
import type { XetHash } from "../../ids";

export type Connection = { readonly casUrl: string; readonly exp: number; readonly accessToken: string };

const casUrl = (origin: string): string => `${origin}/cas`;

/** For a caller whose right was asked before. `exp`: seconds since 1970. */
export async function connect(
  { platform, actor }: Caller,
  origin: string,
  repo: Pick<Repository, "id">,
  write: boolean,
): Promise<Connection> {
  const tokenId = actor.kind === "user" ? actor.tokenId : null;
  const jobId = actor.kind === "job" ? actor.id : null;
  const token = await issueXetToken(platform.config.secret, { repoId: repo.id, write, tokenId, jobId }, platform.now());
  return { casUrl: casUrl(origin), ...token };
}

export const connectionHeaders = ({ casUrl, exp, accessToken }: Connection): Record<string, string> => ({
  "X-Xet-Cas-Url": casUrl,
  "X-Xet-Access-Token": accessToken,
  "X-Xet-Token-Expiration": String(exp),
});

/** Where a client gets a token. `revision` is only carried: a token is for the whole repository. */
export function tokenUrl(origin: string, repo: Repository, access: "read" | "write", revision?: string): string {
  const tail = revision === undefined ? "" : `/${encodeURIComponent(revision)}`;
  return `${origin}/api/${repo.type}s/${repoName(repo)}/xet-${access}-token${tail}`;
}

/** What `resolve` says of a file that a Xet client can fetch by its parts. */
export function xetFileHeaders(
  origin: string,
  file: { readonly repo: Repository; readonly commit: string; readonly hash: XetHash },
): Record<string, string> {
  const refresh = tokenUrl(origin, file.repo, "read", file.commit);
  return {
    "X-Xet-Hash": file.hash,
    "X-Xet-Refresh-Route": refresh,
    Link: `<${refresh}>; rel="xet-auth", <${reconstructionUrl(origin, file.hash)}>; rel="xet-reconstruction-info"`,
  };
}

/** As clients expect it: those that know better ask the second version at the same place. */
export const reconstructionUrl = (origin: string, hash: XetHash): string =>
  `${casUrl(origin)}/v1/reconstructions/${hash}`;
