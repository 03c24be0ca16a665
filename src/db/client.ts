// How rooms talk to D1: guarded batches that commit whole or not at all, and raw queries whose rows are checked.
import { SQL, sql } from "drizzle-orm";
import { SQLiteAsyncDialect } from "drizzle-orm/sqlite-core";
import type * as z from "zod";
import type { HubError } from "../errors";
import type { Db } from "../platform/platform";

/** A query builder of drizzle, or SQL written by hand. */
export type Statement = SQL | { toSQL(): { sql: string; params: unknown[] } };

/** A condition that must hold when the batch commits, and what to answer when it does not. */
export type Guard = { readonly holds: SQL; readonly otherwise: () => HubError };

const dialect = new SQLiteAsyncDialect();

/** Drizzle's own batch can't bind the parameters of hand-written SQL, so statements are prepared here. */
function prepared(db: Db, statement: Statement): D1PreparedStatement {
  const query = statement instanceof SQL ? dialect.sqlToQuery(statement) : statement.toSQL();
  return db.$client.prepare(query.sql).bind(...query.params);
}

/**
 * Runs the statements as one transaction, if every guard holds at that moment: a guard that does not hold inserts NULL
 * into a NOT NULL column, which rolls the batch back. @throws the error of the first guard that does not hold.
 */
export async function commitBatch(db: Db, guards: readonly Guard[], statements: readonly Statement[]): Promise<void> {
  const checks = guards.map((guard) => sql`insert into guards (holds) select null where not (${guard.holds})`);
  try {
    await db.$client.batch([...checks, ...statements].map((statement) => prepared(db, statement)));
  } catch (error) {
    if (!hasMessage(error, "guards.holds")) throw error;
    for (const guard of guards) {
      const row = await db.get<{ holds: number }>(sql`select (${guard.holds}) as holds`);
      if (!row?.holds) throw guard.otherwise();
    }
    // The guard failed and holds again: someone else was between. The caller's view was stale either way.
    const [guard] = guards;
    throw guard === undefined ? error : guard.otherwise();
  }
}

/** True when the failure is a UNIQUE constraint on these columns, as SQLite names them: `table.column`. */
export const isUniqueViolation = (error: unknown, columns: string): boolean =>
  hasMessage(error, `UNIQUE constraint failed: ${columns}`);

function hasMessage(error: unknown, text: string): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause.message.includes(text)) return true;
  return false;
}

/** Rows of a hand-written query, each checked against its schema. */
export async function queryRows<T>(db: Db, schema: z.ZodType<T>, query: SQL): Promise<T[]> {
  return (await db.all(query)).map((row) => schema.parse(row));
}

/** Several hand-written queries in one round trip and one transaction: the rows of each, checked. */
export async function queryEach<T>(db: Db, schema: z.ZodType<T>, queries: readonly SQL[]): Promise<T[][]> {
  if (queries.length === 0) return [];
  const results = await db.$client.batch(queries.map((query) => prepared(db, query)));
  return results.map(({ results: rows }) => rows.map((row) => schema.parse(row)));
}

/** Parameter for bulk work: D1 binds at most 100 values, one JSON text carries any number of rows to `json_each`. */
export const asJson = (rows: readonly unknown[]): string => JSON.stringify(rows);

/** Ids or short rows that one such text holds at most: D1 binds strings of at most 2 MB. */
const ROWS_PER_TEXT = 10_000;

/** Rows of any number, in as many parts as `asJson` can carry. */
export function inTexts<T>(rows: readonly T[]): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < rows.length; i += ROWS_PER_TEXT) parts.push(rows.slice(i, i + ROWS_PER_TEXT));
  return parts;
}
