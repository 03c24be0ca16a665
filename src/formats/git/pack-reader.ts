// Reads a pack as it arrives: where each object lies in it, whole or as a delta, all sizes and the checksum verified.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import type { ByteSource } from "./byte-source";
import { inflateFirst, inflateLarge, packedBound } from "./inflate";
import { BlobIdHash, type GitObjectType } from "./objects";

export type PackEntry = {
  /** Where the entry begins, counted from the start of the pack; deltas name their base by it. */
  readonly offset: number;
  /** Where its compressed bytes begin, and end. */
  readonly data: number;
  readonly end: number;
  /** Of what the compressed bytes hold: the object, or the delta. */
  readonly size: number;
} & (
  | { readonly kind: "whole"; readonly type: GitObjectType }
  /** A blob too large to be kept: only its id is known. */
  | { readonly kind: "large"; readonly id: GitId }
  | { readonly kind: "offsetDelta"; readonly base: number }
  | { readonly kind: "idDelta"; readonly base: GitId }
);

export type PackLimits = {
  readonly objects: number;
  /** Of one object, or one delta, in memory. Bytes. */
  readonly objectBytes: number;
  /** Of all of them, unpacked. Bytes. */
  readonly totalBytes: number;
};

const TYPES: Readonly<Record<number, GitObjectType>> = { 1: "commit", 2: "tree", 3: "blob", 4: "tag" };
const OFFSET_DELTA = 6;
const ID_DELTA = 7;
const ID_BYTES = 20;
const HEAD_BYTES = 12;
/** More than the head of any entry: its size, and an offset or an id. */
const MAX_ENTRY_HEAD = 32;
const LARGE_PIECE_BYTES = 1 << 20;

const broken = (problem: string): FormatError => new FormatError("git.pack", problem);

type EntryHead = { readonly type: number; readonly size: number; readonly length: number };

function readEntryHead(bytes: Uint8Array): EntryHead {
  let size = 0;
  for (let at = 0, scale = 1; at < 8; scale *= at === 0 ? 16 : 128, at++) {
    const byte = bytes[at];
    if (byte === undefined) throw broken("ends early");
    size += (byte & (at === 0 ? 0x0f : 0x7f)) * scale;
    if (byte < 0x80) return { type: ((bytes[0] ?? 0) >> 4) & 7, size, length: at + 1 };
  }
  throw broken("holds an object that claims a size beyond all bounds");
}

/** How far before the entry its base begins. */
function readDistance(bytes: Uint8Array, offset: number): { readonly distance: number; readonly length: number } {
  let distance = 0;
  for (let at = 0; at < 7; at++) {
    const byte = bytes[offset + at];
    if (byte === undefined) throw broken("ends early");
    distance = (at === 0 ? 0 : (distance + 1) * 128) + (byte & 0x7f);
    if (byte < 0x80) return { distance, length: at + 1 };
  }
  throw broken("holds a delta whose base lies beyond all bounds");
}

/**
 * The entries of the pack that begins here. Every byte goes to `keep`, too, which must be done with it before it returns.
 * @throws FormatError `git.pack…`
 */
export async function readPack(
  source: ByteSource,
  limits: PackLimits,
  keep: (bytes: Uint8Array) => Promise<void> | void,
): Promise<PackEntry[]> {
  const hash = createHash("sha1");
  const start = source.taken;
  const take = async (count: number): Promise<void> => {
    const bytes = source.take(count);
    hash.update(bytes);
    await keep(bytes);
  };
  const head = await source.window(HEAD_BYTES);
  if (head.length < HEAD_BYTES) throw broken("ends early");
  const view = new DataView(head.buffer, head.byteOffset, HEAD_BYTES);
  if (view.getUint32(0) !== 0x5041434b || ![2, 3].includes(view.getUint32(4))) throw broken("is no pack of version 2");
  const count = view.getUint32(8);
  if (count > limits.objects)
    throw broken(`holds ${count} objects, more than ${limits.objects}: push fewer commits at a time`);
  await take(HEAD_BYTES);
  const entries: PackEntry[] = [];
  let total = 0;
  for (let i = 0; i < count; i++) {
    const offset = source.taken - start;
    const bytes = await source.window(MAX_ENTRY_HEAD);
    const { type, size, length } = readEntryHead(bytes);
    const whole = TYPES[type];
    if (size > limits.objectBytes && whole !== "blob")
      throw broken(`holds a ${whole ?? "delta"} of ${size} bytes, more than ${limits.objectBytes}`);
    total += size;
    if (total > limits.totalBytes)
      throw broken(`unpacks to more than ${limits.totalBytes} bytes: push fewer commits at a time`);
    if (whole !== undefined) {
      await take(length);
      entries.push(await readWhole(whole, offset, size));
    } else if (type === OFFSET_DELTA) {
      const { distance, length: more } = readDistance(bytes, length);
      if (distance === 0 || distance > offset) throw broken("holds a delta whose base is not before it");
      await take(length + more);
      entries.push({ kind: "offsetDelta", base: offset - distance, ...(await readData(offset, size)) });
    } else if (type === ID_DELTA) {
      const raw = bytes.subarray(length, length + ID_BYTES);
      if (raw.length < ID_BYTES) throw broken("ends early");
      const base = parseGitId(Buffer.from(raw).toString("hex"), "object id");
      await take(length + ID_BYTES);
      entries.push({ kind: "idDelta", base, ...(await readData(offset, size)) });
    } else throw broken(`holds an object of the unknown type ${type}`);
  }
  const trailer = await source.window(ID_BYTES + 1);
  if (trailer.length < ID_BYTES) throw broken("ends early");
  if (!Buffer.from(trailer.subarray(0, ID_BYTES)).equals(hash.digest()))
    throw new FormatError("git.pack_checksum", "does not have the checksum at its end: it was damaged on its way");
  if (trailer.length > ID_BYTES) throw broken("goes on after its end");
  source.take(ID_BYTES);
  return entries;

  async function readData(offset: number, size: number) {
    const data = source.taken - start;
    const { packed } = inflateFirst(await source.window(packedBound(size)), size);
    await take(packed);
    return { offset, data, end: source.taken - start, size };
  }

  async function readWhole(type: GitObjectType, offset: number, size: number): Promise<PackEntry> {
    if (size <= limits.objectBytes) return { kind: "whole", type, ...(await readData(offset, size)) };
    const data = source.taken - start;
    const id = new BlobIdHash(size);
    let given = 0;
    let used = 0;
    // What was given is taken only when the next piece is asked for: at the end only a part of the last one was used.
    const pieces = async (): Promise<Uint8Array> => {
      await take(given);
      used += given;
      const piece = (await source.window(LARGE_PIECE_BYTES)).subarray(0, LARGE_PIECE_BYTES);
      given = piece.length;
      return piece;
    };
    const packed = await inflateLarge(pieces, size, (content) => id.update(content));
    await take(packed - used);
    return { kind: "large", id: id.digest(), offset, data, end: source.taken - start, size };
  }
}
