// The audit trail: events as CloudEvents, written in the same batch as the change they tell of, and read back by page.
import { and, desc, eq, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { Action, Actor, Purpose } from "../access/policy";
import { asJson, type Statement } from "../db/client";
import { events } from "../db/schema";
import { sortableId } from "../ids";
import type { AuditEvent, Db, Platform } from "../platform/platform";

export function actorName(actor: Actor): string {
  switch (actor.kind) {
    case "anonymous":
      return "anonymous";
    case "hub":
      return "hub";
    case "job":
      return `job:${actor.id}`;
    case "user":
      return `user:${actor.name}`;
    case "xet":
      return actor.holder === null ? "xet" : actorName(actor.holder);
  }
}

export type Fact = {
  /** Past tense of what happened: `repo.created`, `ref.moved`, `job.ended`, `content.used`. */
  readonly type: string;
  /** `model:owner/name`, `job:…`, `account:name`. */
  readonly subject: string;
  readonly action: Action;
  /** Id of the namespace whose admins may read the event. */
  readonly scopeId: string | null;
  /** Of the repository that the event is about, whatever it is called later. */
  readonly repoId?: string;
  readonly purpose?: Purpose;
  readonly data?: unknown;
};

export function allowedEvent(platform: Platform, actor: Actor, fact: Fact): AuditEvent {
  return { ...fact, actor: actorName(actor), decision: "allow", requestId: platform.requestId, time: platform.now() };
}

export function deniedEvent(platform: Platform, actor: Actor, fact: Omit<Fact, "type">, reason: string): AuditEvent {
  return { ...allowedEvent(platform, actor, { ...fact, type: "access.denied" }), decision: "deny", reason };
}

const rowOf = (event: AuditEvent) => ({ ...event, id: sortableId(event.time), source: "owm-hub" });

/** For the batch of the change that the event tells of. */
export const eventStatement = (db: Db, event: AuditEvent): Statement => db.insert(events).values(rowOf(event));

/** Buffered events by their ids, as JSON texts; a known id is left alone, so that a repeat writes nothing. */
export function insertEvents(db: Db, buffered: readonly { readonly id: string; readonly event: string }[]) {
  return db.run(sql`insert or ignore into events (id, type, source, subject, time, actor, action, scope_id, purpose, decision, reason, request_id, data)
    select value ->> 'id', e ->> 'type', 'owm-hub', e ->> 'subject', e ->> 'time', e ->> 'actor', e ->> 'action', e ->> 'scopeId', e ->> 'purpose',
        e ->> 'decision', e ->> 'reason', e ->> 'requestId', e -> 'data'
      from (select value, value ->> 'event' as e from json_each(${asJson(buffered)}))`);
}

export type TrailQuery = {
  readonly scopeIds: readonly string[] | "all";
  readonly actor?: string;
  readonly type?: string;
  readonly subject?: string;
  readonly before?: number;
  readonly limit: number;
};

/** Newest first. */
export async function readTrail(db: Db, query: TrailQuery) {
  const conditions: SQL[] = [];
  if (query.scopeIds !== "all") conditions.push(inArray(events.scopeId, [...query.scopeIds]));
  if (query.actor !== undefined) conditions.push(eq(events.actor, query.actor));
  if (query.type !== undefined) conditions.push(eq(events.type, query.type));
  if (query.subject !== undefined) conditions.push(eq(events.subject, query.subject));
  if (query.before !== undefined) conditions.push(lt(events.seq, query.before));
  return db
    .select()
    .from(events)
    .where(and(...conditions))
    .orderBy(desc(events.seq))
    .limit(query.limit);
}
