// Users, organizations and their members; the administrator of a new hub.
import { and, desc, eq, isNull, sql } from "drizzle-orm";
import { authorize, type Caller, requireUser } from "../access/caller";
import type { Role, Scope } from "../access/policy";
import { DEFAULT_TOKEN_DAYS, MAX_TOKEN_DAYS, mintToken } from "../access/tokens";
import { commitBatch, type Guard, isUniqueViolation } from "../db/client";
import { accounts, memberships, tokens } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { type AccountName, sortableId } from "../ids";
import type { Platform } from "../platform/platform";

export type Account = typeof accounts.$inferSelect;

/** @throws account_not_found */
export async function findAccount(platform: Platform, name: AccountName): Promise<Account> {
  const [account] = await platform.db.select().from(accounts).where(eq(accounts.nameKey, name.toLowerCase()));
  if (account === undefined || account.deletedAt !== null) throw new HubError("account_not_found", { name });
  return account;
}

/** What the caller's account and token say of themselves. */
export async function ownProfile(caller: Caller) {
  const { id, tokenId } = requireUser(caller);
  const [profile] = await caller.platform.db
    .select({ fullname: accounts.fullname, email: accounts.email, tokenCreatedAt: tokens.createdAt })
    .from(accounts)
    .leftJoin(tokens, eq(tokens.id, tokenId ?? ""))
    .where(eq(accounts.id, id));
  if (profile === undefined) throw new HubError("invalid_credentials");
  return profile;
}

export type NewAccount = { readonly name: AccountName; readonly fullname?: string; readonly email?: string };

function accountRow(now: number, kind: "user" | "org", wanted: NewAccount, isAdmin = false) {
  return {
    id: sortableId(now),
    kind,
    name: wanted.name,
    nameKey: wanted.name.toLowerCase(),
    fullname: wanted.fullname ?? wanted.name,
    email: wanted.email ?? null,
    isAdmin,
    createdAt: now,
  };
}

async function asFree<T>(name: AccountName, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isUniqueViolation(error, "accounts.name_key")) throw new HubError("account_exists", { name });
    throw error;
  }
}

/** @throws account_exists | forbidden */
export async function createUser(caller: Caller, wanted: NewAccount): Promise<{ id: string; name: AccountName }> {
  const { platform, actor } = caller;
  const subject = `account:${wanted.name}`;
  authorize(caller, { action: "account.create" }, { subject, scopeId: null });
  const row = accountRow(platform.now(), "user", wanted);
  await asFree(
    wanted.name,
    commitBatch(
      platform.db,
      [],
      [
        platform.db.insert(accounts).values(row),
        eventStatement(
          platform.db,
          allowedEvent(platform, actor, {
            type: "account.created",
            subject,
            action: "account.create",
            scopeId: row.id,
          }),
        ),
      ],
    ),
  );
  return row;
}

/** The creator becomes the organization's first admin. @throws account_exists */
export async function createOrganization(
  caller: Caller,
  wanted: NewAccount,
): Promise<{ id: string; name: AccountName }> {
  const { platform, actor } = caller;
  const user = requireUser(caller);
  const subject = `account:${wanted.name}`;
  authorize(caller, { action: "org.create" }, { subject, scopeId: user.id });
  const now = platform.now();
  const row = accountRow(now, "org", wanted);
  await asFree(
    wanted.name,
    commitBatch(
      platform.db,
      [],
      [
        platform.db.insert(accounts).values(row),
        platform.db.insert(memberships).values({ orgId: row.id, userId: user.id, role: "admin", createdAt: now }),
        eventStatement(
          platform.db,
          allowedEvent(platform, actor, { type: "account.created", subject, action: "org.create", scopeId: row.id }),
        ),
      ],
    ),
  );
  return row;
}

/** Sets a member's role, or removes the member with null; the last admin stays. */
export async function setMember(
  caller: Caller,
  orgName: AccountName,
  userName: AccountName,
  role: Role | null,
): Promise<void> {
  const { platform, actor } = caller;
  const org = await findAccount(platform, orgName);
  if (org.kind !== "org") throw new HubError("account_not_found", { name: orgName });
  const subject = `account:${org.name}`;
  authorize(caller, { action: "org.manage", orgId: org.id }, { subject, scopeId: org.id });
  const user = await findAccount(platform, userName);
  if (user.kind !== "user") throw new HubError("account_not_found", { name: userName });
  const { db } = platform;
  const isMember = sql`${memberships.orgId} = ${org.id} and ${memberships.userId} = ${user.id}`;
  const keepsAnAdmin = {
    holds: sql`${role === "admin" ? 1 : 0} or exists (select 1 from memberships where org_id = ${org.id} and role = 'admin' and user_id <> ${user.id})`,
    otherwise: () =>
      new HubError("invalid_field", {
        field: "role",
        problem: "would leave the organization without an admin: name another first",
      }),
  };
  await commitBatch(
    db,
    [keepsAnAdmin],
    [
      role === null
        ? db.delete(memberships).where(isMember)
        : db
            .insert(memberships)
            .values({ orgId: org.id, userId: user.id, role, createdAt: platform.now() })
            .onConflictDoUpdate({ target: [memberships.orgId, memberships.userId], set: { role } }),
      eventStatement(
        db,
        allowedEvent(platform, actor, {
          type: "member.changed",
          subject,
          action: "org.manage",
          scopeId: org.id,
          data: { user: user.name, role },
        }),
      ),
    ],
  );
}

export type TokenRequest = { readonly name: string; readonly scope: Scope; readonly days?: number };

/** A token for the caller, or, by an administrator, for another user. The text is returned once. */
export async function createToken(caller: Caller, wanted: TokenRequest, forUser?: AccountName) {
  const { platform, actor } = caller;
  const self = requireUser(caller);
  const account = forUser === undefined ? self : await findAccount(platform, forUser);
  const subject = `account:${account.name}`;
  const action = account.id === self.id ? "token.create" : "account.token.create";
  authorize(caller, { action }, { subject, scopeId: account.id });
  const days = wanted.days ?? DEFAULT_TOKEN_DAYS;
  if (days > MAX_TOKEN_DAYS)
    throw new HubError("invalid_field", { field: "days", problem: `must be at most ${MAX_TOKEN_DAYS}` });
  const { text, row } = mintToken(platform.now(), {
    accountId: account.id,
    name: wanted.name,
    scope: wanted.scope,
    days,
  });
  await commitBatch(
    platform.db,
    [],
    [
      platform.db.insert(tokens).values(row),
      eventStatement(
        platform.db,
        allowedEvent(platform, actor, {
          type: "token.created",
          subject,
          action,
          scopeId: account.id,
          data: { name: wanted.name, scope: wanted.scope, expiresAt: row.expiresAt },
        }),
      ),
    ],
  );
  return { id: row.id, token: text, expiresAt: row.expiresAt };
}

/** The caller's own tokens, without their texts, which nobody knows any more. */
export function listTokens(caller: Caller) {
  const user = requireUser(caller);
  return caller.platform.db
    .select({
      id: tokens.id,
      name: tokens.name,
      scope: tokens.scope,
      createdAt: tokens.createdAt,
      expiresAt: tokens.expiresAt,
      lastUsedDay: tokens.lastUsedDay,
    })
    .from(tokens)
    .where(and(eq(tokens.accountId, user.id), isNull(tokens.revokedAt)))
    .orderBy(desc(tokens.id));
}

/** Revokes a token of the caller's: it opens nothing from the next request on. @throws token_not_found */
export async function revokeToken(caller: Caller, id: string): Promise<void> {
  const { platform, actor } = caller;
  const user = requireUser(caller);
  const subject = `account:${user.name}`;
  authorize(caller, { action: "token.create" }, { subject, scopeId: user.id });
  const isMine: Guard = {
    holds: sql`exists (select 1 from tokens where id = ${id} and account_id = ${user.id} and revoked_at is null)`,
    otherwise: () => new HubError("token_not_found"),
  };
  await commitBatch(
    platform.db,
    [isMine],
    [
      platform.db.update(tokens).set({ revokedAt: platform.now() }).where(eq(tokens.id, id)),
      eventStatement(
        platform.db,
        allowedEvent(platform, actor, {
          type: "token.revoked",
          subject,
          action: "token.create",
          scopeId: user.id,
          data: { token: id },
        }),
      ),
    ],
  );
}

/**
 * The administrator of a new hub and a token for it; with `rotate` a fresh token for the one that exists.
 * The caller has proved to hold the hub's own secret. @throws already_bootstrapped
 */
export async function bootstrap(platform: Platform, name: AccountName, rotate: boolean) {
  const { db } = platform;
  const now = platform.now();
  const [existing] = await db.select().from(accounts).where(eq(accounts.isAdmin, true)).limit(1);
  if (existing !== undefined && !rotate) throw new HubError("already_bootstrapped");
  const account = existing ?? accountRow(now, "user", { name, fullname: "Administrator" }, true);
  const { text, row } = mintToken(now, {
    accountId: account.id,
    name: "bootstrap",
    scope: "admin",
    days: MAX_TOKEN_DAYS,
  });
  const firstOne = {
    holds: existing === undefined ? sql`not exists (select 1 from accounts where is_admin = 1)` : sql`1`,
    otherwise: () => new HubError("already_bootstrapped"),
  };
  await commitBatch(
    db,
    [firstOne],
    [
      ...(existing === undefined ? [db.insert(accounts).values({ ...account, isAdmin: true })] : []),
      db.insert(tokens).values(row),
      eventStatement(
        db,
        allowedEvent(
          platform,
          { kind: "hub" },
          {
            type: existing === undefined ? "account.created" : "token.created",
            subject: `account:${account.name}`,
            action: "account.create",
            scopeId: null,
          },
        ),
      ),
    ],
  );
  return { user: account.name, token: text };
}
