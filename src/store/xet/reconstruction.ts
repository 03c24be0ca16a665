// How clients rebuild a Xet file: the terms that make up a range of it, and the ranges of xorbs that they need for that.
import { HubError } from "../../errors";
import type { XorbIndex } from "../../formats/xet/xorb";
import type { XetHash } from "../../ids";
import type { ByteRange, Platform } from "../../platform/platform";
import { clipTerm, type Term, termsCovering } from "./terms";
import { loadIndex } from "./xorbs";

/** Ends are exclusive; `bytes` are positions in the packed object. */
export type Fetch = Pick<Term, "xorb" | "chunks" | "bytes">;

export type Reconstruction = {
  /** Bytes of the first term that lie before the range. */
  readonly offsetIntoFirstRange: number;
  /** In the order of the file. */
  readonly terms: readonly Term[];
  /** What to fetch, each chunk once: by xorb, then in the order of its chunks; every term lies within one. */
  readonly fetches: readonly Fetch[];
};

/** Terms in one query: their JSON stays well below the 2 MB that D1 returns in a value. */
const PAGE = 4000;
/**
 * Terms in one answer. Clients keep terms at 8 chunks on average when they deduplicate: then this is 32 GiB of a file. Even a
 * file made only of the smallest chunks, each of another xorb, can be asked for in windows of 512 MB.
 */
const MAX_TERMS = 65_536;

/**
 * What covers the range of a file, or all of it: whole chunks, and no chunk that lies outside the range. One query for each 4000
 * terms; at most two reads of the bucket, none where the range begins and ends with a term or within terms of one chunk.
 *
 * hf_xet asks in windows, some ahead: `bytes=0-255999999`, then 256000000-767999999, in the end 8 GB each, whatever the file's
 * size. It takes an answer that ends before its window for the end of the file, so no answer is ever cut short.
 * @throws range_not_satisfiable for a start behind the end | invalid_request for more terms than an answer can have
 */
export async function reconstruct(
  platform: Pick<Platform, "db" | "blobs">,
  file: { readonly fileId: number; readonly size: number },
  range: ByteRange | null,
): Promise<Reconstruction> {
  const { fileId, size } = file;
  if (range !== null && range.offset >= size) throw new HubError("range_not_satisfiable", { size });
  const offset = range?.offset ?? 0;
  const span = { offset, length: range === null ? size : Math.min(range.length, size - offset) };
  const terms: Term[] = [];
  for await (const page of termsCovering(platform.db, { fileId, page: PAGE }, span)) {
    if (terms.length + page.length > MAX_TERMS)
      throw new HubError("invalid_request", {
        problem: `this range of the file has more than ${MAX_TERMS} terms: ask for smaller ranges`,
      });
    terms.push(...page);
  }
  const clipped = await fromOneCopy(platform, await clipEnds(platform, terms, span));
  return {
    offsetIntoFirstRange: offset - (clipped[0]?.offset ?? offset),
    terms: clipped,
    fetches: fetchesOf(clipped),
  };
}

/** Only the first and the last term can reach beyond the range. */
async function clipEnds(
  { blobs }: Pick<Platform, "blobs">,
  terms: readonly Term[],
  span: ByteRange,
): Promise<readonly Term[]> {
  const indexes = new Map<number, Promise<XorbIndex>>();
  const clip = async (term: Term): Promise<Term> => {
    const { offset, length, chunks, xorb } = term;
    const isInside = offset >= span.offset && offset + length <= span.offset + span.length;
    if (isInside || chunks.end - chunks.start === 1) return term;
    const index = indexes.get(xorb.id) ?? loadIndex(blobs, xorb);
    indexes.set(xorb.id, index);
    return clipTerm(term, await index, span);
  };
  const [first, ...rest] = terms;
  const last = rest.pop();
  const ends = await Promise.all([first, last].flatMap((term) => (term === undefined ? [] : [clip(term)])));
  return [...ends.slice(0, 1), ...rest, ...ends.slice(1)];
}

/**
 * Clients know a xorb by its hash and a range by its first chunk: where a file names two stored copies of one xorb, which may be
 * packed differently, all is taken from the first.
 */
async function fromOneCopy({ blobs }: Pick<Platform, "blobs">, terms: readonly Term[]): Promise<readonly Term[]> {
  const copies = new Map<XetHash, Term["xorb"]>();
  const result: Term[] = [];
  for (const term of terms) {
    const { hash, id } = term.xorb;
    const xorb = copies.get(hash) ?? term.xorb;
    copies.set(hash, xorb);
    const { start, end } = term.chunks;
    result.push(
      xorb.id === id ? term : { ...term, xorb, bytes: (await loadIndex(blobs, xorb)).packedRange(start, end) },
    );
  }
  return result;
}

/** The chunk ranges of each xorb, those that touch or overlap joined. */
const fetchesOf = (terms: readonly Term[]): Fetch[] =>
  [...Map.groupBy(terms, ({ xorb }) => xorb.id).values()].flatMap(joined);

function joined(ranges: readonly Term[]): Fetch[] {
  const result: Fetch[] = [];
  for (const next of ranges.toSorted((a, b) => a.chunks.start - b.chunks.start)) {
    const last = result.at(-1);
    if (last !== undefined && next.chunks.start <= last.chunks.end) result[result.length - 1] = join(last, next);
    else result.push({ xorb: next.xorb, chunks: next.chunks, bytes: next.bytes });
  }
  return result;
}

const join = (a: Fetch, b: Term): Fetch => ({
  xorb: a.xorb,
  chunks: { start: a.chunks.start, end: Math.max(a.chunks.end, b.chunks.end) },
  bytes: { start: a.bytes.start, end: Math.max(a.bytes.end, b.bytes.end) },
});

/** The address that serves these bytes of a xorb, `end` exclusive. */
export type UrlOf = (xorb: Term["xorb"], bytes: Fetch["bytes"]) => Promise<string>;

/** As the protocol writes a range: both ends included. */
const inclusive = ({ start, end }: Fetch["bytes"]) => ({ start, end: end - 1 });

const wireTerms = (terms: readonly Term[]) =>
  terms.map(({ xorb, length, chunks }) => ({ hash: xorb.hash, unpacked_length: length, range: chunks }));

/** What `entryOf` makes of each fetch, by the hash of its xorb. */
async function byHash<T>(
  fetches: readonly Fetch[],
  urlOf: UrlOf,
  entryOf: (fetch: Fetch, url: string) => T,
): Promise<Record<XetHash, T[]>> {
  const entries = fetches.map(async (fetch): Promise<[XetHash, T]> => {
    const { hash } = fetch.xorb;
    return [hash, entryOf(fetch, await urlOf(fetch.xorb, fetch.bytes))];
  });
  const grouped = Map.groupBy(await Promise.all(entries), ([hash]) => hash);
  return Object.fromEntries([...grouped].map(([hash, ofHash]) => [hash, ofHash.map(([, entry]) => entry)]));
}

/**
 * The body of `GET /v2/reconstructions/{file}`. Each range has an entry of its own: for several in one, clients would send
 * multi-range requests, which object stores do not answer.
 */
export const reconstructionV2 = async ({ offsetIntoFirstRange, terms, fetches }: Reconstruction, urlOf: UrlOf) => ({
  offset_into_first_range: offsetIntoFirstRange,
  terms: wireTerms(terms),
  xorbs: await byHash(fetches, urlOf, ({ chunks, bytes }, url) => ({
    url,
    ranges: [{ chunks, bytes: inclusive(bytes) }],
  })),
});

/** The body of `GET /v1/reconstructions/{file}`. */
export const reconstructionV1 = async ({ offsetIntoFirstRange, terms, fetches }: Reconstruction, urlOf: UrlOf) => ({
  offset_into_first_range: offsetIntoFirstRange,
  terms: wireTerms(terms),
  fetch_info: await byHash(fetches, urlOf, ({ chunks, bytes }, url) => ({
    range: chunks,
    url,
    url_range: inclusive(bytes),
  })),
});
