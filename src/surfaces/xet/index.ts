// The content-addressed store as Xet clients speak it: files by their parts, xorbs, shards, deduplication. Mounted at /cas.
import { Hono } from "hono";
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { noteDownload } from "../../hub/downloads";
import { reconstructNearby } from "../../hub/nearby";
import { openXet, openXetFile, type XetAccess, type XetFile } from "../../hub/xet-access";
import { parseXetHash, type XetHash } from "../../ids";
import type { ByteRange } from "../../platform/platform";
import { objectUrl, serveObject } from "../../store/delivery";
import { isOpen } from "../../store/scopes";
import { findDedup } from "../../store/xet/dedup";
import { reconstructionV1, reconstructionV2, type UrlOf } from "../../store/xet/reconstruction";
import { registerShard } from "../../store/xet/shards";
import { findXorb, receiveXorb } from "../../store/xet/xorbs";
import { readAll } from "../../streams/chunks";
import { parseRange } from "../../streams/ranges";
import type { AppEnv } from "../app-env";
import { asHubError } from "../as-hub-error";
import { type Ctx, callerOf, originOf } from "../hf/request";
import { answerShard } from "./shard-stream";

const MAX_TELEMETRY_BYTES = 1 << 20;
/** The namespace of xorbs and chunks; the protocol's text calls that of chunks otherwise than its clients do. */
const XORB_PREFIXES = new Set(["default"]);
const CHUNK_PREFIXES = new Set(["default", "default-merkledb"]);

/** With the holder known, the log names who called. */
async function enter(c: Ctx, action: "xet.find" | "xet.write"): Promise<XetAccess> {
  const access = await openXet(callerOf(c), action);
  c.set("caller", access.caller);
  return access;
}

async function enterFile(c: Ctx): Promise<XetAccess & { readonly file: XetFile }> {
  const access = await openXetFile(callerOf(c), hashOf(c));
  c.set("caller", access.caller);
  return access;
}

const hashOf = (c: Ctx): XetHash => parseXetHash(c.req.param("hash") ?? "", "hash");

function requirePrefix(c: Ctx, known: ReadonlySet<string>): void {
  if (!known.has(c.req.param("prefix") ?? "")) throw new HubError("not_found");
}

function spanOf(c: Ctx, size: number): ByteRange | null {
  const range = parseRange(c.req.header("range"), size);
  if (range.kind === "unsatisfiable") throw new HubError("range_not_satisfiable", { size });
  return range.kind === "full" ? null : { offset: range.start, length: range.end - range.start + 1 };
}

/** Addresses that open exactly the bytes of one range, for whoever has them, for about an hour. */
const urlsFor =
  ({ platform }: Caller, origin: string, isPublic: boolean): UrlOf =>
  (xorb, bytes) =>
    objectUrl(platform, origin, { key: xorb.key, bytes, public: isPublic });

async function reconstruction(c: Ctx, version: 1 | 2): Promise<Response> {
  const hash = hashOf(c);
  const { caller, repo, file } = await enterFile(c);
  const span = spanOf(c, file.size);
  const found = await reconstructNearby(caller.platform, repo, file, span);
  const urlOf = urlsFor(caller, originOf(c), isOpen(repo));
  const body = await (version === 1 ? reconstructionV1(found, urlOf) : reconstructionV2(found, urlOf));
  // Clients page through a large file: one download is one event.
  if (c.req.method === "GET" && (span === null || span.offset === 0))
    noteDownload(caller, repo, { sha256: file.sha256, xetHash: hash });
  return c.json(body, 200, { "cache-control": "private, no-store" });
}

async function postXorb(c: Ctx): Promise<Response> {
  requirePrefix(c, XORB_PREFIXES);
  const hash = hashOf(c);
  const { caller, scopes } = await enter(c, "xet.write");
  const length = Number(c.req.header("content-length") ?? Number.NaN);
  const { inserted } = await receiveXorb(caller.platform, scopes, {
    hash,
    body: c.req.raw.body,
    contentLength: Number.isSafeInteger(length) && length >= 0 ? length : null,
  });
  return c.json({ was_inserted: inserted });
}

async function headXorb(c: Ctx): Promise<Response> {
  requirePrefix(c, XORB_PREFIXES);
  // A xorb is fetched by the ranges that a file names, never by its hash alone.
  if (c.req.method !== "HEAD") throw new HubError("not_found");
  const hash = hashOf(c);
  const { caller, scopes } = await enter(c, "xet.find");
  const xorb = await findXorb(caller.platform, scopes, hash);
  if (xorb === null) throw new HubError("entry_not_found", { path: hash });
  return new Response(null, { headers: { "content-length": String(xorb.packedSize) } });
}

async function headFile(c: Ctx): Promise<Response> {
  if (c.req.method !== "HEAD") throw new HubError("not_found");
  const { file } = await enterFile(c);
  return new Response(null, { headers: { "content-length": String(file.size) } });
}

async function dedup(c: Ctx): Promise<Response> {
  requirePrefix(c, CHUNK_PREFIXES);
  const hash = hashOf(c);
  const { caller, scopes } = await enter(c, "xet.find");
  const shard = await findDedup(caller.platform, scopes, hash);
  if (shard === null) throw new HubError("entry_not_found", { path: hash });
  return new Response(shard, {
    headers: { "content-type": "application/octet-stream", "cache-control": "private, no-store" },
  });
}

async function postShard(c: Ctx): Promise<Response> {
  const { caller, repo, scopes, claims } = await enter(c, "xet.write");
  const { existed } = await registerShard(caller.platform, scopes, repo.id, c.req.raw.body, () => {}, claims);
  return c.json({ result: existed ? 0 : 1 });
}

async function postShardV2(c: Ctx): Promise<Response> {
  const { caller, repo, scopes, claims } = await enter(c, "xet.write");
  const { platform } = caller;
  return answerShard(
    platform,
    (report) => registerShard(platform, scopes, repo.id, c.req.raw.body, report, claims),
    (failure) => asHubError(failure, platform.requestId),
  );
}

/** Read and dropped: clients only want to be rid of it. */
async function telemetry(c: Ctx): Promise<Response> {
  if (callerOf(c).actor.kind !== "xet") throw new HubError("xet_token_required");
  await readAll(c.req.raw.body, MAX_TELEMETRY_BYTES);
  return c.json({});
}

/** Addresses of bytes are signed themselves: mount it before anything that asks who is calling. */
export const xetObjects = new Hono<AppEnv>().get("/cas/objects/*", (c) => serveObject(callerOf(c).platform, c.req.raw));

/** hf_xet drops the path of the store's address when it sends telemetry: mount it at the root too. */
export const xetTelemetry = new Hono<AppEnv>().post("/v1/telemetry", telemetry);

export const xet = new Hono<AppEnv>()
  .get("/v1/reconstructions/:hash", (c) => reconstruction(c, 1))
  .get("/v2/reconstructions/:hash", (c) => reconstruction(c, 2))
  .post("/v1/xorbs/:prefix/:hash", postXorb)
  .get("/v1/xorbs/:prefix/:hash", headXorb)
  .get("/v1/files/:hash", headFile)
  .get("/v1/chunks/:prefix/:hash", dedup)
  .post("/v1/shards", postShard)
  .post("/v2/shards", postShardV2)
  .route("/", xetTelemetry)
  // Clients try newer routes first and take 404 for an older server.
  .all("/*", () => {
    throw new HubError("not_found");
  });
