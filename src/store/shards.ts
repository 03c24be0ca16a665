// Registers the files of a shard: everything that it claims is checked before one batch makes any of it visible.
import type { Platform } from "../platform/platform";
import type { Scopes } from "./scopes";

/** Terms and xorbs checked so far. `total` is null as long as the shard has not been read to its end. */
export type ShardProgress = { readonly verified: number; readonly total: number | null };

/**
 * Registers the files of a shard and lets the repository hold them. `existed`: every file was registered before.
 * @throws xet_xorb_missing | xet_shard_invalid | xet_retry | repo_not_found | payload_too_large | body_interrupted; FormatError `xet.…`
 */
export async function registerShard(
  _platform: Platform,
  _scopes: Scopes,
  _repoId: string,
  _body: ReadableStream<Uint8Array> | null,
  _report: (progress: ShardProgress) => void | Promise<void>,
): Promise<{ readonly files: number; readonly existed: boolean }> {
  throw new Error("soon");
}
