// What a download leaves in the trail, and the way to bytes by digest alone, which git clients take.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import { allowedEvent } from "../events/trail";
import type { Sha256 } from "../ids";
import type { ByteRange } from "../platform/platform";
import { HeldColumn, heldContent, type StoredContent, usable } from "../store/contents";
import { type Repository, targetOf } from "./repositories";

/** Notes the use, away from the hot path. */
export function noteDownload(caller: Caller, repo: Repository, data: Record<string, string>): void {
  const { platform, actor } = caller;
  const event = allowedEvent(platform, actor, {
    ...targetOf(repo),
    type: "content.used",
    action: "repo.use",
    purpose: "download",
    data,
  });
  platform.defer(platform.events.record([event]));
}

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
