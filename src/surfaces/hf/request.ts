// Reads what Hugging Face clients send, in every dialect they send it in.
import type { Context } from "hono";
import type * as z from "zod";
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import {
  type FilePath,
  parseFilePath,
  parseRepoId,
  parseRevision,
  type RepoId,
  type RepoType,
  type Revision,
} from "../../ids";
import { readAll } from "../../streams/chunks";
import type { AppEnv } from "../app-env";
import { fieldError } from "../field-error";

export type Ctx = Context<AppEnv>;

export const callerOf = (c: Ctx): Caller => c.var.caller;
export const originOf = (c: Ctx): string => new URL(c.req.url).origin;

export const API_TYPES = { models: "model", datasets: "dataset" } as const satisfies Record<string, RepoType>;
/** What stands before `owner/name` in web, resolve and git addresses. */
export const WEB_PREFIX: Record<RepoType, string> = { model: "", dataset: "datasets/" };

/** The repository that the route's `:owner/:name` name. */
export function repoIdOf(c: Ctx, type: RepoType): RepoId {
  return parseRepoId(type, `${c.req.param("owner") ?? ""}/${c.req.param("name") ?? ""}`);
}

/** The parts of the address after `…/owner/name/verb/`, as sent: a part may hold an encoded slash. */
function partsAfterVerb(c: Ctx): string[] {
  const parts = new URL(c.req.url).pathname.split("/").slice(1);
  const owner = parts[0] === "api" ? 2 : parts[0] === "datasets" ? 1 : 0;
  return parts.slice(owner + 3);
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new HubError("invalid_request", { problem: "The address holds a percent sign that encodes nothing" });
  }
}

/** What stands after a route's verb as one text: the name of a branch, say. */
export const textAfterVerb = (c: Ctx): string => partsAfterVerb(c).map(decodePart).join("/");

/**
 * Revision and path after a route's verb. The raw address is split first and decoded after: Python sends `refs%2Fpr%2F1`,
 * JavaScript `refs/pr/1`, and both mean one revision.
 */
export function revisionAndPath(c: Ctx): { revision: Revision; path: string } {
  const parts = partsAfterVerb(c);
  const length = parts[0] === "refs" && /^(heads|tags|pr|convert)$/.test(parts[1] ?? "") ? 3 : 1;
  const revision = parts.slice(0, length).map(decodePart).join("/");
  const path = parts.slice(length).map(decodePart).join("/");
  return { revision: parseRevision(revision), path: path.replace(/\/$/, "") };
}

/** The same, for routes that need a file. */
export function revisionAndFile(c: Ctx): { revision: Revision; path: FilePath } {
  const { revision, path } = revisionAndPath(c);
  return { revision, path: parseFilePath(path, "path") };
}

/** Present does not mean true: Python sends `recursive=false`. */
export const flag = (c: Ctx, name: string): boolean => ["true", "1", "True"].includes(c.req.query(name) ?? "");

/** A list sent as `k=a&k=b`, `k[]=a` or `k=a,b`. */
export function list(c: Ctx, name: string): string[] {
  return [...(c.req.queries(name) ?? []), ...(c.req.queries(`${name}[]`) ?? [])]
    .flatMap((one) => one.split(","))
    .filter((one) => one !== "");
}

export function limitOf(c: Ctx, most: number, unasked = most): number {
  const text = c.req.query("limit");
  if (text === undefined) return unasked;
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1)
    throw new HubError("invalid_field", { field: "limit", problem: "must be a whole number from 1" });
  return Math.min(limit, most);
}

/** Bodies that are read whole are small; larger ones are streamed. Bytes. */
const MAX_JSON_BYTES = 8 * 1024 * 1024;

export async function jsonBody<T>(c: Ctx, schema: z.ZodType<T>): Promise<T> {
  return checked(schema, await readJson(c));
}

/** With `whenEmpty`, clients may send no body at all. */
export async function readJson(c: Ctx, whenEmpty?: object): Promise<unknown> {
  const bytes = await readAll(c.req.raw.body, MAX_JSON_BYTES);
  if (bytes.byteLength === 0 && whenEmpty !== undefined) return whenEmpty;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new HubError("invalid_request", { problem: "The body is not JSON" });
  }
}

/** What a form holds; files in it count as nothing. @throws invalid_request */
export async function formBody(c: Ctx): Promise<[string, string][]> {
  const bytes = await readAll(c.req.raw.body, MAX_JSON_BYTES);
  const headers = { "content-type": c.req.header("content-type") ?? "" };
  try {
    const form = await new Response(bytes, { headers }).formData();
    return [...form].flatMap(([name, value]): [string, string][] => (typeof value === "string" ? [[name, value]] : []));
  } catch {
    throw new HubError("invalid_request", { problem: "The body is not the form that its Content-Type says" });
  }
}

/** @throws invalid_field naming the first field that is wrong, below `at` */
export function checked<T>(schema: z.ZodType<T>, value: unknown, at = ""): T {
  const result = schema.safeParse(value);
  if (!result.success) throw fieldError(result.error, at);
  return result.data;
}

/** Sets `Link: rel="next"`, absolute and with all filters, as both clients need it. */
export function linkNext(c: Ctx, params: Record<string, string>): void {
  const next = new URL(c.req.url);
  for (const [name, value] of Object.entries(params)) next.searchParams.set(name, value);
  c.header("Link", `<${next.href}>; rel="next"`);
}

/** Of rows that were asked for with one more than `limit`: those to show. Where there are more, the next page begins behind the last of them. */
export function paged<T>(c: Ctx, found: readonly T[], limit: number, cursorOf: (last: T) => unknown): readonly T[] {
  const last = found[limit - 1];
  if (found.length > limit && last !== undefined) linkNext(c, { cursor: encodeCursor(cursorOf(last)) });
  return found.slice(0, limit);
}

/** Opaque to clients; a forged one is a 400. */
export const encodeCursor = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
export function decodeCursor<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
  } catch {
    throw new HubError("invalid_request", { problem: "cursor: was not given by this hub, start without one" });
  }
}
