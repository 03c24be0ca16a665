// Files at a commit: listing directories, looking up paths, reading bytes.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import { type GitId, parseSha256, parseXetHash, type Sha256, type XetHash } from "../ids";
import type { ByteRange, Db, Platform } from "../platform/platform";
import {
  HeldColumn,
  type Holding,
  heldContent,
  heldContentOf,
  readContent,
  type Source,
  usable,
} from "../store/contents";
import { readAll } from "../streams/chunks";
import { EntryNotFound, gitIdColumn, missingContent, type Snapshot } from "./repositories";
import type { NewFile } from "./tree-edit";

export type Entry =
  | { readonly kind: "directory"; readonly path: string; readonly id: GitId }
  | {
      readonly kind: "file";
      readonly path: string;
      readonly id: GitId;
      readonly sha256: Sha256;
      readonly size: number;
      readonly lfs: boolean;
      /** Where its bytes are kept as a Xet file that readers may have. */
      readonly xetHash: XetHash | null;
    };

export type FileEntry = Extract<Entry, { kind: "file" }>;

/** Directories on the way to the cursor come before it and count towards the recursion's limit: at most one a level. */
const MAX_DEPTH = 33;

const EntryRow = z.object({
  path: z.string(),
  kind: z.enum(["file", "directory"]),
  id: gitIdColumn,
  sha256: z
    .string()
    .transform((text) => parseSha256(text, "sha256"))
    .nullable(),
  size: z.number(),
  lfs: z.number(),
  xet_hash: z
    .string()
    .transform((text) => parseXetHash(text, "hash"))
    .nullable(),
});

/** SQL for the Xet hash of the file `e` of a listing; null where it is kept otherwise, or turned out to be another file. */
const xetHashOf = (repoId: string): SQL => sql`(
  select f.hash from repo_contents h join xet_files f on f.id = h.file_id
    where h.repo_id = ${repoId} and h.sha256 = e.sha256 and h.state <> 'mismatched' and e.lfs) as xet_hash`;

function entryOf(row: z.output<typeof EntryRow>): Entry {
  const { path, id } = row;
  return row.kind === "directory" || row.sha256 === null
    ? { kind: "directory", path, id }
    : { kind: "file", path, id, sha256: row.sha256, size: row.size, lfs: row.lfs === 1, xetHash: row.xet_hash };
}

export type TreePage = {
  readonly path: string;
  readonly recursive: boolean;
  readonly after?: string;
  readonly limit: number;
};

/** Tree ids along a path: the row at depth `n` is the directory that the first n segments name. */
const walkTo = (snapshot: Snapshot, path: string): SQL => sql`
  down (depth, kind, id) as (
    select 0, 'directory', ${snapshot.tree}
    union all
    select d.depth + 1, e.kind, e.id from down d
      cross join json_each(${asJson(path === "" ? [] : path.split("/"))}) s on s.key = d.depth
      cross join tree_entries e on e.repo_id = ${snapshot.repo.id} and e.tree = d.id and e.name = s.value where d.kind = 'directory')`;

/**
 * Entries below a directory in the order of their paths, from `after` (exclusive) on; directories come too. One query, whose work follows
 * the page and not the tree: the recursion pops paths in order and stops at the limit. @throws EntryNotFound
 */
export async function listTree(db: Db, snapshot: Snapshot, page: TreePage): Promise<Entry[]> {
  const depth = page.path === "" ? 0 : page.path.split("/").length;
  const prefix = page.path === "" ? "" : `${page.path}/`;
  const after = page.after ?? "";
  const { id: repoId } = snapshot.repo;
  // A directory whose paths all lie before the cursor is not entered: they are below `path || '0'`, as '0' follows '/'.
  const children = (tree: SQL, path: SQL): SQL => sql`
    select ${path} || e.name, e.kind, e.id, e.sha256, e.size, e.lfs from tree_entries e
      where e.repo_id = ${repoId} and e.tree = ${tree}
        and (${path} || e.name > ${after} or (e.kind = 'directory' and ${path} || e.name || '0' > ${after}))`;
  const below = (): SQL => sql`
    ${children(sql`(select id from base)`, sql`${prefix}`)}
    union all
    select l.path || '/' || e.name, e.kind, e.id, e.sha256, e.size, e.lfs
      from listed l join tree_entries e on e.repo_id = ${repoId} and e.tree = l.id
      where l.kind = 'directory'
        and (l.path || '/' || e.name > ${after} or (e.kind = 'directory' and l.path || '/' || e.name || '0' > ${after}))
    order by 1 limit ${page.limit + MAX_DEPTH}`;
  // One directory is in the order of its names already: the page is read by the table's key, from the cursor on.
  const within = (): SQL => sql`
    select ${prefix} || e.name, e.kind, e.id, e.sha256, e.size, e.lfs from tree_entries e
      where e.repo_id = ${repoId} and e.tree = (select id from base) and e.name > ${after.startsWith(prefix) ? after.slice(prefix.length) : ""}
      order by e.name limit ${page.limit}`;
  const rows = await queryRows(
    db,
    // The folder itself is a row, too, where the page holds nothing of it.
    z.union([EntryRow, z.object({ path: z.null() })]),
    sql`with recursive ${walkTo(snapshot, page.path)},
      base as (select id from down where depth = ${depth} and kind = 'directory'),
      listed (path, kind, id, sha256, size, lfs) as (${page.recursive ? below() : within()})
      select l.* from base b
        left join (select e.*, ${xetHashOf(repoId)} from listed e where e.path > ${after} limit ${page.limit}) l on 1 = 1`,
  );
  if (rows.length === 0) throw new EntryNotFound(snapshot, page.path);
  return rows.flatMap((row) => (row.path === null ? [] : [entryOf(row)]));
}

/** A tree of a repository, whatever commit it is of. */
export type TreeOf = { readonly repo: Pick<Snapshot["repo"], "id" | "type">; readonly tree: GitId };

/** Every file of a tree, for callers that need all of them; `limit` bounds the answer. */
export const listFiles = async (db: Db, tree: TreeOf, limit: number): Promise<FileEntry[]> =>
  filesOf(await db.all(allFiles(tree, limit)));

/** The same as a query, for who asks more in the same round trip; its rows are for `filesOf`. */
export const allFiles = ({ repo, tree }: TreeOf, limit: number): SQL =>
  sql`with recursive listed (path, kind, id, sha256, size, lfs) as (
      select e.name, e.kind, e.id, e.sha256, e.size, e.lfs from tree_entries e where e.repo_id = ${repo.id} and e.tree = ${tree}
      union all
      select l.path || '/' || e.name, e.kind, e.id, e.sha256, e.size, e.lfs
        from listed l join tree_entries e on e.repo_id = ${repo.id} and e.tree = l.id where l.kind = 'directory'
      order by 1)
    select e.*, ${xetHashOf(repo.id)} from listed e where e.kind = 'file' limit ${limit}`;

export const filesOf = (rows: readonly unknown[]): FileEntry[] =>
  rows.map((row) => entryOf(EntryRow.parse(row))).filter((entry) => entry.kind === "file");

const PathRow = z.object({ ordinal: z.number(), path: z.string() });

/** Paths of the files of several trees, tree by tree, up to so many in all; `ordinal` says of which. One query. */
export const listPaths = (
  db: Db,
  trees: readonly { readonly repoId: string; readonly tree: GitId | null }[],
  limit: number,
): Promise<z.output<typeof PathRow>[]> =>
  queryRows(
    db,
    PathRow,
    // A directory is opened when its turn comes: what lies behind the limit is not read.
    sql`with recursive listed (ordinal, path, repo_id, kind, id) as (
        select key, '', value ->> 'repoId', 'directory', value ->> 'tree' from json_each(${asJson(trees)})
        union all
        select l.ordinal, iif(l.path = '', '', l.path || '/') || e.name, l.repo_id, e.kind, e.id
          from listed l join tree_entries e on e.repo_id = l.repo_id and e.tree = l.id where l.kind = 'directory'
        order by 1, 2)
      select ordinal, path from listed where kind = 'file' limit ${limit}`,
  );

/** The entries at these paths; paths that name nothing are left out. One query. */
export async function findEntries(db: Db, snapshot: Snapshot, paths: readonly string[]): Promise<Entry[]> {
  const wanted = paths.map((path) => ({ path, segments: path.split("/") }));
  const rows = await queryRows(
    db,
    EntryRow,
    sql`with recursive wanted as (select value ->> 'path' as path, value -> 'segments' as segments, json_array_length(value, '$.segments') as depth
        from json_each(${asJson(wanted)})),
      walk (path, segments, depth, level, kind, id, sha256, size, lfs) as (
        select path, segments, depth, 0, 'directory', ${snapshot.tree}, null, 0, 0 from wanted
        union all
        select w.path, w.segments, w.depth, w.level + 1, e.kind, e.id, e.sha256, e.size, e.lfs
          from walk w join tree_entries e on e.repo_id = ${snapshot.repo.id} and e.tree = w.id and e.name = json_extract(w.segments, '$[' || w.level || ']')
          where w.kind = 'directory' and w.level < w.depth)
      select e.path, e.kind, e.id, e.sha256, e.size, e.lfs, ${xetHashOf(snapshot.repo.id)}
        from walk e where e.level = e.depth and e.level > 0 order by e.path`,
  );
  return rows.map(entryOf);
}

/** Files of this size or less are read whole where their text is needed: attributes, cards, configs. Bytes. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024;

/** The text of a small file that the repository holds; empty where there is none. */
export async function readTextFile(
  platform: Platform,
  repo: Pick<Snapshot["repo"], "id">,
  entry: Entry | undefined,
): Promise<string> {
  if (entry?.kind !== "file") return "";
  const { path, sha256, size } = entry;
  return readText(platform, { path, size }, heldContent(sql`${repo.id}`, sql`${sha256}`, { offset: 0, length: size }));
}

/** The text of a small file that a commit is about to bring. */
export async function readNewTextFile(platform: Platform, path: string, file: NewFile): Promise<string> {
  const { holding, sha256, size } = file;
  return readText(platform, { path, size }, heldContentOf(holding, sha256, { offset: 0, length: size }));
}

async function readText(
  platform: Platform,
  { path, size }: { readonly path: string; readonly size: number },
  content: SQL,
): Promise<string> {
  if (size > MAX_TEXT_BYTES) return "";
  const [row] = await queryRows(
    platform.db,
    z.object({ content: HeldColumn.nullable() }),
    sql`select ${content} as content`,
  );
  if (row?.content == null) throw new HubError("content_damaged");
  const bytes = await readAll(await readContent(platform, usable(row.content, path)), MAX_TEXT_BYTES);
  return new TextDecoder().decode(bytes);
}

const TopRow = z.object({ n: z.number(), path: z.string(), size: z.number() });

/** The files at the root of several trees and in the folders there, those first; names of other endings are left out. One query. */
export async function listTops(
  db: Db,
  trees: readonly TreeOf[],
  endings: readonly string[],
  limit: number,
): Promise<{ readonly path: string; readonly size: number }[][]> {
  const rows = await queryRows(
    db,
    TopRow,
    sql`with tops as materialized (
        select t.key as n, e.repo_id, e.name, e.kind, e.id, e.size from json_each(${asJson(trees.map(({ repo, tree }) => ({ repo: repo.id, tree })))}) t
          join tree_entries e on e.repo_id = t.value ->> 'repo' and e.tree = t.value ->> 'tree'),
      files (n, depth, path, size) as (
        select n, 0, name, size from tops where kind = 'file'
        union all
        select d.n, 1, d.name || '/' || e.name, e.size from tops d
          cross join tree_entries e on e.repo_id = d.repo_id and e.tree = d.id and e.kind = 'file' where d.kind = 'directory')
      select f.n, f.path, f.size from files f
        where exists (select 1 from json_each(${asJson(endings)}) s where substr(f.path, -length(s.value)) = s.value)
        order by f.depth, f.n, f.path limit ${limit}`,
  );
  const tops: { path: string; size: number }[][] = trees.map(() => []);
  for (const { n, path, size } of rows) tops[n]?.push({ path, size });
  return tops;
}

export type FileQuery = { readonly snapshot: Snapshot; readonly path: string };

export type StoredFile = {
  readonly path: string;
  /** Git id of the blob; of the pointer for an LFS file. */
  readonly id: GitId;
  readonly sha256: Sha256;
  readonly size: number;
  readonly lfs: boolean;
  readonly source: Source;
  readonly holding: Holding;
};

const StoredRow = EntryRow.omit({ path: true, kind: true, xet_hash: true }).extend({
  n: z.number(),
  sha256: z.string().transform((text) => parseSha256(text, "sha256")),
  content: HeldColumn.nullable(),
});

/**
 * Files of any number of snapshots, ready to be read: one query. Null where a path names no file. What lies within `span` of a
 * Xet file is read without a further one. @throws content_quarantined
 */
export async function findStoredFiles(
  db: Db,
  wanted: readonly FileQuery[],
  span?: ByteRange,
): Promise<(StoredFile | null)[]> {
  const parameter = wanted.map(({ snapshot, path }) => ({
    repo: snapshot.repo.id,
    tree: snapshot.tree,
    names: path.split("/"),
  }));
  const rows = await queryRows(
    db,
    StoredRow,
    sql`with recursive wanted as (
        select key as n, value ->> 'repo' as repo, value ->> 'tree' as tree, value -> 'names' as names, json_array_length(value, '$.names') as depth
          from json_each(${asJson(parameter)})),
      walk (n, repo, names, depth, level, kind, id, sha256, size, lfs) as (
        select n, repo, names, depth, 0, 'directory', tree, null, 0, 0 from wanted
        union all
        select w.n, w.repo, w.names, w.depth, w.level + 1, e.kind, e.id, e.sha256, e.size, e.lfs
          from walk w join tree_entries e on e.repo_id = w.repo and e.tree = w.id and e.name = json_extract(w.names, '$[' || w.level || ']')
          where w.kind = 'directory' and w.level < w.depth)
      select w.n, w.id, w.sha256, w.size, w.lfs, ${heldContent(sql`w.repo`, sql`w.sha256`, span)} as content
        from walk w where w.level = w.depth and w.kind = 'file'`,
  );
  const found = new Map(rows.map((row) => [row.n, row]));
  return wanted.map(({ path }, n) => {
    const row = found.get(n);
    if (row === undefined) return null;
    const { id, sha256, size, lfs, content } = row;
    if (content === null) throw missingContent(path, lfs === 1);
    const { source, holding } = usable(content, path);
    return { path, id, sha256, size, lfs: lfs === 1, source, holding };
  });
}
