// Repositories as the Hugging Face clients create, find, list, change and delete them.
import { type Context, Hono } from "hono";
import * as z from "zod";
import { authorize, requireUser } from "../../access/caller";
import { HubError } from "../../errors";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { listFiles } from "../../hub/files";
import { changeSettings, createRepo, deleteRepo } from "../../hub/lifecycle";
import type { Popularity } from "../../hub/listing";
import { findRepo, findSnapshot, type Repository, repoName, type Snapshot, targetOf } from "../../hub/repositories";
import { parseFilePath, parseRepoId, parseRevision, type RepoType, type Revision } from "../../ids";
import { decodeBase64 } from "../../streams/base64";
import type { AppEnv } from "../app-env";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  flag,
  jsonBody,
  list,
  originOf,
  repoIdOf,
  revisionAndPath,
  WEB_PREFIX,
} from "./request";

/** A repository's info names its files up to this many; the tree call pages through any number. */
const MAX_SIBLINGS = 20_000;

const RepoTarget = z.object({
  name: z.string(),
  organization: z.string().nullish(),
  type: z.enum(["model", "dataset"], "spaces are not served here: use model or dataset").default("model"),
});
const CreateBody = RepoTarget.extend({
  private: z.boolean().nullish(),
  visibility: z.enum(["public", "private"]).nullish(),
  license: z.string().max(100).nullish(),
  files: z.array(z.object({ path: z.string(), content: z.string(), encoding: z.literal("base64") })).default([]),
});

/** `name` may come as `owner/name`, or beside `organization`, or alone for the caller's own namespace. */
function repoIdFrom(c: Ctx, body: z.output<typeof RepoTarget>) {
  const owner = body.organization ?? requireUser(callerOf(c)).name;
  const text = body.name.includes("/") ? body.name : `${owner}/${body.name}`;
  try {
    return parseRepoId(body.type, text);
  } catch {
    throw new HubError("invalid_field", { field: "name", problem: `${text} is no valid repository name` });
  }
}

const webUrl = (c: Ctx, repo: Pick<Repository, "type" | "owner" | "name">): string =>
  `${originOf(c)}/${WEB_PREFIX[repo.type]}${repoName(repo)}`;

/** Every key a client may ask to `expand`; what this hub does not know is left out of the answer. */
const EXPANDABLE = new Set(
  "author cardData config createdAt disabled downloads downloadsAllTime evalResults gated gguf inference inferenceProviderMapping lastModified library_name likes mask_token model-index pipeline_tag private resourceGroup safetensors sha siblings spaces tags transformersInfo trendingScore usedStorage widgetData xetEnabled baseModels childrenModelCount citation description paperswithcode_id".split(
    " ",
  ),
);

export function expandOf(c: Ctx): Set<string> | null {
  const wanted = list(c, "expand");
  if (wanted.length === 0) return null;
  if (!wanted.every((one) => EXPANDABLE.has(one)))
    throw new HubError("invalid_request", { problem: `"expand" must be one of [${[...EXPANDABLE].join(", ")}]` });
  return new Set(wanted);
}

export function infoOf(repo: Repository, sha: string | null, expand: Set<string> | null, popularity?: Popularity) {
  const info: Record<string, unknown> = {
    author: repo.owner,
    ...(sha === null ? {} : { sha }),
    lastModified: new Date(repo.updatedAt).toISOString(),
    createdAt: new Date(repo.createdAt).toISOString(),
    private: repo.private,
    gated: repo.gated ?? false,
    disabled: false,
    xetEnabled: false,
    ...(popularity === undefined
      ? {}
      : {
          likes: popularity.likes,
          downloads: popularity.downloads,
          downloadsAllTime: popularity.downloadsAllTime,
          trendingScore: popularity.trending,
        }),
  };
  const chosen = expand === null ? info : Object.fromEntries(Object.entries(info).filter(([key]) => expand.has(key)));
  const id = repoName(repo);
  return { _id: repo.id, id, ...(repo.type === "model" ? { modelId: id } : {}), ...chosen };
}

async function repoInfo(c: Ctx, type: RepoType, revision: Revision) {
  const expand = expandOf(c);
  const snapshot = await findSnapshot(callerOf(c), repoIdOf(c, type), revision);
  const info = infoOf(snapshot.repo, snapshot.commit, expand);
  if (expand !== null && !expand.has("siblings")) return c.json(info);
  return c.json({ ...info, siblings: await siblings(c, snapshot) });
}

async function siblings(c: Ctx, snapshot: Snapshot) {
  const withBlobs = flag(c, "blobs");
  const files = await listFiles(callerOf(c).platform.db, snapshot, MAX_SIBLINGS);
  return files.map((file) => ({
    rfilename: file.path,
    ...(withBlobs ? { size: file.size, blobId: file.id } : {}),
    ...(withBlobs && file.lfs
      ? { lfs: { size: file.size, sha256: file.sha256, pointerSize: encodeLfsPointer(file).length } }
      : {}),
  }));
}

const Settings = z.strictObject({
  private: z.boolean().nullish(),
  visibility: z.enum(["public", "private"]).nullish(),
  gated: z.union([z.enum(["auto", "manual"]), z.literal(false)], 'must be "auto", "manual" or false').nullish(),
});

export const repos = new Hono<AppEnv>()
  .post("/api/repos/create", async (c) => {
    const body = await jsonBody(c, CreateBody);
    const id = repoIdFrom(c, body);
    const repo = await createRepo(callerOf(c), {
      id,
      private: body.visibility === "private" || body.private === true,
      ...(typeof body.license === "string" ? { license: body.license } : {}),
      files: body.files.map(({ path, content }, i) => ({
        path: parseFilePath(path, `files[${i}].path`),
        bytes: decodeBase64(content, `files[${i}].content`),
        field: `files[${i}].path`,
      })),
    });
    return c.json({ url: webUrl(c, repo), id: repo.id, name: repoName(repo) });
  })
  .delete("/api/repos/delete", async (c) => {
    await deleteRepo(callerOf(c), repoIdFrom(c, await jsonBody(c, RepoTarget)));
    return c.json({});
  });

for (const [segment, type] of Object.entries(API_TYPES)) {
  const at = `/api/${segment}`;
  const one = `${at}/:owner/:name`;
  repos.get(one, (c) => repoInfo(c, type, parseRevision("HEAD")));
  repos.get(`${one}/revision/*`, (c) => repoInfo(c, type, revisionAndPath(c).revision));
  // A single segment is an id of the ecosystem's hub; here it names nothing, which is no router's 404.
  repos.get(`${at}/:name`, () => {
    throw new HubError("repo_not_found");
  });
  repos.put(`${one}/settings`, async (c) => {
    const { visibility, gated, ...body } = await jsonBody(c, Settings);
    const isPrivate = visibility == null ? body.private : visibility === "private";
    await changeSettings(callerOf(c), repoIdOf(c, type), {
      ...(isPrivate == null ? {} : { private: isPrivate }),
      ...(gated == null ? {} : { gated: gated === false ? null : gated }),
    });
    return c.json({});
  });
  repos.get(`${one}/auth-check`, async (c) => authCheck(c, type, false));
  repos.get(`${one}/auth-check/write`, async (c) => authCheck(c, type, true));
}

async function authCheck(c: Context<AppEnv>, type: RepoType, write: boolean) {
  const repo = await findRepo(callerOf(c), repoIdOf(c, type));
  if (write) authorize(callerOf(c), { action: "repo.write", repo }, targetOf(repo));
  else authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  return c.json({});
}
