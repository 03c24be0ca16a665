// What becomes of a repository as a whole: other names and owners, duplicates, a history squashed; and what a namespace owns.
import { Hono } from "hono";
import * as z from "zod";
import { requireUser } from "../../access/caller";
import { HubError } from "../../errors";
import { findAccount } from "../../hub/accounts";
import { duplicateRepo } from "../../hub/duplicate";
import { moveRepo } from "../../hub/move";
import { listOwned } from "../../hub/owned";
import { findRepo, repoName } from "../../hub/repositories";
import { superSquash } from "../../hub/squash";
import { parseAccountName, parseRepoId, parseRevision, type RepoId, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  decodeCursor,
  jsonBody,
  limitOf,
  originOf,
  paged,
  repoIdOf,
  textAfterVerb,
  WEB_PREFIX,
} from "./request";

const PAGE = 100;

/** `owner/name` in a body: what can't be one is a field that is wrong, no repository that is missing. */
function idIn(field: string, type: RepoType, text: string): RepoId {
  try {
    return parseRepoId(type, text);
  } catch {
    throw new HubError("invalid_field", { field, problem: `${text.slice(0, 200)} is no owner/name of a repository` });
  }
}

const Move = z.object({
  fromRepo: z.string(),
  toRepo: z.string(),
  type: z.enum(["model", "dataset"], "spaces are not served here: use model or dataset").default("model"),
});

const Duplicate = z.object({
  repository: z.string(),
  private: z.boolean().nullish(),
  visibility: z.enum(["public", "private"]).nullish(),
});

async function duplicate(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const body = await jsonBody(c, Duplicate);
  const id = idIn("repository", type, body.repository);
  const isPrivate = body.visibility == null ? body.private : body.visibility === "private";
  const repo = await duplicateRepo(caller, repoIdOf(c, type), { id, private: isPrivate ?? undefined });
  const url = `${originOf(c)}/${WEB_PREFIX[type]}${repoName(repo)}`;
  return c.json({ url, id: repo.id, name: repoName(repo), filesCopyPending: false });
}

async function squash(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const revision = parseRevision(textAfterVerb(c));
  const { message } = await jsonBody(c, z.object({ message: z.string().max(65_536).nullish() }));
  await superSquash(caller, repo, revision, message?.trim() || `Super-squash branch '${revision}'`);
  return c.json({});
}

async function owned(c: Ctx, owner: { readonly id: string; readonly name: string }) {
  const limit = limitOf(c, PAGE);
  const cursor = c.req.query("cursor");
  const after = cursor === undefined ? "" : decodeCursor(z.string().max(100), cursor);
  const repos = await listOwned(callerOf(c), owner, { after, limit: limit + 1 });
  return c.json(
    paged(c, repos, limit, ({ id }) => id).map(({ repo, type, private: isPrivate, updatedAt, usedStorage, share }) => ({
      id: repo,
      type,
      updatedAt: new Date(updatedAt).toISOString(),
      visibility: isPrivate ? "private" : "public",
      storage: usedStorage,
      storagePercent: Math.round(share * 10_000) / 100,
    })),
  );
}

export const lifecycle = new Hono<AppEnv>()
  .post("/api/repos/move", async (c) => {
    const { fromRepo, toRepo, type } = await jsonBody(c, Move);
    await moveRepo(callerOf(c), idIn("fromRepo", type, fromRepo), idIn("toRepo", type, toRepo));
    return c.json({});
  })
  .get("/api/settings/repositories", (c) => owned(c, requireUser(callerOf(c))))
  .get("/api/organizations/:name/settings/repositories", async (c) => {
    const name = parseAccountName(c.req.param("name"), "name");
    return owned(c, await findAccount(callerOf(c).platform, name));
  });

for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  lifecycle.post(`${one}/duplicate`, (c) => duplicate(c, type));
  lifecycle.post(`${one}/super-squash/*`, (c) => squash(c, type));
  lifecycle.post(`${one}/resource-group`, () => {
    throw new HubError("invalid_request", {
      problem: "There are no resource groups here: rights come from roles in a namespace",
    });
  });
}
