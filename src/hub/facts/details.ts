// What is told of repositories beside their names: facts of a tree, counts, and who was made from whom.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../../access/caller";
import { asJson, queryEach, queryRows } from "../../db/client";
import { allFiles, type FileEntry, filesOf } from "../files";
import { ownersOf, type Repository, repoName, type Snapshot } from "../repositories";
import { FACTS_VERSION, type Facts } from "./facts";
import { computeFacts, FactsColumn, refreshIndex } from "./store";

export type Counts = {
  readonly likes: number;
  /** Clients of the last 30 days, each once a day. */
  readonly downloads: number;
  readonly downloadsAllTime: number;
  readonly trendingScore: number;
};

export type Details = Counts & {
  readonly facts: Facts;
  /** Bytes of the distinct files of all revisions; null where they were not counted yet. */
  readonly usedStorage: number | null;
};

const DetailsRow = z.object({
  likes: z.number(),
  downloads: z.number(),
  downloads_all_time: z.number(),
  trending: z.number(),
  used_storage: z.number().nullable(),
  index_is_behind: z.number(),
  facts: FactsColumn,
});

/**
 * What is told of a repository at a revision, with its files up to so many. One round trip where the facts are known; where they are
 * not, they are computed.
 */
export async function detailsOf(
  caller: Caller,
  snapshot: Snapshot,
  mostFiles: number,
): Promise<Details & { readonly files: readonly FileEntry[] }> {
  const { platform } = caller;
  const { repo, tree } = snapshot;
  const [rows, files] = await queryEach(platform.db, z.looseObject({}), [
    sql`select r.likes, r.downloads, r.downloads_all_time, r.trending, i.used_storage,
        (i.tree is not (select c.tree from refs m join commits c on c.repo_id = m.repo_id and c.id = m.target
          where m.repo_id = r.id and m.name = 'refs/heads/main') or i.version < ${FACTS_VERSION}) as index_is_behind,
        (select facts from tree_facts f where f.repo_id = r.id and f.tree = ${tree} and f.version = ${FACTS_VERSION}) as facts
      from repos r left join repo_index i on i.repo_id = r.id where r.id = ${repo.id}`,
    ...(mostFiles === 0 ? [] : [allFiles(snapshot, mostFiles)]),
  ]);
  const row = rows?.[0] === undefined ? undefined : DetailsRow.parse(rows[0]);
  if (row?.index_is_behind === 1) platform.defer(refreshIndex(platform, repo));
  const {
    likes = 0,
    downloads = 0,
    downloads_all_time: downloadsAllTime = 0,
    trending: trendingScore = 0,
    used_storage: usedStorage = null,
  } = row ?? {};
  const facts = row?.facts ?? (await computeFacts(platform, snapshot));
  return { facts, likes, downloads, downloadsAllTime, trendingScore, usedStorage, files: filesOf(files ?? []) };
}

const ChildRow = z.object({ owner_id: z.string(), private: z.number(), children: z.number() });

/** How many models that the caller may see name this one as what they were made from. */
export async function countChildren(caller: Caller, repo: Repository): Promise<number> {
  const rows = await queryRows(
    caller.platform.db,
    ChildRow,
    sql`select r.owner_id, r.private, count(*) as children from repo_tags t join repos r on r.id = t.repo_id
      where t.tag = ${`base_model:${repoName(repo)}`} and r.type = 'model' and r.id <> ${repo.id}
        and (r.private = 0 or r.owner_id in (${ownersOf(caller)}))
      group by r.owner_id, r.private`,
  );
  return rows
    .filter(({ owner_id: ownerId, private: isPrivate }) =>
      may(caller, {
        action: "repo.read",
        repo: { ownerId, private: isPrivate === 1 },
      }),
    )
    .reduce((sum, { children }) => sum + children, 0);
}

const BaseRow = z.object({ named: z.string(), repo_id: z.string(), owner_id: z.string(), private: z.number() });

export type BaseModels = {
  readonly relation: string;
  /** `_id`: of a repository here that the caller may see. */
  readonly models: readonly { readonly _id?: string; readonly id: string }[];
};

/** What a model says it was made from. */
export async function baseModelsOf(caller: Caller, { baseModels }: Facts): Promise<BaseModels | null> {
  if (baseModels === null) return null;
  const rows = await queryRows(
    caller.platform.db,
    BaseRow,
    sql`select j.value as named, r.id as repo_id, r.owner_id, r.private from json_each(${asJson(baseModels.ids)}) j
      join accounts o on o.name_key = lower(substr(j.value, 1, instr(j.value, '/') - 1))
      join repos r on r.owner_id = o.id and r.type = 'model' and r.name_key = lower(substr(j.value, instr(j.value, '/') + 1))`,
  );
  const seen = new Map(
    rows
      .filter((row) =>
        may(caller, { action: "repo.read", repo: { ownerId: row.owner_id, private: row.private === 1 } }),
      )
      .map((row) => [row.named, row.repo_id]),
  );
  return {
    relation: baseModels.relation,
    models: baseModels.ids.map((id) => {
      const _id = seen.get(id);
      return _id === undefined ? { id } : { _id, id };
    }),
  };
}
