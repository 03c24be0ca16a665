// Speaks git's smart HTTP as a client does, line by line, and reads what comes back with an inflater of its own.
import { createHash } from "node:crypto";
import { inflateSync } from "node:zlib";
import type { Client } from "./actors";

export type Line = string | "0000" | "0001";

/** Lines of text as pkt-lines; `0000` and `0001` stand for themselves. */
export const pkts = (lines: readonly Line[]): string =>
  lines
    .map((line) => {
      if (line === "0000" || line === "0001") return line;
      const length = new TextEncoder().encode(line).length + 5;
      return `${length.toString(16).padStart(4, "0")}${line}\n`;
    })
    .join("");

export const command = (name: string, args: readonly string[]): string =>
  pkts([`command=${name}`, "agent=test", "object-format=sha1", "0001", ...args, "0000"]);

export type GitAnswer = {
  readonly status: number;
  readonly headers: Headers;
  /** Text lines without their end; special ones as `0000`, `0001`. Those of bands are not among them. */
  readonly lines: readonly string[];
  readonly pack: Uint8Array;
  readonly progress: string;
  readonly failure: string;
};

const joined = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** `banded`: from the line `packfile` on, or from the first line of a band on in the older protocol. */
export async function gitAnswer(response: Response): Promise<GitAnswer> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  const { status, headers } = response;
  const lines: string[] = [];
  const bands: Record<number, Uint8Array[]> = { 1: [], 2: [], 3: [] };
  let at = 0;
  while (at < bytes.length) {
    const digits = new TextDecoder().decode(bytes.subarray(at, at + 4));
    if (!/^[0-9a-f]{4}$/.test(digits)) break;
    const length = Number.parseInt(digits, 16);
    if (length < 4) {
      lines.push(digits);
      at += 4;
      continue;
    }
    const content = bytes.subarray(at + 4, at + length);
    const band = bands[content[0] ?? 0];
    if (band !== undefined) band.push(content.slice(1));
    else lines.push(new TextDecoder().decode(content).replace(/\n$/, ""));
    at += length;
  }
  const text = (band: number): string => new TextDecoder().decode(joined(bands[band] ?? []));
  // What is no line is a pack without bands.
  const pack = at < bytes.length ? bytes.subarray(at) : joined(bands[1] ?? []);
  return { status, headers, lines, pack, progress: text(2), failure: text(3) };
}

export async function uploadPack(
  who: Client,
  repo: string,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<GitAnswer> {
  const response = await who.raw("POST", `/${repo}/git-upload-pack`, {
    body,
    headers: { "git-protocol": "version=2", "content-type": "application/x-git-upload-pack-request", ...headers },
  });
  return gitAnswer(response);
}

export type Unpacked = { readonly id: string; readonly type: string; readonly content: Buffer };

const TYPES = ["", "commit", "tree", "blob", "tag"];

/** The objects of a pack without deltas. @throws unless its count, its checksum and every size are right */
export function unpack(pack: Uint8Array): Unpacked[] {
  const bytes = Buffer.from(pack);
  const body = bytes.subarray(0, -20);
  if (!createHash("sha1").update(body).digest().equals(bytes.subarray(-20))) throw new Error("wrong checksum");
  if (body.toString("latin1", 0, 4) !== "PACK" || body.readUInt32BE(4) !== 2) throw new Error("no pack of version 2");
  const objects: Unpacked[] = [];
  let at = 12;
  for (let left = body.readUInt32BE(8); left > 0; left--) {
    let byte = body.readUInt8(at++);
    const type = TYPES[(byte >> 4) & 7] ?? "";
    let size = byte & 15;
    for (let scale = 16; byte >= 128; scale *= 128) {
      byte = body.readUInt8(at++);
      size += (byte & 127) * scale;
    }
    const { buffer, engine } = inflated(body.subarray(at));
    if (buffer.length !== size) throw new Error(`an object of ${size} bytes has ${buffer.length}`);
    at += engine.bytesWritten;
    const id = createHash("sha1").update(`${type} ${size}\0`).update(buffer).digest("hex");
    objects.push({ id, type, content: Buffer.from(buffer) });
  }
  if (at !== body.length) throw new Error("there is more in the pack than it counts");
  return objects;
}

type Info = { readonly buffer: Uint8Array; readonly engine: { readonly bytesWritten: number } };
const isInfo = (value: unknown): value is Info =>
  typeof value === "object" && value !== null && "buffer" in value && "engine" in value;

function inflated(bytes: Uint8Array): Info {
  const result: unknown = inflateSync(bytes, { info: true });
  if (!isInfo(result)) throw new Error("zlib gives no information");
  return result;
}
