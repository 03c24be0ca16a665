// Access tokens: what they look like, how they are stored, and who a request comes from.
import { createHash } from "node:crypto";
import { eq, sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../db/client";
import { tokens } from "../db/schema";
import { HubError } from "../errors";
import { sortableId } from "../ids";
import type { Platform } from "../platform/platform";
import { isJobToken, jobOfToken } from "./job-tokens";
import type { Actor, Scope } from "./policy";

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
const IdentityRow = z.object({
  token_id: z.string(),
  token_name: z.string(),
  scope: z.enum(["read", "write", "admin"]),
  last_used_day: z.number().nullable(),
  id: z.string(),
  name: z.string(),
  is_admin: z.number(),
  memberships: z.string().transform((text) => Memberships.parse(JSON.parse(text))),
});

/**
 * Who the request comes from: one query, memberships included, so that a change of rights acts on the next request.
 * A password of HTTP Basic counts as a token, since git sends tokens so. @throws invalid_credentials
 */
export async function identify(platform: Platform, authorization: string | null | undefined): Promise<Actor> {
  if (authorization === null || authorization === undefined || authorization === "") return { kind: "anonymous" };
  const token = tokenOf(authorization);
  if (token === null) throw new HubError("invalid_credentials");
  if (isJobToken(token)) {
    const job = await jobOfToken(platform.config.secret, token);
    if (job === null) throw new HubError("invalid_credentials");
    return { kind: "job", id: job };
  }
  const now = platform.now();
  const [row] = await queryRows(
    platform.db,
    IdentityRow,
    sql`select t.id as token_id, t.name as token_name, t.scope, t.last_used_day, a.id, a.name, a.is_admin,
        (select json_group_array(json_object('orgId', o.id, 'orgName', o.name, 'orgFullname', o.fullname, 'role', m.role))
           from memberships m join accounts o on o.id = m.org_id where m.user_id = a.id and o.deleted_at is null) as memberships
      from tokens t join accounts a on a.id = t.account_id
      where t.hash = ${tokenHash(token)} and t.revoked_at is null and t.expires_at > ${now} and a.deleted_at is null`,
  );
  if (row === undefined) throw new HubError("invalid_credentials");
  const today = Math.floor(now / DAY);
  if (row.last_used_day !== today)
    platform.defer(platform.db.update(tokens).set({ lastUsedDay: today }).where(eq(tokens.id, row.token_id)).run());
  return {
    kind: "user",
    id: row.id,
    name: row.name,
    isAdmin: row.is_admin === 1,
    scope: row.scope,
    tokenName: row.token_name,
    memberships: row.memberships,
  };
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
