// Tells webhooks what is new: one Durable Object whose alarm works through what is due, some seconds at a time.
import { DurableObject } from "cloudflare:workers";
import { readConfig } from "../config";
import { deliverNews } from "../events/deliveries";
import { cloudflarePlatform, type Env } from "./cloudflare";

/** One alarm works for about this long: then the next one, in a fresh invocation with fresh limits. */
const RUN_MS = 20_000;
/** Should the run die: when the next one begins. */
const RETRY_MS = 60_000;

export class Messenger extends DurableObject<Env> {
  /** Makes sure that work begins soon. */
  async wake(): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    const soon = Date.now() + readConfig(this.env).upkeepDelayMs;
    if (alarm === null || alarm > soon) await this.ctx.storage.setAlarm(soon);
  }

  override async alarm(): Promise<void> {
    const platform = cloudflarePlatform(this.env, `messenger:${crypto.randomUUID()}`, (work) =>
      this.ctx.waitUntil(work),
    );
    // The next alarm first: whatever fails below, the work goes on.
    const retryAt = Date.now() + RETRY_MS;
    await this.ctx.storage.setAlarm(retryAt);
    const end = Date.now() + RUN_MS;
    const next = await deliverNews(platform, () => Date.now() >= end);
    // Whoever called `wake` meanwhile has set an earlier one, which stays.
    if ((await this.ctx.storage.getAlarm()) !== retryAt) return;
    if (next === null) await this.ctx.storage.deleteAlarm();
    else await this.ctx.storage.setAlarm(next);
  }
}
