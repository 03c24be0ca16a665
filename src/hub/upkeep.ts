// Background work on stored bytes, a bounded run of it at a time; what it finds out about repositories goes into their trail.
import { sql } from "drizzle-orm";
import { asJson, queryRows, type Statement } from "../db/client";
import { allowedEvent, eventStatement } from "../events/trail";
import type { Platform } from "../platform/platform";
import { hurryTask, runTasks } from "../store/tasks";
import { ingestStep, type Sizes } from "../store/xet/ingest";
import { verifyStep, type WrongClaim } from "../store/xet/verify";
import { packStep } from "./git/keep-packs";
import { RepoRow, repoOf, selectRepo, targetOf } from "./repositories";

/** How much one step does, in bytes: some seconds of work, and the memory it takes. */
export const STEP_SIZES: Sizes = {
  /** Read back and hashed. */
  hash: 256 << 20,
  /** Read and chunked. */
  read: 128 << 20,
  /** Held in memory at a time to look for known chunks. */
  window: 8 << 20,
  /** Packed bytes of a xorb that the hub builds: in memory as well, until it is stored. */
  xorb: 32 << 20,
};

/** Works until nothing is due or `until` says so. @returns whether work is left that is due now */
export const runUpkeep = (platform: Platform, until: () => boolean, sizes = STEP_SIZES): Promise<boolean> =>
  runTasks(platform, until, { verify: verifyStep(quarantined, sizes.hash), ingest: ingestStep(sizes), pack: packStep });

/** For those who can't go on before the claims on a Xet file are settled. */
export const hurryVerification = (platform: Platform, fileId: number): Promise<void> =>
  hurryTask(platform, "verify", String(fileId), verifyStep(quarantined, STEP_SIZES.hash));

async function quarantined(platform: Platform, claims: readonly WrongClaim[]): Promise<Statement[]> {
  const { db } = platform;
  const rows = await queryRows(
    db,
    RepoRow,
    sql`select ${selectRepo(sql`null`)} from repos r join accounts o on o.id = r.owner_id
      where r.id in (select value ->> 'repoId' from json_each(${asJson(claims)}))`,
  );
  const repos = new Map(rows.map((row) => [row.repo_id, repoOf(row)]));
  return claims.flatMap(({ repoId, claimed, actual }) => {
    const repo = repos.get(repoId);
    if (repo === undefined) return [];
    const fact = {
      type: "content.quarantined",
      action: "repo.write",
      ...targetOf(repo),
      data: { claimed, actual },
    } as const;
    return [eventStatement(db, allowedEvent(platform, { kind: "hub" }, fact))];
  });
}
