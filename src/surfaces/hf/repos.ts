// Repositories as the Hugging Face clients create, find, list, change and delete them.
import { type Context, Hono } from "hono";
import * as z from "zod";
import { authorize, requireUser } from "../../access/caller";
import { HubError } from "../../errors";
import { changeSettings, createRepo, deleteRepo } from "../../hub/lifecycle";
import { findRepo, type Repository, repoName, targetOf } from "../../hub/repositories";
import { parseFilePath, parseRepoId, type RepoType } from "../../ids";
import { decodeBase64 } from "../../streams/base64";
import type { AppEnv } from "../app-env";
import { API_TYPES, type Ctx, callerOf, jsonBody, originOf, repoIdOf, WEB_PREFIX } from "./request";

const RepoTarget = z.object({
  name: z.string(),
  organization: z.string().nullish(),
  type: z.enum(["model", "dataset"], "spaces are not served here: use model or dataset").default("model"),
});
const CreateBody = RepoTarget.extend({
  private: z.boolean().nullish(),
  visibility: z.enum(["public", "private"]).nullish(),
  license: z.string().max(100).nullish(),
  resourceGroupId: z.null("there are no resource groups here: rights come from roles in the namespace").optional(),
  files: z.array(z.object({ path: z.string(), content: z.string(), encoding: z.literal("base64") })).default([]),
});

/** `name` may come as `owner/name`, or beside `organization`, or alone for the caller's own namespace. */
function repoIdFrom(c: Ctx, body: z.output<typeof RepoTarget>) {
  const owner = body.organization ?? requireUser(callerOf(c)).name;
  const text = body.name.includes("/") ? body.name : `${owner}/${body.name}`;
  try {
    return parseRepoId(body.type, text);
  } catch {
    throw new HubError("invalid_field", { field: "name", problem: `${text} is no valid repository name` });
  }
}

const webUrl = (c: Ctx, repo: Pick<Repository, "type" | "owner" | "name">): string =>
  `${originOf(c)}/${WEB_PREFIX[repo.type]}${repoName(repo)}`;

const Settings = z.strictObject({
  private: z.boolean().nullish(),
  visibility: z.enum(["public", "private"]).nullish(),
  gated: z.union([z.enum(["auto", "manual"]), z.literal(false)], 'must be "auto", "manual" or false').nullish(),
});

export const repos = new Hono<AppEnv>()
  .post("/api/repos/create", async (c) => {
    const body = await jsonBody(c, CreateBody);
    const id = repoIdFrom(c, body);
    const repo = await createRepo(callerOf(c), {
      id,
      private: body.visibility === "private" || body.private === true,
      ...(typeof body.license === "string" ? { license: body.license } : {}),
      files: body.files.map(({ path, content }, i) => ({
        path: parseFilePath(path, `files[${i}].path`),
        bytes: decodeBase64(content, `files[${i}].content`),
        field: `files[${i}].path`,
      })),
    });
    return c.json({ url: webUrl(c, repo), id: repo.id, name: repoName(repo) });
  })
  .delete("/api/repos/delete", async (c) => {
    await deleteRepo(callerOf(c), repoIdFrom(c, await jsonBody(c, RepoTarget)));
    return c.json({});
  });

for (const [segment, type] of Object.entries(API_TYPES)) {
  const at = `/api/${segment}`;
  const one = `${at}/:owner/:name`;
  // A single segment is an id of the ecosystem's hub; here it names nothing, which is no router's 404.
  repos.get(`${at}/:name`, () => {
    throw new HubError("repo_not_found");
  });
  repos.put(`${one}/settings`, async (c) => {
    const { visibility, gated, ...body } = await jsonBody(c, Settings);
    const isPrivate = visibility == null ? body.private : visibility === "private";
    await changeSettings(callerOf(c), repoIdOf(c, type), {
      ...(isPrivate == null ? {} : { private: isPrivate }),
      ...(gated == null ? {} : { gated: gated === false ? null : gated }),
    });
    return c.json({});
  });
  repos.get(`${one}/auth-check`, async (c) => authCheck(c, type, false));
  repos.get(`${one}/auth-check/write`, async (c) => authCheck(c, type, true));
}

async function authCheck(c: Context<AppEnv>, type: RepoType, write: boolean) {
  const repo = await findRepo(callerOf(c), repoIdOf(c, type));
  if (write) authorize(callerOf(c), { action: "repo.write", repo }, targetOf(repo));
  else authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  return c.json({});
}
