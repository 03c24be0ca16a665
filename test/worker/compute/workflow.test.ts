// The real Workflow and the real clock behind a job, from the front door to the published revision.
import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as z from "zod";
import { administrator, type Client, user } from "../../kit/actors";
import { FakeCompute, mergeOutputs, publishModel, safetensors } from "../../kit/jobs";

const MERGED = safetensors({ w: [3, 4], b: [5] });
const PATIENCE = { timeout: 15_000, interval: 50 };

let ada: Client;
let compute: FakeCompute;

beforeEach(async () => {
  compute = new FakeCompute();
  compute.install({ realDrivers: true });
  ada = await user(await administrator(), "ada");
  await publishModel(ada, "ada/a");
  await publishModel(ada, "ada/b", safetensors({ w: [5, 6], b: [7] }));
});
afterEach(() => vi.restoreAllMocks());

const Job = z.object({ id: z.string(), state: z.string() });
const ask = async () =>
  Job.parse(
    (
      await ada.post("/api/v1/jobs", {
        kind: "merge",
        method: "linear",
        a: "ada/a",
        b: "ada/b",
        lambda: 0.5,
        output: { repo: "ada/merged" },
      })
    ).body,
  );

const succeeded = (id: string) =>
  vi.waitFor(
    async () => expect((await ada.get(`/api/v1/jobs/${id}`)).body).toMatchObject({ state: "succeeded" }),
    PATIENCE,
  );

test("drives a job to its published revision", async () => {
  const { id } = await ask();
  await vi.waitFor(() => expect(compute.submissions).toHaveLength(1), PATIENCE);
  await compute.finish(compute.last, mergeOutputs(MERGED));
  await succeeded(id);
  const weights = await ada.raw("GET", "/ada/merged/resolve/main/model.safetensors");
  expect(new Uint8Array(await weights.arrayBuffer())).toEqual(MERGED);
}, 40_000);

test("whose start was lost is found by the clock", async () => {
  vi.spyOn(env.JOBS, "create").mockImplementationOnce(async () => {
    throw new Error("the runtime is away");
  });
  const { id } = await ask();
  expect(compute.submissions).toHaveLength(0);
  await env.DB.prepare("update jobs set due_at = 0 where id = ?").bind(id).run();
  await runDurableObjectAlarm(env.CLOCK.get(env.CLOCK.idFromName("hub")));
  await vi.waitFor(() => expect(compute.submissions).toHaveLength(1), PATIENCE);
  await compute.finish(compute.last, mergeOutputs(MERGED));
  await succeeded(id);
}, 40_000);
