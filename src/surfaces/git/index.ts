// Git over smart HTTP: which service answers where. Fetching is upload-pack, pushing is receive-pack.
import { Hono } from "hono";
import { HubError } from "../../errors";
import { findMoved } from "../../hub/move";
import { findRepo, type Repository } from "../../hub/repositories";
import { parseRepoId, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { type Ctx, callerOf, WEB_PREFIX } from "../hf/request";
import { advertiseReceive, receivePack } from "./receive";
import { advertiseUpload, uploadPack } from "./upload-pack";

/** Given the repository, which the caller may see. */
type Service = (c: Ctx, repo: Repository) => Promise<Response>;

/** What `GET …/info/refs?service=` can ask for. */
const ADVERTISEMENTS: Readonly<Record<string, Service>> = {
  "git-upload-pack": advertiseUpload,
  "git-receive-pack": advertiseReceive,
};

/**
 * git addresses may end in `.git`, which is no part of the name. git follows redirects only from its first request, and forgets one that it
 * met after it signed in: then the service itself is asked by the former name of the repository, and answers.
 */
async function repoOf(c: Ctx, type: RepoType): Promise<Repository> {
  const name = (c.req.param("name") ?? "").replace(/\.git$/, "");
  const id = parseRepoId(type, `${c.req.param("owner") ?? ""}/${name}`);
  try {
    return await findRepo(callerOf(c), id);
  } catch (error) {
    if (c.req.method !== "POST" || !(error instanceof HubError) || error.code !== "repo_not_found") throw error;
    const moved = await findMoved(callerOf(c), id);
    if (moved === null) throw error;
    return moved;
  }
}

export const git = new Hono<AppEnv>();
for (const type of ["model", "dataset"] as const) {
  const at = `/${WEB_PREFIX[type]}:owner/:name`;
  git.get(`${at}/info/refs`, async (c) => {
    const advertise = ADVERTISEMENTS[c.req.query("service") ?? ""];
    if (advertise === undefined)
      throw new HubError("invalid_request", { problem: "This hub speaks git's smart HTTP protocol only: update git." });
    return advertise(c, await repoOf(c, type));
  });
  git.post(`${at}/git-receive-pack`, async (c) => receivePack(c, await repoOf(c, type)));
  git.post(`${at}/git-upload-pack`, async (c) => uploadPack(c, await repoOf(c, type)));
}
