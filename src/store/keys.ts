// Every object key of the bucket in one place.
import type { Sha256 } from "../ids";

/** Bytes whose digest was known before they came: one object, one PUT, the digest its name. */
export const blobKey = (sha256: Sha256): string => `blobs/${sha256.slice(0, 2)}/${sha256}`;

/** All parts of one upload; unlinked ones are swept by this prefix when the upload expires. */
export const uploadPrefix = (uploadId: string): string => `uploads/${uploadId}/`;

/** One part of a multipart upload; the nonce keeps two racing copies of a part apart. */
export const partKey = (uploadId: string, number: number, nonce: string): string =>
  `${uploadPrefix(uploadId)}${String(number).padStart(5, "0")}-${nonce}`;
