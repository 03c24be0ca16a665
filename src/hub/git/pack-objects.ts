// Reads the objects of a pack and gives them as its entries, page by page: what is in memory is bounded, whatever the pack holds.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { HubError } from "../../errors";
import { encodeCommit } from "../../formats/git/commit";
import type { IdSet } from "../../formats/git/id-set";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { entryHeader, packEntry } from "../../formats/git/pack-entry";
import { encodeTree, type TreeEntry, type TreeMode } from "../../formats/git/tree";
import { encodeUtf8 } from "../../formats/text";
import { type GitId, parseGitId, parseSha256 } from "../../ids";
import type { Platform } from "../../platform/platform";
import { HeldColumn, type HeldContent, heldContent, readContent, usable } from "../../store/contents";
import { readAll, readChunks } from "../../streams/chunks";
import { gitIdColumn } from "../repositories";
import type { PackContents } from "./fetch";
import { readTrees } from "./tree-walk";
import { EMPTY_TREE } from "./wants";

const COMMITS_PER_PAGE = 2000;
const TREES_PER_PAGE = 4000;
const BLOBS_PER_PAGE = 1000;
/** Blobs read at a time: a Worker has six connections. */
const READERS = 6;
/** Larger ones go through in pieces, one at a time. Bytes. */
const WHOLE_BYTES = 2 << 20;

/** Takes entries; of a large one pieces, of which only the first is given with the id. The next is given when it is done. */
export type Sink = (bytes: Uint8Array, id?: GitId) => Promise<void>;
type Store = Pick<Platform, "db" | "blobs">;

/** Every entry, in an order in which no two are mixed; without those of large blobs, if so wanted. */
export async function writeObjects(
  store: Store,
  repoId: string,
  contents: PackContents,
  sink: Sink,
  withoutLarge = false,
): Promise<void> {
  for (const { id, content } of contents.tags) await sink(packEntry("tag", encodeUtf8(content)), id);
  await writeCommits(store, repoId, contents.commits, sink);
  for (let at = 0; at < contents.trees.size; at += TREES_PER_PAGE)
    await writeTrees(store, repoId, contents.trees.slice(at, at + TREES_PER_PAGE), sink);
  await writeBlobs(store, repoId, contents.blobs, sink, withoutLarge);
}

const CommitRow = z.object({
  id: gitIdColumn,
  tree: gitIdColumn,
  parents: z
    .string()
    .transform((text) => z.array(z.string().transform((id) => parseGitId(id, "id"))).parse(JSON.parse(text))),
  author_name: z.string(),
  author_email: z.string(),
  authored_at: z.number(),
  message: z.string(),
  content: z.string().nullable(),
});

async function writeCommits(store: Store, repoId: string, ids: readonly GitId[], sink: Sink): Promise<void> {
  for (let at = 0; at < ids.length; at += COMMITS_PER_PAGE) {
    const page = ids.slice(at, at + COMMITS_PER_PAGE);
    const rows = await queryRows(
      store.db,
      CommitRow,
      sql`select c.id, c.tree, c.parents, c.author_name, c.author_email, c.authored_at, c.message, c.content
        from json_each(${asJson(page)}) j cross join commits c on c.repo_id = ${repoId} and c.id = j.value`,
    );
    if (rows.length !== page.length) throw new HubError("content_damaged");
    for (const row of rows) await sink(packEntry("commit", commitContent(row)), row.id);
  }
}

function commitContent(row: z.output<typeof CommitRow>): Uint8Array {
  if (row.content !== null) return encodeUtf8(row.content);
  const { tree, parents, message } = row;
  const person = { name: row.author_name, email: row.author_email, seconds: row.authored_at, timezone: "+0000" };
  return encodeCommit({ tree, parents, author: person, committer: person, headers: [], message });
}

const MODES: Readonly<Record<string, TreeMode>> = { f: "100644", d: "40000", "100755": "100755", "120000": "120000" };

/** Names hold no slash, so one between the parts tells them apart. */
const ENTRIES = sql`group_concat(iif(e.kind = 'directory', 'd', coalesce(e.mode, 'f')) || '/' || e.name || '/' || e.id, '/')`;

function entriesOf(found: string): TreeEntry[] {
  const parts = found.split("/");
  const entries: TreeEntry[] = [];
  for (let at = 0; at < parts.length; at += 3) {
    const [mode, name, id] = [MODES[parts[at] ?? ""], parts[at + 1], parts[at + 2]];
    if (mode === undefined || name === undefined || id === undefined) throw new HubError("content_damaged");
    entries.push({ mode, name, id: parseGitId(id, "id") });
  }
  return entries;
}

async function writeTrees(store: Store, repoId: string, trees: readonly GitId[], sink: Sink): Promise<void> {
  let open: { readonly tree: GitId; readonly entries: TreeEntry[] } | undefined;
  let written = 0;
  const write = async (tree: GitId, entries: readonly TreeEntry[]): Promise<void> => {
    written++;
    await sink(packEntry("tree", encodeTree(entries)), tree);
  };
  for await (const { tree, found } of readTrees(store.db, repoId, trees, ENTRIES)) {
    if (open?.tree === tree) {
      open.entries.push(...entriesOf(found));
      continue;
    }
    if (open !== undefined) await write(open.tree, open.entries);
    open = { tree, entries: entriesOf(found) };
  }
  if (open !== undefined) await write(open.tree, open.entries);
  // It has no rows.
  if (trees.includes(EMPTY_TREE)) await write(EMPTY_TREE, []);
  if (written !== trees.length) throw new HubError("content_damaged");
}

const BlobRow = z.object({
  id: gitIdColumn,
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  size: z.number(),
  lfs: z.number(),
  content: HeldColumn.nullable(),
});

async function writeBlobs(
  store: Store,
  repoId: string,
  blobs: IdSet,
  sink: Sink,
  withoutLarge: boolean,
): Promise<void> {
  for (let at = 0; at < blobs.size; at += BLOBS_PER_PAGE) {
    const ids = blobs.slice(at, at + BLOBS_PER_PAGE);
    const rows = await queryRows(
      store.db,
      BlobRow,
      sql`select e.id, e.sha256, e.size, e.lfs, iif(e.lfs, null, ${heldContent(sql`${repoId}`, sql`e.sha256`)}) as content
        from json_each(${asJson(ids)}) j cross join tree_entries e
          on e.rowid = (select rowid from tree_entries where repo_id = ${repoId} and id = j.value and kind = 'file' limit 1)`,
    );
    if (rows.length !== ids.length) throw new HubError("content_damaged");
    const stored: StoredBlob[] = [];
    for (const { id, sha256, size, lfs, content } of rows) {
      if (lfs === 1) await sink(packEntry("blob", encodeUtf8(encodeLfsPointer({ sha256, size }))), id);
      else if (content === null) throw new HubError("content_damaged");
      else if (!withoutLarge || content.size <= WHOLE_BYTES) stored.push({ id, ...usable(content, id) });
    }
    await writeStored(store, stored, sink);
  }
}

type StoredBlob = HeldContent & { readonly id: GitId };

/** In the order in which they come: several are read at once, and only one entry is written at a time. */
async function writeStored(store: Store, contents: readonly StoredBlob[], sink: Sink): Promise<void> {
  const small = contents.filter(({ size }) => size <= WHOLE_BYTES);
  let next = 0;
  let written: Promise<void> = Promise.resolve();
  const reader = async (): Promise<void> => {
    for (;;) {
      const content = small[next++];
      if (content === undefined) return;
      const bytes = await readAll(await readContent(store, content), content.size);
      if (bytes.length !== content.size) throw new HubError("content_damaged");
      const entry = packEntry("blob", bytes);
      written = written.then(() => sink(entry, content.id));
      await written;
    }
  };
  try {
    await Promise.all(Array.from({ length: READERS }, reader));
  } finally {
    // One reader's failure ends the pack; the others stop at their next step.
    next = small.length;
    await written.catch(() => undefined);
  }
  for (const content of contents) if (content.size > WHOLE_BYTES) await writeLarge(store, content, sink);
}

async function writeLarge(store: Store, content: StoredBlob, sink: Sink): Promise<void> {
  await sink(entryHeader("blob", content.size), content.id);
  const deflated = (await readContent(store, content)).pipeThrough(new CompressionStream("deflate"));
  const chunks = readChunks(deflated, { reuse: false });
  try {
    for (let chunk = await chunks.next(); chunk !== undefined; chunk = await chunks.next()) await sink(chunk);
  } catch (error) {
    await chunks.cancel(error);
    throw error;
  }
}
