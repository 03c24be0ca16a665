// How often a revision was computed again, and what came of it: counted from the jobs that did so.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../db/client";
import type { Snapshot } from "../../hub/repositories";
import type { Platform } from "../../platform/platform";
import { PROGRAM_PATH } from "./recipe-document";

const Row = z.object({
  times: z.number(),
  equal: z.number(),
  /** Milliseconds since 1970. */
  last_at: z.number().nullable(),
  last_verified: z.number().nullable(),
});

export type Verifications = {
  readonly times: number;
  /** Of these, how many gave every byte again. */
  readonly equal: number;
  readonly last: { readonly at: number; readonly verified: boolean } | null;
};

export async function readVerifications(platform: Platform, { repo, commit }: Snapshot): Promise<Verifications> {
  // A job reads the program from the revision that it verifies, and from no other. Beside max(), SQLite takes bare columns from its row.
  const [row] = await queryRows(
    platform.db,
    Row,
    sql`select count(*) as times, coalesce(sum(j.result ->> 'verified'), 0) as equal, max(j.ended_at) as last_at, j.result ->> 'verified' as last_verified
      from job_inputs i join jobs j on j.id = i.job_id
      where i.repo_id = ${repo.id} and i.commit_id = ${commit} and i.path = ${PROGRAM_PATH} and j.kind = 'verify' and j.state = 'succeeded'`,
  );
  const last = row?.last_at == null ? null : { at: row.last_at, verified: row.last_verified === 1 };
  return { times: row?.times ?? 0, equal: row?.equal ?? 0, last };
}
