// Holds audit events that must not slow a request down, and writes them to D1 in batches: each once.
import { DurableObject } from "cloudflare:workers";
import { insertEvents } from "../events/trail";
import { databaseOf, type Env } from "./cloudflare";
import type { AuditEvent } from "./platform";

const FLUSH_AFTER_MS = 2000;
const BATCH = 500;

export class EventBuffer extends DurableObject<Env> {
  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    state.storage.sql.exec("create table if not exists pending (id text primary key, event text not null)");
  }

  /** Durable once it returns. */
  async record(events: AuditEvent[]): Promise<void> {
    for (const event of events)
      this.ctx.storage.sql.exec(
        "insert into pending (id, event) values (?, ?)",
        crypto.randomUUID(),
        JSON.stringify(event),
      );
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + FLUSH_AFTER_MS);
  }

  /** Written to D1 first and forgotten after; a repeat after a crash meets the event's own id, and D1 ignores it. */
  async flush(): Promise<void> {
    for (;;) {
      const rows = this.ctx.storage.sql
        .exec<{ id: string; event: string }>("select id, event from pending order by rowid limit ?", BATCH)
        .toArray();
      if (rows.length === 0) return;
      await insertEvents(databaseOf(this.env.DB), rows);
      this.ctx.storage.sql.exec(
        "delete from pending where id in (select value from json_each(?))",
        JSON.stringify(rows.map((row) => row.id)),
      );
    }
  }

  override async alarm(): Promise<void> {
    await this.flush();
  }
}
