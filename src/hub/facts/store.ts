// Facts where they are kept: computed once for each tree, and those of `main` spread out for lists to filter by.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, commitBatch, type Guard, queryRows, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import type { Platform } from "../../platform/platform";
import type { TreeOf } from "../files";
import { gitIdColumn, MAIN, RepoRow, repoExists } from "../repositories";
import { deriveFacts, type WeightFacts } from "./derive";
import { FACTS_VERSION, type FactName, Facts, parametersOf } from "./facts";
import { type Gathered, gather } from "./gather";
import { ggufOf, safetensorsOf } from "./weights";

export const FactsColumn = z
  .string()
  .nullable()
  .transform((text) => (text === null ? null : Facts.parse(JSON.parse(text))));

/** In lists, a part that is longer is left out: a page of cards with all their benchmarks would not fit. Characters. */
const MAX_LISTED = 50_000;

/** SQL for some parts of the facts in the row `f` of `tree_facts`, for `FactsColumn`; null where there is no row. */
export const someFacts = (names: readonly FactName[]): SQL =>
  sql`iif(f.facts is null, null, json_patch('{}', json_object(${sql.join(
    names.map((name) => {
      const part = sql`f.facts -> ${`$.${name}`}`;
      return sql`${name}, iif(length(${part}) > ${MAX_LISTED}, null, ${part})`;
    }),
    sql`, `,
  )})))`;

/** What a tree's files tell: from its row, else computed now and kept. */
export async function factsOf(platform: Platform, snapshot: TreeOf): Promise<Facts> {
  const [row] = await queryRows(
    platform.db,
    z.object({ facts: FactsColumn }),
    sql`select facts from tree_facts where repo_id = ${snapshot.repo.id} and tree = ${snapshot.tree} and version = ${FACTS_VERSION}`,
  );
  return row?.facts ?? computeFacts(platform, snapshot);
}

/** Computes what a tree's files tell, and keeps it for who asks next. */
export async function computeFacts(platform: Platform, snapshot: TreeOf): Promise<Facts> {
  const facts = await readFacts(platform, snapshot, null);
  // Who only reads must not wait for this, nor fail by it: without the row the next reader computes the same again.
  const kept = commitBatch(platform.db, [repoExists(snapshot.repo)], factsRows(snapshot, facts));
  platform.defer(kept.catch(() => undefined));
  return facts;
}

/** `former`: facts of an earlier tree, whose weights may be the same. */
async function readFacts(platform: Platform, snapshot: TreeOf, former: Facts | null): Promise<Facts> {
  const gathered = await gather(platform, snapshot, former?.weightsKey ?? null);
  return deriveFacts(gathered, await weightsOf(gathered, former));
}

async function weightsOf(gathered: Gathered, former: Facts | null): Promise<WeightFacts> {
  const { type, weightsKey } = gathered;
  if (type === "dataset") return { weightsKey: "", safetensors: null, gguf: null };
  if (former?.weightsKey === weightsKey) {
    const { safetensors, gguf } = former;
    return { weightsKey, safetensors, gguf };
  }
  return { weightsKey, safetensors: await safetensorsOf(gathered), gguf: await ggufOf(gathered) };
}

/** Of one repository, beside those of `main`: older ones are computed again when somebody asks. */
const MAX_KEPT = 50;

const factsRows = ({ repo, tree }: TreeOf, facts: Facts): Statement[] => [
  sql`insert into tree_facts (repo_id, tree, version, facts) values (${repo.id}, ${tree}, ${FACTS_VERSION}, ${JSON.stringify(facts)})
    on conflict do update set version = excluded.version, facts = excluded.facts where version < excluded.version`,
  sql`delete from tree_facts where rowid in (
    select rowid from tree_facts where repo_id = ${repo.id} and tree not in (select tree from repo_index where repo_id = ${repo.id})
      order by rowid desc limit -1 offset ${MAX_KEPT})`,
];

const MainRow = z.object({ tree: gitIdColumn.nullable(), facts: FactsColumn, former: FactsColumn });

/**
 * Brings the index up to what `main` is now. Called after each batch that moves `main`; a crash before leaves the index a commit
 * behind, until the next reader of the repository or the sweep calls it. It never throws: the commit is made. @returns whether it went well
 */
export async function refreshIndex(platform: Platform, repo: TreeOf["repo"]): Promise<boolean> {
  try {
    await indexMain(platform, repo);
    return true;
  } catch (error) {
    // Whoever moved the branch meanwhile brings the index up to date.
    if (error instanceof HubError && (error.code === "ref_moved" || error.code === "repo_not_found")) return true;
    const message = error instanceof Error ? error.message : String(error);
    console.error(JSON.stringify({ level: "error", msg: "facts not computed", repo: repo.id, error: message }));
    return false;
  }
}

async function indexMain(platform: Platform, repo: TreeOf["repo"]): Promise<void> {
  const { db } = platform;
  const [row] = await queryRows(
    db,
    MainRow,
    sql`select c.tree,
        (select facts from tree_facts f where f.repo_id = c.repo_id and f.tree = c.tree and f.version = ${FACTS_VERSION}) as facts,
        (select json_object('weightsKey', f.facts -> '$.weightsKey', 'safetensors', f.facts -> '$.safetensors', 'gguf', f.facts -> '$.gguf')
          from repo_index i join tree_facts f on f.repo_id = i.repo_id and f.tree = i.tree and f.version = ${FACTS_VERSION}
          where i.repo_id = c.repo_id) as former
      from refs m join commits c on c.repo_id = m.repo_id and c.id = m.target where m.repo_id = ${repo.id} and m.name = ${MAIN}`,
  );
  if (row === undefined || row.tree === null) return;
  const snapshot = { repo, tree: row.tree };
  const facts = row.facts ?? (await readFacts(platform, snapshot, row.former));
  // Commit point. Before it there is nothing; two that race end at the newest head, because the guard lets no other one in.
  await commitBatch(
    db,
    [repoExists(repo), isMainTree(snapshot)],
    [...indexRows(snapshot, facts), ...(row.facts === null ? factsRows(snapshot, facts) : [])],
  );
}

const isMainTree = ({ repo, tree }: TreeOf): Guard => ({
  holds: sql`(select c.tree from refs m join commits c on c.repo_id = m.repo_id and c.id = m.target
    where m.repo_id = ${repo.id} and m.name = ${MAIN}) is ${tree}`,
  otherwise: () => new HubError("ref_moved"),
});

function indexRows({ repo, tree }: TreeOf, facts: Facts): Statement[] {
  // Bytes of all distinct contents, those of former revisions included: one row each, found by the repository.
  const usedStorage = sql`(select coalesce(sum(coalesce(f.size, k.size)), 0) from repo_contents h left join xet_files f on f.id = h.file_id
    left join contents k on h.file_id is null and k.sha256 = h.sha256 where h.repo_id = ${repo.id})`;
  return [
    sql`insert into repo_index (repo_id, tree, version, pipeline_tag, library, license, parameters, used_storage)
      values (${repo.id}, ${tree}, ${FACTS_VERSION}, ${facts.pipelineTag}, ${facts.libraryName}, ${facts.license}, ${parametersOf(facts)}, ${usedStorage})
      on conflict do update set tree = excluded.tree, version = excluded.version, pipeline_tag = excluded.pipeline_tag,
        library = excluded.library, license = excluded.license, parameters = excluded.parameters, used_storage = excluded.used_storage`,
    sql`delete from repo_tags where repo_id = ${repo.id} and tag not in (select value from json_each(${asJson(facts.tags)}))`,
    sql`insert or ignore into repo_tags (repo_id, tag) select ${repo.id}, value from json_each(${asJson(facts.tags)})`,
  ];
}

const REFRESHED_AT_ONCE = 20;
/** What was left behind longer ago than this was seen by many sweeps. */
const LOOK_BACK_MS = 24 * 3600_000;

/** Repositories whose index is behind: because a crash came between, or because facts are computed otherwise now. */
export async function sweepIndex(platform: Platform): Promise<{ more: boolean }> {
  const rows = await queryRows(
    platform.db,
    RepoRow.pick({ repo_id: true, type: true }),
    sql`select r.id as repo_id, r.type from (
        select r.id, r.type from repo_index i join repos r on r.id = i.repo_id where i.version < ${FACTS_VERSION}
        union
        select r.id, r.type from repos r join refs m on m.repo_id = r.id and m.name = ${MAIN}
            join commits c on c.repo_id = r.id and c.id = m.target left join repo_index i on i.repo_id = r.id
          where r.type in ('model', 'dataset') and r.updated_at > ${platform.now() - LOOK_BACK_MS} and i.tree is not c.tree) r
      limit ${REFRESHED_AT_ONCE}`,
  );
  let refreshed = 0;
  for (const row of rows) if (await refreshIndex(platform, { id: row.repo_id, type: row.type })) refreshed++;
  return { more: rows.length === REFRESHED_AT_ONCE && refreshed > 0 };
}
