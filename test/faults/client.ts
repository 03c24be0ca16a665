// A client of a running hub over plain HTTP: what the scenarios ask for, and what they publish first.
import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import * as z from "zod";

/** Generous: the machine may be busy, and a driver that died is looked for only now and then. */
export const DEADLINE_MS = 120_000;
const POLL_MS = 150;

export const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export const Job = z.object({
  id: z.string(),
  state: z.enum(["queued", "running", "publishing", "succeeded", "failed", "cancelled"]),
  attempt: z.number(),
  error: z.looseObject({ code: z.string(), message: z.string() }).nullable(),
  result: z.unknown(),
});
export type Job = z.output<typeof Job>;

export const Published = z.object({
  commit: z.string(),
  files: z.array(z.object({ path: z.string(), sha256: z.string(), size: z.number() })),
});

const LfsObjects = z.object({
  objects: z.tuple([
    z.object({
      actions: z
        .object({ upload: z.object({ href: z.string(), header: z.record(z.string(), z.string()).optional() }) })
        .optional(),
    }),
  ]),
});

/** Where the bytes of one file go; no parts when the hub has them already. */
export type LfsPlan = {
  readonly parts: readonly { readonly url: string; readonly bytes: Uint8Array }[];
  readonly complete: string | null;
};

export const fileLine = (path: string, content: string) => ({
  key: "file",
  value: { path, content: Buffer.from(content).toString("base64"), encoding: "base64" },
});

export const lfsLine = (path: string, bytes: Uint8Array) => ({
  key: "lfsFile",
  value: { path, algo: "sha256", oid: digest(bytes), size: bytes.byteLength },
});

export const commitBody = (lines: readonly unknown[], summary = "a commit"): string =>
  [{ key: "header", value: { summary, description: "" } }, ...lines].map((line) => JSON.stringify(line)).join("\n");

export class HubClient {
  readonly endpoint: string;
  readonly #token: string;

  constructor(endpoint: string, token: string) {
    this.endpoint = endpoint;
    this.#token = token;
  }

  get authorization(): { readonly authorization: string } {
    return { authorization: `Bearer ${this.#token}` };
  }

  raw(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", this.authorization.authorization);
    return fetch(new URL(path, this.endpoint), { ...init, method, headers });
  }

  /** The body of a successful answer; any other answer is an error that says it. */
  async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await this.raw(
      method,
      path,
      body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } },
    );
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text.slice(0, 500)}`);
    return text === "" ? null : JSON.parse(text);
  }

  async createRepo(repo: string, type: "model" | "dataset" = "model"): Promise<void> {
    const [organization, name] = repo.split("/");
    await this.call("POST", "/api/repos/create", { name, organization, type });
  }

  async commit(
    repo: string,
    lines: readonly unknown[],
    type: "models" | "datasets" = "models",
    branch = "main",
  ): Promise<void> {
    const response = await this.raw("POST", `/api/${type}/${repo}/commit/${branch}`, {
      body: commitBody(lines),
      headers: { "content-type": "application/x-ndjson" },
    });
    if (!response.ok) throw new Error(`a commit to ${repo} answered ${response.status}: ${await response.text()}`);
  }

  /** Asks for an LFS upload as stock clients do. */
  async planUpload(repo: string, bytes: Uint8Array): Promise<LfsPlan> {
    const batch = await this.call("POST", `/${repo}.git/info/lfs/objects/batch`, {
      operation: "upload",
      transfers: ["basic", "multipart"],
      objects: [{ oid: digest(bytes), size: bytes.byteLength }],
      hash_algo: "sha256",
    });
    const action = LfsObjects.parse(batch).objects[0].actions?.upload;
    if (action === undefined) return { parts: [], complete: null };
    const { chunk_size, ...numbered } = action.header ?? {};
    if (chunk_size === undefined) return { parts: [{ url: action.href, bytes }], complete: null };
    const size = Number(chunk_size);
    const urls = Object.entries(numbered).sort(([a], [b]) => Number(a) - Number(b));
    return {
      parts: urls.map(([, url], i) => ({ url, bytes: bytes.subarray(i * size, (i + 1) * size) })),
      complete: action.href,
    };
  }

  async upload(repo: string, bytes: Uint8Array): Promise<void> {
    const { parts, complete } = await this.planUpload(repo, bytes);
    const etags: { partNumber: number; etag: string | null }[] = [];
    for (const [i, part] of parts.entries()) {
      const response = await fetch(part.url, { method: "PUT", body: Buffer.from(part.bytes) });
      if (!response.ok) throw new Error(`a part answered ${response.status}: ${await response.text()}`);
      await response.body?.cancel();
      etags.push({ partNumber: i + 1, etag: response.headers.get("etag") });
    }
    if (complete !== null) await this.call("POST", complete, { oid: digest(bytes), parts: etags });
  }

  async startJob(request: unknown): Promise<string> {
    return Job.parse(await this.call("POST", "/api/v1/jobs", request)).id;
  }

  async job(id: string): Promise<Job> {
    return Job.parse(await this.call("GET", `/api/v1/jobs/${id}`));
  }

  /** The job once it has ended; a Worker that is down meanwhile is waited for. */
  async ended(id: string): Promise<Job> {
    return eventually(`job ${id} to end`, async () => {
      const job = await this.job(id);
      return job.state === "succeeded" || job.state === "failed" || job.state === "cancelled" ? job : null;
    });
  }
}

/** What `look` finds once it finds something; an error counts as nothing, and is told when the time is up. */
export async function eventually<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  const limit = Date.now() + DEADLINE_MS;
  let problem: unknown = "it did not happen";
  while (Date.now() < limit) {
    try {
      const found = await look();
      if (found !== null) return found;
      problem = "it did not happen";
    } catch (error) {
      problem = error;
    }
    await pause(POLL_MS);
  }
  throw new Error(`waited ${DEADLINE_MS / 1000} s for ${what}`, { cause: problem });
}

/** Fails, saying what was waited for, instead of waiting for ever. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const limit = new AbortController();
  const late = pause(DEADLINE_MS, undefined, { signal: limit.signal }).then(() => {
    throw new Error(`waited ${DEADLINE_MS / 1000} s for ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => undefined);
    limit.abort();
  }
}
