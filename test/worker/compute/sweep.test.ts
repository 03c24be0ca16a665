// Lost hints and dead drivers: the clock finds their jobs.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { driveJob } from "../../../src/compute/drive";
import { loadJob } from "../../../src/compute/jobs";
import { sweepJobs } from "../../../src/compute/sweep";
import type { JobId } from "../../../src/ids";
import { administrator, user } from "../../kit/actors";
import { FakeCompute, MemorySteps, publishModel, safetensors, TestPlatform } from "../../kit/jobs";

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
  expect(await sweepJobs(hub.platform, null)).toEqual({ open: 1, last: null });
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
  await sweepJobs(hub.platform, null);
  expect(hub.started).toEqual([[id, 2]]);
  const next = new MemorySteps();
  next.onWait = async () => {
    await driveJob(hub.platform, new MemorySteps(), id, 1);
    await compute.finish(compute.last, { "model.safetensors": safetensors({ w: [1, 1], b: [1] }) });
  };
  await driveJob(hub.platform, next, id, 2);
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "succeeded", attempt: 1, driver: 2 });
  expect(compute.submissions).toHaveLength(1);
});

test("two sweeps at once start one driver", async () => {
  hub.driverState = "dead";
  await Promise.all([sweepJobs(hub.platform, null), sweepJobs(hub.platform, null)]);
  expect(hub.started).toEqual([[id, 2]]);
});

test("a job that is driven, has just moved or has ended is left alone", async () => {
  await sweepJobs(hub.platform, null);
  hub.driverState = "dead";
  hub.time -= 55_000;
  await sweepJobs(hub.platform, null);
  expect(hub.started).toEqual([]);
});

test("a job that is driven is woken after a restart, which resumes no driver by itself", async () => {
  hub.time -= 60_000;
  await sweepJobs(hub.platform, null, true);
  expect(hub.woken).toEqual([[id, 1]]);
});

test("a job that wears out every driver fails with a reason", async () => {
  hub.driverState = "dead";
  for (let i = 0; i < 20; i++) await sweepJobs(hub.platform, null);
  expect(await loadJob(hub.platform, id)).toMatchObject({ state: "failed", error: { code: "internal" } });
});
