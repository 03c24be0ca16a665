// The terms of Xet files: which range of which xorb holds which bytes of a file, a window at a time.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../db/client";
import { parseXetHash, type XetHash } from "../ids";
import type { ByteRange, Db } from "../platform/platform";

/** A range of chunks, at `offset` of the file. Bytes are those of the packed object; all ends are exclusive. */
export type Term = {
  readonly offset: number;
  readonly length: number;
  readonly xorb: { readonly id: number; readonly hash: XetHash; readonly key: string };
  readonly chunks: { readonly start: number; readonly end: number };
  readonly bytes: { readonly start: number; readonly end: number };
};

/** Terms in one answer: enough for tens of GB of an ordinary file. */
export const TERM_PAGE = 1000;

export const Terms = z.array(
  z
    .tuple([
      z.number(),
      z.number(),
      z.number(),
      z.string().transform((text) => parseXetHash(text, "hash")),
      z.string(),
      z.number(),
      z.number(),
      z.number(),
      z.number(),
    ])
    .transform(
      ([offset, length, id, hash, key, chunkStart, chunkEnd, byteStart, byteEnd]): Term => ({
        offset,
        length,
        xorb: { id, hash, key },
        chunks: { start: chunkStart, end: chunkEnd },
        bytes: { start: byteStart, end: byteEnd },
      }),
    ),
);
const TermsColumn = z.string().transform((text) => Terms.parse(JSON.parse(text)));

/** SQL for the terms that cover a span of a file, in order, at most a page of them, as JSON. */
export const termsOf = (fileId: SQL, { offset, length }: ByteRange): SQL => sql`
  select json_group_array(json_array(t.offset, t.length, t.xorb_id, t.hash, t.key, t.chunk_start, t.chunk_end, t.byte_start, t.byte_end))
    from (select t.*, x.hash, x.key from xet_terms t join xorbs x on x.id = t.xorb_id
      where t.file_id = ${fileId} and t.offset < ${offset + length}
        and t.offset >= coalesce((select max(offset) from xet_terms where file_id = ${fileId} and offset <= ${offset}), 0)
      order by t.offset limit ${TERM_PAGE}) t`;

/** The terms that cover a span, at most a page of them. One query. */
export async function loadTerms(db: Db, fileId: number, span: ByteRange): Promise<Term[]> {
  const [row] = await queryRows(
    db,
    z.object({ terms: TermsColumn }),
    sql`select (${termsOf(sql`${fileId}`, span)}) as terms`,
  );
  return row?.terms ?? [];
}
