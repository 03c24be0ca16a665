// What a packfile is made of when it is written: header, then one entry an object, then the SHA-1 of all that.
import { constants, deflateSync } from "node:zlib";
import { encodeUtf8 } from "../text";
import type { GitObjectType } from "./objects";

const TYPE_BITS: Record<GitObjectType, number> = { commit: 1, tree: 2, blob: 3, tag: 4 };

/** Version 2; the number of objects must be known before the first one is written. */
export function packHeader(objects: number): Uint8Array {
  const header = new Uint8Array(12);
  header.set(encodeUtf8("PACK"));
  const view = new DataView(header.buffer);
  view.setUint32(4, 2);
  view.setUint32(8, objects);
  return header;
}

/** Type and size of the content: four bits of the size, then seven a byte, the lowest first. */
export function entryHeader(type: GitObjectType, size: number): Uint8Array {
  const bytes: number[] = [];
  let head = (TYPE_BITS[type] << 4) | (size % 16);
  // Sizes may have more than 32 bits: no shifts.
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    bytes.push(head | 0x80);
    head = rest % 128;
  }
  bytes.push(head);
  return Uint8Array.from(bytes);
}

/** The whole entry of an object in memory, as good at any place of any pack: it refers to no other. */
export function packEntry(type: GitObjectType, content: Uint8Array): Uint8Array {
  const header = entryHeader(type, content.length);
  const deflated = deflateSync(content, { level: constants.Z_BEST_SPEED });
  const entry = new Uint8Array(header.length + deflated.length);
  entry.set(header);
  entry.set(deflated, header.length);
  return entry;
}
