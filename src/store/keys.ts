// Every object key of the bucket in one place. Each ends in a nonce, so that no key is ever used twice.
import type { StorageScope } from "../db/schema";
import { parseXetHash, type Sha256, type XetHash } from "../ids";

const nonce = (): string => crypto.randomUUID().replaceAll("-", "");

/** Bytes whose digest was known before they came: one object, one PUT. */
export const newBlobKey = (sha256: Sha256): string => `blobs/${sha256.slice(0, 2)}/${sha256}/${nonce()}`;

/** One copy of one part of a multipart upload. */
export const newPartKey = (uploadId: string, number: number): string =>
  `uploads/${uploadId}/${String(number).padStart(5, "0")}-${nonce()}`;

/** A piece of a body that is read more than once, until its request has ended. */
export const newSpoolKey = (): string => `spool/${nonce()}`;

/** Entries of packs of one repository. */
export const newPackKey = (repoId: string): string => `packs/${repoId}/${nonce()}`;

export const XORBS_PREFIX = "xorbs/";

/** All copies of one xorb in one scope, of which at most one has a row. */
export const xorbPrefix = (hash: XetHash, scope: StorageScope): string =>
  `${XORBS_PREFIX}${hash.slice(0, 2)}/${hash}/${scope}/`;

/** One copy of a xorb: the packed chunks. */
export const newXorbKey = (hash: XetHash, scope: StorageScope): string => `${xorbPrefix(hash, scope)}${nonce()}`;

/** What lies where in the xorb with this key. */
export const indexKey = (xorbKey: string): string => `${xorbKey}.index`;

/** Which xorb lies under a key, or null for keys of anything else. */
export function parseXorbKey(key: string): { readonly hash: XetHash; readonly scope: StorageScope } | null {
  const [, hash, scope] = /^xorbs\/[0-9a-f]{2}\/([0-9a-f]{64})\/([^/]+)\/[0-9a-f]{32}$/.exec(key) ?? [];
  return hash === undefined || scope === undefined ? null : { hash: parseXetHash(hash, "hash"), scope };
}
