// Git LFS: the batch call, and the signed addresses that take and give the bytes.
import { Hono } from "hono";
import * as z from "zod";
import { authorize } from "../../access/caller";
import { HubError } from "../../errors";
import { findHeldContent, noteDownload } from "../../hub/downloads";
import { type Linkable, linkable } from "../../hub/linking";
import { authorizeProposal, authorizePush, pushTarget } from "../../hub/push-rights";
import { findRepo, type Repository, repoName, targetOf } from "../../hub/repositories";
import { parseRepoId, parseSha256, type RepoType, type Sha256 } from "../../ids";
import {
  completeUpload,
  openUploads,
  receivePart,
  type Upload,
  type UploadLinks,
  uploadLinks,
} from "../../store/uploads";
import type { AppEnv } from "../app-env";
import { type Ctx, callerOf, jsonBody, originOf, WEB_PREFIX } from "../hf/request";
import { likelySpan, serveContent } from "../serve-content";
import { connect, connectionHeaders, tokenUrl } from "../xet/connection";

const MEDIA_TYPE = "application/vnd.git-lfs+json";

const BatchBody = z.object({
  operation: z.enum(["upload", "download"]),
  transfers: z.array(z.string()).default(["basic"]),
  objects: z.array(z.object({ oid: z.string(), size: z.number().int().nonnegative() })).max(1000),
  hash_algo: z.string().optional(),
  /** Clients leave it out where a pull request is yet to be opened. */
  ref: z.object({ name: z.string() }).nullish(),
});
const VerifyBody = z.object({ oid: z.string(), size: z.number().int().nonnegative() });
const CompleteBody = z.object({
  oid: z.string(),
  parts: z.array(z.object({ partNumber: z.number().int().positive(), etag: z.string() })).max(10_000),
});

const json = (body: unknown): Response =>
  new Response(JSON.stringify(body), { headers: { "content-type": MEDIA_TYPE } });

/** git addresses end in `.git`, which is no part of the name. */
function repoOf(c: Ctx, type: RepoType) {
  const name = (c.req.param("name") ?? "").replace(/\.git$/, "");
  return findRepo(callerOf(c), parseRepoId(type, `${c.req.param("owner") ?? ""}/${name}`));
}

async function batch(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const repo = await repoOf(c, type);
  const body = await jsonBody(c, BatchBody);
  const objects = body.objects.map((one, i) => ({ sha256: parseSha256(one.oid, `objects[${i}].oid`), size: one.size }));
  const held = await linkable(
    caller,
    repo,
    objects.map((one) => one.sha256),
  );
  if (body.operation === "download") {
    authorize(caller, { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
    return json({
      transfer: "basic",
      objects: objects.map(({ sha256, size }) =>
        held.has(sha256)
          ? { oid: sha256, size, actions: { download: { href: `${base(c, type, repoName(repo))}/objects/${sha256}` } } }
          : { oid: sha256, size, error: { code: 404, message: "this repository holds no such object" } },
      ),
    });
  }
  const ref = body.ref ?? null;
  if (ref === null) authorizeProposal(caller, repo);
  else await authorizePush(caller, repo, pushTarget(ref.name, "ref.name"));
  // What is only claimed to be these bytes does not spare their upload: someone who proposes a change may have claimed it.
  for (const [sha256, { holding }] of held) if (holding.state === "claimed") held.delete(sha256);
  if (body.transfers.includes("xet"))
    return json({ transfer: "xet", objects: await xetUploads(c, repo, { objects, held, proposes: ref === null }) });
  const canSplit = body.transfers.includes("multipart");
  const wanted = objects.filter(({ sha256 }) => !held.has(sha256));
  const uploads = await openUploads(caller.platform, { repoId: repo.id }, wanted, !canSplit);
  const byDigest = new Map(uploads.map((upload) => [upload.sha256, upload]));
  const answered = await Promise.all(
    objects.map(async ({ sha256, size }) => {
      const upload = byDigest.get(sha256);
      if (upload === undefined) return sizeChecked(sha256, size, held.get(sha256)?.size);
      const links = await uploadLinks(caller.platform, originOf(c), upload);
      const verify = { href: `${base(c, type, repoName(repo))}/verify` };
      return { oid: sha256, size, actions: { upload: uploadAction(upload, links), verify } };
    }),
  );
  return json({ transfer: canSplit ? "multipart" : "basic", objects: answered });
}

/** One token for all of them: what is missing is uploaded by its parts, and told by the shard. */
async function xetUploads(
  c: Ctx,
  repo: Repository,
  wanted: {
    readonly objects: readonly { readonly sha256: Sha256; readonly size: number }[];
    readonly held: ReadonlyMap<Sha256, Linkable>;
    readonly proposes: boolean;
  },
) {
  const { objects, held, proposes } = wanted;
  const href = `${tokenUrl(originOf(c), repo, "write")}${proposes ? "?create_pr=1" : ""}`;
  const connection = connectionHeaders(await connect(callerOf(c), originOf(c), repo, true));
  const upload = { href, header: { ...connection, "X-Xet-Session-Id": crypto.randomUUID() } };
  return objects.map(({ sha256, size }) => {
    const known = held.get(sha256);
    return known === undefined ? { oid: sha256, size, actions: { upload } } : sizeChecked(sha256, size, known.size);
  });
}

const base = (c: Ctx, type: RepoType, name: string): string => `${originOf(c)}/${WEB_PREFIX[type]}${name}.git/info/lfs`;

function sizeChecked(oid: string, size: number, actual: number | undefined) {
  return actual === size
    ? { oid, size }
    : { oid, size, error: { code: 422, message: `the object has ${actual} bytes, not ${size}` } };
}

/** Multipart is told by headers that are data: `chunk_size` and one zero-padded number a part, in order. */
function uploadAction(upload: Upload, links: UploadLinks) {
  const [only] = links.parts;
  if (links.completeUrl === null && only !== undefined) return { href: only.url };
  const parts = links.parts.map((part, i) => [String(i + 1).padStart(5, "0"), part.url]);
  return { href: links.completeUrl, header: { chunk_size: String(upload.partSize), ...Object.fromEntries(parts) } };
}

async function verify(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const repo = await repoOf(c, type);
  authorizeProposal(caller, repo);
  const { oid, size } = await jsonBody(c, VerifyBody);
  const sha256 = parseSha256(oid, "oid");
  const actual = (await linkable(caller, repo, [sha256])).get(sha256)?.size;
  if (actual === undefined) throw new HubError("content_missing", { field: "oid", sha256 });
  if (actual !== size) throw new HubError("size_mismatch", { actual, expected: size });
  return json({});
}

export const lfs = new Hono<AppEnv>();
for (const type of ["model", "dataset"] as const) {
  const at = `/${WEB_PREFIX[type]}:owner/:name/info/lfs`;
  lfs.post(`${at}/objects/batch`, (c) => batch(c, type));
  lfs.post(`${at}/verify`, (c) => verify(c, type));
  lfs.get(`${at}/objects/:oid`, (c) => download(c, type));
  // git-lfs asks for locks before each push, and leaves it at this status without a word.
  for (const path of ["/locks", "/locks/verify", "/locks/:id/unlock"])
    lfs.all(`${at}${path}`, () => {
      throw new HubError("locks_unsupported");
    });
}

async function download(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const repo = await repoOf(c, type);
  const sha256 = parseSha256(c.req.param("oid") ?? "", "oid");
  const content = await findHeldContent(caller, repo, sha256, likelySpan(c.req.raw));
  const response = await serveContent(c.req.raw, caller.platform, content, {
    etag: `"${sha256}"`,
    headers: { "content-type": "application/octet-stream", "x-content-type-options": "nosniff", vary: "authorization" },
  });
  if (c.req.method === "GET" && response.ok) noteDownload(caller, repo, { sha256 });
  return response;
}

lfs.put("/lfs/uploads/:id/parts/:number", async (c) => {
  const length = c.req.header("content-length");
  const etag = await receivePart(callerOf(c).platform, {
    id: c.req.param("id"),
    number: Number(c.req.param("number")),
    signature: c.req.query("signature") ?? "",
    body: c.req.raw.body,
    contentLength: length === undefined ? null : Number(length),
  });
  return new Response(null, { headers: { etag } });
});

lfs.post("/lfs/uploads/:id/complete", async (c) => {
  const { parts } = await jsonBody(c, CompleteBody);
  await completeUpload(callerOf(c).platform, {
    id: c.req.param("id"),
    signature: c.req.query("signature") ?? "",
    etags: parts.map((part) => ({ number: part.partNumber, etag: part.etag })),
  });
  return json({});
});
