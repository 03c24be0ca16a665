// A merge of two small models, and what tests do with it: accept, drive, look at what became of it.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, vi } from "vitest";
import * as z from "zod";
import { driveJob } from "../../src/compute/drive";
import { type Job, loadJob } from "../../src/compute/jobs";
import type { JobId } from "../../src/ids";
import { administrator, type Client, user } from "./actors";
import { FakeCompute, MemorySteps, mergeOutputs, publishModel, safetensors, TestPlatform } from "./jobs";

export const MERGED = safetensors({ w: [2, 3], b: [4] });

const Commits = z.array(z.object({ id: z.string(), title: z.string() }));
const Paths = z.array(z.object({ path: z.string() }));

/** Before each test: a user `ada` with models `ada/a` and `ada/b`, a compute service and a platform of the test's own. */
export class MergeScenario {
  #ada: Client | undefined;
  compute = new FakeCompute();
  hub = new TestPlatform();

  constructor() {
    beforeEach(async () => {
      this.compute = new FakeCompute();
      this.compute.install();
      this.hub = new TestPlatform();
      this.#ada = await user(await administrator(), "ada");
      await publishModel(this.ada, "ada/a", safetensors({ w: [1, 2], b: [3] }));
      await publishModel(this.ada, "ada/b", safetensors({ w: [3, 4], b: [5] }));
    });
    afterEach(() => vi.restoreAllMocks());
  }

  get ada(): Client {
    if (this.#ada === undefined) throw new Error("the scenario starts with the test");
    return this.#ada;
  }

  accept(output: Record<string, unknown> = {}): Promise<JobId> {
    const request = { kind: "merge", method: "linear", a: "ada/a", b: "ada/b@main", lambda: 0.5 };
    return this.hub.accept(this.ada, { ...request, output: { repo: "ada/merged", ...output } });
  }

  /** Drives the job; the compute service finishes while the driver waits for the first time. */
  async drive(id: JobId, steps = new MemorySteps(), files: Record<string, Uint8Array> = mergeOutputs(MERGED)) {
    let finished = false;
    steps.onWait = async () => {
      if (finished) return;
      finished = true;
      await this.compute.finish(this.compute.last, files);
    };
    await driveJob(this.hub.platform, steps, id, 1);
  }

  async job(id: JobId): Promise<Job> {
    const job = await loadJob(this.hub.platform, id);
    if (job === null) throw new Error("the job is gone");
    return job;
  }

  /** Newest first. */
  async commits(repo = "ada/merged", branch = "main") {
    return Commits.parse((await this.ada.get(`/api/models/${repo}/commits/${branch}`)).body);
  }

  async paths(revision = "main"): Promise<string[]> {
    return Paths.parse((await this.ada.get(`/api/models/ada/merged/tree/${revision}`)).body).map((entry) => entry.path);
  }

  async count(table: string, where = "1"): Promise<number> {
    const row = await env.DB.prepare(`select count(*) as n from ${table} where ${where}`).first<{ n: number }>();
    return row?.n ?? -1;
  }
}
