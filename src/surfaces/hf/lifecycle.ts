// What becomes of a repository as a whole: other names and owners.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { moveRepo } from "../../hub/move";
import { parseRepoId, type RepoId, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { callerOf, jsonBody } from "./request";

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

export const lifecycle = new Hono<AppEnv>().post("/api/repos/move", async (c) => {
  const { fromRepo, toRepo, type } = await jsonBody(c, Move);
  await moveRepo(callerOf(c), idIn("fromRepo", type, fromRepo), idIn("toRepo", type, toRepo));
  return c.json({});
});
