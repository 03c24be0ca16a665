// The part of a repository's history that a fetch is about, loaded from the newest commits on as far as it is walked.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { HubError } from "../../errors";
import { IdSet } from "../../formats/git/id-set";
import type { GitId } from "../../ids";
import type { Db } from "../../platform/platform";
import { gitIdColumn } from "../repositories";

/** Commits that one query loads: few at first, as most fetches need few. */
const FIRST_PAGE = 200;
const LAST_PAGE = 5000;
/** Ids in one parameter, which has at most 2 MB. */
export const IDS_PER_QUERY = 20_000;
/** More than a Worker's memory is good for. */
const MAX_COMMITS = 500_000;

const CommitRow = z.object({
  id: gitIdColumn,
  tree: gitIdColumn,
  parents: z.string().transform((text) => z.array(z.string()).parse(JSON.parse(text))),
  at: z.number(),
});

const COLUMNS = sql`c.id, c.tree, c.parents, coalesce(c.committed_at, c.authored_at) as at`;

/** Commits are told by their number in the graph. One that is known as a parent only is not loaded yet. */
export class CommitGraph {
  readonly #db: Db;
  readonly #repoId: string;
  readonly #ids = new IdSet();
  readonly #trees = new IdSet();
  readonly #tree: number[] = [];
  readonly #parents: (readonly number[])[] = [];
  readonly #dates: number[] = [];
  #page = FIRST_PAGE;

  constructor(db: Db, repoId: string) {
    this.#db = db;
    this.#repoId = repoId;
  }

  indexOf(id: GitId): number {
    return this.#ids.indexOf(id);
  }

  idOf(commit: number): GitId {
    return this.#ids.at(commit);
  }

  treeOf(commit: number): GitId {
    return this.#trees.at(this.#tree[commit] ?? 0);
  }

  parentsOf(commit: number): readonly number[] {
    return this.#parents[commit] ?? [];
  }

  /** Seconds since 1970; the hub orders commits by it and believes it no further. */
  dateOf(commit: number): number {
    return this.#dates[commit] ?? 0;
  }

  isLoaded(commit: number): boolean {
    return this.#parents[commit] !== undefined;
  }

  /** Which of these the repository has, in their order. */
  async find(ids: readonly GitId[]): Promise<number[]> {
    for (let at = 0; at < ids.length; at += IDS_PER_QUERY) {
      const page = ids.slice(at, at + IDS_PER_QUERY);
      this.#take(
        await queryRows(
          this.#db,
          CommitRow,
          sql`select ${COLUMNS} from json_each(${asJson(page)}) j cross join commits c on c.repo_id = ${this.#repoId} and c.id = j.value`,
        ),
      );
    }
    return ids.map((id) => this.#ids.indexOf(id)).filter((commit) => commit !== -1 && this.isLoaded(commit));
  }

  /** Loads these commits, and with them the newest of their ancestors: pages of some thousand, whatever the order of the walk. */
  async ensure(commits: readonly number[]): Promise<void> {
    const missing = commits.filter((commit) => !this.isLoaded(commit));
    if (missing.length === 0) return;
    const newest = missing.slice(0, this.#page).map((commit) => this.#ids.at(commit));
    // `cross join` keeps the order of the tables: SQLite would look through all commits for each parent.
    // The recursion takes commits out of its queue by their dates, and never one twice.
    this.#take(
      await queryRows(
        this.#db,
        CommitRow,
        sql`with recursive walk (id, tree, parents, at) as (
            select ${COLUMNS} from json_each(${asJson(newest)}) j cross join commits c on c.repo_id = ${this.#repoId} and c.id = j.value
            union
            select ${COLUMNS} from walk w cross join json_each(w.parents) p cross join commits c on c.repo_id = ${this.#repoId} and c.id = p.value
            order by 4 desc limit ${this.#page})
          select id, tree, parents, at from walk`,
      ),
    );
    this.#page = Math.min(this.#page * 4, LAST_PAGE);
    const late = missing.filter((commit) => !this.isLoaded(commit));
    await this.find(late.map((commit) => this.#ids.at(commit)));
    // A history with a hole can't be walked: better no answer than a wrong one.
    if (late.some((commit) => !this.isLoaded(commit))) throw new HubError("content_damaged");
  }

  #take(rows: readonly z.output<typeof CommitRow>[]): void {
    for (const { id, tree, parents, at } of rows) {
      const commit = this.#ids.add(id).index;
      if (this.isLoaded(commit)) continue;
      this.#tree[commit] = this.#trees.add(tree).index;
      this.#dates[commit] = at;
      this.#parents[commit] = parents.map((parent) => this.#ids.add(parent).index);
    }
    if (this.#ids.size > MAX_COMMITS)
      throw new HubError("payload_too_large", {
        problem: `The history has more than ${MAX_COMMITS} commits: fetch a part of it, with --depth or --shallow-since.`,
      });
  }
}
