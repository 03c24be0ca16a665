// Likes: who likes a repository, and what someone likes. The count is kept with the row that it counts.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, may, requireUser } from "../access/caller";
import { commitBatch, type Guard, queryRows } from "../db/client";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { type AccountName, parseAccountName, type RepoId } from "../ids";
import { findAccount } from "./accounts";
import {
  askerOf,
  findRepo,
  ownersOf,
  RepoRow,
  type Repository,
  repoExists,
  repoOf,
  selectRepo,
  targetOf,
} from "./repositories";
import { tallyBy } from "./tally";

/** Repeating it changes nothing. @throws repo_not_found | authentication_required | forbidden */
export const like = (caller: Caller, id: RepoId): Promise<void> => setLike(caller, id, true);
export const unlike = (caller: Caller, id: RepoId): Promise<void> => setLike(caller, id, false);

/** What the guard says where there is nothing to change; it is told to nobody. */
class Unchanged extends HubError {
  constructor() {
    super("internal");
  }
}

async function setLike(caller: Caller, id: RepoId, liked: boolean): Promise<void> {
  const { platform } = caller;
  const { db } = platform;
  const repo = await findRepo(caller, id);
  authorize(caller, { action: "repo.like", repo }, targetOf(repo));
  const user = requireUser(caller);
  const now = platform.now();
  const row = sql`select 1 from likes where repo_id = ${repo.id} and account_id = ${user.id}`;
  const guards: Guard[] = [
    { holds: liked ? sql`not exists (${row})` : sql`exists (${row})`, otherwise: () => new Unchanged() },
    repoExists(repo),
  ];
  const event = allowedEvent(platform, caller.actor, {
    type: liked ? "repo.liked" : "repo.unliked",
    ...targetOf(repo),
    action: "repo.like",
  });
  try {
    // Commit point: the batch. Of two that are the same at once, the later one finds nothing to change.
    await commitBatch(db, guards, [
      liked
        ? sql`insert into likes (repo_id, account_id, created_at) values (${repo.id}, ${user.id}, ${now})`
        : sql`delete from likes where repo_id = ${repo.id} and account_id = ${user.id}`,
      sql`update repos set likes = likes + ${liked ? 1 : -1}, tally_at = ${tallyBy(now)} where id = ${repo.id}`,
      eventStatement(db, event),
    ]);
  } catch (error) {
    if (!(error instanceof Unchanged)) throw error;
  }
}

/** Where a page of likes ended; newest come first. */
export const LikePosition = z.object({ at: z.number(), id: z.string() });
export type LikePosition = z.output<typeof LikePosition>;
export type LikesPage = { readonly after?: LikePosition; readonly limit: number };

const beyond = (id: string, after: LikePosition | undefined) =>
  after === undefined ? sql`true` : sql`(l.created_at, ${sql.raw(id)}) < (${after.at}, ${after.id})`;

const name = z.string().transform((text) => parseAccountName(text, "name"));
const LikerRow = z.object({ id: z.string(), name, fullname: z.string(), at: z.number() });

export type Liker = {
  readonly name: AccountName;
  readonly fullname: string;
  readonly position: LikePosition;
};

/** @throws repo_not_found */
export async function listLikers(caller: Caller, id: RepoId, { after, limit }: LikesPage): Promise<Liker[]> {
  const repo = await findRepo(caller, id);
  const rows = await queryRows(
    caller.platform.db,
    LikerRow,
    sql`select a.id, a.name, a.fullname, l.created_at as at from likes l cross join accounts a on a.id = l.account_id
      where l.repo_id = ${repo.id} and a.deleted_at is null and ${beyond("l.account_id", after)}
      order by l.created_at desc, l.account_id desc limit ${limit}`,
  );
  return rows.map(({ id, name, fullname, at }) => ({ name, fullname, position: { at, id } }));
}

export type Liked = { readonly repo: Repository; readonly position: LikePosition };

/** What someone likes, as far as the caller may see it. @throws account_not_found */
export async function listLiked(caller: Caller, who: AccountName, { after, limit }: LikesPage): Promise<Liked[]> {
  const account = await findAccount(caller.platform, who);
  const isAdmin = caller.actor.kind === "user" && caller.actor.isAdmin;
  const rows = await queryRows(
    caller.platform.db,
    RepoRow.extend({ at: z.number() }),
    sql`select ${selectRepo(askerOf(caller))}, l.created_at as at
      from likes l cross join repos r on r.id = l.repo_id cross join accounts o on o.id = r.owner_id
      where l.account_id = ${account.id} and ${beyond("l.repo_id", after)}
        and (${isAdmin} or r.private = 0 or r.owner_id in (${ownersOf(caller)}))
      order by l.created_at desc, l.repo_id desc limit ${limit}`,
  );
  return rows
    .map((row) => ({ repo: repoOf(row), position: { at: row.at, id: row.repo_id } }))
    .filter(({ repo }) => may(caller, { action: "repo.read", repo }));
}
