// Pull requests as clients open them before they commit to `refs/pr/N`; discussions of other kinds are not served yet.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { findPullRequest, openDraft } from "../../hub/pull-requests";
import { findRepo, findSnapshot, repoName } from "../../hub/repositories";
import { parseRevision, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { API_TYPES, type Ctx, callerOf, jsonBody, repoIdOf } from "./request";

const NewDiscussion = z.object({
  title: z.string().min(3).max(200),
  description: z.string().max(65_536).default(""),
  pullRequest: z.boolean().default(false),
});

async function open(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const base = await findSnapshot(caller, repoIdOf(c, type), parseRevision("main"));
  const { title, description, pullRequest } = await jsonBody(c, NewDiscussion);
  if (!pullRequest)
    throw new HubError("invalid_field", {
      field: "pullRequest",
      problem: "discussions are not served yet: send true to open a pull request",
    });
  return c.json({ num: await openDraft(caller, base, { title, description }) }, 201);
}

async function details(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const number = Number(c.req.param("number"));
  const pull = await findPullRequest(caller, repo, number);
  const createdAt = new Date(pull.createdAt).toISOString();
  const author = { name: pull.author };
  const latest = { raw: pull.description, html: "", updatedAt: createdAt, author };
  return c.json({
    title: pull.title,
    num: pull.number,
    createdAt,
    status: pull.status,
    author,
    repo: { name: repoName(repo), type: repo.type },
    isPullRequest: true,
    // The first comment is the description; its id is the pull request's own.
    events: [
      {
        id: `${repo.id}.${pull.number}`,
        type: "comment",
        createdAt,
        author,
        data: { edited: false, hidden: false, latest, history: [] },
      },
    ],
    changes: { base: pull.base },
    filesWithConflicts: null,
  });
}

export const pullRequests = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const at = `/api/${segment}/:owner/:name/discussions`;
  pullRequests.post(at, (c) => open(c, type));
  pullRequests.get(`${at}/:number{[0-9]+}`, (c) => details(c, type));
}
