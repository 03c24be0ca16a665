// Downloads: the file at a revision, with ranges, and the headers that clients cache by.
import { Hono } from "hono";
import { encodeLfsPointer } from "../../formats/git/lfs-pointer";
import { countsAsUse, noteDownload, noteUse } from "../../hub/downloads";
import { findFileNearby, type NearbyFile, readFileNearby } from "../../hub/nearby";
import { isFullCommitId, type RepoType } from "../../ids";
import { directUrl } from "../../store/delivery";
import { SMALL_BYTES } from "../../store/public-cache";
import { isOpen } from "../../store/scopes";
import type { AppEnv } from "../app-env";
import { isKnown, likelySpan, serveContent } from "../serve-content";
import { reconstructionUrl, tokenUrl, xetFileHeaders } from "../xet/connection";
import { API_TYPES, type Ctx, callerOf, originOf, repoIdOf, revisionAndFile, WEB_PREFIX } from "./request";

/** What the JavaScript client asks for, instead of the file, when it could take it by its parts. */
const XET_FILE_INFO = "application/vnd.xet-fileinfo+json";

async function resolve(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const { platform } = caller;
  const id = repoIdOf(c, type);
  const { revision, path } = revisionAndFile(c);
  const file = await findFileNearby(caller, id, revision, path, "download", likelySpan(c.req.raw));
  const { repo, commit } = file.snapshot;
  const etag = `"${file.lfs ? file.sha256 : file.id}"`;
  const name = path.slice(path.lastIndexOf("/") + 1);
  const ofFile: Record<string, string> = {
    "x-repo-commit": commit,
    "x-linked-etag": etag,
    "x-linked-size": String(file.size),
    "cache-control": `${isOpen(repo) ? "public" : "private"}, no-transform, ${isFullCommitId(revision) ? "max-age=31536000, immutable" : "no-cache"}`,
    vary: "authorization",
  };
  if (file.lfs && file.source.kind === "xet") {
    const { hash } = file.source;
    const origin = originOf(c);
    Object.assign(ofFile, xetFileHeaders(origin, { repo, commit, hash }), { vary: "accept, authorization" });
    if (c.req.header("accept")?.includes(XET_FILE_INFO) === true) {
      const refreshUrl = tokenUrl(origin, repo, "read", commit);
      const info = { hash, size: file.size, etag, refreshUrl, reconstructionUrl: reconstructionUrl(origin, hash) };
      return c.body(JSON.stringify(info), 200, { ...ofFile, "content-type": XET_FILE_INFO });
    }
  }
  const elsewhere = isKnown(c.req.raw, etag) ? null : await elsewhereUrl(c, file, disposition(name));
  if (elsewhere !== null) {
    noteDownload(caller, repo, { commit, path, sha256: file.sha256 }, countsAsUse(type, path));
    // The address is good for an hour, and only for who may read the file now.
    return c.body(null, 302, { ...ofFile, etag, location: elsewhere, "cache-control": "private, no-store" });
  }
  const response = await serveContent(c.req.raw, platform, file, {
    etag,
    read: (range) => readFileNearby(platform, file, range),
    headers: {
      ...ofFile,
      "content-type": "application/octet-stream",
      "content-disposition": disposition(name),
      "content-security-policy": "default-src 'none'; sandbox",
      "x-content-type-options": "nosniff",
    },
  });
  const counts = countsAsUse(type, path);
  if (c.req.method === "GET" && response.ok) noteDownload(caller, repo, { commit, path, sha256: file.sha256 }, counts);
  else if (counts && (response.ok || response.status === 304)) noteUse(caller, repo, "look");
  return response;
}

/**
 * Where else the whole file can be had: a single object on another host, if the hub has one. Small files are not worth the second
 * request; HEAD stays here, as clients read its headers from the last answer, and follow redirects to the same host.
 */
async function elsewhereUrl(c: Ctx, file: NearbyFile, filename: string): Promise<string | null> {
  const { source, size, snapshot } = file;
  const [only, ...more] = source.kind === "segments" ? source.segments : [];
  if (c.req.method !== "GET" || size <= SMALL_BYTES || only === undefined || more.length > 0) return null;
  const url = await directUrl(callerOf(c).platform, {
    key: only.key,
    bytes: { start: 0, end: size },
    public: isOpen(snapshot.repo),
    disposition: filename,
  });
  return url === null || new URL(url).hostname === new URL(c.req.url).hostname ? null : url;
}

/** RFC 6266, with the plain form for clients that know no other; the trailing semicolon is what one of them looks for. */
function disposition(name: string): string {
  const plain = name.replace(/[^\x20-\x7e]|["\\]/g, "_");
  return `inline; filename*=UTF-8''${encodeURIComponent(name)}; filename="${plain}";`;
}

/** The git blob as stored: an LFS file's pointer. */
async function raw(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const { platform } = caller;
  const id = repoIdOf(c, type);
  const { revision, path } = revisionAndFile(c);
  const file = await findFileNearby(caller, id, revision, path, "download", likelySpan(c.req.raw));
  const headers = {
    "x-repo-commit": file.snapshot.commit,
    "content-type": "text/plain; charset=utf-8",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
    vary: "authorization",
  };
  if (!file.lfs) {
    const { repo, commit } = file.snapshot;
    const response = await serveContent(c.req.raw, platform, file, {
      etag: `"${file.id}"`,
      headers,
      read: (range) => readFileNearby(platform, file, range),
    });
    if (c.req.method === "GET" && response.ok) noteDownload(caller, repo, { commit, path, sha256: file.sha256 });
    return response;
  }
  const pointer = encodeLfsPointer(file);
  return new Response(c.req.method === "HEAD" ? null : pointer, {
    headers: { ...headers, etag: `"${file.id}"`, "content-length": String(pointer.length) },
  });
}

export const downloads = new Hono<AppEnv>();
for (const type of Object.values(API_TYPES)) {
  const one = `/${WEB_PREFIX[type]}:owner/:name`;
  downloads.get(`${one}/resolve/*`, (c) => resolve(c, type));
  downloads.get(`${one}/raw/*`, (c) => raw(c, type));
}
