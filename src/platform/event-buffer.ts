// Holds audit events and uses of repositories, which must not slow a request down, and writes them to D1 in batches: each counts once.
import { DurableObject } from "cloudflare:workers";
import * as z from "zod";
import { useKinds } from "../db/schema";
import { insertEvents } from "../events/trail";
import { countUses } from "../hub/tally";
import { databaseOf, type Env } from "./cloudflare";
import type { AuditEvent, RepoUse } from "./platform";

const FLUSH_AFTER_MS = 2000;
const BATCH = 500;

const Use = z.object({ repoId: z.string(), day: z.number(), kind: z.enum(useKinds), client: z.string() });

export class EventBuffer extends DurableObject<Env> {
  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    state.storage.sql.exec("create table if not exists pending (id text primary key, event text not null)");
    state.storage.sql.exec("create table if not exists uses (use text primary key)");
  }

  /** Durable once it returns. */
  async record(events: AuditEvent[], uses: RepoUse[] = []): Promise<void> {
    for (const event of events)
      this.ctx.storage.sql.exec(
        "insert into pending (id, event) values (?, ?)",
        crypto.randomUUID(),
        JSON.stringify(event),
      );
    for (const use of uses)
      this.ctx.storage.sql.exec("insert or ignore into uses (use) values (?)", JSON.stringify(use));
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + FLUSH_AFTER_MS);
  }

  async flush(): Promise<void> {
    while (await this.#flushEvents());
    while (await this.#flushUses());
  }

  /** Written to D1 first and forgotten after; a repeat after a crash meets the event's own id, and D1 ignores it. */
  async #flushEvents(): Promise<boolean> {
    const rows = this.ctx.storage.sql
      .exec<{ id: string; event: string }>("select id, event from pending order by rowid limit ?", BATCH)
      .toArray();
    if (rows.length === 0) return false;
    await insertEvents(databaseOf(this.env.DB), rows);
    this.ctx.storage.sql.exec(
      "delete from pending where id in (select value from json_each(?))",
      JSON.stringify(rows.map((row) => row.id)),
    );
    return true;
  }

  /** The same; a repeat meets the client of the day, who counts no more. */
  async #flushUses(): Promise<boolean> {
    const rows = this.ctx.storage.sql.exec<{ use: string }>("select use from uses limit ?", BATCH).toArray();
    if (rows.length === 0) return false;
    const uses = rows.map(({ use }) => Use.parse(JSON.parse(use)));
    await countUses(databaseOf(this.env.DB), uses, Date.now());
    this.ctx.storage.sql.exec(
      "delete from uses where use in (select value from json_each(?))",
      JSON.stringify(rows.map(({ use }) => use)),
    );
    return true;
  }

  override async alarm(): Promise<void> {
    await this.flush();
  }
}
