// What a repository's pages tell around its content: branches and tags, the commit shown, and the shares of the merge that made it.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import type { GitId, RepoType } from "../ids";
import { FACTS_VERSION, type Facts } from "./facts/facts";
import { FactsColumn, someFacts } from "./facts/store";
import { gitIdColumn, type Snapshot } from "./repositories";

/** More than anyone chooses from a list; the API pages through any number. */
const MAX_REFS = 300;

/** Evaluations among which one on readable data is looked for. */
const MAX_NEWEST = 5;

export type RepoLink = { readonly type: RepoType; readonly name: string };

export type Overview = {
  readonly branches: readonly string[];
  readonly tags: readonly string[];
  readonly commit: {
    readonly message: string;
    readonly author: string;
    /** Milliseconds since 1970. */
    readonly at: number;
    readonly parents: readonly GitId[];
  };
  /** The newest evaluation of the commit on data that the caller may read. */
  readonly score: {
    readonly id: string;
    readonly split: string;
    readonly dataset: RepoLink;
    readonly results: readonly Metric[];
  } | null;
  /** What the commit's files tell, as far as pages show it; null where that was not computed yet. */
  readonly facts: Facts | null;
  /** Of the commit's parents in lineage, in their order, where the recipe gives each one number; empty where no merge made it. */
  readonly weights: readonly (number | null)[];
};

export const jsonColumn = <T>(schema: z.ZodType<T>) =>
  z.string().transform((text): T => schema.parse(JSON.parse(text)));

/** Facts of a repository that a query joined to something else; null where that is gone. */
export const JoinedRepo = z
  .object({
    type: z.enum(["model", "dataset"]),
    owner: z.string(),
    name: z.string(),
    ownerId: z.string(),
    private: z.number(),
  })
  .nullable();

/** The repository as the caller may see it: no name reaches who may not read. */
export function visibleRepo(caller: Caller, repo: z.output<typeof JoinedRepo>): RepoLink | null {
  if (repo === null) return null;
  const facts = { ownerId: repo.ownerId, private: repo.private === 1 };
  return may(caller, { action: "repo.read", repo: facts })
    ? { type: repo.type, name: `${repo.owner}/${repo.name}` }
    : null;
}

/** A metric as evaluation records hold it. */
export const Metric = z.object({
  metric: z.string(),
  value: z.number(),
  n: z.number(),
  ci: z.object({ level: z.number(), lo: z.number(), hi: z.number(), method: z.string() }).nullish(),
});
export type Metric = z.output<typeof Metric>;

/** SQL for the facts that `JoinedRepo` reads, of rows of repos and accounts under these names. */
export const repoJson = (repo: SQL, owner: SQL): SQL =>
  sql`json_object('type', ${repo}.type, 'owner', ${owner}.name, 'name', ${repo}.name, 'ownerId', ${repo}.owner_id, 'private', ${repo}.private)`;

const OverviewRow = z.object({
  message: z.string(),
  author_name: z.string(),
  authored_at: z.number(),
  parents: jsonColumn(z.array(gitIdColumn)),
  refs: jsonColumn(z.array(z.string())),
  facts: FactsColumn,
  weights: jsonColumn(z.array(z.number().nullable())).nullable(),
  scores: jsonColumn(
    z.array(z.object({ id: z.string(), split: z.string(), dataset: JoinedRepo, results: z.array(Metric) })),
  ),
});

/** One query, whatever the page shows. */
export async function readOverview(caller: Caller, { repo, commit }: Snapshot): Promise<Overview> {
  const [row] = await queryRows(
    caller.platform.db,
    OverviewRow,
    sql`select c.message, c.author_name, c.authored_at, c.parents,
        (select json_group_array(name) from (
          select name from refs where repo_id = c.repo_id and (name like 'refs/heads/%' or name like 'refs/tags/%') order by name limit ${MAX_REFS})) as refs,
        (select ${someFacts(["tags", "license", "safetensors", "gguf"])} from tree_facts f
          where f.repo_id = c.repo_id and f.tree = c.tree and f.version = ${FACTS_VERSION}) as facts,
        (select (select json_group_array(value ->> 'weight') from json_each(j.spec, '$.parents')) from jobs j
          where j.output_repo_id = c.repo_id and j.kind = 'merge' and j.state = 'succeeded' and j.result ->> 'commit' = c.id limit 1) as weights,
        (select json_group_array(json_object('id', id, 'split', split, 'dataset', json(dataset), 'results', json(results))) from (
          select e.id, e.split, ${repoJson(sql`d`, sql`o`)} as dataset, e.record -> 'results' as results
            from evaluations e join repos d on d.id = e.dataset_repo_id join accounts o on o.id = d.owner_id
            where e.model_repo_id = c.repo_id and e.model_commit_id = c.id order by e.created_at desc limit ${MAX_NEWEST})) as scores
      from commits c where c.repo_id = ${repo.id} and c.id = ${commit}`,
  );
  if (row === undefined) throw new HubError("revision_not_found", { revision: commit });
  const under = (prefix: string) =>
    row.refs.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  return {
    branches: under("refs/heads/").sort((a, b) => Number(b === "main") - Number(a === "main")),
    tags: under("refs/tags/"),
    commit: { message: row.message, author: row.author_name, at: row.authored_at * 1000, parents: row.parents },
    score: newestVisible(caller, row.scores),
    facts: row.facts,
    weights: row.weights ?? [],
  };
}

function newestVisible(caller: Caller, scores: z.output<typeof OverviewRow>["scores"]): Overview["score"] {
  for (const { dataset, ...score } of scores) {
    const repo = visibleRepo(caller, dataset);
    if (repo !== null) return { ...score, dataset: repo };
  }
  return null;
}
