// Objects of the bucket: each has its row before its first byte, so that whatever a crash leaves is found by a query.
import { type SQL, sql } from "drizzle-orm";
import { asJson, type Guard } from "../db/client";
import { HubError } from "../errors";
import type { Sha256 } from "../ids";
import type { BlobStore, ByteRange } from "../platform/platform";

/** Run before the bytes are sent. */
export const stageObjects = (keys: readonly string[], now: number): SQL =>
  sql`insert into objects (key, state, changed_at) select value, 'staged', ${now} from json_each(${asJson(keys)})`;

/** In the batch that makes a row name them. */
export const adoptObjects = (keys: readonly string[], now: number): SQL =>
  sql`update objects set state = 'live', changed_at = ${now} where key in (select value from json_each(${asJson(keys)}))`;

/** Beside `adoptObjects`: what was condemned meanwhile must not be named again. */
export const objectsUsable = (keys: readonly string[]): Guard => ({
  holds: sql`not exists (select 1 from json_each(${asJson(keys)}) j
    where not exists (select 1 from objects o where o.key = j.value and o.state <> 'condemned'))`,
  otherwise: () => new HubError("content_damaged"),
});

/** In the batch after which no row names them. Their bytes go some time later, when no reader is left. */
export const condemnObjects = (keys: SQL, now: number): SQL =>
  sql`update objects set state = 'condemned', changed_at = ${now} where key in (${keys})`;

/**
 * In the batch that inserts these contents: objects that one of them names are live; the rest, of which another copy was
 * first, are condemned.
 */
export const settleObjects = (keys: SQL, digests: readonly Sha256[], now: number): SQL => sql`
  update objects set changed_at = ${now}, state = iif(key in (
      select s.value ->> 'key' from contents c, json_each(c.segments) s
        where c.sha256 in (select value from json_each(${asJson(digests)}))), 'live', 'condemned')
    where key in (${keys})`;

/**
 * Stores an object of `size` bytes while `fill` writes them: nothing is kept unless `fill` returns. Fails with what made it or the bucket
 * give up.
 */
export async function writeObject<T>(
  blobs: BlobStore,
  key: string,
  size: number,
  fill: (writer: WritableStreamDefaultWriter<Uint8Array>) => Promise<T>,
): Promise<T> {
  const { readable, writable } = new FixedLengthStream(size);
  const writer = writable.getWriter();
  const failures: unknown[] = [];
  const stored = blobs.put(key, readable).catch(async (error: unknown) => {
    failures.push(error);
    // A bucket that has given up reads no further: whoever writes must not wait for it.
    await writer.abort(error).catch(() => undefined);
  });
  let filled: T;
  try {
    filled = await fill(writer);
    await writer.close();
  } catch (error) {
    const [reason = error] = failures;
    await writer.abort(error).catch(() => undefined);
    await stored;
    throw reason;
  }
  await stored;
  if (failures.length > 0) throw failures[0];
  return filled;
}

/** @throws content_damaged */
export async function readObject(
  blobs: BlobStore,
  key: string,
  range?: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  const body = await blobs.get(key, range);
  if (body === null) throw new HubError("content_damaged");
  return body;
}
