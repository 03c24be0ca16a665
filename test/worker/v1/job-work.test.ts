// What a job's token opens, and what it does not.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { advance } from "../../../src/compute/drive";
import { cancelJob } from "../../../src/compute/jobs";
import type { JobId } from "../../../src/ids";
import { administrator, type Client, Client as FrontDoor, user } from "../../kit/actors";
import { FakeCompute, publishModel, type Submission, safetensors, TestPlatform } from "../../kit/jobs";

const A = safetensors({ w: [1, 2], b: [3] });

let ada: Client;
let compute: FakeCompute;
let hub: TestPlatform;

beforeEach(async () => {
  compute = new FakeCompute();
  compute.install();
  hub = new TestPlatform();
  ada = await user(await administrator(), "ada");
  await publishModel(ada, "ada/a", A, { isPrivate: true });
  await publishModel(ada, "ada/b", safetensors({ w: [3, 4], b: [5] }), { isPrivate: true });
});
afterEach(() => vi.restoreAllMocks());

async function handedOver(): Promise<{ id: JobId; submission: Submission; worker: FrontDoor }> {
  const id = await hub.accept(ada, {
    kind: "merge",
    method: "linear",
    a: "ada/a",
    b: "ada/b",
    lambda: 0.5,
    output: { repo: "ada/merged" },
  });
  await advance(hub.platform, id, 1);
  const submission = compute.last;
  return { id, submission, worker: new FrontDoor(submission.token) };
}

test("it reads the inputs of its job, whole and by range", async () => {
  const { submission, worker } = await handedOver();
  const input = submission.inputs.find(({ name }) => name === "models/0/model.safetensors");
  const whole = await worker.raw("GET", input?.url ?? "");
  expect(new Uint8Array(await whole.arrayBuffer())).toEqual(A);
  const part = await worker.raw("GET", input?.url ?? "", { headers: { range: "bytes=2-5" } });
  expect(part.status).toBe(206);
  expect(new Uint8Array(await part.arrayBuffer())).toEqual(A.slice(2, 6));
  const program = await worker.get(`/api/v1/jobs/${submission.id}/inputs/program.json`);
  expect(program.body).toMatchObject({ schema: "owm.merge-program/1", files: [{ path: "model.safetensors" }] });
  expect((await worker.get(`/api/v1/jobs/${submission.id}/inputs/models/0/README.md`)).status).toBe(404);
});

test("it opens no other job, nor anything else of the hub", async () => {
  const first = await handedOver();
  const second = await handedOver();
  for (const path of ["progress", "result", "uploads"])
    expect((await first.worker.post(`/api/v1/jobs/${second.id}/${path}`, bodyOf(path))).status).toBe(403);
  expect((await first.worker.get(`/api/v1/jobs/${second.id}/inputs/models/0/model.safetensors`)).status).toBe(403);
  expect((await first.worker.get(`/api/v1/jobs/${first.id}`)).status).toBe(401);
  expect((await first.worker.get("/api/models/ada/a")).status).toBe(404);
  expect((await first.worker.get("/ada/a/resolve/main/model.safetensors")).status).toBe(404);
  expect((await first.worker.post(`/api/v1/jobs/${first.id}/cancel`)).status).toBe(401);
  const { count } =
    (await env.DB.prepare("select count(*) as count from job_events where type <> 'state'").first<{
      count: number;
    }>()) ?? {};
  expect(count).toBe(0);
});

const bodyOf = (path: string) =>
  path === "uploads"
    ? { sha256: "0".repeat(64), size: 1 }
    : path === "progress"
      ? { attempt: 1, events: [] }
      : { attempt: 1, state: "failed", error: { code: "x", message: "y" } };

test("a forged token, a user's token and no token do none of a job's work", async () => {
  const { id, submission } = await handedOver();
  const forged = `${submission.token.slice(0, -4)}AAAA`;
  expect((await new FrontDoor(forged).post(`/api/v1/jobs/${id}/result`, bodyOf("result"))).status).toBe(401);
  expect((await ada.post(`/api/v1/jobs/${id}/result`, bodyOf("result"))).status).toBe(403);
  expect((await new FrontDoor().post(`/api/v1/jobs/${id}/result`, bodyOf("result"))).status).toBe(401);
});

test("it ends with the job", async () => {
  const { id, submission, worker } = await handedOver();
  await cancelJob(await hub.caller(ada), id);
  expect((await worker.get(`/api/v1/jobs/${id}/inputs/models/0/model.safetensors`)).status).toBe(409);
  for (const path of ["progress", "result", "uploads"])
    expect((await worker.post(`/api/v1/jobs/${id}/${path}`, bodyOf(path))).status).toBe(409);
  expect(await compute.upload(submission, A)).toBe(409);
});

test("an upload opened again after it came needs no bytes", async () => {
  const { submission } = await handedOver();
  const bytes = new Uint8Array(300_000).fill(7);
  expect(await compute.upload(submission, bytes)).toBe(200);
  const digest = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
  const again = await compute.callBack(submission, submission.hub.uploads_url, {
    sha256: digest,
    size: bytes.byteLength,
  });
  expect(await again.json()).toEqual({ sha256: digest, upload: null });
});
