// The write side: how each file should travel, and the commit that publishes them.
import { Hono } from "hono";
import * as z from "zod";
import { authorize } from "../../access/caller";
import { HubError } from "../../errors";
import { parsePatterns } from "../../formats/git/patterns";
import { isIgnored, parseAttributes, uploadMode } from "../../hub/attributes";
import { commit } from "../../hub/commits";
import { findEntries, readTextFile } from "../../hub/files";
import { findSnapshot, repoName, targetOf } from "../../hub/repositories";
import { parseFilePath, parseRefName, type RepoType } from "../../ids";
import { decodeBase64 } from "../../streams/base64";
import type { AppEnv } from "../app-env";
import { readOperations } from "./operations";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  flag,
  jsonBody,
  originOf,
  repoIdOf,
  revisionAndPath,
  WEB_PREFIX,
} from "./request";

const PreuploadBody = z.object({
  files: z
    .array(
      z.object({ path: z.string(), size: z.number().int().nonnegative(), sample: z.string().max(2048).default("") }),
    )
    .max(1000),
  gitIgnore: z.string().max(1_000_000).nullish(),
  gitAttributes: z.string().max(1_000_000).nullish(),
});

function refusePullRequests(c: Ctx): void {
  if (flag(c, "create_pr"))
    throw new HubError("invalid_field", {
      field: "create_pr",
      problem: "pull requests are not served yet: commit to a branch",
    });
}

async function preupload(c: Ctx, type: RepoType) {
  refusePullRequests(c);
  const caller = callerOf(c);
  const { platform } = caller;
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  authorize(caller, { action: "repo.write", repo: snapshot.repo }, targetOf(snapshot.repo));
  const body = await jsonBody(c, PreuploadBody);
  const paths = body.files.map((file, i) => parseFilePath(file.path, `files[${i}].path`));
  const known = new Map(
    (await findEntries(platform.db, snapshot, [...paths, ".gitattributes", ".gitignore"])).map((entry) => [
      entry.path,
      entry,
    ]),
  );
  const attributes = parseAttributes(
    body.gitAttributes ?? (await readTextFile(platform, snapshot.repo, known.get(".gitattributes"))),
  );
  const ignored = parsePatterns(
    body.gitIgnore ?? (await readTextFile(platform, snapshot.repo, known.get(".gitignore"))),
  );
  const files = body.files.map((file, i) => {
    const mode = uploadMode(attributes, file.path, file.size, decodeBase64(file.sample, `files[${i}].sample`));
    const entry = known.get(file.path);
    const oid = entry?.kind !== "file" ? {} : { oid: entry.lfs ? entry.sha256 : entry.id };
    return { path: file.path, uploadMode: mode, shouldIgnore: isIgnored(ignored, file.path), ...oid };
  });
  return c.json({ files, commitOid: snapshot.commit });
}

async function commitRoute(c: Ctx, type: RepoType) {
  refusePullRequests(c);
  const caller = callerOf(c);
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  const { repo } = snapshot;
  authorize(caller, { action: "repo.write", repo }, targetOf(repo));
  const ref =
    revision === "HEAD" ? "refs/heads/main" : revision.startsWith("refs/") ? revision : `refs/heads/${revision}`;
  const { header, changes } = await readOperations(caller, snapshot, c.req.raw.body);
  const id = await commit(caller, repo, {
    ref: parseRefName(ref, "revision"),
    changes,
    summary: header.summary,
    description: header.description,
    ...(header.parentCommit === undefined ? {} : { parent: header.parentCommit }),
  });
  return c.json({
    success: true,
    commitOid: id,
    commitUrl: `${originOf(c)}/${WEB_PREFIX[type]}${repoName(repo)}/commit/${id}`,
    hookOutput: "",
  });
}

export const writes = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  writes.post(`${one}/preupload/*`, (c) => preupload(c, type));
  writes.post(`${one}/commit/*`, (c) => commitRoute(c, type));
}
