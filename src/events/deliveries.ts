// Telling webhooks what is new in the trail: in order for each of them, at least once, and again later when the receiver does not take it.
import { createHmac } from "node:crypto";
import { sql } from "drizzle-orm";
import * as z from "zod";
import { standingActor } from "../access/standing";
import { commitBatch, queryRows } from "../db/client";
import { webhooks } from "../db/schema";
import type { Platform } from "../platform/platform";
import { parseReceiver } from "./receivers";
import { allowedEvent, eventStatement } from "./trail";
import { type News, NewsRow, type Payload, payloadsOf, TOLD } from "./webhook-payload";
import type { Webhook } from "./webhooks";

/** How long after each failure the next attempt waits: about three days in all, then the webhook is disabled. Milliseconds. */
const RETRY_AFTER = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400].map((seconds) => seconds * 1000);
const MAX_RETRY_AFTER_MS = 86_400_000;
/** A part of each wait is left to chance, so that what failed together does not come back together. */
const JITTER = 0.1;
/** A receiver that has not answered by then counts as failed. */
const TIMEOUT_MS = 10_000;
/** Longer than a batch takes: until then no other runner takes the webhook, unless this one is dead. */
const LEASE_MS = 15 * 60_000;
/** Webhooks told side by side, and events read for each at a time. */
const SIDE_BY_SIDE = 8;
const BATCH = 50;

/** Account ids and names behind what webhook `w` watches; `x` is one watched thing. */
const watches = sql`json_each(w.watched) x join accounts a
  on a.name_key = lower(substr(x.value ->> 'name', 1, instr((x.value ->> 'name') || '/', '/') - 1))`;
/** Event `e` is one that `x` of webhook `w` may be told. The first line is the condition of the index `events_news`. */
const isNews = sql`e.decision = 'allow' and e.type <> 'content.used'
  and e.repo_id is not null and e.scope_id = a.id and e.seq > w.seen_seq and e.type in (select value from json_each(${JSON.stringify(TOLD)}))
  and (x.value ->> 'type' in ('user', 'org') or lower(e.subject) = lower((x.value ->> 'type') || ':' || (x.value ->> 'name')))`;

const Taken = z.object({ id: z.string() });

/**
 * Delivers until nothing is due or `until` says so.
 * @returns when there may be something to do again, in milliseconds since 1970; null when only new events make it so
 */
export async function deliverNews(platform: Platform, until: () => boolean): Promise<number | null> {
  while (!until()) {
    const taken = await takeWebhooks(platform);
    if (taken.length === 0) return nextDue(platform);
    await Promise.all(taken.map((webhook) => deliverTo(platform, webhook, until)));
  }
  return platform.now();
}

/** Those that are due and have news, leased by their due time. */
async function takeWebhooks({ db, now }: Platform): Promise<Webhook[]> {
  const at = now();
  const rows = await queryRows(
    db,
    Taken,
    sql`update webhooks set due_at = ${at + LEASE_MS} where id in (
        select w.id from webhooks w where w.disabled = 0 and w.due_at <= ${at}
          and exists (select 1 from ${watches} join events e on ${isNews}) order by w.due_at limit ${SIDE_BY_SIDE})
      returning id`,
  );
  if (rows.length === 0) return [];
  return db
    .select()
    .from(webhooks)
    .where(sql`id in (select value from json_each(${JSON.stringify(rows.map(({ id }) => id))}))`);
}

async function nextDue({ db, now }: Platform): Promise<number | null> {
  const [row] = await queryRows(
    db,
    z.object({ due: z.number().nullable() }),
    sql`select min(due_at) as due from webhooks where disabled = 0 and due_at > ${now()}`,
  );
  return row?.due ?? null;
}

/** The next events for one webhook, each told before the next. */
async function deliverTo(platform: Platform, webhook: Webhook, until: () => boolean): Promise<void> {
  const actor = await standingActor(platform, webhook.ownerId);
  if (actor === null) return disable(platform, webhook, "the account is gone");
  const news = await newsFor(platform, webhook);
  let seen = webhook.seenSeq;
  for (const { news: one, payload } of await payloadsOf({ platform, actor }, webhook, news)) {
    if (payload !== null) {
      if (until()) break;
      const failure = await send(platform, webhook, one, payload);
      if (failure !== null) return fail(platform, webhook, seen, failure);
      // At least once: a crash before this line tells the same event again, under the same id.
      if (!(await told(platform, webhook, one.seq))) return;
    }
    seen = one.seq;
  }
  await release(platform, webhook, seen);
}

const newsFor = ({ db }: Platform, webhook: Webhook): Promise<News[]> =>
  queryRows(
    db,
    NewsRow,
    sql`select distinct e.seq, e.id, e.type, e.subject, e.repo_id, e.scope_id, e.data
      from webhooks w, ${watches} join events e on ${isNews} where w.id = ${webhook.id} order by e.seq limit ${BATCH}`,
  );

/** Something was told. @returns whether the webhook still wants more */
async function told({ db }: Platform, { id }: Webhook, seen: number): Promise<boolean> {
  const rows = await queryRows(
    db,
    z.object({ disabled: z.number() }),
    sql`update webhooks set seen_seq = ${seen}, failures = 0 where id = ${id} and seen_seq < ${seen} returning disabled`,
  );
  return rows[0]?.disabled === 0;
}

/** The end of a turn, and of its lease. */
const release = ({ db, now }: Platform, { id }: Webhook, seen: number) =>
  db.run(sql`update webhooks set seen_seq = max(seen_seq, ${seen}), due_at = ${now()} where id = ${id}`);

type Failure = {
  readonly reason: string;
  /** The receiver's own wish, in milliseconds. */
  readonly after?: number;
  /** It said that it will never take anything again. */
  readonly gone?: boolean;
};

async function fail(platform: Platform, webhook: Webhook, seen: number, failure: Failure): Promise<void> {
  const wait = RETRY_AFTER[webhook.failures];
  if (wait === undefined || failure.gone === true) return disable(platform, webhook, failure.reason);
  const jittered = wait * (1 + JITTER * Math.random());
  const dueAt = Math.round(platform.now() + Math.max(jittered, failure.after ?? 0));
  await platform.db.run(
    sql`update webhooks set failures = failures + 1, due_at = ${dueAt}, seen_seq = max(seen_seq, ${seen}) where id = ${webhook.id}`,
  );
}

async function disable(platform: Platform, { id, ownerId }: Webhook, reason: string): Promise<void> {
  const { db } = platform;
  const event = allowedEvent(
    platform,
    { kind: "hub" },
    {
      type: "webhook.disabled",
      subject: `webhook:${id}`,
      action: "webhook.manage",
      scopeId: ownerId,
      data: { webhook: id, reason },
    },
  );
  await commitBatch(
    db,
    [],
    [sql`update webhooks set disabled = 1, due_at = ${platform.now()} where id = ${id}`, eventStatement(db, event)],
  );
}

/** @returns why the receiver has not taken it, or null */
async function send(platform: Platform, webhook: Webhook, news: News, payload: Payload): Promise<Failure | null> {
  try {
    // Once more, since the settings may have changed.
    const url = parseReceiver(webhook.url, platform.config);
    const response = await platform.messenger.send(url, {
      method: "POST",
      body: JSON.stringify(payload),
      headers: headersOf(webhook, news, JSON.stringify(payload), Math.floor(platform.now() / 1000)),
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await response.body?.cancel();
    if (response.ok) return null;
    const after = Number(response.headers.get("retry-after") ?? Number.NaN) * 1000;
    return {
      reason: `the receiver answered ${response.status}`,
      gone: response.status === 410,
      ...(after > 0 ? { after: Math.min(after, MAX_RETRY_AFTER_MS) } : {}),
    };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

/** The secret as the ecosystem's receivers compare it, and a signature by the rules of Standard Webhooks. */
function headersOf({ id, secret }: Webhook, news: News, body: string, timestamp: number): Record<string, string> {
  const messageId = `msg_${id}_${news.id}`;
  const headers = {
    "content-type": "application/json",
    "user-agent": "owm-hub-webhooks",
    "webhook-id": messageId,
    "webhook-timestamp": String(timestamp),
  };
  if (secret === null) return headers;
  const mac = createHmac("sha256", signingKey(secret)).update(`${messageId}.${timestamp}.${body}`).digest("base64");
  return { ...headers, "x-webhook-secret": secret, "webhook-signature": `v1,${mac}` };
}

/** `whsec_` and base64, as Standard Webhooks writes keys; any other secret is its own bytes. */
const signingKey = (secret: string): Buffer =>
  secret.startsWith("whsec_") ? Buffer.from(secret.slice("whsec_".length), "base64") : Buffer.from(secret);
