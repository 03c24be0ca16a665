// Jobs that are stopped, that run out of time or of rights, and branches that move under them.
import { describe, expect, test } from "vitest";
import { driveJob } from "../../../src/compute/drive";
import { cancelJob } from "../../../src/compute/jobs";
import { administrator, fileLine } from "../../kit/actors";
import { MemorySteps, problemAnswer } from "../../kit/jobs";
import { MERGED, MergeScenario } from "../../kit/merge-scenario";

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
