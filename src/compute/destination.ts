// Where the result of a job goes: a branch of a repository, which may have to be created yet.
import { sql } from "drizzle-orm";
import { authorize, type Caller } from "../access/caller";
import { asJson } from "../db/client";
import { HubError } from "../errors";
import { createRepo } from "../hub/lifecycle";
import { findRepo, type Repository, targetOf } from "../hub/repositories";
import { parseRefName, parseRepoId, type RefName, type RepoId } from "../ids";
import { IS_OPEN } from "../store/scopes";
import type { Source } from "./plan";
import type { OutputRequest } from "./requests";

export type Destination = {
  readonly id: RepoId;
  readonly repo: Repository | null;
  readonly ref: RefName;
  readonly request: OutputRequest;
};

/** Where the result goes; the repository may have to be created yet. @throws forbidden | repo_not_found | invalid_field */
export async function findDestination(caller: Caller, request: OutputRequest): Promise<Destination> {
  const id = parseRepoId("model", request.repo);
  const ref = parseRefName(`refs/heads/${request.branch}`, "output.branch");
  try {
    const repo = await findRepo(caller, id);
    authorize(caller, { action: "repo.write", repo }, targetOf(repo));
    return { id, repo, ref, request };
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== "repo_not_found") throw error;
    if (!request.create)
      throw new HubError("repo_not_found", { field: "output.repo", repo: request.repo }, { cause: error });
    return { id, repo: null, ref, request };
  }
}

/** Private unless asked otherwise when an input is not open to all: what is derived from it stays with those who may see it. */
export async function createDestination(
  caller: Caller,
  output: Destination,
  sources: readonly Source[],
): Promise<Repository> {
  const isPrivate = output.request.private ?? (await anyPrivate(caller, sources));
  try {
    return await createRepo(caller, { id: output.id, private: isPrivate });
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== "repo_exists") throw error;
    const repo = await findRepo(caller, output.id);
    authorize(caller, { action: "repo.write", repo }, targetOf(repo));
    return repo;
  }
}

async function anyPrivate(caller: Caller, sources: readonly Source[]): Promise<boolean> {
  const ids = asJson(sources.map((source) => source.repoId));
  const row = await caller.platform.db.get<{ found: number }>(
    sql`select exists (select 1 from repos r where not ${IS_OPEN} and r.id in (select value from json_each(${ids}))) as found`,
  );
  return row?.found === 1;
}
