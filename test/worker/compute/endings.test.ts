// Jobs that are stopped, that run out of time or of rights, and branches that move under them.
import { describe, expect, test } from "vitest";
import { driveJob } from "../../../src/compute/drive";
import { cancelJob } from "../../../src/compute/jobs";
import { parseSha256 } from "../../../src/ids";
import { administrator, Client, fileLine } from "../../kit/actors";
import { digest, MemorySteps, problemAnswer, type Submission, successOf } from "../../kit/jobs";
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
      expect((await at.compute.finish(at.compute.last, { "model.safetensors": MERGED })).status).toBe(409);
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
      await at.compute.finish(at.compute.last, { "model.safetensors": MERGED });
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

test("a branch that moves while the job publishes is followed, not overwritten", async () => {
  const id = await at.accept();
  let moved = false;
  const steps = new MemorySteps();
  steps.onWait = async () => {
    await at.compute.finish(at.compute.last, { "model.safetensors": MERGED });
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

  /** Says that the job made this file, without uploading anything. */
  const report = (submission: Submission, bytes: Uint8Array): Promise<Response> =>
    at.compute.callBack(submission, submission.hub.result_url, successOf(submission, { "model.safetensors": bytes }));

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
