// Publishes a checked push: whole commits in batches of bounded size, parents first; the last batch moves the refs.
import { sql } from "drizzle-orm";
import { asJson, commitBatch, type Guard, inTexts, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { encodeCommit, type GitCommit } from "../../formats/git/commit";
import { decodeTree } from "../../formats/git/tree";
import { decodeUtf8 } from "../../formats/text";
import type { GitId } from "../../ids";
import { filesStored, linkContents, treeStatements } from "../commits";
import { type Repository, repoExists } from "../repositories";
import type { FileMode, TreeRow } from "../tree-edit";
import { type NewHistory, refuse, tooMuch } from "./history";
import type { KnownFile } from "./known-objects";
import type { PushedFile } from "./new-files";

/** A batch ends with the commit that reaches this many rows of trees. */
const ROWS_PER_BATCH = 20_000;
/** Of all trees of a push: what a database takes in one request. */
const MAX_ROWS = 400_000;
/** D1 binds strings of at most 2 MB. */
const MAX_JSON_LENGTH = 1_000_000;

export type CheckedPush = {
  readonly repo: Repository;
  readonly history: NewHistory;
  readonly newFiles: ReadonlyMap<GitId, PushedFile>;
  /** Files that the repository has already. */
  readonly knownFiles: ReadonlyMap<GitId, KnownFile>;
  /** Annotated tags of the push that refs will point to, or that those name. */
  readonly tags: readonly GitId[];
};

/** What the push needs of the repository as it is, and what the rows of each batch are. */
export type PushBatches = {
  readonly guards: readonly Guard[];
  readonly batches: Iterable<Statement[]>;
};

export function pushBatches(push: CheckedPush, now: number): PushBatches {
  const { repo, history, knownFiles } = push;
  const used = [...new Set([...knownFiles.values()].map(({ sha256 }) => sha256))];
  // Files can be taken out of a history: what the push builds on must still be there.
  const removed = () => refuse("what this push builds on was removed meanwhile: fetch first");
  return {
    guards: [
      repoExists(repo),
      ...inTexts([...push.newFiles.values()]).map(filesStored),
      ...inTexts(used).map((part) => ({
        holds: sql`not exists (select 1 from json_each(${asJson(part)}) j
          where not exists (select 1 from repo_contents h where h.repo_id = ${repo.id} and h.sha256 = j.value))`,
        otherwise: removed,
      })),
      ...inTexts([...history.outsideCommits]).map((part) => ({
        holds: sql`not exists (select 1 from json_each(${asJson(part)}) j
          where not exists (select 1 from commits c where c.repo_id = ${repo.id} and c.id = j.value))`,
        otherwise: removed,
      })),
    ],
    batches: batchesOf(push, now),
  };
}

function* batchesOf(push: CheckedPush, now: number): Generator<Statement[]> {
  const { repo, history } = push;
  const written = new Set<GitId>();
  let statements: Statement[] = linkContents(repo.id, [...push.newFiles.values()], now);
  let rows: TreeRow[] = [];
  let commits: GitId[] = [];
  let total = 0;
  for (const id of history.order) {
    for (const tree of history.treesOf(id, written)) for (const row of rowsOf(push, tree)) rows.push(row);
    commits.push(id);
    if (rows.length < ROWS_PER_BATCH) continue;
    total += rows.length;
    if (total > MAX_ROWS) throw tooMuch();
    yield [
      ...statements,
      ...treeStatements(repo.id, rows),
      ...commitStatements(repo.id, found(history.commits, commits)),
    ];
    statements = [];
    rows = [];
    commits = [];
  }
  yield [
    ...statements,
    ...treeStatements(repo.id, rows),
    ...commitStatements(repo.id, found(history.commits, commits)),
    ...tagStatements(
      repo.id,
      found(history.tags, push.tags).map(([id, tag]) => ({ ...tag, id })),
    ),
  ];
}

function rowsOf({ history, newFiles, knownFiles }: CheckedPush, tree: GitId): TreeRow[] {
  return decodeTree(history.trees.get(tree) ?? new Uint8Array()).map(({ mode, name, id }): TreeRow => {
    if (mode === "40000") return { tree, name, node: { kind: "directory", id } };
    const file = newFiles.get(id) ?? knownFiles.get(id);
    if (file === undefined) throw new HubError("internal");
    const { sha256, size, lfs } = file;
    const kept: FileMode = mode === "100644" ? null : mode;
    return { tree, name, node: { kind: "file", id, sha256, size, lfs, mode: kept } };
  });
}

/** The columns of a commit; its whole text only where they do not make it. */
function commitRow(id: GitId, commit: GitCommit): unknown[] {
  const { author, committer, headers } = commit;
  const isPlain =
    headers.length === 0 &&
    author.timezone === "+0000" &&
    author.name === committer.name &&
    author.email === committer.email &&
    author.seconds === committer.seconds &&
    author.timezone === committer.timezone;
  return [
    id,
    commit.tree,
    JSON.stringify(commit.parents),
    author.name,
    author.email,
    author.seconds,
    commit.message,
    author.seconds === committer.seconds ? null : committer.seconds,
    isPlain ? null : decodeUtf8(encodeCommit(commit), "git.commit", "is not UTF-8"),
  ];
}

const found = <T>(all: ReadonlyMap<GitId, T>, ids: readonly GitId[]): [GitId, T][] =>
  ids.flatMap((id): [GitId, T][] => {
    const one = all.get(id);
    return one === undefined ? [] : [[id, one]];
  });

export function commitStatements(
  repoId: string,
  commits: readonly (readonly [id: GitId, commit: GitCommit])[],
): Statement[] {
  const rows = commits.map(([id, commit]) => JSON.stringify(commitRow(id, commit)));
  return jsonArrays(rows).map(
    (json) => sql`insert or ignore into commits
        (repo_id, id, tree, parents, author_name, author_email, authored_at, message, committed_at, content)
      select ${repoId}, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8
        from json_each(${json}) order by key`,
  );
}

export function tagStatements(
  repoId: string,
  tags: readonly { readonly id: GitId; readonly target: GitId; readonly content: string }[],
): Statement[] {
  const rows = tags.map(({ id, target, content }) => JSON.stringify([id, target, content]));
  return jsonArrays(rows).map(
    (json) => sql`insert or ignore into tag_objects (repo_id, id, target, content)
      select ${repoId}, value ->> 0, value ->> 1, value ->> 2 from json_each(${json})`,
  );
}

/** Rows as JSON arrays that can be bound; no row is longer than a message can be. */
function jsonArrays(rows: readonly string[]): string[] {
  const arrays: string[][] = [];
  let length = 0;
  for (const row of rows) {
    const last = arrays.at(-1);
    if (last === undefined || length + row.length > MAX_JSON_LENGTH) {
      arrays.push([row]);
      length = 0;
    } else last.push(row);
    length += row.length;
  }
  return arrays.map((array) => `[${array.join(",")}]`);
}

/** Runs all batches; the last one with what moves the refs. @throws the error of a guard that does not hold */
export async function runBatches(
  db: Parameters<typeof commitBatch>[0],
  { guards, batches }: PushBatches,
  last: { readonly guards: readonly Guard[]; readonly statements: readonly Statement[] },
): Promise<void> {
  let ready: Statement[] | undefined;
  for (const batch of batches) {
    // Commit point of a part: whole commits that no ref leads to yet, like those of a deleted branch.
    if (ready !== undefined) await commitBatch(db, guards, ready);
    ready = batch;
  }
  // Commit point of the push. Before it there are contents that no tree names, and perhaps commits that no ref leads to.
  await commitBatch(db, [...guards, ...last.guards], [...(ready ?? []), ...last.statements]);
}
