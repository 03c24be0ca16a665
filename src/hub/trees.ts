// Whole directories by their tree ids, many in one query.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../db/client";
import { HubError } from "../errors";
import { type GitId, parseSha256 } from "../ids";
import type { Db } from "../platform/platform";
import { gitIdColumn } from "./repositories";
import { ModeColumn, type TreeNode } from "./tree-edit";
import type { LoadTrees } from "./tree-merge";

/** What fits in memory beside everything else. */
const MAX_ENTRIES = 100_000;

/** An entry of `tree_entries`. */
export const NodeRow = z.object({
  tree: gitIdColumn,
  name: z.string(),
  kind: z.enum(["file", "directory"]),
  id: gitIdColumn,
  sha256: z
    .string()
    .transform((text) => parseSha256(text, "sha256"))
    .nullable(),
  size: z.number(),
  lfs: z.number(),
  mode: ModeColumn,
});

export function nodeOf({ kind, id, sha256, size, lfs, mode }: z.output<typeof NodeRow>): TreeNode {
  if (kind === "directory") return { kind, id };
  if (sha256 === null) throw new HubError("content_damaged");
  return { kind, id, sha256, size, lfs: lfs === 1, mode };
}

/** Reads trees of a repository, each once. @throws payload_too_large after more entries than a comparison may take */
export function treesOf(db: Db, repoId: string): LoadTrees {
  const known = new Map<GitId, ReadonlyMap<string, TreeNode>>();
  let entries = 0;
  return async (ids) => {
    const missing = ids.filter((id) => !known.has(id));
    const rows =
      missing.length === 0
        ? []
        : await queryRows(
            db,
            NodeRow,
            sql`select tree, name, kind, id, sha256, size, lfs, mode from tree_entries
              where repo_id = ${repoId} and tree in (select value from json_each(${asJson(missing)})) limit ${MAX_ENTRIES + 1 - entries}`,
          );
    entries += rows.length;
    if (entries > MAX_ENTRIES)
      throw new HubError("payload_too_large", {
        problem: `More than ${MAX_ENTRIES} entries of directories differ: merge with git and push`,
      });
    const loaded = new Map<GitId, Map<string, TreeNode>>(missing.map((id) => [id, new Map()]));
    for (const row of rows) loaded.get(row.tree)?.set(row.name, nodeOf(row));
    for (const [id, nodes] of loaded) known.set(id, nodes);
    return known;
  };
}
