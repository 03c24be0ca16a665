// Lists of repositories: filtered, in an order, page by page, with what the caller may see and at a cost that the hub's size does not set.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import type { GitId, RepoType } from "../ids";
import type { Db } from "../platform/platform";
import { seal, unseal } from "../platform/signing";
import type { Counts } from "./facts/details";
import { FACTS_VERSION, type FactName, Facts } from "./facts/facts";
import { listPaths } from "./files";
import { askerOf, gitIdColumn, MAIN, ownersOf, RepoRow, type Repository, repoOf, selectRepo } from "./repositories";

/** Each has its column of `repos`, and an index that holds it after the type and before the id. */
const ORDERS = {
  lastModified: ["updated_at", "repos_updated"],
  createdAt: ["created_at", "repos_created"],
  likes: ["likes", "repos_likes"],
  likes30d: ["recent_likes", "repos_recent_likes"],
  downloads: ["downloads", "repos_downloads"],
  trendingScore: ["trending", "repos_trending"],
  num_parameters: ["parameters", "repos_parameters"],
  mainSize: ["used_storage", "repos_used_storage"],
} as const;
export type Order = keyof typeof ORDERS;
export const isOrder = (text: string): text is Order => Object.hasOwn(ORDERS, text);
export const ORDER_NAMES = Object.keys(ORDERS);

/** What a repository must be to be listed; all of them must hold. */
export type Filter =
  /** Part of the full name, whatever its case. */
  | { readonly kind: "search"; readonly text: string }
  | { readonly kind: "author"; readonly name: string }
  /** Has one of these tags. */
  | { readonly kind: "tag"; readonly anyOf: readonly string[] }
  | { readonly kind: "task"; readonly task: string }
  | { readonly kind: "gated"; readonly gated: boolean }
  | { readonly kind: "parameters"; readonly min: number; readonly max: number };

export type ListQuery = {
  readonly type: RepoType;
  readonly filters: readonly Filter[];
  readonly order: Order;
  readonly ascending: boolean;
  readonly limit: number;
  readonly cursor?: string;
  /** What to tell of each beside its names and counts. */
  readonly facts?: readonly FactName[];
  readonly files?: boolean;
};

/** More are a mistake, or meant to be expensive. */
const MAX_FILTERS = 16;

/** A filter as a condition on repository `r` of owner `o`, and the queries that find all the repositories it may let through. */
type Way = {
  readonly holds: SQL;
  readonly finders: readonly SQL[];
  /** What a finder finds may not pass yet; the condition needs the owner. */
  readonly isGuess?: true;
};

function wayOf(type: RepoType, filter: Filter): Way {
  switch (filter.kind) {
    case "search": {
      const text = filter.text.toLowerCase();
      return {
        holds: sql`instr(o.name_key || '/' || r.name_key, ${text}) > 0`,
        finders: gramsOf(text).map((gram) => sql`select repo_id from repo_grams where gram = ${gram}`),
        isGuess: true,
      };
    }
    case "author": {
      const owner = sql`(select id from accounts where name_key = ${filter.name.toLowerCase()})`;
      return {
        holds: sql`r.owner_id = ${owner}`,
        finders: [sql`select id as repo_id from repos where owner_id = ${owner} and type = ${type}`],
      };
    }
    case "tag": {
      const wanted = sql`tag in (select value from json_each(${JSON.stringify(filter.anyOf)}))`;
      return {
        holds: sql`exists (select 1 from repo_tags where repo_id = r.id and ${wanted})`,
        finders: [sql`select distinct repo_id from repo_tags where ${wanted}`],
      };
    }
    case "task":
      return {
        holds: sql`exists (select 1 from repo_index where repo_id = r.id and pipeline_tag = ${filter.task})`,
        finders: [sql`select repo_id from repo_index where pipeline_tag = ${filter.task}`],
      };
    case "gated":
      return filter.gated
        ? {
            holds: sql`r.gated is not null`,
            finders: [sql`select id as repo_id from repos where type = ${type} and gated is not null`],
          }
        : { holds: sql`r.gated is null`, finders: [] };
    case "parameters": {
      // What is not known is 0, and in no range.
      const range = sql`parameters between ${Math.max(1, filter.min)} and ${filter.max}`;
      return {
        holds: sql`r.${range}`,
        finders: [sql`select id as repo_id from repos where type = ${type} and ${range}`],
      };
    }
  }
}

const GRAM = 3;
const MAX_GRAMS = 4;

/** Some of the three-letter parts of a text, spread over it: the rarest of them says where to look. */
function gramsOf(text: string): string[] {
  const count = Math.max(0, text.length - GRAM + 1);
  const step = Math.max(1, count / MAX_GRAMS);
  const starts = Array.from({ length: Math.min(count, MAX_GRAMS) }, (_, i) => Math.floor(i * step));
  return [...new Set(starts.map((start) => text.slice(start, start + GRAM)))];
}

export type Bounds = {
  /** What a filter lets through is sorted up to so many; of more than that a page is soon full by going through all in order. */
  readonly found: number;
  /** So many are gone through for one page at most. A page may then be short, or empty, and have a next one. */
  readonly walked: number;
};
const BOUNDS: Bounds = { found: 500, walked: 5000 };
/** So many are compared at most. */
const MAX_FINDERS = 24;

/** The finder with the fewest results, or null where each has too many. One query, and none without filters. */
async function bestFinder(caller: Caller, finders: readonly SQL[], most: number): Promise<SQL | null> {
  if (finders.length === 0) return null;
  const counts = finders.map((finder) => sql`(select count(*) from (${finder} limit ${sql.raw(`${most + 1}`)}))`);
  const [row] = await queryRows(
    caller.platform.db,
    z.object({ counts: z.string().transform((text) => z.array(z.number()).parse(JSON.parse(text))) }),
    sql`select json_array(${sql.join(counts, sql`, `)}) as counts`,
  );
  const found = row?.counts ?? [];
  const fewest = Math.min(...found);
  return fewest > most ? null : (finders[found.indexOf(fewest)] ?? null);
}

/** Where a page ended: the value it was sorted by, and the id among equals. */
const Position = z.object({ value: z.number(), id: z.string() });
type Position = z.output<typeof Position>;

const ListedRow = RepoRow.extend({
  value: z.number(),
  commit_id: gitIdColumn.nullable(),
  likes: z.number(),
  downloads: z.number(),
  downloads_all_time: z.number(),
  trending: z.number(),
  used_storage: z.number(),
  facts: z.string().nullable(),
  tree: gitIdColumn.nullable(),
});

export type Listed = Counts & {
  readonly repo: Repository;
  /** Null where `main` is gone. */
  readonly sha: GitId | null;
  /** Those asked for; null where they are not known yet. */
  readonly facts: Facts | null;
  /** Bytes; 0 where they were not counted yet. */
  readonly usedStorage: number;
  readonly files: readonly string[] | null;
};

/** `next` is null where nothing follows; else there may be more, however many repositories are on this page. */
export type Page = { readonly repos: readonly Listed[]; readonly next: string | null };

/**
 * A page of the repositories that the caller may see: the query narrows them down, the policy decides. What is few is found and
 * sorted; of what is many the order's index is followed until the page is full.
 */
export async function listRepos(caller: Caller, query: ListQuery, bounds = BOUNDS): Promise<Page> {
  const { db } = caller.platform;
  const { type, filters, facts = [], files = false } = query;
  const limit = Math.min(query.limit, files || !facts.every((one) => SMALL_FACTS.has(one)) ? MAX_FULL : query.limit);
  if (filters.length > MAX_FILTERS)
    throw new HubError("invalid_request", { problem: `A list takes ${MAX_FILTERS} filters at most` });
  const after = await positionOf(caller, query);
  const ways = filters.map((filter) => wayOf(type, filter));
  const finders = ways.flatMap((way) => way.finders).slice(0, MAX_FINDERS);
  const finder = await bestFinder(caller, finders, bounds.found);
  const [name, indexName] = ORDERS[query.order];
  const column = sql.raw(name);
  const direction = sql.raw(query.ascending ? "asc" : "desc");
  const ahead = sql.raw(query.ascending ? ">" : "<");
  const from = after === null ? sql`true` : sql`(r.${column}, r.id) ${ahead} (${after.value}, ${after.id})`;
  const inOrder = sql`order by r.${column} ${direction}, r.id ${direction}`;
  const walk = sql`from repos r indexed by ${sql.raw(indexName)} where r.type = ${type} and ${from} ${inOrder}`;
  const open = ways.filter((way) => way.isGuess || finder === null || !way.finders.includes(finder));
  const holds = sql.join([visibleTo(caller), ...open.map((way) => way.holds)], sql` and `);
  const owner = open.some((way) => way.isGuess) ? sql`cross join accounts o on o.id = r.owner_id` : sql``;
  // The walk is inside, with its limit, and so gives its rows in order, as the joins around it do.
  const chosen =
    finder === null
      ? sql`select r.id, r.${column} as value from (select r.* ${walk} limit ${bounds.walked}) r
          ${owner} where ${holds} limit ${limit + 1}`
      : sql`select r.id, r.${column} as value from (${finder}) f cross join repos r on r.id = f.repo_id
          ${owner} where r.type = ${type} and ${from} and ${holds} ${inOrder} limit ${limit + 1}`;
  const rows = await queryRows(
    db,
    ListedRow,
    sql`select ${selectRepo(askerOf(caller))}, c.value, r.likes, r.downloads, r.downloads_all_time, r.trending, r.used_storage,
        m.target as commit_id, ${files ? sql`(select tree from commits where repo_id = r.id and id = m.target)` : sql`null`} as tree, ${someFacts(facts)} as facts
      from (${chosen}) c cross join repos r on r.id = c.id cross join accounts o on o.id = r.owner_id
        left join refs m on m.repo_id = r.id and m.name = ${MAIN}
      order by c.value ${direction}, c.id ${direction}`,
  );
  const paths = files ? await pathsOf(db, rows.slice(0, limit)) : [];
  // Of what is left out because there are too many files, the next page tells.
  const kept = files ? Math.max(1, paths.length) : limit;
  const last = rows[kept - 1];
  let next: Position | null = rows.length > kept && last !== undefined ? { value: last.value, id: last.repo_id } : null;
  if (next === null && finder === null) {
    const [walked] = await queryRows(
      db,
      Position,
      sql`select r.id, r.${column} as value ${walk} limit 1 offset ${bounds.walked - 1}`,
    );
    next = walked ?? null;
  }
  return {
    repos: rows
      .slice(0, kept)
      .map((row, i) => listedOf(row, paths[i] ?? null))
      .filter(({ repo }) => may(caller, { action: "repo.read", repo })),
    next: next === null ? null : await seal(caller.platform.config.secret, contextOf(query), JSON.stringify(next)),
  };
}

function listedOf(row: z.output<typeof ListedRow>, files: readonly string[] | null): Listed {
  return {
    repo: repoOf(row),
    sha: row.commit_id,
    likes: row.likes,
    downloads: row.downloads,
    downloadsAllTime: row.downloads_all_time,
    trendingScore: row.trending,
    usedStorage: row.used_storage,
    facts: row.facts === null ? null : KnownFacts.parse(JSON.parse(row.facts)),
    files,
  };
}

/** What a row does not hold is null in it, and then has its default. */
const KnownFacts = z
  .record(z.string(), z.unknown())
  .transform((facts) => Facts.parse(Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== null))));

/** Whatever a card holds, these are soon read; pages that tell more are of a hundred repositories at most. */
const SMALL_FACTS: ReadonlySet<FactName> = new Set([
  "tags",
  "libraryName",
  "pipelineTag",
  "license",
  "languages",
  "maskToken",
  "description",
]);
const MAX_FULL = 100;
/** Of longer facts a list tells the small ones only. Characters. */
const MAX_LISTED_FACTS = 64 << 10;

/** SQL for these facts of the repository `r`, as `KnownFacts`. */
function someFacts(names: readonly FactName[]): SQL {
  if (names.length === 0) return sql`null`;
  const object = (some: readonly FactName[]): string =>
    `json_object(${some.map((name) => `'${name}', f.facts -> '${name}'`).join(", ")})`;
  const small = names.filter((name) => SMALL_FACTS.has(name));
  return sql`(select iif(length(f.facts) <= ${MAX_LISTED_FACTS}, ${sql.raw(object(names))}, ${sql.raw(object(small))})
    from repo_index i join tree_facts f on f.repo_id = i.repo_id and f.tree = i.tree and f.version = ${FACTS_VERSION} where i.repo_id = r.id)`;
}

/** A page names so many files at most, unless its only repository has more. */
const MAX_FILES = 20_000;

/** The files of the first of these repositories, of as many as they are named of in full, but of one in any case. */
async function pathsOf(db: Db, rows: readonly z.output<typeof ListedRow>[]): Promise<string[][]> {
  const trees = rows.map(({ repo_id: repoId, tree }) => ({ repoId, tree }));
  const found = await listPaths(db, trees, MAX_FILES + 1);
  const paths = rows.map((): string[] => []);
  for (const { ordinal, path } of found) paths[ordinal]?.push(path);
  const cut = found.length > MAX_FILES ? (found.at(-1)?.ordinal ?? 0) : rows.length;
  return paths.slice(0, Math.max(1, cut));
}

function visibleTo(caller: Caller): SQL {
  if (caller.actor.kind === "user" && caller.actor.isAdmin) return sql`true`;
  return sql`(r.private = 0 or r.owner_id in (${ownersOf(caller)}))`;
}

/** A page may have another size than the one before, but nothing else of the query may be different. */
const contextOf = ({ type, filters, order, ascending }: ListQuery): string =>
  JSON.stringify(["page of a list", type, filters, order, ascending]);

/**
 * Where the page before ended. Sealed, since it may name a repository that the caller may not see.
 * @throws invalid_request for what was not given with a page of this list
 */
async function positionOf(caller: Caller, query: ListQuery): Promise<Position | null> {
  if (query.cursor === undefined) return null;
  const text = await unseal(caller.platform.config.secret, contextOf(query), query.cursor);
  if (text === null)
    throw new HubError("invalid_request", { problem: "cursor: belongs to no page of this list, start without one" });
  return Position.parse(JSON.parse(text));
}
