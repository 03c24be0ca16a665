// The hub's clock: one Durable Object whose alarm repeats what was lost. It is set for good by the first job or cron call.
import { DurableObject } from "cloudflare:workers";
import { sweepJobs } from "../compute/sweep";
import { cloudflarePlatform, type Env } from "./cloudflare";

/** While jobs are open: how long a lost hint or a dead driver costs at most. */
const BUSY_MS = 15_000;
/** Otherwise it only wakes what looks after stored bytes. */
const IDLE_MS = 15 * 60_000;

export class Clock extends DurableObject<Env> {
  /** Makes sure that the clock ticks soon. */
  async start(): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    const soon = Date.now() + BUSY_MS;
    if (alarm === null || alarm > soon) await this.ctx.storage.setAlarm(soon);
  }

  override async alarm(): Promise<void> {
    const platform = cloudflarePlatform(this.env, `clock:${crypto.randomUUID()}`, (work) => this.ctx.waitUntil(work));
    // The next alarm first: whatever fails below, the clock goes on.
    await this.ctx.storage.setAlarm(Date.now() + BUSY_MS);
    const busy = await sweepJobs(platform);
    await Promise.all([platform.upkeep.wake(), platform.messenger.wake()]);
    if (!busy) await this.ctx.storage.setAlarm(Date.now() + IDLE_MS);
  }
}
