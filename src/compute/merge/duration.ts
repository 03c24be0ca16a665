// How long a merge will take: by what the last ones of this hub took.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../db/client";
import type { Db } from "../../platform/platform";

/** The last merges that the estimate rests on. */
const LAST = 20;
/** Smaller merges tell of their start more than of their work. Bytes. */
const LEAST_BYTES = 8 << 20;
/** Where nothing was merged yet: bytes a second, read and written. */
const ASSUMED_RATE = 200e6;

export type Duration = {
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** How many merges that was measured on; 0 where it is assumed. */
  readonly merges: number;
};

const Measured = z.object({ merges: z.number(), bytes: z.number().nullable(), seconds: z.number().nullable() });

/** `bytes`: read and written. One query. */
export async function estimateDuration(db: Db, bytes: number): Promise<Duration> {
  const [row] = await queryRows(
    db,
    Measured,
    sql`select count(*) as merges, sum(bytes) as bytes, sum(seconds) as seconds from (
      select result ->> '$.record.bytes_read' + result ->> '$.record.bytes_written' as bytes, result ->> '$.record.seconds' as seconds
        from jobs where kind = 'merge' and state = 'succeeded' and result ->> '$.record.bytes_read' >= ${LEAST_BYTES} order by id desc limit ${LAST})`,
  );
  const measured = row !== undefined && row.bytes !== null && row.seconds !== null && row.seconds > 0;
  const bytesPerSecond = measured ? (row.bytes ?? 0) / (row.seconds ?? 1) : ASSUMED_RATE;
  return { seconds: bytes / bytesPerSecond, bytesPerSecond, merges: measured ? row.merges : 0 };
}
