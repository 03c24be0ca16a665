// What happens in a discussion, row by row: comments, changes of title and status, commits pushed to a pull request.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, requireUser } from "../../access/caller";
import { asJson, type Guard, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { allowedEvent, eventStatement } from "../../events/trail";
import { type AccountName, type GitId, parseAccountName, parseGitId, parseRefName, type RefName } from "../../ids";
import { type Repository, targetOf } from "../repositories";

export const STATUSES = ["draft", "open", "closed", "merged"] as const;
export type Status = (typeof STATUSES)[number];

export const accountColumn = z
  .string()
  .transform((text) => parseAccountName(text, "author"))
  .nullable();

/** A comment as it is now, and what it said before, oldest first; a hidden one says nothing any more. */
export const Comment = z.object({
  text: z.string(),
  /** When this text was written; absent for what was never edited. */
  at: z.number().optional(),
  edits: z.array(z.object({ text: z.string(), at: z.number() })),
  hidden: z.boolean(),
});
export type Comment = z.output<typeof Comment>;

const Payload = z.discriminatedUnion("type", [
  z.object({ type: z.literal("comment"), data: Comment }),
  z.object({ type: z.literal("status-change"), data: z.object({ status: z.enum(STATUSES) }) }),
  z.object({ type: z.literal("title-change"), data: z.object({ from: z.string(), to: z.string() }) }),
  z.object({
    type: z.literal("commit"),
    data: z.object({ subject: z.string(), oid: z.string().transform((text): GitId => parseGitId(text, "oid")) }),
  }),
]);
export type Payload = z.output<typeof Payload>;

export type DiscussionEvent = Payload & {
  /** 24 lower-case hex digits. */
  readonly id: string;
  /** Null for who has been deleted, or was no person. */
  readonly author: AccountName | null;
  readonly authorId: string;
  readonly createdAt: number;
};

/** Columns: id, author, author_id, created_at, type, and data as text. */
export const EventRow = z
  .object({
    id: z.string(),
    author: accountColumn,
    author_id: z.string(),
    created_at: z.number(),
    type: z.string(),
    data: z.string(),
  })
  .transform(({ id, author, author_id: authorId, created_at: createdAt, type, data }): DiscussionEvent => {
    return { id, author, authorId, createdAt, ...Payload.parse({ type, data: JSON.parse(data) }) };
  });

/** What a client can be shown of a discussion at once; more comments belong in a new one. */
const MAX_EVENTS = 1000;
const MAX_CHARACTERS = 2_000_000;
/** More commits than these of one push are read in the history. */
const MAX_PUSHED = 50;
const MAX_SUBJECT = 500;

export type Place = { readonly repo: Repository; readonly number: number };

/** @throws discussion_full when the batch commits to a discussion that holds too much already */
export const hasRoom = ({ repo, number }: Place): Guard => ({
  holds: sql`(select count(*) < ${MAX_EVENTS} and coalesce(sum(length(data)), 0) < ${MAX_CHARACTERS}
    from discussion_events where repo_id = ${repo.id} and number = ${number})`,
  otherwise: () => new HubError("discussion_full"),
});

/** An event made now by the caller, and the row that keeps it. */
export function newEvent(caller: Caller, { repo, number }: Place, payload: Payload) {
  const user = requireUser(caller);
  const event: DiscussionEvent = {
    ...payload,
    id: newEventId(),
    author: parseAccountName(user.name, "author"),
    authorId: user.id,
    createdAt: caller.platform.now(),
  };
  const statement: Statement = sql`insert into discussion_events (id, repo_id, number, type, author_id, created_at, data)
    values (${event.id}, ${repo.id}, ${number}, ${event.type}, ${user.id}, ${event.createdAt}, ${JSON.stringify(event.data)})`;
  return { event, statement };
}

const newEventId = (): string => crypto.randomUUID().replaceAll("-", "").slice(0, 24);

export const newComment = (text: string): Payload => ({ type: "comment", data: { text, edits: [], hidden: false } });

export const pullRef = (number: number): RefName => parseRefName(`refs/pr/${number}`, "revision");

/** The number of the pull request whose ref this is; null for other refs. */
export function pullNumberOf(ref: RefName): number | null {
  const [, digits] = /^refs\/pr\/([1-9][0-9]{0,8})$/.exec(ref) ?? [];
  return digits === undefined ? null : Number(digits);
}

/** The first line of a message, as much of it as is kept. */
export const firstLine = (message: string, most: number): string =>
  (message.split("\n", 1)[0] ?? "").trim().slice(0, most).toWellFormed();

export type PushedCommit = { readonly oid: GitId; readonly subject: string };

/**
 * For the batch of every push, whatever brought it: what it adds to the pull request whose ref it moves, the commits oldest first.
 * Nothing for other refs. A merged pull request takes no more commits.
 */
export function pushToPull(
  caller: Caller,
  repo: Pick<Repository, "id">,
  ref: RefName,
  commits: readonly PushedCommit[],
): { guards: Guard[]; statements: Statement[] } {
  const number = pullNumberOf(ref);
  if (number === null) return { guards: [], statements: [] };
  const { actor, platform } = caller;
  const rows = commits
    .slice(-MAX_PUSHED)
    .map(({ oid, subject }) => [newEventId(), { oid, subject: firstLine(subject, MAX_SUBJECT) }]);
  return {
    guards: [
      {
        holds: sql`not exists (select 1 from discussions where repo_id = ${repo.id} and number = ${number} and status = 'merged')`,
        otherwise: () => notOpen("merged"),
      },
    ],
    statements: [
      sql`insert into discussion_events (id, repo_id, number, type, author_id, created_at, data)
        select value ->> 0, d.repo_id, d.number, 'commit', ${actor.kind === "user" ? actor.id : ""}, ${platform.now()}, value -> 1
          from discussions d join json_each(${asJson(rows)}) where d.repo_id = ${repo.id} and d.number = ${number} and d.base is not null
            and (select count(*) from discussion_events e where e.repo_id = d.repo_id and e.number = d.number) < ${MAX_EVENTS}`,
    ],
  };
}

/** The error for a pull request or discussion that is in no state for what is asked. */
export const notOpen = (status: Status): HubError =>
  new HubError("discussion_not_open", { status, fix: FIXES[status] });

const FIXES: Record<Status, string> = {
  draft: "set its status to open first",
  open: "nothing is to be changed",
  closed: "set its status to open first",
  merged: "what is merged stays so, open a new one",
};

/** What the trail keeps of a discussion with everything that happens to it. */
export const trailStatement = (
  caller: Caller,
  { repo, number }: Place,
  fact: {
    readonly type: string;
    readonly action: "discussion.write" | "discussion.edit" | "discussion.steer" | "pull.create" | "pull.merge";
    readonly data: {
      readonly title: string;
      readonly status: Status;
      readonly isPull: boolean;
      readonly commentId?: string;
      readonly base?: RefName;
      readonly mergeCommit?: GitId;
    };
  },
): Statement => {
  const { isPull, ...data } = fact.data;
  const type = isPull ? "pull_request" : "discussion";
  return eventStatement(
    caller.platform.db,
    allowedEvent(caller.platform, caller.actor, { ...targetOf(repo), ...fact, data: { type, number, ...data } }),
  );
};
