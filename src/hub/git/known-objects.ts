// Objects that a repository has, asked for by id: what a push may refer to without sending it, and what thin packs build on.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, inTexts, queryRows } from "../../db/client";
import { HubError } from "../../errors";
import { encodeCommit } from "../../formats/git/commit";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { encodeTree, treeId } from "../../formats/git/tree";
import type { GitObject } from "../../formats/git/unpack";
import { encodeUtf8 } from "../../formats/text";
import { type GitId, parseSha256, type Sha256 } from "../../ids";
import type { Db, Platform } from "../../platform/platform";
import { HeldColumn, type HeldContent, heldContent, readContent } from "../../store/contents";
import { readAll } from "../../streams/chunks";
import { gitIdColumn } from "../repositories";
import { ModeColumn } from "../tree-edit";
import { tooMuch } from "./history";

export type KnownFile = { readonly sha256: Sha256; readonly size: number; readonly lfs: boolean };

export type KnownObjects = {
  readonly commits: ReadonlySet<GitId>;
  readonly trees: ReadonlySet<GitId>;
  readonly files: ReadonlyMap<GitId, KnownFile>;
  /** Annotated tags, and the commit that each leads to. */
  readonly tags: ReadonlyMap<GitId, GitId>;
};

export const EMPTY_TREE = treeId([]);
const sha256Column = z.string().transform((text) => parseSha256(text, "sha256"));
const FileColumn = z.tuple([sha256Column, z.number(), z.number()]);
const KnownRow = z.object({
  id: gitIdColumn,
  is_commit: z.number(),
  is_tree: z.number(),
  file: z
    .string()
    .transform((text) => FileColumn.parse(JSON.parse(text)))
    .nullable(),
  tag: gitIdColumn.nullable(),
});

/** Which of these the repository has. */
export async function findKnown(db: Db, repoId: string, ids: readonly GitId[]): Promise<KnownObjects> {
  const commits = new Set<GitId>();
  const trees = new Set<GitId>(ids.includes(EMPTY_TREE) ? [EMPTY_TREE] : []);
  const files = new Map<GitId, KnownFile>();
  const tags = new Map<GitId, GitId>();
  for (const part of inTexts(ids)) {
    const rows = await queryRows(
      db,
      KnownRow,
      sql`select j.value as id,
          exists (select 1 from commits c where c.repo_id = ${repoId} and c.id = j.value) as is_commit,
          exists (select 1 from tree_entries e where e.repo_id = ${repoId} and e.tree = j.value) as is_tree,
          (select json_array(e.sha256, e.size, e.lfs) from tree_entries e
            where e.repo_id = ${repoId} and e.id = j.value and e.kind = 'file' limit 1) as file,
          (with recursive chain (id, target) as (
              select t.id, t.target from tag_objects t where t.repo_id = ${repoId} and t.id = j.value
              union select t.id, t.target from chain h join tag_objects t on t.repo_id = ${repoId} and t.id = h.target)
            select m.id from chain h join commits m on m.repo_id = ${repoId} and m.id = h.target limit 1) as tag
        from json_each(${asJson(part)}) j`,
    );
    for (const { id, is_commit, is_tree, file, tag } of rows) {
      if (is_commit === 1) commits.add(id);
      if (is_tree === 1) trees.add(id);
      if (file !== null) files.set(id, { sha256: file[0], size: file[1], lfs: file[2] === 1 });
      if (tag !== null) tags.set(id, tag);
    }
  }
  return { commits, trees, files, tags };
}

/** How far a tree reaches: levels of files below it, bytes of its longest path, and paths. */
export type Extent = { readonly levels: number; readonly pathBytes: number; readonly paths: number };

/** Entries that are looked at for the extents of trees. */
const MAX_WALKED = 1_000_000;

const ExtentRow = z.object({ root: gitIdColumn, levels: z.number(), path_bytes: z.number(), paths: z.number() });

/** Trees of the repository, with everything below them. @throws push_refused when that is too much to look at */
export async function measureTrees(db: Db, repoId: string, ids: readonly GitId[]): Promise<Map<GitId, Extent>> {
  const extents = new Map<GitId, Extent>();
  for (const part of inTexts(ids)) {
    const rows = await queryRows(
      db,
      ExtentRow,
      sql`with recursive walk (root, kind, id, level, bytes) as (
          select value, 'directory', value, 0, 0 from json_each(${asJson(part)})
          union all
          select w.root, e.kind, e.id, w.level + 1, w.bytes + length(cast(e.name as blob)) + iif(w.level = 0, 0, 1)
            from walk w join tree_entries e on e.repo_id = ${repoId} and e.tree = w.id where w.kind = 'directory'
          limit ${MAX_WALKED})
        select root, max(level) as levels, max(bytes) as path_bytes, count(*) as paths from walk group by root`,
    );
    if (rows.reduce((sum, { paths }) => sum + paths, 0) >= MAX_WALKED) throw tooMuch();
    for (const { root, levels, path_bytes, paths } of rows)
      extents.set(root, { levels, pathBytes: path_bytes, paths: paths - 1 });
  }
  return extents;
}

const BaseRow = z.object({
  id: gitIdColumn,
  lfs: z.number(),
  size: z.number(),
  sha256: sha256Column,
  content: HeldColumn.nullable(),
});
const TreeRow = z.object({
  tree: gitIdColumn,
  name: z.string(),
  kind: z.enum(["file", "directory"]),
  id: gitIdColumn,
  mode: ModeColumn,
});
const CommitRow = z.object({
  id: gitIdColumn,
  tree: gitIdColumn,
  parents: z.string().transform((text) => z.array(gitIdColumn).parse(JSON.parse(text))),
  author_name: z.string(),
  author_email: z.string(),
  authored_at: z.number(),
  message: z.string(),
  content: z.string().nullable(),
});

/** git builds no deltas over commits or tags of the other side; a pack that does so more often than this is told that they are missing. */
const MAX_MESSAGE_BASES = 1000;
const firstOf = (ids: Iterable<GitId>): GitId[] => [...ids].slice(0, MAX_MESSAGE_BASES);

/** Trees that are loaded at once when one of them is needed. */
const TREES_PER_QUERY = 20;

/** Gives the bytes of objects that the repository has, for packs that hold only what has changed in them. */
export class BaseObjects {
  readonly #platform: Platform;
  readonly #repoId: string;
  readonly #known: KnownObjects;
  readonly #blobs = new Map<GitId, HeldContent | Uint8Array>();
  readonly #others = new Map<GitId, GitObject>();
  /** In the order in which they will be asked for. */
  readonly #trees: GitId[];

  constructor(platform: Platform, repoId: string, ids: readonly GitId[], known: KnownObjects) {
    this.#platform = platform;
    this.#repoId = repoId;
    this.#known = known;
    this.#trees = ids.filter((id) => known.trees.has(id));
  }

  type(id: GitId): GitObject["type"] | undefined {
    const { files, trees } = this.#known;
    if (files.has(id)) return "blob";
    return trees.has(id) ? "tree" : this.#others.get(id)?.type;
  }

  /** Loads what does not take much room: where blobs lie, and commits and tags. */
  async prepare(): Promise<void> {
    const { db } = this.#platform;
    const { files, commits, tags } = this.#known;
    const repoId = this.#repoId;
    for (const part of inTexts([...files])) {
      const rows = await queryRows(
        db,
        BaseRow,
        sql`select j.value ->> 0 as id, j.value ->> 1 as sha256, j.value ->> 2 as size, j.value ->> 3 as lfs,
            iif(j.value ->> 3, null, ${heldContent(sql`${repoId}`, sql`j.value ->> 1`)}) as content
          from json_each(${asJson(part.map(([id, { sha256, size, lfs }]) => [id, sha256, size, lfs ? 1 : 0]))}) j`,
      );
      for (const { id, lfs, size, sha256, content } of rows) {
        if (lfs === 1) this.#blobs.set(id, encodeUtf8(encodeLfsPointer({ sha256, size })));
        else if (content !== null) this.#blobs.set(id, content);
      }
    }
    const [commitRows, tagRows] = await Promise.all([
      queryRows(
        db,
        CommitRow,
        sql`select id, tree, parents, author_name, author_email, authored_at, message, content from commits
          where repo_id = ${repoId} and id in (select value from json_each(${asJson(firstOf(commits))}))`,
      ),
      queryRows(
        db,
        z.object({ id: gitIdColumn, content: z.string() }),
        sql`select id, content from tag_objects where repo_id = ${repoId} and id in (select value from json_each(${asJson(firstOf(tags.keys()))}))`,
      ),
    ]);
    for (const row of commitRows) this.#others.set(row.id, { type: "commit", content: commitContent(row) });
    for (const { id, content } of tagRows) this.#others.set(id, { type: "tag", content: encodeUtf8(content) });
  }

  /** @throws content_damaged for what is gone */
  async load(id: GitId): Promise<GitObject> {
    const other = this.#others.get(id);
    if (other !== undefined) return other;
    const blob = this.#blobs.get(id);
    if (blob !== undefined)
      return { type: "blob", content: blob instanceof Uint8Array ? blob : await this.#read(blob) };
    if (id === EMPTY_TREE) return { type: "tree", content: new Uint8Array() };
    return this.#loadTree(id);
  }

  async #read(content: HeldContent): Promise<Uint8Array> {
    return readAll(await readContent(this.#platform, content), content.size);
  }

  /** Loads the ones that come after it, too: they are asked for in this order, mostly. */
  async #loadTree(wanted: GitId): Promise<GitObject> {
    for (const [id, { type }] of this.#others) if (type === "tree") this.#others.delete(id);
    const at = Math.max(0, this.#trees.indexOf(wanted));
    const ids = [wanted, ...this.#trees.slice(at + 1, at + TREES_PER_QUERY)];
    const rows = await queryRows(
      this.#platform.db,
      TreeRow,
      sql`select tree, name, kind, id, mode from tree_entries
        where repo_id = ${this.#repoId} and tree in (select value from json_each(${asJson(ids)}))`,
    );
    for (const [id, entries] of Map.groupBy(rows, ({ tree }) => tree))
      this.#others.set(id, {
        type: "tree",
        content: encodeTree(
          entries.map(({ name, kind, id: entry, mode }) => ({
            name,
            id: entry,
            mode: kind === "directory" ? "40000" : (mode ?? "100644"),
          })),
        ),
      });
    const tree = this.#others.get(wanted);
    if (tree === undefined) throw new HubError("content_damaged");
    return tree;
  }
}

function commitContent(row: z.output<typeof CommitRow>): Uint8Array {
  if (row.content !== null) return encodeUtf8(row.content);
  const person = { name: row.author_name, email: row.author_email, seconds: row.authored_at, timezone: "+0000" };
  const { tree, parents, message } = row;
  return encodeCommit({ tree, parents, author: person, committer: person, headers: [], message });
}
