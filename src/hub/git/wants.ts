// What the ids that a client wants by name are: commits, tags, trees or blobs of the repository, and nothing that is not in it.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { FormatError } from "../../formats/format-error";
import { treeId } from "../../formats/git/tree";
import { type GitId, parseGitId } from "../../ids";
import type { Db } from "../../platform/platform";
import { gitIdColumn } from "../repositories";
import { IDS_PER_QUERY } from "./commit-graph";

export const EMPTY_TREE = treeId([]);

export type WantedObjects = {
  readonly commits: readonly GitId[];
  readonly tags: readonly GitId[];
  readonly trees: readonly GitId[];
  readonly blobs: readonly GitId[];
};

const WantRow = z.object({ id: gitIdColumn, kind: z.enum(["commits", "tags", "trees", "blobs"]).nullable() });

/** @throws FormatError for an id of nothing here, as git words it */
export async function resolveWants(db: Db, repoId: string, ids: readonly GitId[]): Promise<WantedObjects> {
  const wanted: Record<keyof WantedObjects, GitId[]> = { commits: [], tags: [], trees: [], blobs: [] };
  for (let at = 0; at < ids.length; at += IDS_PER_QUERY) {
    const rows = await queryRows(
      db,
      WantRow,
      sql`select j.value as id, case
          when exists (select 1 from commits where repo_id = ${repoId} and id = j.value) then 'commits'
          when exists (select 1 from tag_objects where repo_id = ${repoId} and id = j.value) then 'tags'
          when j.value = ${EMPTY_TREE} or exists (select 1 from tree_entries where repo_id = ${repoId} and tree = j.value) then 'trees'
          when exists (select 1 from tree_entries where repo_id = ${repoId} and id = j.value and kind = 'file') then 'blobs'
        end as kind from json_each(${asJson(ids.slice(at, at + IDS_PER_QUERY))}) j`,
    );
    for (const { id, kind } of rows) {
      if (kind === null) throw new FormatError("git.not_our_ref", `not our ref ${id}`);
      wanted[kind].push(id);
    }
  }
  return wanted;
}

export type TagObject = { readonly id: GitId; readonly content: string };

const TagRow = z.object({ id: gitIdColumn, target: gitIdColumn, content: z.string() });
/** Tags of tags of tags: nobody makes more. */
const MAX_TAG_DEPTH = 20;

/** Annotated tags with those that they name in turn, and the commits that they lead to. */
export async function loadTags(
  db: Db,
  repoId: string,
  ids: readonly GitId[],
): Promise<{ readonly tags: readonly TagObject[]; readonly commits: readonly GitId[] }> {
  if (ids.length === 0) return { tags: [], commits: [] };
  const rows = await queryRows(
    db,
    TagRow,
    sql`with recursive chain (id, depth) as (
        select value, 0 from json_each(${asJson(ids)})
        union
        select t.target, c.depth + 1 from chain c cross join tag_objects t on t.repo_id = ${repoId} and t.id = c.id where c.depth < ${MAX_TAG_DEPTH})
      select distinct t.id, t.target, t.content from chain c cross join tag_objects t on t.repo_id = ${repoId} and t.id = c.id`,
  );
  const tags = new Set(rows.map(({ id }) => id));
  return { tags: rows, commits: rows.flatMap(({ target }) => (tags.has(target) ? [] : [target])) };
}

/** Annotated tags under `refs/tags/` whose commits are among these. */
export async function tagsOf(db: Db, repoId: string, has: (commit: GitId) => boolean): Promise<GitId[]> {
  const rows = await queryRows(
    db,
    z.object({ target: gitIdColumn, tag_object: z.string().transform((text) => parseGitId(text, "id")) }),
    sql`select target, tag_object from refs where repo_id = ${repoId} and name like 'refs/tags/%' and tag_object is not null`,
  );
  return rows.filter(({ target }) => has(target)).map(({ tag_object }) => tag_object);
}
