// Background work on stored bytes: queued in the batch that makes it necessary, run step by step, its progress kept.
import { sql } from "drizzle-orm";
import { asJson, type Statement } from "../db/client";
import type { Sha256 } from "../ids";

/** Hash a Xet file, to learn whether its claims are true. */
export const verifyTask = (fileId: number, now: number): Statement => task("verify", [String(fileId)], now);

/** Bring contents that a repository holds as segments into xorbs. */
export const ingestTask = (repoId: string, digests: readonly Sha256[], now: number): Statement =>
  task(
    "ingest",
    digests.map((sha256) => `${repoId} ${sha256}`),
    now,
  );

const task = (kind: "verify" | "ingest", subjects: readonly string[], now: number): Statement =>
  sql`insert or ignore into storage_tasks (kind, subject, due_at, created_at)
    select ${kind}, value, ${now}, ${now} from json_each(${asJson(subjects)})`;
