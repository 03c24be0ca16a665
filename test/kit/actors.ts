// Actors that speak to the hub through its front door, as their tokens allow.
import { env, exports } from "cloudflare:workers";
import * as z from "zod";

const ORIGIN = "http://hub.test";

export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
  readonly text: string;
};

export class Client {
  readonly token: string | undefined;

  constructor(token?: string) {
    this.token = token;
  }

  /** The response as it is, for streams and headers. */
  raw(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.token !== undefined && !headers.has("authorization")) headers.set("authorization", `Bearer ${this.token}`);
    return exports.default.fetch(new Request(new URL(path, ORIGIN), { ...init, method, headers, redirect: "manual" }));
  }

  async send(method: string, path: string, body?: unknown): Promise<Answer> {
    const init =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    return answerOf(await this.raw(method, path, init));
  }

  get(path: string): Promise<Answer> {
    return this.send("GET", path);
  }

  post(path: string, body?: unknown): Promise<Answer> {
    return this.send("POST", path, body);
  }

  /** A commit as NDJSON; `lines` follow the header. */
  async commit(repo: string, lines: readonly unknown[], options: CommitOptions = {}): Promise<Answer> {
    const { branch = "main", summary = "a commit", parent, type = "models" } = options;
    const header = {
      key: "header",
      value: { summary, description: "", ...(parent === undefined ? {} : { parentCommit: parent }) },
    };
    const body = [header, ...lines].map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n");
    const response = await this.raw("POST", `/api/${type}/${repo}/commit/${encodeURIComponent(branch)}`, {
      body,
      headers: { "content-type": "application/x-ndjson" },
    });
    return answerOf(response);
  }
}

export type CommitOptions = {
  readonly branch?: string;
  readonly summary?: string;
  readonly parent?: string;
  readonly type?: "models" | "datasets";
};

export async function answerOf(response: Response): Promise<Answer> {
  // Not `text()`, which warns of what does not call itself text, as NDJSON.
  const text = new TextDecoder().decode(await response.arrayBuffer());
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  return { status: response.status, headers: response.headers, body, text };
}

export const anonymous = new Client();

const Bootstrapped = z.object({ token: z.string() });

/** The administrator of a fresh hub. */
export async function administrator(): Promise<Client> {
  const answer = await new Client(env.OWM_SECRET).post("/api/v1/bootstrap", { user: "root", rotate: true });
  return new Client(Bootstrapped.parse(answer.body).token);
}

/** A user with a token of this scope. */
export async function user(admin: Client, name: string, scope: "read" | "write" | "admin" = "admin"): Promise<Client> {
  await admin.post("/api/v1/users", { name });
  const answer = await admin.post(`/api/v1/users/${name}/tokens`, { name: `${scope} token`, scope });
  return new Client(Bootstrapped.parse(answer.body).token);
}

export const fileLine = (path: string, content: string | Uint8Array) => ({
  key: "file",
  value: { path, content: Buffer.from(content).toString("base64"), encoding: "base64" },
});
export const lfsLine = (path: string, oid: string, size?: number) => ({
  key: "lfsFile",
  value: { path, algo: "sha256", oid, ...(size === undefined ? {} : { size }) },
});

/** Uploads bytes through the LFS batch call, as stock clients do, and returns their digest. */
export async function uploadLfs(client: Client, repo: string, bytes: Uint8Array, prefix = ""): Promise<string> {
  const oid = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
  const batch = await client.post(`/${prefix}${repo}.git/info/lfs/objects/batch`, {
    operation: "upload",
    transfers: ["basic", "multipart"],
    objects: [{ oid, size: bytes.byteLength }],
    hash_algo: "sha256",
  });
  const action = Batch.parse(batch.body).objects[0]?.actions?.upload;
  if (action === undefined) return oid;
  const { chunk_size, ...numbered } = action.header ?? {};
  const urls = Object.entries(numbered).sort(([a], [b]) => Number(a) - Number(b));
  if (chunk_size === undefined) {
    await anonymous.raw("PUT", action.href, { body: bytes, headers: { "content-length": String(bytes.byteLength) } });
    return oid;
  }
  const parts: { partNumber: number; etag: string | null }[] = [];
  for (const [i, [number, url]] of urls.entries()) {
    const part = bytes.slice(i * Number(chunk_size), (i + 1) * Number(chunk_size));
    const response = await anonymous.raw("PUT", url, {
      body: part,
      headers: { "content-length": String(part.byteLength) },
    });
    parts.push({ partNumber: Number(number), etag: response.headers.get("etag") });
  }
  await anonymous.post(action.href, { oid, parts });
  return oid;
}

export const Batch = z.object({
  transfer: z.string(),
  objects: z.array(
    z.object({
      oid: z.string(),
      size: z.number(),
      actions: z
        .object({ upload: z.object({ href: z.string(), header: z.record(z.string(), z.string()).optional() }) })
        .optional(),
      error: z.object({ code: z.number(), message: z.string() }).optional(),
    }),
  ),
});
