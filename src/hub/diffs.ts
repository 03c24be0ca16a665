// The diff of two trees as git would write it, within bounds: texts of small files, pointers of large ones.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import { type DiffSide, diffableText, fileDiff } from "../formats/git/diff";
import { encodeLfsPointer } from "../formats/git/lfs-pointer";
import { type GitId, parseSha256, type Sha256 } from "../ids";
import type { Platform } from "../platform/platform";
import { HeldColumn, type HeldContent, heldContent, readContent } from "../store/contents";
import { readAll } from "../streams/chunks";
import type { Repository } from "./repositories";
import { type ChangedFile, diffTrees } from "./tree-diff";
import type { FileEntry } from "./tree-edit";
import { treesOf } from "./trees";

/** Files whose changes are shown; longer texts are called binary. */
const MAX_FILES = 300;
const MAX_TEXT_BYTES = 256 * 1024;
/** Of all files, read into memory. */
const MAX_READ_BYTES = 8 * 1024 * 1024;
/** Of the whole diff. */
const MAX_CHARACTERS = 1_000_000;
/** Requests a Worker may have under way at once. */
const CONCURRENCY = 6;

/** What is left out for its size is said so in a line that git passes over. Who may have the files has been asked. */
export async function readDiff(platform: Platform, repo: Repository, before: GitId, after: GitId): Promise<string> {
  try {
    return await writtenDiff(platform, repo, await diffTrees(treesOf(platform.db, repo.id), before, after));
  } catch (error) {
    if (error instanceof HubError && error.code === "payload_too_large") return `# ${error.message}\n`;
    throw error;
  }
}

async function writtenDiff(platform: Platform, repo: Repository, files: readonly ChangedFile[]): Promise<string> {
  const shown = files.slice(0, MAX_FILES);
  const texts = await readTexts(
    platform,
    repo,
    shown.flatMap(({ before, after }) => [before, after]).filter((one) => one !== null),
  );
  const sideOf = (file: FileEntry | null): DiffSide | null =>
    file && { mode: file.mode ?? "100644", id: file.id, text: textOf(file, texts) };
  let diff = "";
  for (const [at, { path, before, after }] of shown.entries()) {
    const one = fileDiff({ path, before: sideOf(before), after: sideOf(after) });
    if (diff.length + one.length > MAX_CHARACTERS) return diff + cut(files.length - at);
    diff += one;
  }
  return files.length > shown.length ? diff + cut(files.length - shown.length) : diff;
}

/** Where git expects a header of a file, it passes over what is none. */
const cut = (left: number): string =>
  `# The diff is too long to be shown whole: ${left} more changed ${left === 1 ? "file" : "files"}, see them with git\n`;

/** Of a large file what git has: the pointer. */
const textOf = (file: FileEntry, texts: ReadonlyMap<Sha256, string | null>): string | null =>
  file.lfs ? encodeLfsPointer(file) : (texts.get(file.sha256) ?? null);

const TextRow = z.object({
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  content: HeldColumn.nullable(),
});

/** The texts of the small regular files among these; what is missing, or null, is not to be shown. */
async function readTexts(
  platform: Platform,
  repo: Repository,
  files: readonly FileEntry[],
): Promise<Map<Sha256, string | null>> {
  let left = MAX_READ_BYTES;
  const wanted = new Set<Sha256>();
  for (const { lfs, size, sha256 } of files)
    if (!lfs && size <= MAX_TEXT_BYTES && size <= left && !wanted.has(sha256)) {
      wanted.add(sha256);
      left -= size;
    }
  if (wanted.size === 0) return new Map();
  const rows = await queryRows(
    platform.db,
    TextRow,
    sql`select value as sha256, ${heldContent(sql`${repo.id}`, sql`value`)} as content from json_each(${asJson([...wanted])})`,
  );
  const texts = new Map<Sha256, string | null>();
  for (let i = 0; i < rows.length; i += CONCURRENCY)
    await Promise.all(
      rows.slice(i, i + CONCURRENCY).map(async ({ sha256, content }) => {
        if (content !== null) texts.set(sha256, await readText(platform, content));
      }),
    );
  return texts;
}

async function readText(platform: Platform, content: HeldContent): Promise<string | null> {
  if (content.holding.state === "mismatched") return null;
  return diffableText(await readAll(await readContent(platform, content), MAX_TEXT_BYTES));
}
