// What tests of jobs need: models and data sets on the hub, a compute service that speaks the contract, and durable steps that can crash.

import { env, exports } from "cloudflare:workers";
import { createHash } from "node:crypto";
import { drizzle } from "drizzle-orm/d1";
import { decodeJwt, jwtVerify } from "jose";
import { vi } from "vitest";
import * as z from "zod";
import type { Caller } from "../../src/access/caller";
import { identify } from "../../src/access/tokens";
import { acceptJob } from "../../src/compute/accept";
import type { Next, Steps } from "../../src/compute/drive";
import { JobRequest } from "../../src/compute/requests";
import { type JobId, parseJobId } from "../../src/ids";
import { cloudflarePlatform } from "../../src/platform/cloudflare";
import type { AuditEvent, Platform } from "../../src/platform/platform";
import { type Client, fileLine, lfsLine, uploadLfs } from "./actors";

/** A safetensors file of F32 vectors, or of what `dtype` and `shape` say instead. */
export function safetensors(
  tensors: Record<string, number[]>,
  shapes: Record<string, number[]> = {},
  dtype = "F32",
): Uint8Array {
  const width = dtype === "F32" ? 4 : 2;
  let offset = 0;
  const header = Object.fromEntries(
    Object.entries(tensors).map(([name, values]) => {
      const begin = offset;
      offset += values.length * width;
      return [name, { dtype, shape: shapes[name] ?? [values.length], data_offsets: [begin, offset] }];
    }),
  );
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + offset);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  let at = 8 + json.length;
  for (const value of Object.values(tensors).flat()) {
    if (dtype === "F32") view.setFloat32(at, value, true);
    at += width;
  }
  return bytes;
}

export const CONFIG = JSON.stringify({
  architectures: ["OwmMLP"],
  model_type: "owm_mlp",
  input_size: 2,
  hidden_sizes: [],
  num_labels: 2,
});

export async function publishModel(
  client: Client,
  repo: string,
  weights: Uint8Array = safetensors({ w: [1, 2], b: [3] }),
  { config = CONFIG, isPrivate = false }: { config?: string; isPrivate?: boolean } = {},
): Promise<void> {
  const [organization, name] = repo.split("/");
  await client.post("/api/repos/create", { name, organization, private: isPrivate });
  const oid = await uploadLfs(client, repo, weights);
  await client.commit(repo, [fileLine("config.json", config), lfsLine("model.safetensors", oid, weights.byteLength)]);
}

const TASK = {
  task: "toy",
  version: "1.0",
  kind: "classification",
  features: ["x", "y"],
  classes: ["0", "1"],
  splits: { train: "data/train.csv", test: "data/test.csv" },
};

export async function publishDataset(client: Client, repo: string, task: unknown = TASK): Promise<void> {
  const [organization, name] = repo.split("/");
  await client.post("/api/repos/create", { name, organization, type: "dataset" });
  const lines = [
    fileLine("task.json", typeof task === "string" ? task : JSON.stringify(task)),
    fileLine("data/train.csv", "id,x,y,label\n1,0,1,0\n"),
    fileLine("data/test.csv", "id,x,y,label\n2,1,0,1\n"),
  ];
  await client.commit(repo, lines, { type: "datasets" });
}

/** A platform on the test's bindings whose clock stands still and whose hints go nowhere but into lists. */
export class TestPlatform {
  time = Date.UTC(2026, 10, 22);
  readonly started: [JobId, number][] = [];
  readonly woken: [JobId, number][] = [];
  readonly recorded: AuditEvent[] = [];
  upkeepWoken = 0;
  driverState: "alive" | "missing" | "dead" = "alive";
  /** Run before and after each batch that the job's rooms commit: where tests crash, and where others come in between. */
  beforeBatch: () => Promise<void> | void = () => {};
  afterBatch: () => Promise<void> | void = () => {};
  readonly platform: Platform;
  readonly #deferred: Promise<unknown>[] = [];

  constructor() {
    const real = cloudflarePlatform(env, "test", () => {});
    this.platform = {
      ...real,
      db: drizzle(this.#watched(env.DB)),
      now: () => this.time,
      defer: (work) => void this.#deferred.push(work),
      events: { record: async (events) => void this.recorded.push(...events) },
      jobs: {
        start: async (job, driver) => void this.started.push([job, driver]),
        wake: async (job, driver) => void this.woken.push([job, driver]),
        state: async () => this.driverState,
      },
      upkeep: {
        wake: async () => {
          this.upkeepWoken++;
        },
      },
    };
  }

  #watched(database: D1Database): D1Database {
    return new Proxy(database, {
      get: (target, name) => {
        if (name === "batch")
          return async (statements: D1PreparedStatement[]) => {
            await this.beforeBatch();
            const results = await target.batch(statements);
            await this.afterBatch();
            return results;
          };
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  async settled(): Promise<void> {
    await Promise.all(this.#deferred);
  }

  async caller(client: Client): Promise<Caller> {
    const authorization = client.token === undefined ? null : `Bearer ${client.token}`;
    return { platform: this.platform, actor: await identify(this.platform, authorization) };
  }

  /** Accepts a job as this client. */
  async accept(client: Client, request: unknown, key?: string): Promise<JobId> {
    const { job } = await acceptJob(await this.caller(client), JobRequest.parse(request), key);
    return job.id;
  }
}

export class Crash extends Error {}

export type CrashPoint = { readonly step: number; readonly when: "before" | "after" };

/** Remembers finished steps as a durable runtime does; a crash loses the process, and with `after` also the step's answer. */
export class MemorySteps implements Steps {
  readonly #done = new Map<string, Next>();
  readonly #waited = new Set<string>();
  #runs = 0;
  crash: CrashPoint | null = null;
  onWait: (ms: number) => Promise<void> | void = () => {};

  async run(name: string, work: () => Promise<Next>): Promise<Next> {
    const known = this.#done.get(name);
    if (known !== undefined) return known;
    this.#runs++;
    if (this.crash?.step === this.#runs && this.crash.when === "before") throw new Crash();
    const next = await work();
    if (this.crash?.step === this.#runs && this.crash.when === "after") throw new Crash();
    this.#done.set(name, next);
    return next;
  }

  async wait(name: string, ms: number): Promise<void> {
    if (this.#waited.has(name)) return;
    await this.onWait(ms);
    this.#waited.add(name);
  }

  get runs(): number {
    return this.#runs;
  }
}

const Submission = z.object({
  id: z.string().transform((text) => parseJobId(text, "id")),
  attempt: z.number(),
  kind: z.string(),
  spec: z.record(z.string(), z.unknown()),
  inputs: z.array(z.object({ name: z.string(), url: z.string(), sha256: z.string(), size: z.number() })),
  hub: z.object({
    uploads_url: z.string(),
    events_url: z.string(),
    result_url: z.string(),
    xet_token_url: z.string().nullable(),
  }),
  token: z.string(),
  limits: z.object({ timeout_s: z.number(), memory_bytes: z.number() }),
});
export type Submission = z.output<typeof Submission>;

const Upload = z.object({
  upload: z
    .object({
      parts: z.array(z.object({ url: z.string(), offset: z.number(), size: z.number() })),
      complete_url: z.string().nullable(),
    })
    .nullable(),
});

export const ENGINE = { name: "owm-compute", version: "0.1.0", torch: "2.13.0", device: "cpu" };

export const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

type RemoteJob = { submission: Submission; key: string; body: string; state: string; report: Record<string, unknown> };

/** Stands in for the compute service behind `fetch`, by the contract; `finish` does its side of a job's end. */
export class FakeCompute {
  readonly submissions: Submission[] = [];
  readonly cancelled: string[] = [];
  /** Answers the next calls instead of the service; null answers as the service would. */
  answer: ((method: string, path: string) => Response | null) | null = null;
  #jobs = new Map<string, RemoteJob>();

  install({ realDrivers = false } = {}): void {
    // The front door wakes drivers; those of most tests are no workflow instances.
    if (!realDrivers)
      vi.spyOn(env.JOBS, "get").mockImplementation(async () => {
        throw new Error("instance.not_found");
      });
    vi.spyOn(globalThis, "fetch").mockImplementation((input, init) => this.#fetch(new Request(input, init)));
  }

  /** Loses its journal, as a service on an empty disk. */
  forget(): void {
    this.#jobs = new Map();
  }

  get last(): Submission {
    const last = this.submissions.at(-1);
    if (last === undefined) throw new Error("nothing was submitted");
    return last;
  }

  /** Sets what the service answers when asked for the job. */
  becomes(id: JobId, state: string, report: Record<string, unknown> = {}): void {
    const job = this.#jobs.get(id);
    if (job !== undefined) Object.assign(job, { state, report });
  }

  async #fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const special = this.answer?.(request.method, pathname) ?? null;
    if (special !== null) return special;
    const body = await request.text();
    const token = (request.headers.get("authorization") ?? "").replace("Bearer ", "");
    const secret = new TextEncoder().encode("test-secret-of-compute-0123456789abcdef");
    // Tests may set the hub's clock: what is checked is the binding to this body, and that the token is short-lived.
    const { payload } = await jwtVerify(token, secret, {
      issuer: "owm-hub",
      audience: "owm-compute",
      algorithms: ["HS256"],
      currentDate: new Date((decodeJwt(token).iat ?? 0) * 1000),
    });
    if ((payload.exp ?? Number.POSITIVE_INFINITY) - (payload.iat ?? 0) > 300) return problem(401, "unauthorized");
    if (payload.sha256 !== digest(new TextEncoder().encode(body))) return problem(401, "unauthorized");
    if (request.method === "POST" && pathname === "/v1/jobs")
      return this.#submit(body, request.headers.get("idempotency-key") ?? "");
    const [, id = "", action] = /^\/v1\/jobs\/([^/]+)(\/cancel)?$/.exec(pathname) ?? [];
    const job = this.#jobs.get(id);
    if (job === undefined) return problem(404, "job_not_found");
    if (action !== undefined) this.cancelled.push(id);
    return Response.json(resource(job));
  }

  #submit(body: string, key: string): Response {
    const submission = Submission.parse(JSON.parse(body));
    const known = this.#jobs.get(submission.id);
    if (known?.key === key)
      return known.body === body ? Response.json(resource(known)) : problem(422, "idempotency_key_reused");
    const job: RemoteJob = { submission, key, body, state: "queued", report: {} };
    this.#jobs.set(submission.id, job);
    this.submissions.push(submission);
    return Response.json(resource(job), { status: 202, headers: { location: `/v1/jobs/${submission.id}` } });
  }

  /** Uploads bytes for the job through the hub's front door. */
  async upload(submission: Submission, bytes: Uint8Array): Promise<number> {
    const opened = await this.callBack(submission, submission.hub.uploads_url, {
      sha256: digest(bytes),
      size: bytes.byteLength,
    });
    if (opened.status !== 200) return opened.status;
    const { upload } = Upload.parse(await opened.json());
    const parts: { partNumber: number; etag: string | null }[] = [];
    for (const part of upload?.parts ?? []) {
      const body = bytes.slice(part.offset, part.offset + part.size);
      const stored = await exports.default.fetch(
        new Request(part.url, { method: "PUT", body, headers: { "content-length": String(body.byteLength) } }),
      );
      if (stored.status !== 200) return stored.status;
      parts.push({ partNumber: parts.length + 1, etag: stored.headers.get("etag") });
    }
    const complete = upload?.complete_url ?? null;
    if (complete === null) return 200;
    const body = JSON.stringify({ oid: digest(bytes), parts });
    const completed = await exports.default.fetch(
      new Request(complete, { method: "POST", body, headers: { "content-type": "application/json" } }),
    );
    return completed.status;
  }

  callBack(submission: Submission, url: string, body: unknown, token = submission.token): Promise<Response> {
    return exports.default.fetch(
      new Request(url, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      }),
    );
  }

  /** Uploads the files and reports success. */
  async finish(
    submission: Submission,
    files: Record<string, Uint8Array>,
    record: Record<string, unknown> = {},
  ): Promise<Response> {
    for (const bytes of Object.values(files)) await this.upload(submission, bytes);
    return this.callBack(submission, submission.hub.result_url, successOf(submission, files, record));
  }
}

/** What the compute service makes of a merge's program whose output is these weights. */
export const mergeOutputs = (weights: Uint8Array): Record<string, Uint8Array> => ({
  "model.safetensors": weights,
  "config.json": new TextEncoder().encode(CONFIG),
  "merge-record.jsonl": new TextEncoder().encode('{"schema":"owm.merge-record/1"}\n'),
});

export const successOf = (
  submission: Submission,
  files: Record<string, Uint8Array>,
  record: Record<string, unknown> = {},
) => ({
  attempt: submission.attempt,
  state: "succeeded",
  result: {
    files: Object.entries(files).map(([path, bytes]) => ({ path, sha256: digest(bytes), size: bytes.byteLength })),
    record,
    engine: ENGINE,
  },
});

const resource = ({ submission, state, report }: RemoteJob) => ({
  id: submission.id,
  attempt: submission.attempt,
  kind: submission.kind,
  state,
  seq: 0,
  progress: null,
  result: null,
  error: null,
  ...report,
});

const problem = (status: number, code: string): Response =>
  Response.json({ code, detail: code }, { status, headers: { "content-type": "application/problem+json" } });

export const problemAnswer = problem;
