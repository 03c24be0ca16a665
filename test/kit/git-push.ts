// Pushes made by hand: objects, deltas and packs, right or wrong, and the report that comes back.
import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { type GitObjectType, objectId } from "../../src/formats/git/objects";
import { pktLine, readPktLine } from "../../src/formats/git/pkt-line";
import { encodeTree, type TreeMode } from "../../src/formats/git/tree";
import { type GitId, parseGitId } from "../../src/ids";
import type { Client } from "./actors";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const NO_ID = "0".repeat(40);
const CODES: Record<GitObjectType, number> = { commit: 1, tree: 2, blob: 3, tag: 4 };

export type Whole = { readonly type: GitObjectType; readonly content: Uint8Array };
export type Item =
  | Whole
  /** `base`: the place in the list of what it builds on. */
  | { readonly base: number; readonly delta: Uint8Array }
  | { readonly baseId: string; readonly delta: Uint8Array };

export const idOf = ({ type, content }: Whole): GitId => objectId(type, content);
export const blob = (content: string | Uint8Array): Whole => ({
  type: "blob",
  content: typeof content === "string" ? bytes(content) : content,
});
export const tree = (entries: readonly (readonly [mode: TreeMode, name: string, id: string])[]): Whole => ({
  type: "tree",
  content: encodeTree(entries.map(([mode, name, id]) => ({ mode, name, id: parseGitId(id, "id") }))),
});
/** A tree whose entries are as given, whatever git says to it. */
export const rawTree = (entries: readonly (readonly [mode: string, name: string, id: string])[]): Whole => ({
  type: "tree",
  content: Buffer.concat(
    entries.flatMap(([mode, name, id]) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(id, "hex")]),
  ),
});
export const commit = (
  root: string,
  parents: readonly string[] = [],
  message = "a commit\n",
  seconds = 1e9,
): Whole => ({
  type: "commit",
  content: bytes(
    `tree ${root}\n${parents.map((id) => `parent ${id}\n`).join("")}author Zoë <z@example.org> ${seconds} +0530\ncommitter Zoë <z@example.org> ${seconds + 5} +0530\n\n${message}`,
  ),
});

/** A commit of one file at the root, and everything it needs. */
export function fileCommit(name: string, content: string | Uint8Array, parents: readonly string[] = []) {
  const file = blob(content);
  const root = tree([["100644", name, idOf(file)]]);
  const made = commit(idOf(root), parents, `add ${name}\n`);
  return { items: [made, root, file], id: idOf(made), root };
}

function varint(value: number): number[] {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...out, rest];
    out.push((rest % 128) | 0x80);
  }
}

/** Instructions of a delta: new bytes, or a range of the base. */
export type Step = string | Uint8Array | { readonly from: number; readonly length: number };
export function deltaOf(baseSize: number, size: number, steps: readonly Step[]): Uint8Array {
  const out = [...varint(baseSize), ...varint(size)];
  for (const step of steps) {
    if (typeof step === "string" || step instanceof Uint8Array) {
      const added = typeof step === "string" ? bytes(step) : step;
      for (let at = 0; at < added.length; at += 127) {
        const part = added.subarray(at, at + 127);
        out.push(part.length, ...part);
      }
      continue;
    }
    const { from, length } = step;
    out.push(
      0xff,
      ...[0, 8, 16, 24].map((bits) => (from >>> bits) & 0xff),
      ...[0, 8, 16].map((bits) => (length >>> bits) & 0xff),
    );
  }
  return Uint8Array.from(out);
}

function head(type: number, size: number): Uint8Array {
  const out = [(type << 4) | (size % 16)];
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    out[out.length - 1] = (out.at(-1) ?? 0) | 0x80;
    out.push(rest % 128);
  }
  return Uint8Array.from(out);
}

function distance(value: number): Uint8Array {
  const out = [value & 0x7f];
  for (let rest = value >> 7; rest > 0; rest >>= 7) out.unshift(0x80 | (--rest & 0x7f));
  return Uint8Array.from(out);
}

export const checksummed = (body: Uint8Array): Uint8Array =>
  Buffer.concat([body, createHash("sha1").update(body).digest()]);

/** `count` and `size` are claims of its head and of its first object. */
export function packOf(
  items: readonly Item[],
  claims: { readonly count?: number; readonly size?: number } = {},
): Uint8Array {
  const start = Buffer.from("PACK\0\0\0\x02\0\0\0\0", "latin1");
  start.writeUInt32BE(claims.count ?? items.length, 8);
  const parts: Uint8Array[] = [start];
  const offsets: number[] = [];
  let at = 12;
  for (const [i, item] of items.entries()) {
    offsets.push(at);
    const content = "type" in item ? item.content : item.delta;
    const size = i === 0 ? (claims.size ?? content.length) : content.length;
    const entry = Buffer.concat([
      head("type" in item ? CODES[item.type] : "base" in item ? 6 : 7, size),
      "base" in item ? distance(at - (offsets[item.base] ?? 0)) : new Uint8Array(),
      "baseId" in item ? Buffer.from(item.baseId, "hex") : new Uint8Array(),
      deflateSync(content),
    ]);
    parts.push(entry);
    at += entry.length;
  }
  return checksummed(Buffer.concat(parts));
}

export type Command = readonly [from: string, to: string, ref: string];

export const CAPABILITIES = "report-status side-band-64k object-format=sha1 agent=test";
export function pushBody(commands: readonly Command[], pack: Uint8Array, capabilities = CAPABILITIES): Uint8Array {
  const lines = commands.map(([from, to, ref], i) =>
    pktLine(`${from} ${to} ${ref}${i === 0 ? `\0${capabilities}` : ""}`),
  );
  return Buffer.concat([...lines, bytes("0000"), pack]);
}

export type Report = {
  readonly status: number;
  readonly unpack: string;
  /** `ok`, or why not. */
  readonly refs: Record<string, string>;
  readonly messages: string;
};

function linesOf(body: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let at = 0; at < body.length; ) {
    const read = readPktLine(body, at);
    if (read === null) throw new Error("the answer ends within a line");
    if (read.line.kind === "data") lines.push(read.line.bytes);
    at = read.next;
  }
  return lines;
}

export async function reportOf(response: Response): Promise<Report> {
  const body = new Uint8Array(await response.arrayBuffer());
  if (response.status !== 200)
    return { status: response.status, unpack: "", refs: {}, messages: new TextDecoder().decode(body) };
  const lines = linesOf(body);
  const text = (band: number): Uint8Array =>
    Buffer.concat(lines.filter((line) => line[0] === band).map((line) => line.slice(1)));
  const refs: Record<string, string> = {};
  let unpack = "";
  for (const line of linesOf(text(1))) {
    const [word = "", ref = "", ...rest] = new TextDecoder().decode(line).trim().split(" ");
    if (word === "unpack") unpack = [ref, ...rest].join(" ");
    else refs[ref] = word === "ok" ? "ok" : rest.join(" ");
  }
  return { status: 200, unpack, refs, messages: new TextDecoder().decode(text(2)) };
}

export async function post(
  client: Client,
  repo: string,
  body: Uint8Array | ReadableStream<Uint8Array>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return client.raw("POST", `/${repo}.git/git-receive-pack`, {
    body,
    headers: { "content-type": "application/x-git-receive-pack-request", ...headers },
  });
}

export const push = async (client: Client, repo: string, commands: readonly Command[], items: readonly Item[]) =>
  reportOf(await post(client, repo, pushBody(commands, packOf(items))));

/** What every ref points to, as who pushes is told it. */
export async function refsOf(client: Client, repo: string): Promise<Record<string, string>> {
  const response = await client.raw("GET", `/${repo}.git/info/refs?service=git-receive-pack`);
  const [, ...lines] = linesOf(new Uint8Array(await response.arrayBuffer()));
  return Object.fromEntries(
    lines.map((line) => {
      const [id = "", name = ""] = (new TextDecoder().decode(line).split("\0")[0] ?? "").trim().split(" ");
      return [name, id];
    }),
  );
}
