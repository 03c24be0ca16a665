// What the benchmarks ask of a hub: repositories, uploads as LFS clients make them, commits and jobs.
import * as z from "zod";
import type { Source } from "./bytes.ts";
import { put } from "./transfer.ts";

const batchShape = z.object({
  objects: z.tuple([
    z.object({
      actions: z.object({
        upload: z.object({ href: z.url(), header: z.record(z.string(), z.string()).default({}) }),
      }),
    }),
  ]),
});

/** Where the parts of an upload go, in order; without `completeUrl` one PUT does it all. */
export type UploadPlan = { readonly urls: string[]; readonly partSize: number; readonly completeUrl?: string };

/** Sends every part, one after another. Resolves to the ETags. */
export async function sendParts(plan: UploadPlan, source: Source): Promise<string[]> {
  const etags: string[] = [];
  for (const [i, url] of plan.urls.entries()) {
    const offset = i * plan.partSize;
    const length = Math.min(plan.partSize, source.size - offset);
    etags.push((await put(url, source.read(offset, length), length)) ?? "");
  }
  return etags;
}

export class HubClient {
  readonly endpoint: string;
  readonly user: string;
  readonly token: string;
  readonly authorization: { readonly authorization: string };

  constructor(hub: { readonly endpoint: string; readonly user: string; readonly token: string }) {
    this.endpoint = hub.endpoint;
    this.user = hub.user;
    this.token = hub.token;
    this.authorization = { authorization: `Bearer ${hub.token}` };
  }

  async call<T>(method: string, path: string, body: string | undefined, shape: z.ZodType<T>): Promise<T> {
    const response = await fetch(new URL(path, this.endpoint), {
      method,
      headers: { ...this.authorization, "content-type": "application/json" },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${text}`);
    return shape.parse(JSON.parse(text));
  }

  /** Creates a model repository of the caller's; its full name. */
  async createRepo(name: string, isPrivate: boolean): Promise<string> {
    await this.call("POST", "/api/repos/create", JSON.stringify({ name, private: isPrivate }), z.unknown());
    return `${this.user}/${name}`;
  }

  async openUpload(repo: string, source: Source, transfer: "basic" | "multipart"): Promise<UploadPlan> {
    const { sha256: oid, size } = source;
    const body = { operation: "upload", transfers: [transfer], objects: [{ oid, size }], hash_algo: "sha256" };
    const answer = await this.call("POST", `/${repo}.git/info/lfs/objects/batch`, JSON.stringify(body), batchShape);
    const { href, header } = answer.objects[0].actions.upload;
    const { chunk_size, ...parts } = header;
    if (chunk_size === undefined) return { urls: [href], partSize: size };
    const numbered = Object.entries(parts).toSorted(([a], [b]) => Number(a) - Number(b));
    return { urls: numbered.map(([, url]) => url), partSize: Number(chunk_size), completeUrl: href };
  }

  async complete(plan: UploadPlan, source: Source, etags: readonly string[]): Promise<void> {
    if (plan.completeUrl === undefined) return;
    const parts = etags.map((etag, i) => ({ partNumber: i + 1, etag }));
    await this.call("POST", plan.completeUrl, JSON.stringify({ oid: source.sha256, parts }), z.unknown());
  }

  async upload(repo: string, source: Source, transfer: "basic" | "multipart"): Promise<void> {
    const plan = await this.openUpload(repo, source, transfer);
    await this.complete(plan, source, await sendParts(plan, source));
  }

  /** Commits small files by content and uploaded ones by digest, on main. */
  async commit(repo: string, small: Record<string, string>, large: Record<string, Source>): Promise<void> {
    const lines: unknown[] = [{ key: "header", value: { summary: "benchmark", description: "" } }];
    for (const [path, text] of Object.entries(small))
      lines.push({ key: "file", value: { path, content: Buffer.from(text).toString("base64"), encoding: "base64" } });
    for (const [path, { sha256, size }] of Object.entries(large))
      lines.push({ key: "lfsFile", value: { path, algo: "sha256", oid: sha256, size } });
    const body = lines.map((line) => JSON.stringify(line)).join("\n");
    await this.call("POST", `/api/models/${repo}/commit/main`, body, z.unknown());
  }
}
