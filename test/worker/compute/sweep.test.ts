// Lost hints and dead drivers: the clock finds their jobs.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Report } from "../../../src/compute/contract";
import { advance, driveJob } from "../../../src/compute/drive";
import { loadJob } from "../../../src/compute/jobs";
import { takeReport } from "../../../src/compute/reports";
import { sweepJobs } from "../../../src/compute/sweep";
import type { JobId } from "../../../src/ids";
import { administrator, user } from "../../kit/actors";
import {
  FakeCompute,
  MemorySteps,
  mergeOutputs,
  publishModel,
  safetensors,
  successOf,
  TestPlatform,
} from "../../kit/jobs";

let hub: TestPlatform;
let compute: FakeCompute;
let id: JobId;

beforeEach(async () => {
  compute = new FakeCompute();
  compute.install();
  hub = new TestPlatform();
  const ada = await user(await administrator(), "ada");
  await publishModel(ada, "ada/a");
  await publishModel(ada, "ada/b", safetensors({ w: [5, 6], b: [7] }));
  id = await hub.accept(ada, {
    kind: "merge",
    method: "linear",
    a: "ada/a",
    b: "ada/b",
    lambda: 0.5,
    output: { repo: "ada/merged" },
  });
  await hub.settled();
  hub.started.length = 0;
  hub.time += 60_000;
});
afterEach(() => vi.restoreAllMocks());

test("a job whose start was lost is started, with the same driver", async () => {
  hub.driverState = "missing";
  expect(await sweepJobs(hub.platform)).toBe(true);
  expect(hub.started).toEqual([[id, 1]]);
});

test("a job whose driver died gets the next one; the dead one can't come back, and the work goes on", async () => {
  const first = new MemorySteps();
  first.onWait = () => {
    throw new Error("the instance is gone");
  };
  await expect(driveJob(hub.platform, first, id, 1)).rejects.toThrow("gone");
  hub.driverState = "dead";
  hub.time += 60_000;
  await sweepJobs(hub.platform);
  expect(hub.started).toEqual([[id, 2]]);
  const next = new MemorySteps();
  next.onWait = async () => {
    await driveJob(hub.platform, new MemorySteps(), id, 1);
    await compute.finish(compute.last, mergeOutputs(safetensors({ w: [1, 1], b: [1] })));
  };
  await driveJob(hub.platform, next, id, 2);
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "succeeded", attempt: 1, driver: 2 });
  expect(compute.submissions).toHaveLength(1);
});

test("two sweeps at once start one driver", async () => {
  hub.driverState = "dead";
  await Promise.all([sweepJobs(hub.platform), sweepJobs(hub.platform)]);
  expect(hub.started).toEqual([[id, 2]]);
});

test("a driver that is a little late is woken, one that stays away is replaced", async () => {
  hub.time -= 30_000;
  await sweepJobs(hub.platform);
  expect(hub.woken).toEqual([[id, 1]]);
  expect(hub.started).toEqual([]);
  hub.time += 90_000;
  await sweepJobs(hub.platform);
  expect(hub.started).toEqual([[id, 2]]);
});

test("a job whose driver waits as it said is left alone, and so is one that ended", async () => {
  hub.driverState = "dead";
  expect((await advance(hub.platform, id, 1)).kind).toBe("wait");
  await sweepJobs(hub.platform);
  expect(hub.started).toEqual([]);
  await compute.finish(compute.last, mergeOutputs(safetensors({ w: [1, 1], b: [1] })));
  await driveJob(hub.platform, new MemorySteps(), id, 1);
  hub.time += 3_600_000;
  expect(await sweepJobs(hub.platform)).toBe(false);
  expect(hub.started).toEqual([]);
});

test("a result whose wake-up was lost makes the job due at once", async () => {
  hub.time += 3_600_000;
  expect(await advance(hub.platform, id, 1)).toEqual({ kind: "wait", ms: 120_000 });
  hub.time += 1_000;
  await takeReport(hub.platform, id, Report.parse(successOf(compute.last, mergeOutputs(new Uint8Array([1])))));
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "publishing", dueAt: hub.time });
});

test("a job that wears out every driver fails with a reason", async () => {
  hub.driverState = "dead";
  for (let i = 0; i < 50; i++) {
    hub.time += 60_000;
    await sweepJobs(hub.platform);
  }
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "failed", error: { code: "internal" } });
});
