// What a model or dataset is, at a revision: `GET /api/{models,datasets}/{id}[/revision/{rev}]`; and the tags that there are.
import { Hono } from "hono";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { baseModelsOf, countChildren, detailsOf } from "../../hub/facts/details";
import type { Facts } from "../../hub/facts/facts";
import { knownTags } from "../../hub/facts/known-tags";
import type { FileEntry } from "../../hub/files";
import { findSnapshot } from "../../hub/repositories";
import { parseRevision, type RepoType, type Revision } from "../../ids";
import type { AppEnv } from "../app-env";
import { expandedKeys, infoJson, WHOLE } from "./info-json";
import { API_TYPES, type Ctx, callerOf, flag, list, repoIdOf, revisionAndPath } from "./request";

/** A repository's info names its files up to this many; the tree call pages through any number. */
const MAX_SIBLINGS = 20_000;

async function repoInfo(c: Ctx, type: RepoType, revision: Revision) {
  const caller = callerOf(c);
  const expanded = expandedKeys(type, list(c, "expand"));
  const keys = expanded ?? WHOLE[type];
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  const { repo, commit: sha } = snapshot;
  const { files, ...details } = await detailsOf(caller, snapshot, keys.has("siblings") ? MAX_SIBLINGS : 0);
  const children = keys.has("childrenModelCount") ? { children: await countChildren(caller, repo) } : {};
  const bases = keys.has("baseModels") ? { baseModels: await baseModelsOf(caller, details.facts) } : {};
  return c.json({
    ...infoJson({ repo, sha, ...details, siblings: siblings(files, flag(c, "blobs")), ...children, ...bases }, keys),
    ...(flag(c, "securityStatus") ? { securityRepoStatus: securityOf(details.facts) } : {}),
  });
}

const siblings = (files: readonly FileEntry[], withBlobs: boolean) =>
  files.map((file) => ({
    rfilename: file.path,
    ...(withBlobs ? { size: file.size, blobId: file.id } : {}),
    ...(withBlobs && file.lfs
      ? { lfs: { size: file.size, sha256: file.sha256, pointerSize: encodeLfsPointer(file).length } }
      : {}),
  }));

/** Nothing is scanned here, and nothing is said to be: files that run code when loaded are named, for their reader to decide. */
const securityOf = ({ pickles }: Facts) => ({
  scansDone: false,
  filesWithIssues: pickles.map((path) => ({ path, level: "unsafe", status: "unscanned" })),
});

export const info = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  info.get(`/api/${segment}-tags-by-type`, async (c) => c.json(await knownTags(callerOf(c).platform, type)));
  const one = `/api/${segment}/:owner/:name`;
  info.get(one, (c) => repoInfo(c, type, parseRevision("HEAD")));
  info.get(`${one}/revision/*`, (c) => repoInfo(c, type, revisionAndPath(c).revision));
}
