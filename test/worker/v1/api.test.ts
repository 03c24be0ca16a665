// The hub's own API at its front door: identities, the audit trail, jobs as resources and as a feed, and the document.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import committed from "../../../docs/openapi.json";
import { driveJob } from "../../../src/compute/drive";
import type { JobId } from "../../../src/ids";
import { administrator, anonymous, Client, user } from "../../kit/actors";
import { FakeCompute, MemorySteps, mergeOutputs, publishModel, safetensors, TestPlatform } from "../../kit/jobs";

afterEach(() => vi.restoreAllMocks());

test("the document that is served is the one that is committed: npm run openapi writes it", async () => {
  expect((await anonymous.get("/api/v1/openapi.json")).body).toEqual(committed);
});

describe("problems", () => {
  test("are problem documents with code, field and request id", async () => {
    const admin = await administrator();
    const answer = await admin.post("/api/v1/users", { name: "-bad-" });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body).toMatchObject({
      type: "urn:owm:error:invalid_field",
      title: "Invalid field",
      status: 422,
      code: "invalid_field",
      field: "name",
      request_id: answer.headers.get("x-request-id"),
    });
  });

  test("an address that is none answers 404, a wrong token 401", async () => {
    expect((await anonymous.get("/api/v1/nowhere")).body).toMatchObject({ status: 404, code: "not_found" });
    expect((await new Client("hf_wrong").get("/api/v1/jobs")).body).toMatchObject({
      status: 401,
      code: "invalid_credentials",
    });
  });
});

describe("identities", () => {
  test("bootstrap needs the hub's secret, works once, and rotates", async () => {
    const hub = new Client(env.OWM_SECRET);
    expect((await new Client("wrong").post("/api/v1/bootstrap", { user: "root" })).status).toBe(401);
    expect((await anonymous.post("/api/v1/bootstrap", { user: "root" })).status).toBe(401);
    expect((await hub.post("/api/v1/bootstrap", { user: "root" })).status).toBe(201);
    expect((await hub.post("/api/v1/bootstrap", { user: "root" })).body).toMatchObject({
      status: 409,
      code: "already_bootstrapped",
    });
    expect((await hub.post("/api/v1/bootstrap", { user: "root", rotate: true })).body).toMatchObject({ user: "root" });
  });

  test("administrators make users and tokens for them; others only their own", async () => {
    const admin = await administrator();
    const ada = await user(admin, "ada");
    expect((await ada.post("/api/v1/users", { name: "eve" })).status).toBe(403);
    expect((await ada.post("/api/v1/users/root/tokens", { name: "x", scope: "admin" })).status).toBe(403);
    const token = z
      .object({ token: z.string() })
      .parse((await ada.post("/api/v1/tokens", { name: "ci", scope: "read" })).body).token;
    expect((await new Client(token).post("/api/v1/tokens", { name: "more", scope: "admin" })).status).toBe(403);
    expect((await admin.post("/api/v1/users", { name: "Ada" })).body).toMatchObject({
      status: 409,
      code: "account_exists",
    });
  });

  test("an organization keeps an admin", async () => {
    const ada = await user(await administrator(), "ada");
    expect((await ada.post("/api/v1/organizations", { name: "lab" })).status).toBe(201);
    expect((await ada.send("DELETE", "/api/v1/organizations/lab/members/ada")).body).toMatchObject({
      status: 422,
      field: "role",
    });
  });
});

const Events = z.object({
  events: z.array(z.object({ seq: z.number(), type: z.string(), subject: z.string(), actor: z.string() })),
  next: z.string().nullable(),
});

describe("the audit trail", () => {
  test("administrators read all of it, others that of the namespaces they administer", async () => {
    const admin = await administrator();
    const ada = await user(admin, "ada");
    const eve = await user(admin, "eve");
    await publishModel(ada, "ada/a");
    const read = async (client: Client, query = "") =>
      Events.parse((await client.get(`/api/v1/audit${query}`)).body).events;
    expect((await read(admin, "?type=repo.created")).map((event) => event.subject)).toEqual(["model:ada/a"]);
    expect((await read(ada)).map((event) => event.type)).toContain("repo.created");
    expect((await read(eve)).map((event) => event.subject)).not.toContain("model:ada/a");
    expect((await eve.get("/api/v1/audit?namespace=ada")).status).toBe(403);
    expect((await anonymous.get("/api/v1/audit")).status).toBe(401);
  });

  test("is read page by page, newest first", async () => {
    const admin = await administrator();
    await user(admin, "ada");
    await user(admin, "eve");
    const first = Events.parse((await admin.get("/api/v1/audit?limit=2")).body);
    const second = Events.parse((await admin.get(`/api/v1/audit?limit=2&cursor=${first.next}`)).body);
    const seqs = [...first.events, ...second.events].map((event) => event.seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => b - a));
    expect(new Set(seqs).size).toBe(4);
  });
});

describe("jobs", () => {
  let admin: Client;
  let ada: Client;
  let compute: FakeCompute;
  let hub: TestPlatform;

  beforeEach(async () => {
    compute = new FakeCompute();
    compute.install();
    hub = new TestPlatform();
    admin = await administrator();
    ada = await user(admin, "ada");
    await publishModel(ada, "ada/a");
    await publishModel(ada, "ada/b", safetensors({ w: [5, 6], b: [7] }));
  });

  const accept = (output = "ada/merged", client = ada): Promise<JobId> => {
    // Ids sort by time, so each job gets its own.
    hub.time++;
    return hub.accept(client, {
      kind: "merge",
      method: "linear",
      a: "ada/a",
      b: "ada/b",
      lambda: 0.5,
      output: { repo: output },
    });
  };

  const finish = async (id: JobId) => {
    const steps = new MemorySteps();
    steps.onWait = async () => {
      const events = [
        { seq: 1, ts: "2026-11-22T00:00:00Z", type: "progress", data: { done: 1, total: 2, unit: "tensors" } },
      ];
      await compute.callBack(compute.last, compute.last.hub.events_url, { attempt: 1, events });
      await compute.finish(compute.last, mergeOutputs(safetensors({ w: [1, 1], b: [1] })));
    };
    await driveJob(hub.platform, steps, id, 1);
  };

  const Jobs = z.object({
    jobs: z.array(z.object({ id: z.string(), state: z.string() })),
    next: z.string().nullable(),
  });
  const list = async (client: Client, query = "") => Jobs.parse((await client.get(`/api/v1/jobs${query}`)).body);

  test("asked for at the front door answers 202 with its address, then 200 for the same key", async () => {
    compute.answer = () => new Response("away", { status: 503 });
    const ask = (key: string) =>
      ada.raw("POST", "/api/v1/jobs", {
        body: JSON.stringify({
          kind: "merge",
          method: "linear",
          a: "ada/a",
          b: "ada/b",
          lambda: 0.25,
          output: { repo: "ada/merged" },
        }),
        headers: { "content-type": "application/json", "idempotency-key": key },
      });
    const first = await ask("one");
    expect(first.status).toBe(202);
    const job = z.object({ id: z.string(), state: z.string() }).parse(await first.json());
    expect(first.headers.get("location")).toBe(`/api/v1/jobs/${job.id}`);
    const again = await ask("one");
    expect(again.status).toBe(200);
    expect(await again.json()).toMatchObject({ id: job.id });
    expect((await ada.get(`/api/v1/jobs/${job.id}`)).body).toMatchObject({
      id: job.id,
      output: { repo: "ada/merged", branch: "main" },
    });
    expect((await ada.post(`/api/v1/jobs/${job.id}/cancel`)).body).toMatchObject({ state: "cancelled" });
    expect((await ada.post(`/api/v1/jobs/${job.id}/cancel`)).status).toBe(200);
  });

  test("are listed for who started them, and by repository for its members", async () => {
    const eve = await user(admin, "eve");
    const first = await accept();
    const second = await accept("eve/merged", eve);
    await finish(first);
    expect((await list(ada)).jobs.map((job) => job.id)).toEqual([first]);
    expect((await list(eve, "?repo=ada/merged")).jobs).toEqual([]);
    expect((await list(ada, "?repo=ada/a")).jobs.map((job) => job.id)).toEqual([first]);
    expect((await list(admin, "?repo=ada/a")).jobs.map((job) => job.id)).toEqual([second, first]);
    expect((await list(ada, "?state=succeeded")).jobs).toHaveLength(1);
    expect((await list(ada, "?state=queued")).jobs).toEqual([]);
    expect((await eve.get(`/api/v1/jobs/${first}`)).body).toMatchObject({ status: 404, code: "job_not_found" });
    expect((await eve.post(`/api/v1/jobs/${first}/cancel`)).status).toBe(404);
  });

  test("are listed page by page", async () => {
    const ids = [await accept(), await accept(), await accept()];
    const first = await list(ada, "?limit=2");
    const second = await list(ada, `?limit=2&cursor=${first.next}`);
    expect(new Set([...first.jobs, ...second.jobs].map((job) => job.id))).toEqual(new Set(ids));
    expect(second.next).toBeNull();
  });

  test("that ended can't be cancelled", async () => {
    const id = await accept();
    await finish(id);
    expect((await ada.post(`/api/v1/jobs/${id}/cancel`)).body).toMatchObject({ status: 409, code: "job_ended" });
  });

  test("tell their events as a stream that ends with them and resumes where it was left", async () => {
    const id = await accept();
    const listening = ada.raw("GET", `/api/v1/jobs/${id}/events`).then((response) => response.text());
    await finish(id);
    const frames = (await listening).split("\n\n").filter((frame) => frame.startsWith("id:"));
    const states = frames.map((frame) => /"state":"(\w+)"/.exec(frame)?.[1] ?? "progress");
    expect(states).toEqual(["queued", "running", "progress", "publishing", "succeeded"]);
    const middle = /^id: (\d+)/.exec(frames[2] ?? "")?.[1] ?? "";
    const resumed = await ada.raw("GET", `/api/v1/jobs/${id}/events`, { headers: { "last-event-id": middle } });
    expect((await resumed.text()).split("\n\n").filter((frame) => frame.startsWith("id:"))).toEqual(frames.slice(3));
    const eve = await user(admin, "eve");
    expect((await eve.get(`/api/v1/jobs/${id}/events`)).status).toBe(404);
  });
});
