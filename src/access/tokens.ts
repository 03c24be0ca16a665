// Access tokens: what they look like, how they are stored, and who a request comes from.
import { createHash } from "node:crypto";
import { eq, type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../db/client";
import { tokens } from "../db/schema";
import { HubError } from "../errors";
import { sortableId } from "../ids";
import type { Platform } from "../platform/platform";
import { isJobToken, jobOfToken } from "./job-tokens";
import type { Actor, Scope } from "./policy";
import { isXetToken, xetGrantOf } from "./xet-tokens";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DAY = 86_400_000;
export const DEFAULT_TOKEN_DAYS = 90;
export const MAX_TOKEN_DAYS = 366;

/** `hf_` (clients insist on it) and 40 characters of base62: over 230 random bits. */
export function newTokenText(): string {
  let text = "hf_";
  while (text.length < 43)
    // 248 = 4·62: dropping the bytes above keeps every character equally likely.
    for (const byte of crypto.getRandomValues(new Uint8Array(64)))
      if (byte < 248 && text.length < 43) text += ALPHABET.charAt(byte % 62);
  return text;
}

export const tokenHash = (token: string): string => createHash("sha256").update(token).digest("hex");

export type NewToken = {
  readonly accountId: string;
  readonly name: string;
  readonly scope: Scope;
  readonly days: number;
};

/** The row of a new token and its text, which is shown once and never stored. */
export function mintToken(now: number, token: NewToken) {
  const text = newTokenText();
  const row = {
    id: sortableId(now),
    accountId: token.accountId,
    name: token.name,
    hash: tokenHash(text),
    scope: token.scope,
    createdAt: now,
    expiresAt: now + token.days * DAY,
  };
  return { text, row };
}

const Memberships = z.array(
  z.object({
    orgId: z.string(),
    orgName: z.string(),
    orgFullname: z.string(),
    role: z.enum(["read", "write", "admin"]),
  }),
);
const Identity = z.object({
  tokenId: z.string(),
  tokenName: z.string(),
  scope: z.enum(["read", "write", "admin"]),
  lastUsedDay: z.number().nullable(),
  id: z.string(),
  name: z.string(),
  isAdmin: z.number(),
  memberships: Memberships,
});

/**
 * SQL for whom a token makes its bearer, while it and the account are good; null otherwise. Memberships are included, so that a
 * change of rights acts on the next request. To be read by `IdentityColumn`. `t` is the row of `tokens`.
 */
export const identityWhere = (token: SQL, now: number): SQL => sql`(
  select json_object('tokenId', t.id, 'tokenName', t.name, 'scope', t.scope, 'lastUsedDay', t.last_used_day, 'id', a.id, 'name', a.name,
      'isAdmin', a.is_admin,
      'memberships', (select json_group_array(json_object('orgId', o.id, 'orgName', o.name, 'orgFullname', o.fullname, 'role', m.role))
        from memberships m join accounts o on o.id = m.org_id where m.user_id = a.id and o.deleted_at is null))
    from tokens t join accounts a on a.id = t.account_id
    where ${token} and t.revoked_at is null and t.expires_at > ${now} and a.deleted_at is null)`;

export const IdentityColumn = z.string().transform((text) => {
  const { isAdmin, lastUsedDay, ...user } = Identity.parse(JSON.parse(text));
  const actor: Extract<Actor, { kind: "user" }> = { kind: "user", ...user, isAdmin: isAdmin === 1 };
  return { actor, lastUsedDay };
});

/**
 * Who the request comes from. A password of HTTP Basic counts as a token, since git sends tokens so. One query, or none for
 * tokens that are signed. @throws invalid_credentials
 */
export async function identify(platform: Platform, authorization: string | null | undefined): Promise<Actor> {
  if (authorization === null || authorization === undefined || authorization === "") return { kind: "anonymous" };
  const token = tokenOf(authorization);
  if (token === null) throw new HubError("invalid_credentials");
  const now = platform.now();
  const { secret } = platform.config;
  if (isJobToken(token)) {
    const job = await jobOfToken(secret, token);
    if (job === null) throw new HubError("invalid_credentials");
    return { kind: "job", id: job };
  }
  if (isXetToken(token)) {
    const grant = await xetGrantOf(secret, token, now);
    if (grant === null) throw new HubError("xet_token_required");
    return { kind: "xet", grant, holder: null };
  }
  const [row] = await queryRows(
    platform.db,
    z.object({ identity: IdentityColumn.nullable() }),
    sql`select ${identityWhere(sql`t.hash = ${tokenHash(token)}`, now)} as identity`,
  );
  if (row?.identity == null) throw new HubError("invalid_credentials");
  const { actor, lastUsedDay } = row.identity;
  const today = Math.floor(now / DAY);
  if (lastUsedDay !== today && actor.tokenId !== null)
    platform.defer(platform.db.update(tokens).set({ lastUsedDay: today }).where(eq(tokens.id, actor.tokenId)).run());
  return actor;
}

/** What the header presents as a token; null when it is no Bearer or Basic header. */
export function tokenOf(authorization: string): string | null {
  const bearer = /^Bearer +(\S+)$/i.exec(authorization);
  if (bearer?.[1] !== undefined) return bearer[1];
  const basic = /^Basic +(\S+)$/i.exec(authorization);
  if (basic?.[1] === undefined) return null;
  try {
    const text = atob(basic[1]);
    return text.slice(text.indexOf(":") + 1) || null;
  } catch {
    return null;
  }
}
