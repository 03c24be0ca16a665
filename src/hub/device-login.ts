// Device login (RFC 8628): a program shows a short code, a person who has a token approves it, the program gets a token of its own.
import { randomBytes } from "node:crypto";
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, requireUser } from "../access/caller";
import type { Scope } from "../access/policy";
import { standingActor } from "../access/standing";
import { DEFAULT_TOKEN_DAYS, mintToken, tokenHash } from "../access/tokens";
import { commitBatch, type Guard, queryRows } from "../db/client";
import { deviceCodes, tokens } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import type { Platform } from "../platform/platform";
import { sign } from "../platform/signing";

export const DEVICE_CODE_S = 900;
export const POLL_INTERVAL_S = 5;
/** A poll that comes this much early is still on time. Milliseconds. */
const POLL_TOLERANCE_MS = 1000;
/** Consonants that do not look alike and spell nothing; eight of them, so that nobody finds a waiting code within its time. */
const ALPHABET = "BCDFGHJKLMNPQRSTVWXZ";
const USER_CODE_LENGTH = 8;
/** So many codes an account may try in a quarter of an hour. */
const MAX_ATTEMPTS = 10;
const ATTEMPTS_MS = 900_000;
/** So many programs may wait at once, whoever they are. */
const MAX_WAITING = 10_000;

export type DeviceLogin = { readonly deviceCode: string; readonly userCode: string };

/** Only hashes are stored; the short code's is keyed, since it could be found by trying. */
const userHash = ({ config }: Platform, userCode: string): Promise<string> =>
  sign(config.secret, "device-login", userCode);

function newUserCode(): string {
  let code = "";
  // 240 = 12·20: dropping the bytes above keeps every letter equally likely.
  while (code.length < USER_CODE_LENGTH)
    for (const byte of randomBytes(16))
      if (byte < 240 && code.length < USER_CODE_LENGTH) code += ALPHABET.charAt(byte % ALPHABET.length);
  return code;
}

/** The code as people may write it: small letters, with or without the hyphen. */
const readUserCode = (text: string): string => text.toUpperCase().replace(/[^A-Z]/g, "");

/** @throws too_many_waiting */
export async function startDeviceLogin(platform: Platform): Promise<DeviceLogin> {
  const { db } = platform;
  const now = platform.now();
  const deviceCode = randomBytes(32).toString("base64url");
  const userCode = newUserCode();
  const hasRoom: Guard = {
    holds: sql`(select count(*) from device_codes) < ${MAX_WAITING}`,
    otherwise: () => new HubError("too_many_waiting"),
  };
  await db.run(sql`delete from device_codes where expires_at <= ${now}`);
  await commitBatch(
    db,
    [hasRoom],
    [
      db.insert(deviceCodes).values({
        hash: tokenHash(deviceCode),
        userHash: await userHash(platform, userCode),
        intervalS: POLL_INTERVAL_S,
        createdAt: now,
        expiresAt: now + DEVICE_CODE_S * 1000,
      }),
    ],
  );
  return { deviceCode, userCode: `${userCode.slice(0, 4)}-${userCode.slice(4)}` };
}

export type Grant = { readonly name: string; readonly scope: Scope };

/** Decides about the program that waits with this code; with null it is sent away. @throws device_code_not_found | too_many_attempts | forbidden */
export async function decideDeviceLogin(caller: Caller, userCode: string, grant: Grant | null): Promise<void> {
  const { platform, actor } = caller;
  const user = requireUser(caller);
  const subject = `account:${user.name}`;
  authorize(caller, { action: "token.create" }, { subject, scopeId: user.id });
  const now = platform.now();
  // Counted before it is looked up: guesses side by side count as well.
  await countAttempt(platform, user.id, now);
  const hash = await userHash(platform, readUserCode(userCode));
  const waits: Guard = {
    holds: sql`exists (select 1 from device_codes where user_hash = ${hash} and expires_at > ${now} and state = 'waiting')`,
    otherwise: () => new HubError("device_code_not_found"),
  };
  await commitBatch(
    platform.db,
    [waits],
    [
      sql`update device_codes set state = ${grant === null ? "denied" : "approved"}, account_id = ${user.id}, token_id = ${user.tokenId},
        name = ${grant?.name ?? null}, scope = ${grant?.scope ?? null} where user_hash = ${hash}`,
      eventStatement(
        platform.db,
        allowedEvent(platform, actor, {
          type: grant === null ? "device.denied" : "device.approved",
          subject,
          action: "token.create",
          scopeId: user.id,
          ...(grant === null ? {} : { data: grant }),
        }),
      ),
    ],
  );
}

async function countAttempt({ db }: Platform, accountId: string, now: number): Promise<void> {
  const isOver = sql`started_at <= ${now - ATTEMPTS_MS}`;
  const [row] = await queryRows(
    db,
    z.object({ attempts: z.number() }),
    sql`insert into device_attempts (account_id, attempts, started_at) values (${accountId}, 1, ${now})
      on conflict do update set attempts = iif(${isOver}, 1, attempts + 1), started_at = iif(${isOver}, ${now}, started_at) returning attempts`,
  );
  if (row !== undefined && row.attempts > MAX_ATTEMPTS) throw new HubError("too_many_attempts");
}

const Waiting = z.object({
  state: z.enum(["waiting", "approved", "denied"]),
  account_id: z.string().nullable(),
  token_id: z.string().nullable(),
  name: z.string().nullable(),
  scope: z.enum(["read", "write", "admin"]).nullable(),
  interval_s: z.number(),
  polled_at: z.number().nullable(),
  expires_at: z.number(),
});

/** By the names of RFC 8628 and RFC 6749. */
export type Refusal = "authorization_pending" | "slow_down" | "expired_token" | "access_denied" | "invalid_grant";
export type Redeemed = { readonly token: string; readonly expiresInS: number } | { readonly refusal: Refusal };

/** What the program gets that asks with its code: once approved a token, once. */
export async function redeemDeviceCode(platform: Platform, deviceCode: string): Promise<Redeemed> {
  const { db } = platform;
  const hash = tokenHash(deviceCode);
  const now = platform.now();
  const [row] = await queryRows(db, Waiting, sql`select * from device_codes where hash = ${hash}`);
  if (row === undefined) return { refusal: "invalid_grant" };
  if (row.expires_at <= now) return { refusal: "expired_token" };
  if (row.state === "denied") return { refusal: "access_denied" };
  if (row.state === "waiting") {
    const early = row.polled_at !== null && now < row.polled_at + row.interval_s * 1000 - POLL_TOLERANCE_MS;
    const interval = row.interval_s + (early ? POLL_INTERVAL_S : 0);
    await db.run(sql`update device_codes set polled_at = ${now}, interval_s = ${interval} where hash = ${hash}`);
    return { refusal: early ? "slow_down" : "authorization_pending" };
  }
  return mint(platform, hash, row);
}

/** Commit point: the batch that takes the code away and makes the token. Who approved must still be who they were. */
async function mint(platform: Platform, hash: string, row: z.output<typeof Waiting>): Promise<Redeemed> {
  const { db } = platform;
  const { account_id: accountId, token_id: tokenId, name, scope } = row;
  const actor = accountId === null ? null : await standingActor(platform, accountId);
  if (actor === null || name === null || scope === null) return { refusal: "access_denied" };
  const now = platform.now();
  const { text, row: token } = mintToken(now, { accountId: actor.id, name, scope, days: DEFAULT_TOKEN_DAYS });
  const refused = (refusal: Refusal): HubError => new HubError("device_code_not_found", { refusal });
  const guards: Guard[] = [
    {
      holds: sql`exists (select 1 from device_codes where hash = ${hash} and state = 'approved')`,
      otherwise: () => refused("invalid_grant"),
    },
    {
      holds: sql`exists (select 1 from tokens where id = ${tokenId} and revoked_at is null and expires_at > ${now})`,
      otherwise: () => refused("access_denied"),
    },
  ];
  const event = allowedEvent(platform, actor, {
    type: "token.created",
    subject: `account:${actor.name}`,
    action: "token.create",
    scopeId: actor.id,
    data: { name, scope, expiresAt: token.expiresAt, by: "device login" },
  });
  try {
    await commitBatch(db, guards, [
      sql`delete from device_codes where hash = ${hash}`,
      db.insert(tokens).values(token),
      eventStatement(db, event),
    ]);
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== "device_code_not_found") throw error;
    return { refusal: error.fields.refusal === "access_denied" ? "access_denied" : "invalid_grant" };
  }
  return { token: text, expiresInS: Math.floor((token.expiresAt - now) / 1000) };
}
