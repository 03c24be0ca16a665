// Evaluations as pages show them: all that were made of a model, or on a dataset, with what each model was merged from.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import type { Caller } from "../access/caller";
import { queryRows } from "../db/client";
import type { GitId, RepoType } from "../ids";
import { JoinedRepo, jsonColumn, Metric, type RepoLink, repoJson, visibleRepo } from "./overview";
import { gitIdColumn, type Repository } from "./repositories";

const MAX_SCORES = 200;

/** The part of a record that is shown; a record holds more. */
const ShownRecord = z.object({
  results: z.array(Metric),
  classes: z.array(z.string()),
  confusion: z.array(z.array(z.number())),
  dataset: z.object({ n: z.number() }),
  model: z.object({
    compute_dtype: z.string(),
    weights: z.array(z.object({ path: z.string(), sha256: z.string(), dtype: z.string() })),
  }),
  task: z.object({ id: z.string(), version: z.string(), seed: z.number() }),
  env: z.object({
    engine: z.object({ name: z.string(), version: z.string(), torch: z.string().nullable() }),
    device: z.string(),
    threads: z.number(),
    batch_size: z.number(),
  }),
  samples: z.object({ sha256: z.string(), rows: z.number() }).nullable(),
});

/** One model of the merge that gave the evaluated commit; `key` tells it from others even where it may not be named. */
export type Share = { readonly key: string; readonly weight: number; readonly repo: RepoLink | null };

export type Score = {
  readonly id: string;
  readonly model: { readonly repo: RepoLink; readonly commit: GitId };
  readonly dataset: { readonly repo: RepoLink; readonly commit: GitId };
  readonly split: string;
  readonly identity: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly record: z.output<typeof ShownRecord>;
  /** Empty where no merge made the commit. */
  readonly shares: readonly Share[];
  /** Branches and tags of the model that name the commit now. */
  readonly names: readonly string[];
};

const ScoreRow = z.object({
  id: z.string(),
  model_commit_id: gitIdColumn,
  dataset_commit_id: gitIdColumn,
  split: z.string(),
  identity: z.string(),
  created_at: z.number(),
  record: jsonColumn(ShownRecord),
  model: jsonColumn(JoinedRepo),
  dataset: jsonColumn(JoinedRepo),
  names: jsonColumn(z.array(z.string())),
  shares: jsonColumn(
    z.array(z.object({ repoId: z.string(), commit: z.string(), weight: z.number(), repo: JoinedRepo })),
  ).nullable(),
});

export type ScoreFilter = { readonly commit?: GitId | undefined; readonly id?: string | undefined };

const REPO_COLUMN: Record<RepoType, SQL> = { model: sql`e.model_repo_id`, dataset: sql`e.dataset_repo_id` };
const COMMIT_COLUMN: Record<RepoType, SQL> = { model: sql`e.model_commit_id`, dataset: sql`e.dataset_commit_id` };

/** Newest first, where the caller may read both the model and the dataset. One query. */
export async function listScores(caller: Caller, repo: Repository, filter: ScoreFilter = {}): Promise<Score[]> {
  const conditions = [sql`${REPO_COLUMN[repo.type]} = ${repo.id}`];
  if (filter.id !== undefined) conditions.push(sql`e.id = ${filter.id}`);
  if (filter.commit !== undefined) conditions.push(sql`${COMMIT_COLUMN[repo.type]} = ${filter.commit}`);
  const rows = await queryRows(
    caller.platform.db,
    ScoreRow,
    sql`with chosen as (
        select e.* from evaluations e where ${sql.join(conditions, sql` and `)} order by e.created_at desc, e.id desc limit ${MAX_SCORES}),
      merged as (
        select j.output_repo_id as repo_id, j.result ->> 'commit' as commit_id, (
            select json_group_array(json_object('repoId', p.value ->> 'repoId', 'commit', p.value ->> 'commit', 'weight', p.value ->> 'weight',
                'repo', json(case when r.id is null then 'null' else ${repoJson(sql`r`, sql`o`)} end)))
              from json_each(j.spec, '$.parents') p left join repos r on r.id = p.value ->> 'repoId' left join accounts o on o.id = r.owner_id
              where p.value ->> 'weight' is not null) as shares
          from jobs j where j.kind = 'merge' and j.state = 'succeeded' and j.output_repo_id in (select model_repo_id from chosen))
      select c.id, c.model_commit_id, c.dataset_commit_id, c.split, c.identity, c.created_at, c.record,
          ${repoJson(sql`m`, sql`mo`)} as model, ${repoJson(sql`d`, sql`dd`)} as dataset,
          (select json_group_array(name) from refs f where f.repo_id = c.model_repo_id and f.target = c.model_commit_id) as names,
          (select shares from merged g where g.repo_id = c.model_repo_id and g.commit_id = c.model_commit_id limit 1) as shares
        from chosen c
          join repos m on m.id = c.model_repo_id join accounts mo on mo.id = m.owner_id
          join repos d on d.id = c.dataset_repo_id join accounts dd on dd.id = d.owner_id
        order by c.created_at desc, c.id desc`,
  );
  return rows.flatMap((row): Score[] => {
    const model = visibleRepo(caller, row.model);
    const dataset = visibleRepo(caller, row.dataset);
    if (model === null || dataset === null) return [];
    return [
      {
        id: row.id,
        model: { repo: model, commit: row.model_commit_id },
        dataset: { repo: dataset, commit: row.dataset_commit_id },
        split: row.split,
        identity: row.identity,
        at: row.created_at,
        record: row.record,
        names: row.names.map((name) => name.replace(/^refs\/(heads|tags)\//, "")),
        shares: (row.shares ?? []).map((share) => ({
          key: `${share.repoId}@${share.commit}`,
          weight: share.weight,
          repo: visibleRepo(caller, share.repo),
        })),
      },
    ];
  });
}
