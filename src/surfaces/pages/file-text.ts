// The text of a file where it is text and short enough to be shown on a page.
import type { Platform } from "../../platform/platform";
import { type Readable, readContent } from "../../store/contents";
import { readAll } from "../../streams/chunks";

/** Longer files are downloaded, not read on a page. Bytes. */
export const MAX_SHOWN_BYTES = 200_000;

/** Null for what is longer, or is no UTF-8 text. */
export async function readShownText(
  platform: Platform,
  file: Readable,
  most = MAX_SHOWN_BYTES,
): Promise<string | null> {
  if (file.size > most) return null;
  const bytes = await readAll(await readContent(platform, file), most);
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
