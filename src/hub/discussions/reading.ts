// Discussions and pull requests as they are: a page of a repository's, one of them, and what happened in it.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import type { Caller } from "../../access/caller";
import { queryRows } from "../../db/client";
import { HubError } from "../../errors";
import { type AccountName, type GitId, parseRefName, type RefName } from "../../ids";
import { gitIdColumn, type Repository } from "../repositories";
import { accountColumn, type DiscussionEvent, EventRow, STATUSES, type Status } from "./events";

export type Discussion = {
  readonly repo: Repository;
  readonly number: number;
  readonly title: string;
  readonly status: Status;
  /** The branch that a pull request is meant for; null for a discussion. */
  readonly base: RefName | null;
  readonly mergeCommit: GitId | null;
  /** Null for who has been deleted. */
  readonly author: AccountName | null;
  readonly authorId: string;
  readonly createdAt: number;
};

const DiscussionRow = z.object({
  number: z.number(),
  title: z.string(),
  status: z.enum(STATUSES),
  base: z
    .string()
    .transform((text) => parseRefName(text, "base"))
    .nullable(),
  merge_commit: gitIdColumn.nullable(),
  author: accountColumn,
  author_id: z.string(),
  created_at: z.number(),
});

const discussionOf = (repo: Repository, row: z.output<typeof DiscussionRow>): Discussion => ({
  repo,
  number: row.number,
  title: row.title,
  status: row.status,
  base: row.base,
  mergeCommit: row.merge_commit,
  author: row.author,
  authorId: row.author_id,
  createdAt: row.created_at,
});

const selectDiscussion = sql`select d.number, d.title, d.status, d.base, d.merge_commit, a.name as author, d.author_id, d.created_at
  from discussions d left join accounts a on a.id = d.author_id and a.deleted_at is null`;

/** @throws discussion_not_found */
export async function findDiscussion(caller: Caller, repo: Repository, number: number): Promise<Discussion> {
  const [row] = await queryRows(
    caller.platform.db,
    DiscussionRow,
    sql`${selectDiscussion} where d.repo_id = ${repo.id} and d.number = ${number}`,
  );
  if (row === undefined) throw new HubError("discussion_not_found", { number });
  return discussionOf(repo, row);
}

export type DiscussionQuery = {
  readonly type?: "discussion" | "pull_request" | undefined;
  /** A draft is open, what is merged is closed. */
  readonly status?: "open" | "closed" | undefined;
  readonly author?: string | undefined;
  readonly offset: number;
  readonly limit: number;
};

/** Newest first; `count` is of all that match. */
export async function listDiscussions(
  caller: Caller,
  repo: Repository,
  query: DiscussionQuery,
): Promise<{ count: number; discussions: Discussion[] }> {
  const { db } = caller.platform;
  const conditions: SQL[] = [sql`d.repo_id = ${repo.id}`];
  if (query.type !== undefined)
    conditions.push(query.type === "pull_request" ? sql`d.base is not null` : sql`d.base is null`);
  if (query.status !== undefined)
    conditions.push(
      query.status === "open" ? sql`d.status in ('draft', 'open')` : sql`d.status in ('closed', 'merged')`,
    );
  if (query.author !== undefined)
    conditions.push(
      sql`d.author_id in (select id from accounts where name_key = ${query.author.toLowerCase()} and deleted_at is null)`,
    );
  const where = sql.join(conditions, sql` and `);
  const [[counted], rows] = await Promise.all([
    queryRows(db, z.object({ count: z.number() }), sql`select count(*) as count from discussions d where ${where}`),
    queryRows(
      db,
      DiscussionRow,
      sql`${selectDiscussion} where ${where} order by d.number desc limit ${query.limit} offset ${query.offset}`,
    ),
  ]);
  return { count: counted?.count ?? 0, discussions: rows.map((row) => discussionOf(repo, row)) };
}

/** Everything that happened, in order; its size is bounded where it is written. */
export const readEvents = (caller: Caller, { repo, number }: Discussion): Promise<DiscussionEvent[]> =>
  queryRows(
    caller.platform.db,
    EventRow,
    sql`${selectEvent} where e.repo_id = ${repo.id} and e.number = ${number} order by e.seq`,
  );

export type CommentEvent = Extract<DiscussionEvent, { type: "comment" }>;

/** @throws comment_not_found */
export async function findComment(caller: Caller, { repo, number }: Discussion, id: string): Promise<CommentEvent> {
  const [event] = await queryRows(
    caller.platform.db,
    EventRow,
    sql`${selectEvent} where e.id = ${id} and e.repo_id = ${repo.id} and e.number = ${number}`,
  );
  if (event?.type !== "comment") throw new HubError("comment_not_found", { id: id.slice(0, 40) });
  return event;
}

const selectEvent = sql`select e.id, e.type, e.author_id, e.created_at, e.data, a.name as author
  from discussion_events e left join accounts a on a.id = e.author_id and a.deleted_at is null`;
