// Which stored bytes a caller may link into a repository: knowing a digest gives no right to them.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { asJson, queryEach } from "../db/client";
import { parseSha256, type Sha256 } from "../ids";
import type { Holding } from "../store/contents";
import { IS_OPEN } from "../store/scopes";
import { accessOf, askerOf, ownersOf, type Repository } from "./repositories";

const HolderRow = z.object({
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  holders: z.string(),
});
const Holders = z.array(
  z.object({
    own: z.number(),
    ownerId: z.string(),
    private: z.number(),
    state: z.enum(["verified", "claimed", "mismatched"]),
    gated: z.enum(["auto", "manual"]).nullable(),
    access: z.enum(["pending", "accepted", "rejected"]).nullable(),
    fileId: z.number().nullable(),
    size: z.number().nullable(),
  }),
);

export type Linkable = { readonly size: number; readonly holding: Holding };

/**
 * The bytes among `digests` that the caller may link into the repository: it holds them already, or the caller can read a
 * repository that does and whose digest the hub has verified. A digest alone opens nothing.
 */
export async function linkable(
  caller: Caller,
  repo: Repository,
  digests: readonly Sha256[],
): Promise<Map<Sha256, Linkable>> {
  // Whoever is told that the repository holds bytes will commit them: those holdings are not idle from now on.
  const rows = await queryEach(caller.platform.db, HolderRow, [
    sql`update repo_contents set idle_since = null
      where idle_since is not null and repo_id = ${repo.id} and sha256 in (select value from json_each(${asJson(digests)}))`,
    sql`select j.value as sha256, (select json_group_array(json_object('own', own, 'ownerId', owner_id, 'private', private, 'gated', gated, 'access', access,
          'state', state, 'fileId', file_id, 'size', size)) from (
        select h.repo_id = ${repo.id} as own, r.owner_id, r.private, r.gated, ${accessOf(askerOf(caller))} as access, h.state, h.file_id, coalesce(f.size, k.size) as size
          from repo_contents h join repos r on r.id = h.repo_id left join xet_files f on f.id = h.file_id
          left join contents k on h.file_id is null and k.sha256 = h.sha256
          where h.sha256 = j.value and (h.repo_id = ${repo.id} or (h.state = 'verified' and (${IS_OPEN} or access = 'accepted' or r.owner_id in (${ownersOf(caller)}))))
          order by own desc, ${IS_OPEN} desc, access is null limit 4)) as holders
      from json_each(${asJson(digests)}) j`,
  ]);
  const found = new Map<Sha256, Linkable>();
  for (const { sha256, holders } of rows.flat()) {
    const usable = Holders.parse(JSON.parse(holders)).find(
      (one) =>
        one.state !== "mismatched" &&
        (one.own === 1 ||
          may(caller, {
            action: "repo.use",
            purpose: "download",
            repo: {
              ownerId: one.ownerId,
              private: one.private === 1,
              gated: one.gated,
              access:
                caller.actor.kind === "user" && one.access !== null
                  ? { accountId: caller.actor.id, status: one.access }
                  : null,
            },
          })),
    );
    if (usable !== undefined && usable.size !== null)
      found.set(sha256, { size: usable.size, holding: { fileId: usable.fileId, state: usable.state } });
  }
  return found;
}
