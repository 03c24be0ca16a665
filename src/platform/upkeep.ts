// Background work on stored bytes: one Durable Object whose alarm runs the tasks that D1 holds, some seconds at a time, and a step of garbage collection.
import { DurableObject } from "cloudflare:workers";
import { readConfig } from "../config";
import { collectStep } from "../hub/collect";
import { sweepIndex } from "../hub/facts/store";
import { tallyStep } from "../hub/tally";
import { runUpkeep } from "../hub/upkeep";
import { cloudflarePlatform, type Env } from "./cloudflare";

/** One alarm works for about this long: then the next one, in a fresh invocation with fresh limits. */
const RUN_MS = 20_000;
/** Should the run die: when the next one begins. */
const RETRY_MS = 60_000;
/** When nothing is due. Failed tasks become due later, and the clock wakes it too. */
const IDLE_MS = 5 * 60_000;

export class Upkeep extends DurableObject<Env> {
  /** Makes sure that work begins soon. */
  async wake(): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    const soon = Date.now() + readConfig(this.env).upkeepDelayMs;
    if (alarm === null || alarm > soon) await this.ctx.storage.setAlarm(soon);
  }

  override async alarm(): Promise<void> {
    const platform = cloudflarePlatform(this.env, `upkeep:${crypto.randomUUID()}`, (work) => this.ctx.waitUntil(work));
    // The next alarm first: whatever fails below, the work goes on.
    const retryAt = Date.now() + RETRY_MS;
    await this.ctx.storage.setAlarm(retryAt);
    const end = Date.now() + RUN_MS;
    const tasks = await runUpkeep(platform, () => Date.now() >= end);
    const garbage = await collectStep(platform);
    const tallies = await tallyStep(platform);
    const index = await sweepIndex(platform);
    const more = tasks || garbage.more || tallies || index.more;
    // Whoever called `wake` meanwhile has set an earlier one, which stays.
    if ((await this.ctx.storage.getAlarm()) === retryAt)
      await this.ctx.storage.setAlarm(Date.now() + (more ? 0 : IDLE_MS));
  }
}
