// The diff between two revisions, as text.
import { Hono } from "hono";
import { HubError } from "../../errors";
import { compareRevisions } from "../../hub/compare";
import { parseRevision, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { API_TYPES, type Ctx, callerOf, repoIdOf, textAfterVerb } from "./request";

/** `main..refs/pr/1`, or with three dots only what the second changed since they parted. No name of a revision holds two dots. */
const COMPARISON = /^(.+?)(\.{2,3})([^.].*)$/;

async function compare(c: Ctx, type: RepoType): Promise<Response> {
  const [, from, dots, to] = COMPARISON.exec(textAfterVerb(c)) ?? [];
  if (from === undefined || to === undefined)
    throw new HubError("invalid_request", { problem: "Name two revisions with two or three dots between: main..dev" });
  const diff = await compareRevisions(callerOf(c), repoIdOf(c, type), {
    from: parseRevision(from),
    to: parseRevision(to),
    sinceParted: dots === "...",
  });
  return c.text(diff, 200, { "x-content-type-options": "nosniff", vary: "authorization" });
}

export const compareRoutes = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES))
  compareRoutes.get(`/api/${segment}/:owner/:name/compare/*`, (c) => compare(c, type));
