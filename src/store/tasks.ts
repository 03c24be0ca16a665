// Background work on stored bytes: queued in the batch that makes it necessary, run step by step, its progress kept.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch, type Guard, queryRows, type Statement } from "../db/client";
import { HubError } from "../errors";
import type { Sha256 } from "../ids";
import type { Platform } from "../platform/platform";

/** Hash the Xet files whose ids a query selects, to learn whether their claims are true. */
export const verifyTasks = (fileIds: SQL, now: number): Statement =>
  sql`insert or ignore into storage_tasks (kind, subject, due_at, created_at) select 'verify', *, ${now}, ${now} from (${fileIds})`;

/** Bring contents that a repository holds as segments into xorbs. */
export const ingestTask = (repoId: string, digests: readonly Sha256[], now: number): Statement =>
  sql`insert or ignore into storage_tasks (kind, subject, due_at, created_at)
    select 'ingest', ${repoId} || ' ' || value, ${now}, ${now} from json_each(${asJson(digests)})`;

/** Keep what a fetch of the repository had to read object by object. Where it is queued already, it is done once. */
export const packTask = (repoId: string, now: number): SQL =>
  sql`insert or ignore into storage_tasks (kind, subject, due_at, created_at) values ('pack', ${repoId}, ${now}, ${now})`;

/** After a batch that queued tasks. The answer does not wait for it, and nothing depends on it. */
export const wakeUpkeep = ({ defer, upkeep }: Platform): void => defer(upkeep.wake().catch(() => undefined));

export type TaskKind = "verify" | "ingest" | "pack";

export type Task = {
  readonly subject: string;
  /** As the last step left it; null before the first. */
  readonly progress: unknown;
};

/** What a step leaves behind: all of it is written in one batch, if no other runner was first. */
export type StepEnd = { readonly guards?: readonly Guard[]; readonly statements?: readonly Statement[] } & (
  | { readonly kind: "continue"; readonly progress: SQL }
  /** Also when the subject is gone. */
  | { readonly kind: "done" }
  /** Begins anew some time later. */
  | { readonly kind: "restart"; readonly problem: string }
);

/** One bounded piece of work: some hundred MB at most. What it writes outside of `StepEnd` must be harmless when done twice. */
export type Step = (platform: Platform, task: Task) => Promise<StepEnd>;

/** The value as `StepEnd.progress`. */
export const progressOf = (value: unknown): SQL => sql`${JSON.stringify(value)}`;

/** Longer than a step takes: until then no other runner takes the task, unless this one is dead. */
const LEASE_MS = 5 * 60_000;
/** After so long whoever waits for a task does a step of it. */
const PATIENCE_MS = 20_000;
const FIRST_RETRY_MS = 60_000;
const LAST_RETRY_MS = 6 * 3600_000;
const MAX_PROBLEM_LENGTH = 500;

const TaskRow = z.object({
  kind: z.enum(["verify", "ingest", "pack"]),
  subject: z.string(),
  progress: z.string().nullable(),
  attempts: z.number(),
});
type TaskRow = z.output<typeof TaskRow>;

/**
 * Runs the tasks that are due, the longest waiting first, a step of each by turns, until none is due or `until` says so.
 * @returns whether any is left that is due
 */
export async function runTasks(
  platform: Platform,
  until: () => boolean,
  steps: Readonly<Record<TaskKind, Step>>,
): Promise<boolean> {
  while (!until()) {
    const row = await takeTask(platform);
    if (row === undefined) return false;
    await runStep(platform, row, steps[row.kind]);
  }
  const [left] = await queryRows(
    platform.db,
    z.object({ due: z.number() }),
    sql`select exists (select 1 from storage_tasks where due_at <= ${platform.now()}) as due`,
  );
  return left?.due === 1;
}

/**
 * Runs a step of one task that someone waits for, if nobody else seems to: it is due, or was taken so long ago that its runner must be
 * dead. A live one that is merely slow loses nothing but its step.
 */
export async function hurryTask(platform: Platform, kind: TaskKind, subject: string, step: Step): Promise<void> {
  const now = platform.now();
  const [row] = await queryRows(
    platform.db,
    TaskRow,
    sql`update storage_tasks set due_at = ${now + LEASE_MS}
      where kind = ${kind} and subject = ${subject} and attempts = 0 and due_at <= ${now + LEASE_MS - PATIENCE_MS}
      returning kind, subject, progress, attempts`,
  );
  if (row !== undefined) await runStep(platform, row, step);
}

/** Leased by its due time, so that runners side by side do not do the same work twice, and a step that kills its runner holds up no other task. */
async function takeTask(platform: Platform): Promise<TaskRow | undefined> {
  const now = platform.now();
  const [row] = await queryRows(
    platform.db,
    TaskRow,
    sql`update storage_tasks set due_at = ${now + LEASE_MS}
      where rowid = (select rowid from storage_tasks where due_at <= ${now} order by due_at, created_at, rowid limit 1)
      returning kind, subject, progress, attempts`,
  );
  return row;
}

/** What a step saw has changed: its result is dropped, and the step runs again on what is there now. For guards. */
export class Stale extends HubError {
  constructor() {
    super("internal");
  }
}

type Ending = StepEnd | { readonly kind: "again" } | { readonly kind: "failed"; readonly problem: string };

async function runStep(platform: Platform, row: TaskRow, step: Step): Promise<void> {
  try {
    const progress: unknown = row.progress === null ? null : JSON.parse(row.progress);
    await endStep(platform, row, await step(platform, { subject: row.subject, progress }));
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    if (!(error instanceof Stale)) logFailure(row, error, problem);
    const ending: Ending = error instanceof Stale ? { kind: "again" } : { kind: "failed", problem };
    await endStep(platform, row, ending).catch((late: unknown) => {
      // Another runner has taken the task further: it is not this one's any more.
      if (!(late instanceof Stale)) throw late;
    });
  }
}

function logFailure(row: TaskRow, error: unknown, problem: string): void {
  console.error(
    JSON.stringify({
      level: "error",
      msg: "storage task",
      kind: row.kind,
      subject: row.subject,
      attempts: row.attempts + 1,
      problem,
      stack: error instanceof Error ? error.stack : undefined,
    }),
  );
}

/**
 * Commit point of a step: what it did and its progress in one batch, guarded by the progress it began with. Of two runners that
 * did the same step, the slower one's is lost.
 */
async function endStep(platform: Platform, row: TaskRow, end: Ending): Promise<void> {
  const mine: Guard = {
    holds: sql`exists (select 1 from storage_tasks where kind = ${row.kind} and subject = ${row.subject}
      and progress is ${row.progress} and attempts = ${row.attempts})`,
    otherwise: () => new Stale(),
  };
  const { guards = [], statements = [] } = end.kind === "failed" || end.kind === "again" ? {} : end;
  await commitBatch(platform.db, [mine, ...guards], [...statements, nextState(row, end, platform.now())]);
}

function nextState({ kind, subject, attempts }: TaskRow, end: Ending, now: number): Statement {
  const mine = sql`kind = ${kind} and subject = ${subject}`;
  if (end.kind === "done") return sql`delete from storage_tasks where ${mine}`;
  if (end.kind === "again") return sql`update storage_tasks set due_at = ${now} where ${mine}`;
  // Due now, behind all that wait longer: a small file does not wait for the end of a large one.
  if (end.kind === "continue")
    return sql`update storage_tasks set progress = ${end.progress}, due_at = ${now} where ${mine}`;
  const dueAt = now + Math.min(FIRST_RETRY_MS * 2 ** attempts, LAST_RETRY_MS);
  return sql`update storage_tasks set attempts = ${attempts + 1}, due_at = ${dueAt},
    problem = ${end.problem.slice(0, MAX_PROBLEM_LENGTH)}, progress = ${end.kind === "restart" ? sql`null` : sql`progress`} where ${mine}`;
}
