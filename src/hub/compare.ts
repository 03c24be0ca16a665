// What differs between two revisions of a repository.
import { authorize, type Caller } from "../access/caller";
import type { RepoId, Revision } from "../ids";
import { readDiff } from "./diffs";
import { mergeBases, pastOf } from "./merge-base";
import { findSnapshots, targetOf } from "./repositories";

export type Comparison = {
  readonly from: Revision;
  readonly to: Revision;
  /** Only what `to` changed since the histories parted, as git's three dots ask for. */
  readonly sinceParted: boolean;
};

/** As git's own diff. @throws repo_not_found | revision_not_found | forbidden */
export async function compareRevisions(
  caller: Caller,
  id: RepoId,
  { from, to, sinceParted }: Comparison,
): Promise<string> {
  const { platform } = caller;
  const [before, after] = await findSnapshots(caller, [
    { id, revision: from, field: "from" },
    { id, revision: to, field: "to" },
  ]);
  if (before === undefined || after === undefined) return "";
  const { repo } = before;
  authorize(caller, { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const [past] = sinceParted ? await mergeBases(pastOf(platform.db, repo.id), before.commit, after.commit) : [];
  return readDiff(platform, repo, past?.tree ?? before.tree, after.tree);
}
