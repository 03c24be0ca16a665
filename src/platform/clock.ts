// The hub's clock: one Durable Object whose alarm repeats what was lost, for as long as something is under way.
import { DurableObject } from "cloudflare:workers";
import { cloudflarePlatform, type Env } from "./cloudflare";

const INTERVAL_MS = 20_000;

export class Clock extends DurableObject<Env> {
  /** Sets the alarm unless it is set. */
  async start(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + INTERVAL_MS);
  }

  override async alarm(): Promise<void> {
    const platform = cloudflarePlatform(this.env, `clock:${crypto.randomUUID()}`, (work) => this.ctx.waitUntil(work));
    void platform;
  }
}
