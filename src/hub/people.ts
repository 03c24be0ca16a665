// Users and organizations as everyone sees them: what they have and like, who follows whom, who is a member.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, requireUser } from "../access/caller";
import { commitBatch, queryRows } from "../db/client";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import type { AccountName } from "../ids";
import { type Account, findAccount } from "./accounts";
import { openTo } from "./collections";

type Kind = Account["kind"];

const Person = z.object({
  id: z.string(),
  name: z.string(),
  fullname: z.string(),
  kind: z.enum(["user", "org"]),
});
export type Person = z.output<typeof Person>;

const CountsRow = z.object({
  models: z.number(),
  datasets: z.number(),
  likes: z.number(),
  discussions: z.number(),
  followers: z.number(),
  following: z.number(),
  members: z.number(),
  followed: z.number().transform((one) => one === 1),
});
export type Overview = Person & { readonly createdAt: number } & z.output<typeof CountsRow>;

async function findKind(caller: Caller, name: AccountName, kind: Kind): Promise<Account> {
  const account = await findAccount(caller.platform, name);
  if (account.kind !== kind) throw new HubError("account_not_found", { name });
  return account;
}

/** Counts what the caller may see, and nothing else. @throws account_not_found */
export async function findOverview(caller: Caller, name: AccountName, kind: Kind): Promise<Overview> {
  const { id, name: written, fullname, createdAt } = await findKind(caller, name, kind);
  const open = openTo(caller, sql`r.private`, sql`r.owner_id`);
  const self = caller.actor.kind === "user" ? caller.actor.id : null;
  const has = (type: string): SQL =>
    sql`(select count(*) from repos r where r.owner_id = ${id} and r.type = ${type} and ${open})`;
  const [counts] = await queryRows(
    caller.platform.db,
    CountsRow,
    sql`select ${has("model")} as models, ${has("dataset")} as datasets,
      (select count(*) from likes l join repos r on r.id = l.repo_id where l.account_id = ${id} and ${open}) as likes,
      (select count(*) from discussions d join repos r on r.id = d.repo_id where d.author_id = ${id} and ${open}) as discussions,
      (select count(*) from follows where account_id = ${id}) as followers,
      (select count(*) from follows f join accounts a on a.id = f.account_id where f.follower_id = ${id} and a.kind = 'user') as following,
      (select count(*) from memberships where org_id = ${id}) as members,
      exists (select 1 from follows where account_id = ${id} and follower_id = ${self}) as followed`,
  );
  if (counts === undefined) throw new HubError("account_not_found", { name });
  return { id, name: written, fullname, kind, createdAt, ...counts };
}

/** No one is in so many that a page could not show them. */
const MAX_ORGANIZATIONS = 200;

export const organizationsOf = (caller: Caller, userId: string): Promise<Person[]> =>
  queryRows(
    caller.platform.db,
    Person,
    sql`select o.id, o.name, o.fullname, o.kind from memberships m join accounts o on o.id = m.org_id
      where m.user_id = ${userId} and o.deleted_at is null order by o.name_key limit ${MAX_ORGANIZATIONS}`,
  );

export type PeoplePage = { readonly after?: string; readonly limit: number };
export type Circle = "members" | "followers" | "following";

/** Users in some relation to an account, in the order of their ids: `after` is the last one of the page before. @throws account_not_found */
export async function listPeople(
  caller: Caller,
  name: AccountName,
  kind: Kind,
  circle: Circle,
  { after = "", limit }: PeoplePage,
): Promise<Person[]> {
  const { id } = await findKind(caller, name, kind);
  const ids = {
    members: sql`select user_id from memberships where org_id = ${id} and user_id > ${after}`,
    followers: sql`select follower_id from follows where account_id = ${id} and follower_id > ${after}`,
    following: sql`select account_id from follows where follower_id = ${id} and account_id > ${after}`,
  }[circle];
  return queryRows(
    caller.platform.db,
    Person,
    sql`select a.id, a.name, a.fullname, a.kind from accounts a
      where a.id in (${ids}) and a.kind = 'user' and a.deleted_at is null
      order by a.id limit ${limit}`,
  );
}

/** Repeating it changes nothing. @throws account_not_found | authentication_required | forbidden */
export async function setFollowed(caller: Caller, name: AccountName, kind: Kind, follow: boolean): Promise<void> {
  const { platform } = caller;
  const user = requireUser(caller);
  const account = await findKind(caller, name, kind);
  const target = { subject: `account:${account.name}`, scopeId: user.id };
  authorize(caller, { action: "follow" }, target);
  if (account.id === user.id)
    throw new HubError("invalid_field", { field: "user", problem: "is you: nobody follows themselves" });
  const [now] = await queryRows(
    platform.db,
    z.object({ followed: z.number() }),
    sql`select exists (select 1 from follows where follower_id = ${user.id} and account_id = ${account.id}) as followed`,
  );
  if ((now?.followed === 1) === follow) return;
  const type = follow ? "account.followed" : "account.unfollowed";
  await commitBatch(
    platform.db,
    [],
    [
      follow
        ? sql`insert or ignore into follows (follower_id, account_id, created_at) values (${user.id}, ${account.id}, ${platform.now()})`
        : sql`delete from follows where follower_id = ${user.id} and account_id = ${account.id}`,
      eventStatement(platform.db, allowedEvent(platform, caller.actor, { type, ...target, action: "follow" })),
    ],
  );
}
