// Who stands behind a job while it runs: its account with the rights of now, which must still open all that the job reads.
import { authorize, type Caller } from "../access/caller";
import type { Actor } from "../access/policy";
import { standingActor } from "../access/standing";
import { HubError } from "../errors";
import { findReposById, targetOf } from "../hub/repositories";
import type { Platform } from "../platform/platform";
import type { Job } from "./jobs";
import { type Plan, purposeOf, sourcesOf } from "./plan";

export type StandingCaller = Caller & { readonly actor: Extract<Actor, { kind: "user" }> };

/** Asked when work is handed over and when its result is published. Two queries. @throws forbidden | input_withdrawn */
export async function standingCaller(platform: Platform, job: Job, plan: Plan): Promise<StandingCaller> {
  const actor = await standingActor(platform, job.actorId);
  if (actor === null) throw new HubError("forbidden", { reason: "the account that started the job is gone" });
  const caller = { platform, actor };
  const sources = sourcesOf(plan);
  const repos = await findReposById(
    caller,
    sources.map(({ repoId }) => repoId),
  );
  for (const { repo: name, repoId } of sources) {
    const repo = repos.get(repoId);
    if (repo === undefined) throw new HubError("input_withdrawn", { repo: name, reason: "it was deleted" });
    try {
      authorize(caller, { action: "repo.use", repo, purpose: purposeOf(plan.kind) }, targetOf(repo));
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      const { reason } = error.fields;
      throw new HubError("input_withdrawn", { repo: name, reason }, { cause: error });
    }
  }
  return caller;
}
