// Reads what facts are made of: the names of all files, and a bounded part of the few that tell something.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import { HubError } from "../../errors";
import type { RepoType, Sha256 } from "../../ids";
import type { Platform } from "../../platform/platform";
import { HeldColumn, type HeldContent, heldContent, readContent, sha256Of } from "../../store/contents";
import { readAll } from "../../streams/chunks";
import { type FileEntry, listFiles, type TreeOf } from "../files";

/** Bytes of a file, read through the one query that found them all. */
export type HeadReader = (offset: number, length: number) => Promise<Uint8Array>;

export type Gathered = {
  readonly type: RepoType;
  readonly files: readonly FileEntry[];
  /** Texts by path, as far as they are there and not too large. */
  readonly texts: ReadonlyMap<string, string>;
  /** Says which files `readerOf` reads. */
  readonly weightsKey: string;
  readonly readerOf: (path: string) => { readonly size: number; readonly read: HeadReader } | null;
};

/** Facts of more files than this are those of the first ones. */
const MAX_FILES = 20_000;
/** Larger texts tell nothing: no card or config of a real model is. Bytes. */
const MAX_TEXT_BYTES = 4 << 20;
const MAX_EVAL_BYTES = 64 << 10;
const MAX_SHARDS = 256;
const MAX_EVAL_FILES = 50;

const CARD = "README.md";
const TEXTS = new Set([
  CARD,
  "config.json",
  "adapter_config.json",
  "model_index.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "chat_template.json",
]);
const isEvalFile = (path: string): boolean => /^\.eval_results\/[^/]+\.ya?ml$/.test(path);
export const isGguf = (path: string): boolean => /\.gguf$/i.test(path) && !/(^|\/)mmproj[^/]*$/i.test(path);
const isWeights = (path: string): boolean => /^[^/]+\.safetensors$/.test(path);

const ContentRow = z.object({ sha256: z.string(), content: z.string().nullable() });

/** Weights whose key is `knownKey` are not looked up: what they tell is known. */
export async function gather(platform: Platform, snapshot: TreeOf, knownKey: string | null): Promise<Gathered> {
  const { repo } = snapshot;
  const files = await listFiles(platform.db, snapshot, MAX_FILES);
  const weights = files.filter(({ path }) => isWeights(path)).slice(0, MAX_SHARDS);
  const ggufs = files.filter(({ path }) => isGguf(path)).slice(0, MAX_SHARDS);
  const texts = files.filter(({ path, size }) => TEXTS.has(path) && size <= MAX_TEXT_BYTES);
  const evals = files.filter(({ path, size }) => isEvalFile(path) && size <= MAX_EVAL_BYTES).slice(0, MAX_EVAL_FILES);
  const headers = [...weights, ...ggufs];
  const weightsKey = sha256Of(JSON.stringify(headers.map(({ path, sha256 }) => [path, sha256])));
  const wanted =
    repo.type === "dataset"
      ? texts.filter(({ path }) => path === CARD)
      : [...texts, ...evals, ...(weightsKey === knownKey ? [] : headers)];
  const held = await contentsOf(platform, repo.id, wanted);
  const read = new Map(
    await Promise.all(
      wanted
        .filter(({ path }) => TEXTS.has(path) || isEvalFile(path))
        .map(async ({ path, sha256 }) => {
          const content = held.get(sha256);
          return [path, content === undefined ? "" : await textOf(platform, content)] as const;
        }),
    ),
  );
  const byPath = new Map(wanted.map((file) => [file.path, file]));
  return {
    type: repo.type,
    files,
    texts: read,
    weightsKey,
    readerOf: (path) => {
      const file = byPath.get(path);
      const content = file && held.get(file.sha256);
      if (content === undefined) return null;
      return {
        size: content.size,
        read: async (offset, length) => readAll(await readContent(platform, content, { offset, length }), length),
      };
    },
  };
}

/** The bytes behind each digest, where the repository holds them and they are what they claim to be. One query. */
async function contentsOf(
  platform: Platform,
  repoId: string,
  files: readonly FileEntry[],
): Promise<Map<Sha256, HeldContent>> {
  const rows = await queryRows(
    platform.db,
    ContentRow,
    sql`select value as sha256, ${heldContent(sql`${repoId}`, sql`value`, { offset: 0, length: FIRST_BYTES })} as content
      from json_each(${asJson(files.map(({ sha256 }) => sha256))})`,
  );
  const content = new Map(rows.map((row) => [row.sha256, row.content]));
  return new Map(
    files.flatMap(({ sha256 }) => {
      const held = content.get(sha256);
      const read = held == null ? null : ifThere(() => HeldColumn.parse(held));
      return read === null || read.holding.state === "mismatched" ? [] : [[sha256, read] as const];
    }),
  );
}

/** So much of a file needs no further query: most headers and texts are shorter. */
const FIRST_BYTES = 1 << 20;

async function textOf(platform: Platform, content: HeldContent): Promise<string> {
  try {
    return new TextDecoder().decode(await readAll(await readContent(platform, content), MAX_TEXT_BYTES));
  } catch (error) {
    if (isDamaged(error)) return "";
    throw error;
  }
}

/** Bytes that are lost tell nothing; the facts of the other files stand. */
export const isDamaged = (error: unknown): boolean => error instanceof HubError && error.code === "content_damaged";

function ifThere<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (isDamaged(error)) return null;
    throw error;
  }
}
