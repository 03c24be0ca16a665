// Where Xet clients get their token: the right is asked of the hub's token, the answer opens the content-addressed store.
import { Hono } from "hono";
import { authorize } from "../../access/caller";
import { noteUse } from "../../hub/downloads";
import { authorizeProposal, authorizePush, pushTarget } from "../../hub/push-rights";
import { findRepo, targetOf } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { connect, connectionHeaders } from "../xet/connection";
import { API_TYPES, type Ctx, callerOf, flag, originOf, repoIdOf, textAfterVerb } from "./request";

/** The revision may be missing, or `None` where a pull request is yet to be opened: only that of a pull request changes who may. */
async function token(c: Ctx, type: RepoType, write: boolean): Promise<Response> {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const revision = textAfterVerb(c);
  if (!write) authorize(caller, { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  else if (flag(c, "create_pr")) authorizeProposal(caller, repo);
  else await authorizePush(caller, repo, pushTarget(revision, "revision"));
  // Who asks is about to take files by their parts, which name no repository any more.
  if (!write) noteUse(caller, repo, "fetch");
  const connection = await connect(caller, originOf(c), repo, write);
  return c.json(connection, 200, { ...connectionHeaders(connection), "cache-control": "private, no-store" });
}

export const xetTokens = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES))
  for (const [access, write] of [
    ["read", false],
    ["write", true],
  ] as const) {
    const one = `/api/${segment}/:owner/:name/xet-${access}-token`;
    xetTokens.get(one, (c) => token(c, type, write));
    xetTokens.get(`${one}/*`, (c) => token(c, type, write));
  }
