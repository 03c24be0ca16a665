// A Xet client at the hub's front door: gets a token, sends what it built, and puts a file together again from what it is told.
import * as z from "zod";
import { decodeChunk, decodeChunkHeader, HEADER_BYTES } from "../../src/formats/xet/chunk";
import { type Answer, anonymous, answerOf, Client } from "./actors";
import { type BuiltFile, join } from "./xet";

export const Connection = z.object({ casUrl: z.string(), exp: z.number(), accessToken: z.string() });

/** The client of the store of one repository, with the token that `client` is given for it. */
export async function connect(client: Client, repo: string, access: "read" | "write", query = ""): Promise<XetClient> {
  const answer = await client.get(`/api/models/${repo}/xet-${access}-token/main${query}`);
  const { casUrl, accessToken } = Connection.parse(answer.body);
  return new XetClient(casUrl, accessToken);
}

const Span = z.object({ start: z.number(), end: z.number() });
const Term = z.object({ hash: z.string(), unpacked_length: z.number(), range: Span });
export const V1 = z.strictObject({
  offset_into_first_range: z.number(),
  terms: z.array(Term),
  fetch_info: z.record(z.string(), z.array(z.strictObject({ range: Span, url: z.string(), url_range: Span }))),
});
export const V2 = z.strictObject({
  offset_into_first_range: z.number(),
  terms: z.array(Term),
  xorbs: z.record(
    z.string(),
    z.array(z.strictObject({ url: z.string(), ranges: z.tuple([z.strictObject({ chunks: Span, bytes: Span })]) })),
  ),
});

/** One thing to fetch, as both versions tell it: chunks [start, end), bytes with both ends. */
type Fetch = { readonly url: string; readonly chunks: z.output<typeof Span>; readonly bytes: z.output<typeof Span> };

export class XetClient extends Client {
  readonly casUrl: string;

  constructor(casUrl: string, token: string) {
    super(token);
    this.casUrl = casUrl;
  }

  /** The same store with another token. */
  as(token: string): XetClient {
    return new XetClient(this.casUrl, token);
  }

  cas(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    return this.raw(method, `${this.casUrl}${path}`, init);
  }

  async ask(method: string, path: string, init: RequestInit = {}): Promise<Answer> {
    return answerOf(await this.cas(method, path, init));
  }

  sendBytes(path: string, bytes: Uint8Array): Promise<Answer> {
    return this.ask("POST", path, { body: bytes, headers: { "content-length": String(bytes.length) } });
  }

  /** Xorbs first, then the shard, as clients do. */
  async upload({ xorbs, shard }: BuiltFile, version: 1 | 2 = 2): Promise<Answer> {
    for (const { hash, body } of xorbs) await this.sendBytes(`/v1/xorbs/default/${hash}`, body);
    return this.sendBytes(`/v${version}/shards`, shard);
  }

  /** The file, or `bytes=first-last` of it, from the addresses that a reconstruction names. */
  async download(hash: string, version: 1 | 2 = 2, range?: string): Promise<Uint8Array> {
    const headers = range === undefined ? {} : { range };
    const { body } = await this.ask("GET", `/v${version}/reconstructions/${hash}`, { headers });
    const [told, fetches] = version === 1 ? fromV1(body) : fromV2(body);
    const parts: Uint8Array[] = [];
    for (const term of told.terms) {
      const { start, end } = term.range;
      const fetch = fetches.get(term.hash)?.find(({ chunks }) => chunks.start <= start && end <= chunks.end);
      if (fetch === undefined) throw new Error(`no address covers chunks ${start} to ${end} of ${term.hash}`);
      const chunks = (await chunksAt(fetch)).slice(start - fetch.chunks.start, end - fetch.chunks.start);
      const bytes = join(chunks);
      if (bytes.length !== term.unpacked_length) throw new Error("the term has another length");
      parts.push(bytes);
    }
    const whole = join(parts).subarray(told.offset_into_first_range);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    return first === undefined ? whole : whole.slice(0, Number(last) - Number(first) + 1);
  }
}

function fromV1(body: unknown) {
  const told = V1.parse(body);
  const fetches = Object.entries(told.fetch_info).map(
    ([hash, all]) =>
      [hash, all.map(({ range, url, url_range }): Fetch => ({ url, chunks: range, bytes: url_range }))] as const,
  );
  return [told, new Map(fetches)] as const;
}

function fromV2(body: unknown) {
  const told = V2.parse(body);
  const fetches = Object.entries(told.xorbs).map(
    ([hash, all]) => [hash, all.map(({ url, ranges: [range] }): Fetch => ({ url, ...range }))] as const,
  );
  return [told, new Map(fetches)] as const;
}

/** The chunks of one range, which are asked for without any token. */
async function chunksAt({ url, chunks, bytes: { start, end } }: Fetch): Promise<Uint8Array[]> {
  const response = await anonymous.raw("GET", url, { headers: { range: `bytes=${start}-${end}` } });
  if (response.status !== 206) throw new Error(`an address answers ${response.status}`);
  const packed = new Uint8Array(await response.arrayBuffer());
  const unpacked: Uint8Array[] = [];
  for (let at = 0; at < packed.length; ) {
    const header = decodeChunkHeader(packed.subarray(at, at + HEADER_BYTES));
    const body = packed.subarray(at + HEADER_BYTES, at + HEADER_BYTES + header.packedLength);
    unpacked.push(header.scheme === 0 ? body : decodeChunk(header.scheme, body, header.length));
    at += HEADER_BYTES + header.packedLength;
  }
  if (unpacked.length !== chunks.end - chunks.start) throw new Error("the bytes hold other chunks");
  return unpacked;
}
