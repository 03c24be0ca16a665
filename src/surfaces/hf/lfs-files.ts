// The LFS files of a repository, as the clients list, delete and copy them.
import { Hono } from "hono";
import * as z from "zod";
import { copyLfsFiles, deleteLfsFiles, listLfsFiles } from "../../hub/lfs-files";
import { findRepo } from "../../hub/repositories";
import { parseRepoId, parseSha256, parseXetHash, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { API_TYPES, type Ctx, callerOf, decodeCursor, jsonBody, limitOf, paged, repoIdOf } from "./request";

const PAGE = 500;
const MAX_DELETED = 1000;
const MAX_COPIED = 500;

const Digest = z.string().transform((text) => parseSha256(text, "sha256"));

async function listing(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const limit = limitOf(c, PAGE);
  const cursor = c.req.query("cursor");
  const after = cursor === undefined ? "" : decodeCursor(Digest, cursor);
  const files = await listLfsFiles(caller, repo, { after, limit: limit + 1 });
  return c.json(
    paged(c, files, limit, ({ sha256 }) => sha256).map(({ sha256, size, path, onMain, pushedAt }) => ({
      fileOid: sha256,
      oid: sha256,
      filename: path,
      size,
      pushedAt: new Date(pushedAt).toISOString(),
      ...(onMain ? { ref: "refs/heads/main" } : {}),
    })),
  );
}

const Deletions = z.object({
  deletions: z.object({
    sha: z.array(Digest).max(MAX_DELETED, `at most ${MAX_DELETED} files in one call`),
    rewriteHistory: z.boolean().default(true),
  }),
});

async function remove(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const { sha, rewriteHistory } = (await jsonBody(c, Deletions)).deletions;
  await deleteLfsFiles(caller, repo, sha, rewriteHistory);
  return c.json({});
}

const Copy = z.object({
  target: z.object({
    type: z.enum(["model", "dataset"], "spaces are not served here: use model or dataset").default("model"),
    name: z.string(),
  }),
  files: z
    .array(
      z.object({
        sha256: Digest,
        xetHash: z.string().transform((text) => parseXetHash(text, "xetHash")),
        filename: z.string().optional(),
      }),
    )
    .max(MAX_COPIED, `at most ${MAX_COPIED} files in one call`),
});

/** The address is that of the source. */
async function copy(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const source = await findRepo(caller, repoIdOf(c, type));
  const { target, files } = await jsonBody(c, Copy);
  const to = await findRepo(caller, parseRepoId(target.type, target.name));
  return c.json({ failed: await copyLfsFiles(caller, source, to, files) });
}

export const lfsFiles = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name/lfs-files`;
  lfsFiles.get(one, (c) => listing(c, type));
  lfsFiles.post(`${one}/batch`, (c) => remove(c, type));
  lfsFiles.post(`${one}/duplicate`, (c) => copy(c, type));
}
