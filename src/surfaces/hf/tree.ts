// What a revision holds: directories, paths, refs and history.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { type Entry, findEntries, listTree } from "../../hub/files";
import { listCommits } from "../../hub/history";
import { lastCommits } from "../../hub/last-commits";
import { listTreeNearby } from "../../hub/nearby";
import { listRefs } from "../../hub/refs";
import { confirmedEntry, findRepo, findSnapshot, type Snapshot } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { linkOf } from "../pages/address";
import { escapeHtml, renderComment } from "../pages/markdown";
import { avatarUrl } from "./accounts";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  checked,
  decodeCursor,
  flag,
  limitOf,
  linkNext,
  list,
  originOf,
  paged,
  readJson,
  repoIdOf,
  revisionAndPath,
} from "./request";

const TREE_PAGE = 1000;
const EXPANDED_PAGE = 50;
const COMMIT_PAGE = 50;
const MAX_PATHS = 1000;

/** Nothing is scanned here, and nothing is said to be. */
const UNSCANNED = {
  status: "unscanned",
  avScan: { status: "unscanned" },
  pickleImportScan: { status: "unscanned" },
};

/** Entries with what `expand` adds: who changed each last, as far back as is looked, and what is known of its safety. */
async function expanded(c: Ctx, snapshot: Snapshot, entries: readonly Entry[]) {
  const { db } = callerOf(c).platform;
  const last = await lastCommits(
    db,
    snapshot,
    entries.map(({ path }) => path),
  );
  return entries.map((entry) => {
    const commit = last.get(entry.path);
    return {
      ...entryJson(entry),
      ...(commit === undefined
        ? {}
        : { lastCommit: { id: commit.id, title: commit.title, date: new Date(commit.at).toISOString() } }),
      ...(entry.kind === "file" ? { securityFileStatus: UNSCANNED } : {}),
    };
  });
}

function entryJson(entry: Entry) {
  if (entry.kind === "directory") return { type: "directory", path: entry.path, oid: entry.id, size: 0 };
  const { path, id, size, sha256, xetHash } = entry;
  const lfs = entry.lfs ? { lfs: { oid: sha256, size, pointerSize: encodeLfsPointer({ sha256, size }).length } } : {};
  return { type: "file", path, oid: id, size, ...lfs, ...(xetHash === null ? {} : { xetHash }) };
}

async function tree(c: Ctx, type: RepoType) {
  const { revision, path } = revisionAndPath(c);
  const isExpanded = flag(c, "expand");
  const limit = limitOf(c, isExpanded ? EXPANDED_PAGE : TREE_PAGE);
  const cursor = c.req.query("cursor");
  const page = {
    path,
    recursive: flag(c, "recursive"),
    limit: limit + 1,
    ...(cursor === undefined ? {} : { after: decodeCursor(z.string(), cursor) }),
  };
  const next = (entries: readonly Entry[]) => paged(c, entries, limit, (last) => last.path);
  const caller = callerOf(c);
  const id = repoIdOf(c, type);
  if (!isExpanded) return c.json(next(await listTreeNearby(caller, id, revision, page)).map(entryJson));
  const { snapshot, entries } = await confirmedEntry(caller, revision, async () => {
    const at = await findSnapshot(caller, id, revision);
    return { snapshot: at, entries: await listTree(caller.platform.db, at, page) };
  });
  return c.json(await expanded(c, snapshot, next(entries)));
}

const PathsBody = z.object({
  paths: z.array(z.string()).max(MAX_PATHS, `at most ${MAX_PATHS} paths in one call`),
  expand: z.boolean().default(false),
});

/** Paths come as a form from Python and as JSON from JavaScript. */
async function pathsOf(c: Ctx): Promise<z.output<typeof PathsBody>> {
  if (c.req.header("content-type")?.includes("json")) return checked(PathsBody, await readJson(c));
  const form = await c.req.formData().catch(() => {
    throw new HubError("invalid_request", { problem: "The body is no form and no JSON: send `paths`" });
  });
  const expand = ["true", "1", "True"].includes(String(form.get("expand")));
  return checked(PathsBody, { paths: [...form.getAll("paths"), ...form.getAll("paths[]")], expand });
}

async function pathsInfo(c: Ctx, type: RepoType) {
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(callerOf(c), repoIdOf(c, type), revision);
  const { paths, expand } = await pathsOf(c);
  const entries = await findEntries(callerOf(c).platform.db, snapshot, paths);
  return c.json(expand ? await expanded(c, snapshot, entries) : entries.map(entryJson));
}

async function refs(c: Ctx, type: RepoType) {
  const { platform } = callerOf(c);
  const repo = await findRepo(callerOf(c), repoIdOf(c, type));
  const all = await listRefs(platform.db, repo.id);
  const under = (prefix: string) =>
    all
      .filter((ref) => ref.name.startsWith(prefix))
      .map((ref) => ({ name: ref.name.slice(prefix.length), ref: ref.name, targetCommit: ref.target }));
  return c.json({
    branches: under("refs/heads/"),
    converts: under("refs/convert/"),
    tags: under("refs/tags/"),
    ...(flag(c, "include_prs") ? { pullRequests: under("refs/pr/") } : {}),
  });
}

async function commits(c: Ctx, type: RepoType) {
  const { revision } = revisionAndPath(c);
  const { platform } = callerOf(c);
  const snapshot = await findSnapshot(callerOf(c), repoIdOf(c, type), revision);
  const limit = limitOf(c, COMMIT_PAGE);
  const page = Math.max(0, Math.trunc(Number(c.req.query("p") ?? 0)) || 0);
  const expand = list(c, "expand");
  if (expand.some((one) => one !== "formatted"))
    throw new HubError("invalid_request", { problem: '"expand" must be one of [formatted]' });
  const { total, commits: listed } = await listCommits(platform.db, snapshot.repo.id, snapshot.commit, {
    offset: page * limit,
    limit,
  });
  c.header("X-Total-Count", String(total));
  if ((page + 1) * limit < total) linkNext(c, { p: String(page + 1) });
  const context = { repo: linkOf(snapshot.repo), revision: snapshot.commit, origin: originOf(c) };
  return c.json(
    listed.map(({ id, author, at, message: whole }) => {
      const [title = "", ...rest] = whole.trimEnd().split("\n");
      const message = rest.join("\n").trim();
      return {
        id,
        title,
        message,
        date: new Date(at).toISOString(),
        authors: [{ user: author, avatar: avatarUrl(c, encodeURIComponent(author)) }],
        ...(expand.length === 0
          ? {}
          : { formatted: { title: escapeHtml(title), message: renderComment(message, context) } }),
      };
    }),
  );
}

export const trees = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  trees.get(`${one}/tree/*`, (c) => tree(c, type));
  trees.post(`${one}/paths-info/*`, (c) => pathsInfo(c, type));
  trees.get(`${one}/refs`, (c) => refs(c, type));
  trees.get(`${one}/commits/*`, (c) => commits(c, type));
}
