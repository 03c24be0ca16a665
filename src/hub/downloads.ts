// What a download leaves in the trail and in the counters, and the way to bytes by digest alone, which git clients take.
import { createHmac } from "node:crypto";
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { networkOf } from "../access/rate-limits";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import { allowedEvent } from "../events/trail";
import type { RepoType, Sha256 } from "../ids";
import type { ByteRange, RepoUse } from "../platform/platform";
import { HeldColumn, heldContent, type StoredContent, usable } from "../store/contents";
import { type Repository, targetOf } from "./repositories";
import { dayOf } from "./tally";

/** A use of a repository, and what of it: for the trail and the counters, away from the hot path. */
export function noteDownload(caller: Caller, repo: Repository, data: Record<string, string>, counts = false): void {
  const { platform, actor } = caller;
  const event = allowedEvent(platform, actor, {
    ...targetOf(repo),
    type: "content.used",
    action: "repo.use",
    purpose: "download",
    data,
  });
  platform.defer(platform.events.record([event], counts ? [useOf(caller, repo, "fetch")] : []));
}

/** Looks that this isolate has recorded already, so that polling costs nothing; forgotten when there are too many. */
const recorded = new Set<string>();
const MAX_RECORDED = 10_000;

/** Someone uses the repository without a download that the trail should tell of: looks whether it changed, or is about to fetch. */
export function noteUse(caller: Caller, repo: Repository, kind: "fetch" | "look"): void {
  const { platform } = caller;
  const use = useOf(caller, repo, kind);
  const key = `${use.kind} ${use.client}`;
  if (recorded.has(key)) return;
  const record = async (): Promise<void> => {
    await platform.events.record([], [use]);
    if (recorded.size >= MAX_RECORDED) recorded.clear();
    recorded.add(key);
  };
  platform.defer(record());
}

/** Clients say so themselves (`is_ci/true`), or are tools of a CI service. */
const CI_AGENT = /\bis_ci\/true\b|github-actions|gitlab-(ci|runner)|circleci|travis|buildkite|jenkins|azure-pipelines/i;

function useOf({ platform, actor }: Caller, repo: Repository, kind: "fetch" | "look"): RepoUse {
  const { peer, config, now } = platform;
  const day = dayOf(now());
  const who = actor.kind === "user" && actor.tokenId !== null ? [actor.tokenId] : [networkOf(peer.address), peer.agent];
  // Of each day and repository another one, so that nobody can be followed from one to the next; deleted with the day.
  const client = createHmac("sha256", config.secret)
    .update(JSON.stringify(["client of a day", day, repo.id, ...who]))
    .digest("base64url")
    .slice(0, 22);
  return { repoId: repo.id, day, kind: CI_AGENT.test(peer.agent) ? "ci" : kind, client };
}

/** What says what a model is, but is read by people as well as by programs, or by neither. */
const NO_USE = /(^|\/)(\.gitattributes|\.gitignore|readme(\.md)?|licen[cs]e[^/]*|notice[^/]*|citation\.cff)$/i;
const PICTURE = /\.(png|jpe?g|gif|svg|webp)$/i;

/**
 * Whether asking for this file is using the repository. Every file that a program loads counts, since a client counts once a day however
 * many it takes; what a page shows of a repository does not.
 */
export const countsAsUse = (type: RepoType, path: string): boolean =>
  !NO_USE.test(path) && (type === "dataset" || !PICTURE.test(path));

const ContentRow = z.object({ content: HeldColumn.nullable() });

/** Bytes that the repository itself holds. @throws forbidden | entry_not_found | content_quarantined */
export async function findHeldContent(
  caller: Caller,
  repo: Repository,
  sha256: Sha256,
  span?: ByteRange,
): Promise<StoredContent> {
  authorize(caller, { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const [row] = await queryRows(
    caller.platform.db,
    ContentRow,
    sql`select ${heldContent(sql`${repo.id}`, sql`${sha256}`, span)} as content`,
  );
  if (row?.content == null) throw new HubError("entry_not_found", { path: sha256 });
  return { sha256, ...usable(row.content, sha256) };
}
