// Jobs that are stopped, that run out of time or of rights, and branches that move under them.
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { driveJob } from "../../../src/compute/drive";
import { cancelJob } from "../../../src/compute/jobs";
import { type JobId, parseSha256 } from "../../../src/ids";
import { administrator, Client, fileLine, user } from "../../kit/actors";
import {
  digest,
  MemorySteps,
  mergeOutputs,
  problemAnswer,
  publishModel,
  type Submission,
  successOf,
} from "../../kit/jobs";
import { MERGED, MergeScenario } from "../../kit/merge-scenario";
import { Backroom, download } from "../../kit/upkeep";
import { buildFile, encodeShard, xorbSpec } from "../../kit/xet";
import { Connection, XetClient } from "../../kit/xet-client";

const at = new MergeScenario();

describe("an end that nobody wished for", () => {
  test("a cancelled job publishes nothing, whatever the compute service reports afterwards", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await cancelJob(await at.hub.caller(at.ada), id);
      expect((await at.compute.finish(at.compute.last, mergeOutputs(MERGED))).status).toBe(409);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "cancelled" });
    expect(at.compute.cancelled).toEqual([id]);
    expect(await at.commits()).toHaveLength(1);
    expect(await at.count("events", `type = 'job.ended' and subject = 'job:${id}'`)).toBe(1);
  });

  test("a job cancelled while it is being published ends as one of the two", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
      await cancelJob(await at.hub.caller(at.ada), id);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "cancelled", result: null });
    expect(await at.commits()).toHaveLength(1);
  });

  test("a job past its deadline fails and is stopped at the compute service", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    steps.onWait = () => {
      at.hub.time += at.hub.platform.config.jobTimeoutS * 1000;
    };
    at.compute.answer = (_, path) => {
      if (!path.endsWith("/cancel")) return null;
      at.compute.cancelled.push(path);
      return problemAnswer(404, "job_not_found");
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "deadline_exceeded" } });
    expect(at.compute.cancelled).toHaveLength(1);
  });

  test("values that are no numbers fail the job, which names the tensor and the place", async () => {
    const id = await at.accept();
    const error = {
      code: "non_finite",
      message: "layers.0.weight has inf at index 17 in ada/b",
      field: "layers.0.weight[17]",
      fix: "repair the model or leave it out",
    };
    const steps = new MemorySteps();
    steps.onWait = async () => {
      const { attempt, hub } = at.compute.last;
      await at.compute.callBack(at.compute.last, hub.result_url, { attempt, state: "failed", error });
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect((await at.ada.get(`/api/v1/jobs/${id}`)).body).toMatchObject({ state: "failed", error, result: null });
    expect(await at.commits()).toHaveLength(1);
  });

  test("who lost the right to write meanwhile publishes nothing", async () => {
    const admin = await administrator();
    await admin.post("/api/v1/organizations", { name: "lab" });
    await admin.send("PUT", "/api/v1/organizations/lab/members/ada", { role: "write" });
    const id = await at.accept({ repo: "lab/merged" });
    await admin.send("DELETE", "/api/v1/organizations/lab/members/ada");
    await at.drive(id);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "forbidden" } });
    const commits = await admin.get("/api/models/lab/merged/commits/main");
    expect(commits.body).toHaveLength(1);
  });

  test("an output repository that is gone fails the job with that reason", async () => {
    const id = await at.accept();
    await at.ada.send("DELETE", "/api/repos/delete", { name: "merged", organization: "ada" });
    await at.drive(id);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "repo_not_found" } });
  });
});

test("a job whose plan an earlier version of the hub made ends with the remedy", async () => {
  const id = await at.accept();
  await env.DB.prepare(`update jobs set spec = '{"kind":"merge","compute":{}}' where id = ?`).bind(id).run();
  await driveJob(at.hub.platform, new MemorySteps(), id, 1);
  const error = { code: "plan_outdated", message: expect.stringContaining("ask for it again") };
  expect(await at.job(id)).toMatchObject({ state: "failed", error });
});

describe("a parent that its owner withdraws", () => {
  const makePrivate = (bob: Client) => bob.send("PUT", "/api/models/bob/a/settings", { private: true });
  const closeGate = (bob: Client) => bob.send("PUT", "/api/models/bob/a/settings", { gated: "manual" });
  const remove = (bob: Client) => bob.send("DELETE", "/api/repos/delete", { name: "a", organization: "bob" });

  async function accepted(): Promise<{ id: JobId; bob: Client }> {
    const bob = await user(await administrator(), "bob");
    await publishModel(bob, "bob/a");
    const output = { repo: "ada/merged" };
    const request = { kind: "merge", method: "linear", a: "bob/a", b: "ada/b", lambda: 0.5, output };
    return { id: await at.hub.accept(at.ada, request), bob };
  }

  test("before the work starts is not handed over", async () => {
    const { id, bob } = await accepted();
    expect((await remove(bob)).status).toBe(200);
    await driveJob(at.hub.platform, new MemorySteps(), id, 1);
    const error = { code: "input_withdrawn", message: expect.stringContaining("bob/a may not be used for this job") };
    expect(await at.job(id)).toMatchObject({ state: "failed", error });
    expect(at.compute.submissions).toEqual([]);
    expect(await at.commits()).toHaveLength(1);
  });

  test.each([
    ["making it private", makePrivate],
    ["a gate", closeGate],
  ])("by %s while the work runs is in nothing that is published", async (_, withdraw) => {
    const { id, bob } = await accepted();
    const steps = new MemorySteps();
    steps.onWait = async () => {
      await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
      expect((await withdraw(bob)).status).toBe(200);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "input_withdrawn" } });
    expect(await at.commits()).toHaveLength(1);
  });
});

test("a branch that moves while the job publishes is followed, not overwritten", async () => {
  const id = await at.accept();
  let moved = false;
  const steps = new MemorySteps();
  steps.onWait = async () => {
    await at.compute.finish(at.compute.last, mergeOutputs(MERGED));
    // Between reading the head and moving the branch: as late as another commit can come.
    at.hub.beforeBatch = async () => {
      if (moved) return;
      moved = true;
      await at.ada.commit("ada/merged", [fileLine("notes.txt", "mine")]);
    };
  };
  await driveJob(at.hub.platform, steps, id, 1);
  const tree = await at.paths();
  expect(moved).toBe(true);
  expect(tree).toEqual(expect.arrayContaining(["notes.txt", "model.safetensors"]));
  expect(await at.commits()).toHaveLength(3);
});

describe("an output that came by chunks", () => {
  /** The store as the job's token opens it, with the address that the submission names. */
  async function storeOf(submission: Submission): Promise<XetClient> {
    const answer = await new Client(submission.token).get(submission.hub.xet_token_url ?? "");
    const { casUrl, accessToken } = Connection.parse(answer.body);
    return new XetClient(casUrl, accessToken);
  }

  /** Says that the job made these weights, without uploading them. */
  async function report(submission: Submission, weights: Uint8Array): Promise<Response> {
    const { "model.safetensors": _, ...others } = mergeOutputs(weights);
    for (const bytes of Object.values(others)) await at.compute.upload(submission, bytes);
    return at.compute.callBack(submission, submission.hub.result_url, successOf(submission, mergeOutputs(weights)));
  }

  test("is published once the hub has hashed it itself, and by then the token opens nothing more", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let store: XetClient | undefined;
    let waits = 0;
    steps.onWait = async () => {
      if (waits++ > 0) {
        expect(await at.job(id)).toMatchObject({ state: "publishing" });
        await new Backroom().run();
        return;
      }
      store = await storeOf(at.compute.last);
      const built = buildFile(MERGED);
      expect((await store.upload(built)).status).toBe(200);
      expect((await store.cas("GET", `/v2/reconstructions/${built.file.hash}`)).status).toBe(403);
      expect((await report(at.compute.last, MERGED)).status).toBe(204);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
    expect(waits).toBe(2);
    expect(await download(at.ada, "ada/merged", "model.safetensors")).toEqual(MERGED);
    expect((await store?.upload(buildFile(MERGED)))?.status).toBe(401);
  });

  test("is verified by the job itself when whoever began to has died", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      if (waits++ > 0) {
        at.hub.time += 10_000;
        return;
      }
      expect((await (await storeOf(at.compute.last)).upload(buildFile(MERGED))).status).toBe(200);
      expect((await report(at.compute.last, MERGED)).status).toBe(204);
      // Taken, and never heard of again.
      await env.DB.prepare("update storage_tasks set due_at = ?")
        .bind(at.hub.time + 5 * 60_000)
        .run();
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "succeeded" });
    expect(waits).toBeGreaterThan(2);
  });

  test("is refused when its bytes are others than were reported", async () => {
    const id = await at.accept();
    const steps = new MemorySteps();
    let waits = 0;
    steps.onWait = async () => {
      if (waits++ > 0) return void (await new Backroom().run());
      const built = buildFile(MERGED.map((byte) => byte ^ 1));
      const claimed = { ...built.file, sha256: parseSha256(digest(MERGED), "sha256") };
      const shard = encodeShard({ files: [claimed], xorbs: built.xorbs.map(xorbSpec) });
      const store = await storeOf(at.compute.last);
      expect((await store.upload({ ...built, shard })).status).toBe(200);
      await report(at.compute.last, MERGED);
    };
    await driveJob(at.hub.platform, steps, id, 1);
    expect(await at.job(id)).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(await at.commits()).toHaveLength(1);
  });
});
