// The Worker's entry: requests, the cron clock, and the classes that the bindings name.
import { app } from "./app";
import type { Env } from "./platform/cloudflare";

export { Clock } from "./platform/clock";
export { EventBuffer } from "./platform/event-buffer";
export { JobWorkflow } from "./platform/job-workflow";
export { Messenger } from "./platform/messenger";
export { RateWindow } from "./platform/rate-window";
export { Upkeep } from "./platform/upkeep";

export default {
  fetch: app.fetch,
  async scheduled(_controller, env): Promise<void> {
    await env.CLOCK.get(env.CLOCK.idFromName("hub")).start();
  },
} satisfies ExportedHandler<Env>;
