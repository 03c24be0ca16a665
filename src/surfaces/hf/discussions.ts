// Discussions and pull requests: lists, details with everything that happened, comments, titles, status, merging.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { comment, editComment, hideComment, rename, setStatus } from "../../hub/discussions/changes";
import type { DiscussionEvent } from "../../hub/discussions/events";
import { findConflicts, isPullRequest, mergePull, type PullRequest } from "../../hub/discussions/merging";
import { MAX_TITLE, openDiscussion, openDraft } from "../../hub/discussions/opening";
import { readPullDiff } from "../../hub/discussions/pull-diff";
import { type Discussion, findDiscussion, listDiscussions, readEvents } from "../../hub/discussions/reading";
import { findRepo, findSnapshot, repoName } from "../../hub/repositories";
import { parseRevision, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { linkOf } from "../pages/address";
import { renderComment } from "../pages/markdown";
import { avatarUrl } from "./accounts";
import { API_TYPES, type Ctx, callerOf, checked, flag, jsonBody, originOf, readJson, repoIdOf } from "./request";

const PAGE = 50;
/** Characters. */
const MAX_COMMENT = 65_536;

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
const CLEAN = /^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$/;
const written = (text: z.ZodString) =>
  text.overwrite((sent) => sent.toWellFormed()).regex(CLEAN, "holds control characters");
const Title = written(z.string().trim().min(3).max(MAX_TITLE)).regex(/^[^\r\n\t]*$/, "must be one line");
const Text = written(z.string().trim().min(1, "must not be empty").max(MAX_COMMENT));
const MaybeText = written(z.string().trim().max(MAX_COMMENT))
  .nullish()
  .transform((text) => (text ? text : undefined));

const NewDiscussion = z.object({
  title: Title,
  description: written(z.string().trim().max(MAX_COMMENT)).default(""),
  pullRequest: z.boolean().default(false),
});

const ListQuery = z.object({
  p: z.coerce.number().int("must be a whole number").min(0).max(1_000_000).default(0),
  type: z.enum(["all", "discussion", "pull_request"]).default("all"),
  status: z.enum(["all", "open", "closed"]).default("all"),
  author: z.string().optional(),
});

const dateOf = (ms: number): string => new Date(ms).toISOString();
/** Left out for who has been deleted: clients can't read null. */
const authorOf = (c: Ctx, name: string | null) =>
  name === null ? {} : { author: { name, type: "user", avatarUrl: avatarUrl(c, name) } };

const headJson = (c: Ctx, discussion: Discussion) => ({
  title: discussion.title,
  num: discussion.number,
  createdAt: dateOf(discussion.createdAt),
  status: discussion.status,
  ...authorOf(c, discussion.author),
  repo: { name: repoName(discussion.repo), type: discussion.repo.type },
  isPullRequest: discussion.base !== null,
});

const HIDDEN = "This comment has been hidden";

function eventJson(c: Ctx, { repo }: Discussion, event: DiscussionEvent) {
  const { id, type, author, createdAt } = event;
  const head = { id, type, createdAt: dateOf(createdAt), ...authorOf(c, author) };
  if (event.type !== "comment") return { ...head, data: event.data };
  const { text, at, edits, hidden } = event.data;
  const context = { repo: linkOf(repo), revision: "main", origin: originOf(c) };
  const version = (raw: string, ms: number) => ({
    raw,
    html: renderComment(raw, context),
    updatedAt: dateOf(ms),
    ...authorOf(c, author),
  });
  return {
    ...head,
    data: {
      edited: edits.length > 0,
      hidden,
      latest: version(hidden ? HIDDEN : text, at ?? createdAt),
      history: edits.map((edit) => version(edit.text, edit.at)),
    },
  };
}

async function list(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const query = checked(ListQuery, c.req.query());
  const start = query.p * PAGE;
  const { count, discussions } = await listDiscussions(caller, repo, {
    type: query.type === "all" ? undefined : query.type,
    status: query.status === "all" ? undefined : query.status,
    author: query.author,
    offset: start,
    limit: PAGE,
  });
  return c.json({ count, start, discussions: discussions.map((one) => headJson(c, one)) });
}

async function open(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const base = await findSnapshot(caller, repoIdOf(c, type), parseRevision("main"));
  const { title, description, pullRequest } = await jsonBody(c, NewDiscussion);
  const wanted = { title, description };
  const num = pullRequest ? await openDraft(caller, base, wanted) : await openDiscussion(caller, base.repo, wanted);
  return c.json({ num, pullRequest }, 201);
}

/** The discussion that the address names. */
async function discussionOf(c: Ctx, type: RepoType): Promise<Discussion> {
  const repo = await findRepo(callerOf(c), repoIdOf(c, type));
  return findDiscussion(callerOf(c), repo, Number(c.req.param("number")));
}

async function pullJson(c: Ctx, pull: PullRequest) {
  const { base, mergeCommit } = pull;
  const diff = flag(c, "diff") ? await readPullDiff(callerOf(c), pull) : null;
  return {
    changes: { base, ...(mergeCommit === null ? {} : { mergeCommitId: mergeCommit }) },
    filesWithConflicts: await findConflicts(callerOf(c), pull),
    ...(diff === null ? {} : { diff }),
  };
}

async function details(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const discussion = await discussionOf(c, type);
  const events = await readEvents(caller, discussion);
  return c.json({
    ...headJson(c, discussion),
    events: events.map((event) => eventJson(c, discussion, event)),
    ...(isPullRequest(discussion) ? await pullJson(c, discussion) : {}),
  });
}

async function addComment(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  const { comment: text } = await jsonBody(c, z.object({ comment: Text }));
  return c.json({ newMessage: eventJson(c, discussion, await comment(callerOf(c), discussion, text)) }, 201);
}

async function edit(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  const { content } = await jsonBody(c, z.object({ content: Text }));
  const event = await editComment(callerOf(c), discussion, commentIdOf(c), content);
  return c.json({ updatedComment: eventJson(c, discussion, event) });
}

async function hide(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  const event = await hideComment(callerOf(c), discussion, commentIdOf(c));
  return c.json({ updatedComment: eventJson(c, discussion, event) });
}

const commentIdOf = (c: Ctx): string => (c.req.param("id") ?? "").toLowerCase();

async function setTitle(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  const { title } = await jsonBody(c, z.object({ title: Title }));
  return c.json({ newTitle: eventJson(c, discussion, await rename(callerOf(c), discussion, title)) });
}

const StatusBody = z.object({ status: z.enum(["open", "closed"]), comment: MaybeText });

async function changeStatus(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  const { status, comment: text } = await jsonBody(c, StatusBody);
  const event = await setStatus(callerOf(c), discussion, status, text);
  return c.json({ newStatus: eventJson(c, discussion, event) });
}

async function merge(c: Ctx, type: RepoType) {
  const discussion = await discussionOf(c, type);
  if (!isPullRequest(discussion))
    throw new HubError("invalid_request", { problem: "A discussion has nothing to merge: open a pull request" });
  const { comment: text } = checked(z.object({ comment: MaybeText }), await readJson(c, {}));
  await mergePull(callerOf(c), discussion, text);
  return c.json({});
}

export const discussionRoutes = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const all = `/api/${segment}/:owner/:name/discussions`;
  const one = `${all}/:number{[0-9]+}`;
  discussionRoutes.get(all, (c) => list(c, type));
  discussionRoutes.post(all, (c) => open(c, type));
  discussionRoutes.get(one, (c) => details(c, type));
  discussionRoutes.post(`${one}/comment`, (c) => addComment(c, type));
  discussionRoutes.post(`${one}/comment/:id/edit`, (c) => edit(c, type));
  discussionRoutes.post(`${one}/comment/:id/hide`, (c) => hide(c, type));
  discussionRoutes.post(`${one}/title`, (c) => setTitle(c, type));
  discussionRoutes.post(`${one}/status`, (c) => changeStatus(c, type));
  discussionRoutes.post(`${one}/merge`, (c) => merge(c, type));
}
