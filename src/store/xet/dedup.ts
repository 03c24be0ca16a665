// Answers which stored chunks a client need not send: only what it may see, and no chunk hash in the clear.
import { Buffer } from "node:buffer";
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryEach, queryRows } from "../../db/client";
import { encodeDedupShard } from "../../formats/xet/shard";
import type { XetHash } from "../../ids";
import type { Db, Platform } from "../../platform/platform";
import { sign } from "../../platform/signing";
import { isVisible, type Scopes } from "../scopes";
import { loadIndex, touchXorbs, VISIBLE_XORB, type VisibleXorb, VisibleXorbRow } from "./xorbs";

/**
 * An answer's bounds: 48 bytes a chunk, so at most some 3 MB. 64 full xorbs are 4 GiB of a file. Behind them a client sends what
 * the hub has until it meets the next eligible chunk, some 64 MiB on.
 */
const MAX_XORBS = 64;
const MAX_CHUNKS = 65_536;
/** Terms of the family's file that are looked through, from the chunk on and before it. */
const FAMILY_TERMS = 1000;
/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;
const DAY_S = 24 * 3600;

/** Makes chunks findable in the xorbs, by id, that hold them. */
export const indexChunks = (places: readonly (readonly [XetHash, number])[]): SQL =>
  sql`insert or ignore into dedup_chunks (chunk, xorb_id) select value ->> 0, value ->> 1 from json_each(${asJson(places)})`;

/**
 * A shard with the visible xorbs that hold the chunk, and with those around it in the newest visible file; null when there are
 * none. Its key is one for a target scope and a UTC day; it expires after a day. Chunks are asked for once for many: a client
 * that finds one of a file goes on with the rest of the answer.
 */
export async function findDedup(
  platform: Pick<Platform, "db" | "blobs" | "config" | "now">,
  scopes: Scopes,
  chunk: XetHash,
): Promise<Uint8Array | null> {
  const family = await kept(platform.db, bounded(await findFamily(platform, scopes, chunk)));
  if (family.length === 0) return null;
  const xorbs = [];
  for (let i = 0; i < family.length; i += CONCURRENCY) {
    const some = family.slice(i, i + CONCURRENCY);
    xorbs.push(
      ...(await Promise.all(
        some.map(async (xorb) => ({ hash: xorb.hash, index: await loadIndex(platform.blobs, xorb) })),
      )),
    );
  }
  const createdAt = Math.floor(platform.now() / 1000);
  const day = Math.floor(createdAt / DAY_S);
  const key = Buffer.from(await sign(platform.config.secret, "xet-dedup", day, scopes.target), "base64url");
  return encodeDedupShard({ xorbs, key, createdAt, expiresAt: createdAt + DAY_S });
}

/** Those that hold the chunk first, then the newest file that one of them is part of: what follows the chunk there, then what comes before. */
async function findFamily(
  { db }: Pick<Platform, "db">,
  scopes: Scopes,
  chunk: XetHash,
): Promise<readonly VisibleXorb[]> {
  return queryRows(
    db,
    VisibleXorbRow,
    sql`with hits as (
        select x.id from dedup_chunks d join xorbs x on x.id = d.xorb_id where d.chunk = ${chunk} and ${isVisible(scopes)}
          order by x.id desc limit ${MAX_XORBS}),
      place as (
        select t.file_id, t.offset from hits h join xet_terms t on t.xorb_id = h.id join xet_files f on f.id = t.file_id
          where f.state = 'registered' and f.scope in (select value from json_each(${asJson(scopes.visible)}))
          order by f.id desc, t.offset limit 1),
      near as (
        select id as xorb_id, 0 as part, 0 as far from hits
        union all select * from (
          select t.xorb_id, 1, t.offset - p.offset from place p join xet_terms t on t.file_id = p.file_id and t.offset >= p.offset
            order by t.offset limit ${FAMILY_TERMS})
        union all select * from (
          select t.xorb_id, 2, p.offset - t.offset from place p join xet_terms t on t.file_id = p.file_id and t.offset < p.offset
            order by t.offset desc limit ${FAMILY_TERMS}))
      select ${VISIBLE_XORB} from (select xorb_id, min(part) as part, min(far) as far from near group by xorb_id) n
        join xorbs x on x.id = n.xorb_id where ${isVisible(scopes)} order by n.part, n.far limit ${MAX_XORBS}`,
  );
}

/** Whoever is told of xorbs will refer to them: they are in use from now on. Those that the sweep took meanwhile are left out. */
async function kept(db: Db, xorbs: readonly VisibleXorb[]): Promise<VisibleXorb[]> {
  if (xorbs.length === 0) return [];
  const ids = xorbs.map(({ id }) => id);
  const rows = await queryEach(db, z.object({ id: z.number() }), [
    touchXorbs(ids),
    sql`select id from xorbs where id in (select value from json_each(${asJson(ids)}))`,
  ]);
  const left = new Set(rows.flat().map(({ id }) => id));
  return xorbs.filter(({ id }) => left.has(id));
}

/** The first always, and as many behind it as fit. */
function bounded(xorbs: readonly VisibleXorb[]): VisibleXorb[] {
  let chunks = 0;
  return xorbs.filter((xorb, i) => {
    chunks += xorb.chunks;
    return i === 0 || chunks <= MAX_CHUNKS;
  });
}
