// The write side: how each file should travel, and the commit that publishes them.
import { Hono } from "hono";
import * as z from "zod";
import { parsePatterns } from "../../formats/git/patterns";
import { isIgnored, parseAttributes, uploadMode } from "../../hub/attributes";
import { commit } from "../../hub/commits";
import { findBase, proposeCommit } from "../../hub/discussions/opening";
import { findEntries, readTextFile } from "../../hub/files";
import { authorizeProposal, authorizePush } from "../../hub/push-rights";
import { findSnapshot, repoName, type Snapshot } from "../../hub/repositories";
import { type GitId, parseFilePath, parseRefName, type RefName, type RepoType, type Revision } from "../../ids";
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

/** The full name of the ref that a commit moves. */
const refOf = (revision: Revision): RefName =>
  parseRefName(
    revision === "HEAD" ? "refs/heads/main" : revision.startsWith("refs/") ? revision : `refs/heads/${revision}`,
    "revision",
  );

/** Before anything of a push is read or stored: where it goes, or for a pull request the branch that it is meant for. */
async function authorizeUpload(c: Ctx, { repo }: Snapshot, revision: Revision): Promise<RefName> {
  const caller = callerOf(c);
  if (flag(c, "create_pr")) {
    authorizeProposal(caller, repo);
    return findBase(caller, repo, revision);
  }
  const ref = refOf(revision);
  await authorizePush(caller, repo, ref);
  return ref;
}

async function preupload(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const { platform } = caller;
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  await authorizeUpload(c, snapshot, revision);
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
  const caller = callerOf(c);
  const { revision } = revisionAndPath(c);
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  const { repo } = snapshot;
  const ref = await authorizeUpload(c, snapshot, revision);
  const { header, changes } = await readOperations(caller, snapshot, c.req.raw.body);
  const request = {
    changes,
    summary: header.summary,
    description: header.description,
    ...(header.parentCommit === undefined ? {} : { parent: header.parentCommit }),
  };
  const web = `${originOf(c)}/${WEB_PREFIX[type]}${repoName(repo)}`;
  const answer = (id: GitId) => ({ success: true, commitOid: id, commitUrl: `${web}/commit/${id}`, hookOutput: "" });
  if (!flag(c, "create_pr")) return c.json(answer(await commit(caller, repo, { ...request, ref })));
  const { number, commit: id } = await proposeCommit(caller, repo, { ...request, startFrom: ref });
  return c.json({ ...answer(id), pullRequestUrl: `${web}/discussions/${number}` });
}

export const writes = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  writes.post(`${one}/preupload/*`, (c) => preupload(c, type));
  writes.post(`${one}/commit/*`, (c) => commitRoute(c, type));
}
