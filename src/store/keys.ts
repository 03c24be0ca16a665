// Every object key of the bucket in one place.
import type { StorageScope } from "../db/schema";
import type { Sha256, XetHash } from "../ids";

/** Bytes whose digest was known before they came: one object, one PUT, the digest its name. */
export const blobKey = (sha256: Sha256): string => `blobs/${sha256.slice(0, 2)}/${sha256}`;

/** All parts of one upload; unlinked ones are swept by this prefix when the upload expires. */
export const uploadPrefix = (uploadId: string): string => `uploads/${uploadId}/`;

/** One part of a multipart upload; the nonce keeps two racing copies of a part apart. */
export const partKey = (uploadId: string, number: number, nonce: string): string =>
  `${uploadPrefix(uploadId)}${String(number).padStart(5, "0")}-${nonce}`;

/** All copies of one xorb in one scope, of which at most one has a row. */
export const xorbPrefix = (hash: XetHash, scope: StorageScope): string =>
  `xorbs/${hash.slice(0, 2)}/${hash}/${scope}/`;

/** One copy of a xorb: the packed chunks. */
export const newXorbKey = (hash: XetHash, scope: StorageScope): string =>
  `${xorbPrefix(hash, scope)}${crypto.randomUUID().replaceAll("-", "")}`;

/** What lies where in the xorb with this key. */
export const indexKey = (xorbKey: string): string => `${xorbKey}.index`;
