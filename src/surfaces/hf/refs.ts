// Creating and deleting branches and tags.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { createRef, deleteRef } from "../../hub/refs";
import { findRepo, findSnapshot } from "../../hub/repositories";
import { parseRefName, parseRevision, type RefName, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  checked,
  jsonBody,
  readJson,
  repoIdOf,
  revisionAndPath,
  textAfterVerb,
} from "./request";

/** No name may be read as something else: as a full ref, a commit id, or the head. */
function refOf(kind: "branch" | "tag", name: string): RefName {
  if (/^refs\/|^HEAD$|^[0-9a-f]{40}$/.test(name)) throw new HubError("invalid_ref", { kind, name });
  try {
    return parseRefName(`refs/${kind === "branch" ? "heads" : "tags"}/${name}`, kind);
  } catch {
    throw new HubError("invalid_ref", { kind, name });
  }
}

const BranchBody = z.object({
  startingPoint: z.string().nullish(),
  emptyBranch: z.boolean().default(false),
  overwrite: z.boolean().default(false),
});

async function createBranch(c: Ctx, type: RepoType) {
  const body = c.req.header("content-length") === "0" ? {} : await readJson(c);
  const { startingPoint, emptyBranch, overwrite } = checked(BranchBody, body);
  const snapshot = await findSnapshot(callerOf(c), repoIdOf(c, type), parseRevision(startingPoint ?? "HEAD"));
  const target = emptyBranch ? "empty" : snapshot.commit;
  await createRef(callerOf(c), snapshot.repo, refOf("branch", textAfterVerb(c)), { target, overwrite });
  return c.json({});
}

async function createTag(c: Ctx, type: RepoType) {
  const { tag } = await jsonBody(c, z.object({ tag: z.string(), message: z.string().nullish() }));
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(callerOf(c), repoIdOf(c, type), revision);
  await createRef(callerOf(c), snapshot.repo, refOf("tag", tag), { target: snapshot.commit });
  return c.json({});
}

async function remove(c: Ctx, type: RepoType, kind: "branch" | "tag") {
  const repo = await findRepo(callerOf(c), repoIdOf(c, type));
  await deleteRef(callerOf(c), repo, refOf(kind, textAfterVerb(c)));
  return c.json({});
}

export const refRoutes = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  refRoutes.post(`${one}/branch/*`, (c) => createBranch(c, type));
  refRoutes.delete(`${one}/branch/*`, (c) => remove(c, type, "branch"));
  refRoutes.post(`${one}/tag/*`, (c) => createTag(c, type));
  refRoutes.delete(`${one}/tag/*`, (c) => remove(c, type, "tag"));
}
