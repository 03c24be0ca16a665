// Two ends of one job that meet between reading its row and writing it: one counts, and the other sees that it was late.
import { describe, expect, test } from "vitest";
import { driveJob } from "../../../src/compute/drive";
import { cancelJob } from "../../../src/compute/jobs";
import { MemorySteps, mergeOutputs } from "../../kit/jobs";
import { MERGED, MergeScenario } from "../../kit/merge-scenario";

const at = new MergeScenario();

/** Runs once, before the next batch that the job's rooms commit: later than this nobody can come. */
function beforeNextBatch(work: () => Promise<unknown>): void {
  at.hub.beforeBatch = async () => {
    at.hub.beforeBatch = () => {};
    await work();
  };
}

const ends = async (id: string) => ({
  states: await at.count("job_events", `job_id = '${id}' and data ->> 'state' in ('succeeded', 'failed', 'cancelled')`),
  audited: await at.count("events", `type = 'job.ended' and subject = 'job:${id}'`),
});
const ONE_END = { states: 1, audited: 1 };

describe("the last moment", () => {
  test("a cancellation just before the revision is published wins: nothing is published", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
      beforeNextBatch(() => at.ada.post(`/api/v1/jobs/${id}/cancel`));
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "cancelled", result: null });
    expect(await at.commits()).toHaveLength(1);
    expect(await ends(id)).toEqual(ONE_END);
  });

  test("a revision published just before the cancellation is written wins: the cancellation is refused", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let refused: unknown;
    steps.onWait = async () => {
      await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
      beforeNextBatch(() => driveJob(at.hub.platform, new MemorySteps(), id, 1));
      refused = await cancelJob(await at.hub.caller(at.ada), id).catch((error: unknown) => error);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(refused).toMatchObject({ code: "job_ended" });
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
    expect(await at.commits()).toHaveLength(2);
    expect(await ends(id)).toEqual(ONE_END);
  });

  test("of two cancellations one is written, and both are answered alike", async () => {
    const id = await at.accept();
    const caller = await at.hub.caller(at.ada);
    let other: unknown;
    beforeNextBatch(async () => {
      other = await cancelJob(caller, id);
    });
    const one = await cancelJob(caller, id);
    expect([one, other]).toMatchObject([{ state: "cancelled" }, { state: "cancelled" }]);
    expect(await ends(id)).toEqual(ONE_END);
  });
});
