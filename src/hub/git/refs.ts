// The refs of a repository as git clients are told of them: branches, tags, pull requests, and what annotated tags lead to.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../db/client";
import { type GitId, parseRefName, type RefName } from "../../ids";
import type { Db } from "../../platform/platform";
import { gitIdColumn, MAIN } from "../repositories";

export type AdvertisedRef = {
  readonly name: RefName;
  /** What the ref points to: a commit, or an annotated tag. */
  readonly id: GitId;
  /** The commit that an annotated tag leads to; null for every other ref. */
  readonly peeled: GitId | null;
};

const RefRow = z.object({
  name: z.string().transform((text) => parseRefName(text, "name")),
  target: gitIdColumn,
  tag_object: gitIdColumn.nullable(),
});

/** In the order of their names. */
export async function advertisedRefs(db: Db, repoId: string): Promise<AdvertisedRef[]> {
  const rows = await queryRows(
    db,
    RefRow,
    sql`select name, target, tag_object from refs where repo_id = ${repoId} order by name`,
  );
  return rows.map(({ name, target, tag_object }) => ({
    name,
    id: tag_object ?? target,
    peeled: tag_object === null ? null : target,
  }));
}

/** What HEAD stands for: the branch is always the same, whether it exists yet or not. */
export const headOf = (refs: readonly AdvertisedRef[]): AdvertisedRef | undefined =>
  refs.find(({ name }) => name === MAIN);
