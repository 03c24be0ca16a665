// The diff of a pull request: what it changes since its history left the base's. Of what is merged, as it was then.
import { type Caller, may } from "../../access/caller";
import { HubError } from "../../errors";
import { readDiff } from "../diffs";
import { mergeBases, pastOf } from "../merge-base";
import { type PullRequest, readTips } from "./merging";

/** Null where the caller may not have the files, or where there is nothing to compare any more. */
export async function readPullDiff(caller: Caller, pull: PullRequest): Promise<string | null> {
  const { repo } = pull;
  const { db } = caller.platform;
  if (!may(caller, { action: "repo.use", repo, purpose: "download" })) return null;
  const tips = await readTips(db, pull);
  if (tips === null) return null;
  const { base, head } = tips;
  try {
    const [past] = await mergeBases(pastOf(db, repo.id), base.commit, head.commit);
    return await readDiff(caller.platform, repo, past?.tree ?? base.tree, head.tree);
  } catch (error) {
    if (error instanceof HubError && error.code === "payload_too_large") return `# ${error.message}\n`;
    throw error;
  }
}
