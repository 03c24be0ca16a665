// What people do in a discussion: comment, edit and hide comments, change its title and its status. Each is one batch.
import { type SQL, sql } from "drizzle-orm";
import { authorize, type Caller } from "../../access/caller";
import { commitBatch, type Guard } from "../../db/client";
import { HubError } from "../../errors";
import { targetOf } from "../repositories";
import { type DiscussionEvent, hasRoom, newComment, newEvent, notOpen, trailStatement } from "./events";
import { type CommentEvent, type Discussion, findComment } from "./reading";

/** Former texts of a comment beyond these are forgotten, the oldest first: a row of D1 is of at most 2 MB. */
const MAX_EDITS = 8;

const factsOf = ({ title, status, base }: Discussion) => ({ title, status, isPull: base !== null });

const isThere = ({ repo, number }: Discussion): Guard => ({
  holds: sql`exists (select 1 from discussions where repo_id = ${repo.id} and number = ${number})`,
  otherwise: () => new HubError("discussion_not_found", { number }),
});

/** On closed ones too. @throws discussion_full */
export async function comment(caller: Caller, discussion: Discussion, text: string): Promise<DiscussionEvent> {
  const { repo } = discussion;
  authorize(caller, { action: "discussion.write", repo }, targetOf(repo));
  const { event, statement } = newEvent(caller, discussion, newComment(text));
  await commitBatch(
    caller.platform.db,
    [isThere(discussion), hasRoom(discussion)],
    [
      statement,
      trailStatement(caller, discussion, {
        type: "discussion.commented",
        action: "discussion.write",
        data: { ...factsOf(discussion), commentId: event.id },
      }),
    ],
  );
  return event;
}

/** What the comment said before is kept. @throws comment_not_found | comment_hidden | discussion_full */
export async function editComment(
  caller: Caller,
  discussion: Discussion,
  id: string,
  text: string,
): Promise<CommentEvent> {
  const { repo } = discussion;
  const { authorId } = await findComment(caller, discussion, id);
  authorize(caller, { action: "discussion.edit", repo, authorId }, targetOf(repo));
  const notHidden: Guard = {
    holds: sql`exists (select 1 from discussion_events where id = ${id} and not data ->> 'hidden')`,
    otherwise: () => new HubError("comment_hidden"),
  };
  await commitBatch(
    caller.platform.db,
    [notHidden, hasRoom(discussion)],
    [
      // One statement of SQL, so that of two edits at once neither is lost.
      sql`update discussion_events set data = json_object('text', ${text}, 'at', ${caller.platform.now()}, 'hidden', json('false'), 'edits',
          json_insert(iif(json_array_length(data, '$.edits') >= ${MAX_EDITS}, json_remove(data -> 'edits', '$[0]'), data -> 'edits'),
            '$[#]', json_object('text', data ->> 'text', 'at', coalesce(data ->> 'at', created_at)))) where id = ${id}`,
      trailStatement(caller, discussion, {
        type: "discussion.comment_edited",
        action: "discussion.edit",
        data: { ...factsOf(discussion), commentId: id },
      }),
    ],
  );
  return findComment(caller, discussion, id);
}

/** For good: the text and what it said before are erased, so that nothing can show them. @throws comment_not_found */
export async function hideComment(caller: Caller, discussion: Discussion, id: string): Promise<CommentEvent> {
  const { repo } = discussion;
  const { authorId } = await findComment(caller, discussion, id);
  authorize(caller, { action: "discussion.steer", repo, authorId }, targetOf(repo));
  await commitBatch(
    caller.platform.db,
    [],
    [
      sql`update discussion_events set data = json_object('text', '', 'edits', json('[]'), 'hidden', json('true')) where id = ${id}`,
      trailStatement(caller, discussion, {
        type: "discussion.comment_hidden",
        action: "discussion.steer",
        data: { ...factsOf(discussion), commentId: id },
      }),
    ],
  );
  return findComment(caller, discussion, id);
}

export async function rename(caller: Caller, discussion: Discussion, title: string): Promise<DiscussionEvent> {
  const { event, statement } = newEvent(caller, discussion, {
    type: "title-change",
    data: { from: discussion.title, to: title },
  });
  await steer(caller, discussion, {
    set: sql`title = ${title}`,
    guards: [hasRoom(discussion)],
    statements: [statement],
    fact: { type: "discussion.renamed", data: { ...factsOf(discussion), title } },
  });
  return event;
}

/** Opens or closes it, perhaps with a word on why. @throws discussion_not_open for what is merged, or is so already */
export async function setStatus(
  caller: Caller,
  discussion: Discussion,
  status: "open" | "closed",
  text?: string,
): Promise<DiscussionEvent> {
  if (discussion.status === "merged" || discussion.status === status) {
    authorizeSteering(caller, discussion);
    throw notOpen(discussion.status);
  }
  const said = text === undefined ? [] : [newEvent(caller, discussion, newComment(text)).statement];
  const { event, statement } = newEvent(caller, discussion, { type: "status-change", data: { status } });
  await steer(caller, discussion, {
    set: sql`status = ${status}`,
    // Closing must be possible whatever came before; a comment with it is one like any other.
    guards: text === undefined ? [] : [hasRoom(discussion)],
    statements: [...said, statement],
    fact: { type: "discussion.status_changed", data: { ...factsOf(discussion), status } },
  });
  return event;
}

const authorizeSteering = (caller: Caller, { repo, authorId }: Discussion): void =>
  authorize(caller, { action: "discussion.steer", repo, authorId }, targetOf(repo));

type Steering = {
  readonly set: SQL;
  readonly guards: readonly Guard[];
  readonly statements: readonly SQL[];
  readonly fact: { readonly type: string; readonly data: ReturnType<typeof factsOf> };
};

/** A change of the discussion itself, as the caller has read it. @throws discussion_changed when it is no longer so */
async function steer(caller: Caller, discussion: Discussion, { set, guards, statements, fact }: Steering) {
  authorizeSteering(caller, discussion);
  const { repo, number, title, status } = discussion;
  const unchanged: Guard = {
    holds: sql`exists (select 1 from discussions where repo_id = ${repo.id} and number = ${number} and title = ${title} and status = ${status})`,
    otherwise: () => new HubError("discussion_changed"),
  };
  await commitBatch(
    caller.platform.db,
    [unchanged, ...guards],
    [
      sql`update discussions set ${set} where repo_id = ${repo.id} and number = ${number}`,
      ...statements,
      trailStatement(caller, discussion, { ...fact, action: "discussion.steer" }),
    ],
  );
}
