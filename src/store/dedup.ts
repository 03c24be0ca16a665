// Answers which stored chunks a client need not send: only what it may see, and no chunk hash in the clear.
import type { XetHash } from "../ids";
import type { Platform } from "../platform/platform";
import type { Scopes } from "./scopes";

/** A shard with the visible xorbs that hold the chunk and their family; null when there are none. */
export async function findDedup(_platform: Platform, _scopes: Scopes, _chunk: XetHash): Promise<Uint8Array | null> {
  throw new Error("soon");
}
