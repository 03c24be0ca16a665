// The Workflow behind a job: durable steps for the driver in `compute/`, and nothing of its own.
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import * as z from "zod";
import { driveJob } from "../compute/drive";
import { parseJobId } from "../ids";
import { cloudflarePlatform, type Env, WAKE_EVENT } from "./cloudflare";

const Params = z.object({ job: z.string().transform((text) => parseJobId(text, "job")), driver: z.int().min(1) });

/** A step that still fails after these ends the instance; the clock starts the next one. */
const RETRIES = { retries: { limit: 5, delay: 2_000, backoff: "exponential" }, timeout: "10 minutes" } as const;

export class JobWorkflow extends WorkflowEntrypoint<Env, { job: string; driver: number }> {
  override async run(event: WorkflowEvent<{ job: string; driver: number }>, step: WorkflowStep): Promise<void> {
    const { job, driver } = Params.parse(event.payload);
    const platform = cloudflarePlatform(this.env, `workflow:${event.instanceId}`, (work) => this.ctx.waitUntil(work));
    const steps = {
      run: (name: string, work: Parameters<Parameters<typeof driveJob>[1]["run"]>[1]) => step.do(name, RETRIES, work),
      async wait(name: string, ms: number) {
        try {
          await step.waitForEvent(name, { type: WAKE_EVENT, timeout: ms });
        } catch (error) {
          // Nobody called: the time is up, and the next step looks for itself.
          if (!(error instanceof Error) || !/timed? ?out/i.test(`${error.name} ${error.message}`)) throw error;
        }
      },
    };
    await driveJob(platform, steps, job, driver);
  }
}
