// Takes xorbs in: verified while they stream into the bucket, named by a row only when both of their objects are there.
import type { XorbIndex } from "../formats/xet/xorb";
import type { XetHash } from "../ids";
import type { BlobStore, Platform } from "../platform/platform";
import type { Scopes } from "./scopes";

export type XorbUpload = {
  readonly hash: XetHash;
  readonly body: ReadableStream<Uint8Array> | null;
  readonly contentLength: number | null;
};

/**
 * Takes a xorb. `inserted` is false when the target scope or `public` has it already; the body is verified all the same.
 * @throws length_required | payload_too_large | size_mismatch | body_interrupted; FormatError `xet.…`
 */
export async function receiveXorb(
  _platform: Platform,
  _scopes: Scopes,
  _upload: XorbUpload,
): Promise<{ readonly inserted: boolean }> {
  throw new Error("soon");
}

/** Null for one that does not exist or that the caller may not see. `packedSize` in bytes, without a footer. */
export async function findXorb(
  _platform: Platform,
  _scopes: Scopes,
  _hash: XetHash,
): Promise<{ readonly packedSize: number } | null> {
  throw new Error("soon");
}

/** What lies where in a stored xorb. Recently used ones are kept. @throws content_damaged when the index object is gone */
export async function loadIndex(_blobs: BlobStore, _xorb: { readonly key: string }): Promise<XorbIndex> {
  throw new Error("soon");
}

/** Gives rows to xorbs that a crash left whole, and condemns what it left in pieces. Returns how many it looked at. */
export async function healStaged(_platform: Platform, _limit: number): Promise<number> {
  throw new Error("soon");
}
