// What revisions were made from, and what was made from them: parents by commit and by the digests of the files that were used.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { asJson, queryEach, type Statement } from "../db/client";
import type { lineage } from "../db/schema";
import { type GitId, parseGitId, parseSha256, type Sha256 } from "../ids";
import type { Snapshot } from "./repositories";

export type Relation = (typeof lineage.$inferSelect)["relation"];

export type Parent = {
  readonly relation: Relation;
  readonly repoId: string;
  readonly commit: GitId;
  readonly files: readonly { readonly path: string; readonly sha256: Sha256 }[];
};

/** For the batch that publishes the revision. Publishing the same commit again changes nothing. */
export const lineageStatement = (repoId: string, commit: GitId, parents: readonly Parent[]): Statement =>
  sql`insert or ignore into lineage (repo_id, commit_id, ordinal, relation, parent_repo_id, parent_commit_id, files)
    select ${repoId}, ${commit}, key, value ->> 'relation', value ->> 'repoId', value ->> 'commit', value -> 'files' from json_each(${asJson(parents)})`;

const gitId = z.string().transform((text) => parseGitId(text, "id"));
const File = z.object({ path: z.string(), sha256: z.string().transform((text) => parseSha256(text, "sha256")) });

const RelativeRow = z.object({
  relation: z.enum(["merge", "adapter", "finetune", "dataset"]),
  commit_id: gitId,
  files: z.string().transform((text) => z.array(File).parse(JSON.parse(text))),
  type: z.enum(["model", "dataset"]).nullable(),
  repo: z.string().nullable(),
  owner_id: z.string().nullable(),
  private: z.number().nullable(),
});

export type Relative = {
  readonly relation: Relation;
  /** Null, with no commit and no files, where the caller may not see the repository or it is gone. */
  readonly source: {
    readonly type: "model" | "dataset";
    readonly repo: string;
    readonly commit: GitId;
    readonly files: readonly { readonly path: string; readonly sha256: Sha256 }[];
  } | null;
};

const MAX_CHILDREN = 200;

/** Both directions in one round trip. Children that the caller may not see are left out, parents keep their place. */
export async function readLineage(
  caller: Caller,
  { repo, commit }: Snapshot,
): Promise<{ parents: Relative[]; children: Relative[] }> {
  const columns = sql`r.type, o.name || '/' || r.name as repo, r.owner_id, r.private`;
  const [parents = [], children = []] = await queryEach(caller.platform.db, RelativeRow, [
    sql`select l.relation, l.parent_commit_id as commit_id, l.files, ${columns}
      from lineage l left join repos r on r.id = l.parent_repo_id left join accounts o on o.id = r.owner_id
      where l.repo_id = ${repo.id} and l.commit_id = ${commit} order by l.ordinal`,
    sql`select l.relation, l.commit_id, l.files, ${columns}
      from lineage l join repos r on r.id = l.repo_id join accounts o on o.id = r.owner_id
      where l.parent_repo_id = ${repo.id} and l.parent_commit_id = ${commit} order by l.rowid desc limit ${MAX_CHILDREN}`,
  ]);
  return {
    parents: parents.map((row) => relativeOf(caller, row)),
    children: children.map((row) => relativeOf(caller, row)).filter((one) => one.source !== null),
  };
}

function relativeOf(caller: Caller, row: z.output<typeof RelativeRow>): Relative {
  const { relation, type, repo, owner_id: ownerId, files, commit_id: commit } = row;
  if (type === null || repo === null || ownerId === null) return { relation, source: null };
  const visible = may(caller, { action: "repo.read", repo: { ownerId, private: row.private === 1 } });
  return { relation, source: visible ? { type, repo, commit, files } : null };
}
