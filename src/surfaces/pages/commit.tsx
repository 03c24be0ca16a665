// One commit: who, when, why, after which parents, and for a merge or a training what it was made from and by which recipe.
import { may } from "../../access/caller";
import { parseRecipeDocument, RECIPE_PATH } from "../../compute/merge/recipe-document";
import { readVerifications } from "../../compute/merge/verifications";
import { HubError } from "../../errors";
import { findStoredFiles, type StoredFile } from "../../hub/files";
import { readLineage } from "../../hub/lineage";
import { readOverview } from "../../hub/overview";
import { findSnapshot, repoName } from "../../hub/repositories";
import { isCommitPrefix, parseRevision, type RepoType } from "../../ids";
import type { Platform } from "../../platform/platform";
import { type Ctx, callerOf, originOf, repoIdOf } from "../hf/request";
import { blobAddress, cardAddress, commitAddress, evaluationsAddress, linkOf, treeAddress } from "./address";
import { readShownText } from "./file-text";
import { answer, Time } from "./layout";
import { LineageLists } from "./lineage";
import { MergeSummary } from "./merge";
import { RepoFrame } from "./repo-frame";
import { dateTime, shortId } from "./wording";

const RECORDS = [RECIPE_PATH, "training.json"];

export async function commit(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const { platform } = caller;
  const sha = c.req.param("sha") ?? "";
  if (!isCommitPrefix(sha)) throw new HubError("revision_not_found", { revision: sha.slice(0, 100) });
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), parseRevision(sha));
  const [overview, lineage, records] = await Promise.all([
    readOverview(caller, snapshot),
    readLineage(caller, snapshot),
    findStoredFiles(
      platform.db,
      RECORDS.map((path) => ({ snapshot, path })),
    ),
  ]);
  const { repo, commit: id } = snapshot;
  const link = linkOf(repo);
  // A record in the tree speaks of this commit only where the hub itself made it.
  const shown =
    lineage.parents.length === 0 || !may(caller, { action: "repo.use", repo, purpose: "download" })
      ? []
      : await Promise.all(records.map((file) => readRecord(platform, file)));
  const recipe = shown.find((record) => record?.path === RECIPE_PATH);
  const merged = recipe === undefined || recipe === null ? null : parseRecipeDocument(recipe.text);
  const verifications = merged === null ? null : await readVerifications(platform, snapshot);
  const [title = "", ...rest] = overview.commit.message.trimEnd().split("\n");
  const body = rest.join("\n").trim();
  return answer(c, {
    title: `${title} · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision={id} tab="history">
        <div class="columns">
          <div>
            <h2>{title}</h2>
            {body === "" ? null : <p class="message">{body}</p>}
            <dl class="facts">
              <dt>Commit</dt>
              <dd class="mono pick">{id}</dd>
              <dt>Author</dt>
              <dd>{overview.commit.author}</dd>
              <dt>Date</dt>
              <dd>
                <Time ms={overview.commit.at} text={dateTime(overview.commit.at)} />
              </dd>
              <dt>{overview.commit.parents.length === 1 ? "Parent" : "Parents"}</dt>
              <dd>
                {overview.commit.parents.length === 0 ? (
                  <span class="soft">none: the first commit</span>
                ) : (
                  overview.commit.parents.map((parent) => (
                    <>
                      <a class="mono" href={commitAddress(link, parent)}>
                        {shortId(parent)}
                      </a>{" "}
                    </>
                  ))
                )}
              </dd>
            </dl>
            <p>
              <a href={cardAddress(link, id)}>Card</a> · <a href={treeAddress(link, id)}>Files</a> ·{" "}
              <a href={evaluationsAddress(link, id)}>Evaluations</a>
            </p>
            {shown.map((record) =>
              record === null ? null : (
                <section>
                  <h3>
                    <a href={blobAddress(link, id, record.path)}>{record.path}</a>
                  </h3>
                  <pre tabindex={0}>
                    <code>{record.text}</code>
                  </pre>
                </section>
              ),
            )}
          </div>
          <div class="side">
            <LineageLists lineage={lineage} weights={overview.weights} />
            {merged === null || verifications === null ? null : (
              <MergeSummary
                recipe={merged}
                verifications={verifications}
                repo={link}
                revision={id}
                origin={originOf(c)}
              />
            )}
          </div>
        </div>
      </RepoFrame>
    ),
  });
}

async function readRecord(platform: Platform, file: StoredFile | null): Promise<{ path: string; text: string } | null> {
  if (file === null) return null;
  const text = await readShownText(platform, file);
  return text === null ? null : { path: file.path, text: indented(text) };
}

/** JSON as people read it; what is none stays as it is. */
function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
