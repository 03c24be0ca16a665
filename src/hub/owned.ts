// What a namespace owns and how much room it takes, for its own people.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows } from "../db/client";

export type OwnedRepo = {
  readonly id: string;
  readonly type: "model" | "dataset";
  readonly repo: string;
  readonly private: boolean;
  readonly updatedAt: number;
  /** Bytes of the distinct files of all revisions. */
  readonly usedStorage: number;
  /** Of all that the namespace uses. */
  readonly share: number;
};

const OwnedRow = z.object({
  id: z.string(),
  type: z.enum(["model", "dataset"]),
  repo: z.string(),
  private: z.number(),
  updated_at: z.number(),
  used: z.number(),
  total: z.number(),
});

/** Oldest first. @throws forbidden: it tells of private repositories */
export async function listOwned(
  caller: Caller,
  owner: { readonly id: string; readonly name: string },
  page: { readonly after: string; readonly limit: number },
): Promise<OwnedRepo[]> {
  const target = { subject: `account:${owner.name}`, scopeId: owner.id };
  authorize(caller, { action: "repo.read", repo: { ownerId: owner.id, private: true } }, target);
  const rows = await queryRows(
    caller.platform.db,
    OwnedRow,
    sql`select * from (
        select r.id, r.type, o.name || '/' || r.name as repo, r.private, r.updated_at, coalesce(i.used_storage, 0) as used,
            sum(coalesce(i.used_storage, 0)) over () as total
          from repos r join accounts o on o.id = r.owner_id left join repo_index i on i.repo_id = r.id where r.owner_id = ${owner.id})
      where id > ${page.after} order by id limit ${page.limit}`,
  );
  return rows.map(({ updated_at: updatedAt, used: usedStorage, total, ...row }) => ({
    ...row,
    private: row.private === 1,
    updatedAt,
    usedStorage,
    share: total === 0 ? 0 : usedStorage / total,
  }));
}
