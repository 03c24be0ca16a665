// Reads a commit's NDJSON as a stream into changes: every line checked before anything is published.
import * as z from "zod";
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { withTracked } from "../../hub/attributes";
import { lfsEntry, storeFiles } from "../../hub/commits";
import { findEntries, readNewTextFile, readTextFile } from "../../hub/files";
import { type Linkable, linkable } from "../../hub/linking";
import { findFile, type Snapshot } from "../../hub/repositories";
import type { Change, NewFile } from "../../hub/tree-edit";
import { parseFilePath, parseRevision, parseSha256, type Sha256 } from "../../ids";
import { decodeBase64 } from "../../streams/base64";
import { readNdjson } from "../../streams/ndjson";
import { checked } from "./request";

/** A regular file travels as base64 in one line; what is larger belongs in LFS. Bytes. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_OPERATIONS = 25_000;
/** Regular files are stored as soon as this much has come, so that a commit of any size needs little memory. Bytes. */
const STORE_EVERY = 8 * 1024 * 1024;

const Header = z.object({
  summary: z.string().min(1, "must not be empty").max(1000),
  description: z.string().max(65_536).default(""),
  parentCommit: z
    .string()
    .regex(/^[0-9a-f]{5,40}$/, "must be 5 to 40 hex digits of a commit id")
    .nullish(),
});
const File = z.object({
  path: z.string(),
  content: z.string(),
  encoding: z.enum(["base64", "utf-8"]).default("base64"),
});
const LfsFile = z.object({
  path: z.string(),
  algo: z.literal("sha256").optional(),
  oid: z.string(),
  size: z.number().int().nonnegative().optional(),
});
const Deleted = z.object({ path: z.string() });
const CopyFile = z.object({ path: z.string(), srcPath: z.string(), srcRevision: z.string().nullish() });
const Line = z.object({ key: z.string(), value: z.unknown() });

const KEYS = "file, lfsFile, deletedFile, deletedFolder, copyFile";

export type CommitHeader = { readonly summary: string; readonly description: string; readonly parentCommit?: string };

/** One line of the commit, its bytes perhaps still to be stored or looked up. */
type Pending =
  | { readonly kind: "ready"; readonly change: Change }
  | { readonly kind: "bytes"; readonly path: string; readonly field: string; readonly bytes: Uint8Array }
  | {
      readonly kind: "lfs";
      readonly path: string;
      readonly field: string;
      readonly oid: Sha256;
      readonly size: number | undefined;
    };

/** @throws invalid_field naming line and field, invalid_path, content_missing, size_mismatch */
export async function readOperations(
  caller: Caller,
  snapshot: Snapshot,
  body: ReadableStream<Uint8Array> | null,
): Promise<{ header: CommitHeader; changes: Change[] }> {
  if (body === null)
    throw new HubError("invalid_request", {
      problem: "The body is empty: send NDJSON that starts with the header line",
    });
  let header: CommitHeader | undefined;
  const lines: Pending[] = [];
  let unstored = 0;
  for await (const { line, text } of readNdjson(body, { maxLineBytes: MAX_LINE_BYTES })) {
    const at = `line ${line}`;
    const { key, value } = checked(Line, parseLine(text, at), at);
    if (header === undefined) {
      header = readHeader(key, value, at);
      continue;
    }
    if (lines.length >= MAX_OPERATIONS)
      throw new HubError("payload_too_large", {
        problem: `A commit may have at most ${MAX_OPERATIONS} operations: split it`,
      });
    const pending = await readOperation(caller, snapshot, key, value, at);
    lines.push(pending);
    if (pending.kind === "bytes") unstored += pending.bytes.byteLength;
    if (unstored >= STORE_EVERY) {
      await storePending(caller, lines);
      unstored = 0;
    }
  }
  if (header === undefined)
    throw new HubError("invalid_request", {
      problem: "The body is empty: send NDJSON that starts with the header line",
    });
  await storePending(caller, lines);
  const changes = await resolveLfs(caller, snapshot, lines);
  return { header, changes: await trackLfs(caller, snapshot, changes) };
}

function parseLine(text: string, at: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError("invalid_field", { field: at, problem: "is not JSON" });
  }
}

function readHeader(key: string, value: unknown, at: string): CommitHeader {
  if (key !== "header")
    throw new HubError("invalid_field", { field: `${at}.key`, problem: 'the first line must be {"key":"header",…}' });
  const { summary, description, parentCommit } = checked(Header, value, `${at}.value`);
  return { summary, description, ...(typeof parentCommit === "string" ? { parentCommit } : {}) };
}

async function readOperation(
  caller: Caller,
  snapshot: Snapshot,
  key: string,
  value: unknown,
  at: string,
): Promise<Pending> {
  const in_ = `${at}.value`;
  const field = `${in_}.path`;
  switch (key) {
    case "file": {
      const { path, content, encoding } = checked(File, value, in_);
      parseFilePath(path, field);
      const bytes = encoding === "base64" ? decodeBase64(content, `${in_}.content`) : new TextEncoder().encode(content);
      return { kind: "bytes", path, field, bytes };
    }
    case "lfsFile": {
      const { path, oid, size } = checked(LfsFile, value, in_);
      parseFilePath(path, field);
      return { kind: "lfs", path, field, oid: parseSha256(oid, `${in_}.oid`), size };
    }
    case "deletedFile":
    case "deletedFolder": {
      const { path } = checked(Deleted, value, in_);
      const kind = key === "deletedFolder" ? "deleteFolder" : "deleteFile";
      return { kind: "ready", change: { kind, path: parseFilePath(path.replace(/\/$/, ""), field), field } };
    }
    case "copyFile": {
      const { path, srcPath, srcRevision } = checked(CopyFile, value, in_);
      const source = await findFile(
        caller,
        snapshot.repo,
        parseRevision(srcRevision ?? snapshot.commit),
        parseFilePath(srcPath, `${in_}.srcPath`),
        "download",
      );
      const { id, sha256, size, lfs, holding } = source;
      return {
        kind: "ready",
        change: {
          kind: "put",
          path: parseFilePath(path, field),
          field,
          file: { kind: "file", id, sha256, size, lfs, mode: null, holding },
        },
      };
    }
    default:
      throw new HubError("invalid_field", {
        field: `${at}.key`,
        problem: `${key.slice(0, 50)} is no operation: use ${KEYS}`,
      });
  }
}

/** Stores the regular files that are still in memory, in the order of their lines. */
async function storePending(caller: Caller, lines: Pending[]): Promise<void> {
  const waiting = lines.flatMap((line, i) => (line.kind === "bytes" ? [{ line, i }] : []));
  const stored = await storeFiles(
    caller.platform,
    waiting.map(({ line }) => line.bytes),
  );
  waiting.forEach(({ line, i }, j) => {
    const file = stored[j];
    if (file !== undefined) lines[i] = { kind: "ready", change: put(line.path, line.field, file) };
  });
}

const put = (path: string, field: string, file: NewFile): Change => ({
  kind: "put",
  path: parseFilePath(path, field),
  field,
  file,
});

/** LFS files name bytes that came before; one query tells which of them the caller may link. */
async function resolveLfs(caller: Caller, snapshot: Snapshot, lines: readonly Pending[]): Promise<Change[]> {
  const digests = lines.flatMap((line) => (line.kind === "lfs" ? [line.oid] : []));
  const known = digests.length === 0 ? new Map<Sha256, Linkable>() : await linkable(caller, snapshot.repo, digests);
  return lines.flatMap((line): Change[] => {
    if (line.kind === "ready") return [line.change];
    if (line.kind === "bytes") return [];
    const field = line.field.replace(/path$/, "oid");
    const found = known.get(line.oid);
    if (found === undefined) throw new HubError("content_missing", { field, sha256: line.oid });
    const { size, holding } = found;
    if (line.size !== undefined && line.size !== size)
      throw new HubError("invalid_field", {
        field: line.field.replace(/path$/, "size"),
        problem: `is ${line.size}, but the bytes are ${size}`,
      });
    return [put(line.path, line.field, lfsEntry(line.oid, size, holding))];
  });
}

/** LFS files that no pattern covers get a line in `.gitattributes`, so that git treats them as what they are. */
async function trackLfs(caller: Caller, snapshot: Snapshot, changes: Change[]): Promise<Change[]> {
  const lfsPaths = changes.flatMap((change) => (change.kind === "put" && change.file.lfs ? [change.path] : []));
  if (lfsPaths.length === 0) return changes;
  const { platform } = caller;
  const at = changes.findIndex((change) => change.path === ".gitattributes");
  const sent = changes[at];
  if (sent !== undefined && sent.kind !== "put") return changes;
  const current =
    sent === undefined
      ? readTextFile(platform, snapshot.repo, (await findEntries(platform.db, snapshot, [".gitattributes"]))[0])
      : readNewTextFile(platform, sent.path, sent.file);
  const text = withTracked(await current, lfsPaths);
  if (text === null) return changes;
  const [file] = await storeFiles(caller.platform, [new TextEncoder().encode(text)]);
  if (file === undefined) return changes;
  const added = put(".gitattributes", "path", file);
  return sent === undefined ? [...changes, added] : changes.with(at, added);
}
