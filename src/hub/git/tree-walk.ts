// The trees and blobs below commits, found level by level: each tree is read once, however many commits share it.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { IdSet } from "../../formats/git/id-set";
import { NO_FILTER, type ObjectFilter } from "../../formats/git/upload-pack-request";
import type { GitId } from "../../ids";
import type { Db } from "../../platform/platform";
import { gitIdColumn } from "../repositories";

/** Of one answer: some MB. */
const ROWS_PER_PAGE = 40_000;
const FIRST_TREES = 100;
const MOST_TREES = 4000;

/** A tree of some of its rows; all of them, unless it comes again. */
const GroupRow = z.object({ tree: gitIdColumn, last: z.string(), rows: z.number(), found: z.string().nullable() });
export type TreeRows = { readonly tree: GitId; readonly found: string };

/**
 * The entries of trees, `found` being what the aggregate `of` (over the rows `e`, by name) makes of them; a very large tree comes in
 * several parts, one after another. Pages hold a bounded number of rows, whatever the trees are like.
 */
export async function* readTrees(
  db: Db,
  repoId: string,
  trees: readonly GitId[],
  of: SQL,
): AsyncGenerator<TreeRows, void, void> {
  let pageSize = FIRST_TREES;
  let after = "";
  for (let at = 0; at < trees.length; ) {
    const page = trees.slice(at, at + pageSize);
    const rows = await queryRows(
      db,
      GroupRow,
      sql`select tree, max(name) as last, count(*) as rows, ${of} as found from (
          select j.key as n, e.* from json_each(${asJson(page)}) j cross join tree_entries e on e.repo_id = ${repoId} and e.tree = j.value
            where j.key > 0 or e.name > ${after}
            order by j.key, e.name limit ${ROWS_PER_PAGE}) e
        group by n order by n`,
    );
    const total = rows.reduce((sum, row) => sum + row.rows, 0);
    for (const { tree, found } of rows) if (found !== null && found !== "") yield { tree, found };
    const last = rows.at(-1);
    if (total < ROWS_PER_PAGE || last === undefined) {
      at += page.length;
      after = "";
      pageSize = Math.min(MOST_TREES, total > ROWS_PER_PAGE / 4 ? pageSize : pageSize * 4);
    } else {
      // The page ended within a tree, or just behind it: that one goes on after its last name.
      at = trees.indexOf(last.tree, at);
      after = last.last;
      pageSize = Math.max(1, rows.length);
    }
  }
}

export type Wanted = {
  /** Root trees of commits. */
  readonly roots: readonly GitId[];
  /** Wanted by name, so that no filter leaves them out. */
  readonly trees: readonly GitId[];
  readonly blobs: readonly GitId[];
};

export type FoundObjects = { readonly trees: IdSet; readonly blobs: IdSet };

/** Everything below `wanted` that the filter lets through and that is not below `known` (root trees of what the client has). */
export async function walkTrees(
  db: Db,
  repoId: string,
  wanted: Wanted,
  known: readonly GitId[],
  filter: ObjectFilter,
): Promise<FoundObjects> {
  const nothing: FoundObjects = { trees: new IdSet(), blobs: new IdSet() };
  const had = { trees: new IdSet(), blobs: new IdSet() };
  const needsTrees = wanted.roots.length > 0 || wanted.trees.length > 0;
  if (needsTrees && filter.treeDepth > 0)
    await descend(db, repoId, known, { found: had, except: nothing, filter: NO_FILTER });
  const found = { trees: new IdSet(), blobs: new IdSet() };
  if (filter.treeDepth > 0) await descend(db, repoId, wanted.roots, { found, except: had, filter });
  await descend(db, repoId, wanted.trees, { found, except: nothing, filter });
  for (const blob of wanted.blobs) found.blobs.add(blob);
  return found;
}

type Descent = { readonly found: FoundObjects; readonly except: FoundObjects; readonly filter: ObjectFilter };

async function descend(
  db: Db,
  repoId: string,
  from: readonly GitId[],
  { found, except, filter }: Descent,
): Promise<void> {
  const isNew = (tree: string): boolean => !except.trees.has(tree) && found.trees.add(tree).added;
  // Size of the blob in git: of the pointer, where it is one of LFS.
  const blobSize = sql`iif(e.lfs, 125 + length(e.size), e.size)`;
  const blobs =
    filter.blobLimit === 0
      ? sql`''`
      : filter.blobLimit === Number.POSITIVE_INFINITY
        ? sql`iif(e.kind = 'file', '-' || e.id, '')`
        : sql`iif(e.kind = 'file' and ${blobSize} < ${filter.blobLimit}, '-' || e.id, '')`;
  let level = from.filter(isNew);
  for (let depth = 1; level.length > 0 && depth < filter.treeDepth; depth++) {
    const next: GitId[] = [];
    const below = sql`group_concat(iif(e.kind = 'directory', '+' || e.id, ${blobs}), '')`;
    for await (const { found: text } of readTrees(db, repoId, level, below))
      for (let at = 0; at < text.length; at += 41) {
        const id = text.slice(at + 1, at + 41);
        if (text[at] === "-") {
          if (!except.blobs.has(id)) found.blobs.add(id);
        } else if (isNew(id)) next.push(found.trees.at(found.trees.size - 1));
      }
    level = next;
  }
}
