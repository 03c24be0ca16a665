// The terms of Xet files: which range of which xorb holds which bytes of a file, a window at a time.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { HubError } from "../../errors";
import type { XorbIndex } from "../../formats/xet/xorb";
import { parseXetHash, type XetHash } from "../../ids";
import type { ByteRange, Db } from "../../platform/platform";

/** A range of chunks, at `offset` of the file. Bytes are those of the packed object; all ends are exclusive. */
export type Term = {
  readonly offset: number;
  readonly length: number;
  readonly xorb: { readonly id: number; readonly hash: XetHash; readonly key: string };
  readonly chunks: { readonly start: number; readonly end: number };
  readonly bytes: { readonly start: number; readonly end: number };
};

/** File, offset, length, xorb, first and last chunk, first and last packed byte; ends exclusive. */
export type TermRow = readonly [number, number, number, number, number, number, number, number];

export const insertTerms = (rows: readonly TermRow[]): SQL =>
  sql`insert into xet_terms (file_id, offset, length, xorb_id, chunk_start, chunk_end, byte_start, byte_end)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
      from json_each(${asJson(rows)})`;

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
export const termsOf = (fileId: SQL, { offset, length }: ByteRange, page = TERM_PAGE): SQL => sql`
  select json_group_array(json_array(t.offset, t.length, t.xorb_id, t.hash, t.key, t.chunk_start, t.chunk_end, t.byte_start, t.byte_end))
    from (select t.*, x.hash, x.key from xet_terms t join xorbs x on x.id = t.xorb_id
      where t.file_id = ${fileId} and t.offset < ${offset + length}
        and t.offset >= coalesce((select max(offset) from xet_terms where file_id = ${fileId} and offset <= ${offset}), 0)
      order by t.offset limit ${page}) t`;

/** The terms that cover a span, at most a page of them. One query. */
export async function loadTerms(db: Db, fileId: number, span: ByteRange, page = TERM_PAGE): Promise<Term[]> {
  const [row] = await queryRows(
    db,
    z.object({ terms: TermsColumn }),
    sql`select (${termsOf(sql`${fileId}`, span, page)}) as terms`,
  );
  return row?.terms ?? [];
}

/** Terms of one file: `known` are some that were loaded before, in order. */
export type TermSource = { readonly fileId: number; readonly known?: readonly Term[]; readonly page?: number };

/**
 * All terms that overlap the range, a page at a time and each one's end where the next begins. No query where the known ones
 * cover it. @throws content_damaged when some of the range is covered by none
 */
export async function* termsCovering(
  db: Db,
  { fileId, known = [], page = TERM_PAGE }: TermSource,
  { offset, length }: ByteRange,
): AsyncGenerator<readonly Term[], void, void> {
  const end = offset + length;
  let at = offset;
  let terms = known.filter((term) => term.offset < end && term.offset + term.length > at);
  while (at < end) {
    if (terms.length === 0 || at > offset) terms = await loadTerms(db, fileId, { offset: at, length: end - at }, page);
    for (const [place, term] of terms.entries()) {
      const joins = term.offset === at || (place === 0 && at === offset && term.offset < at);
      if (!joins || term.offset + term.length <= at) throw new HubError("content_damaged", { file: fileId });
      at = term.offset + term.length;
    }
    if (terms.length === 0) throw new HubError("content_damaged", { file: fileId });
    yield terms;
  }
}

/** The part of a term that its chunks which overlap the range make. @throws content_damaged when the index is of other chunks */
export function clipTerm(term: Term, index: XorbIndex, { offset, length }: ByteRange): Term {
  const { start: first, end: last } = term.chunks;
  if (last > index.count || index.lengthOf(first, last) !== term.length) throw new HubError("content_damaged");
  const origin = index.offsetOf(first) - term.offset;
  const start = index.chunkAt(origin + Math.max(offset, term.offset));
  const end = index.chunkAt(origin + Math.min(offset + length, term.offset + term.length) - 1) + 1;
  return {
    offset: index.offsetOf(start) - origin,
    length: index.lengthOf(start, end),
    xorb: term.xorb,
    chunks: { start, end },
    bytes: index.packedRange(start, end),
  };
}
