// A pack on its way to the client: header, entries and checksum, framed as the client asked, with words about the progress.
import { createHash } from "node:crypto";
import type { Caller } from "../../access/caller";
import { packHeader } from "../../formats/git/pack-entry";
import { FLUSH_PKT } from "../../formats/git/pkt-line";
import { SideBand, SMALL_BAND } from "../../formats/git/side-band";
import type { PlainRequest } from "../../formats/git/upload-pack-request";
import { noteDownload } from "../../hub/downloads";
import { objectCount, type PackContents } from "../../hub/git/fetch";
import { writePack } from "../../hub/git/write-pack";
import type { Repository } from "../../hub/repositories";
import { asHubError } from "../as-hub-error";

export type PackOptions = {
  /** What comes before the pack, as it is. */
  readonly head: Uint8Array;
  readonly noProgress: boolean;
  readonly band: PlainRequest["band"];
};

/** The answer's body. What fails on the way is told in the error band, and the pack has no end. */
export function packStream(
  caller: Caller,
  repo: Repository,
  contents: PackContents,
  { head, noProgress, band: kind }: PackOptions,
): ReadableStream<Uint8Array> {
  const { platform } = caller;
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const band =
    kind === "none" ? null : new SideBand((bytes) => writer.write(bytes), kind === "small" ? SMALL_BAND : undefined);
  const pack = (bytes: Uint8Array): Promise<void> => (band === null ? writer.write(bytes) : band.pack(bytes));
  const say = async (text: string): Promise<void> => {
    if (!noProgress) await band?.progress(text);
  };
  const send = async (): Promise<void> => {
    await writer.write(head);
    const count = objectCount(contents);
    await say(`Enumerating objects: ${count}, done.\n`);
    const hash = createHash("sha1");
    const put = (bytes: Uint8Array): Promise<void> => {
      hash.update(bytes);
      return pack(bytes);
    };
    await put(packHeader(count));
    await writePack(platform, repo.id, contents, put, say);
    await pack(hash.digest());
    await say(`Total ${count} (delta 0), reused 0 (delta 0)\n`);
    if (band !== null) {
      await band.flush();
      await writer.write(FLUSH_PKT);
    }
    await writer.close();
  };
  const [commit] = contents.commits;
  // Once a fetch; it counts as a use where it brings commits, which what is fetched later for them does not.
  const data = { via: "git", ...(commit === undefined ? {} : { commit }) };
  if (objectCount(contents) > 0) noteDownload(caller, repo, data, commit !== undefined);
  platform.defer(
    send().catch(async (error: unknown) => {
      // A client that went away is no failure of ours, and can't be told.
      await band?.fail(asHubError(error, platform.requestId).message).catch(() => undefined);
      await writer.abort(error).catch(() => undefined);
    }),
  );
  return readable;
}
