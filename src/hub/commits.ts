// Commits: real git objects, made from changes, published by one guarded batch that moves a ref.
import { eq, sql } from "drizzle-orm";
import * as z from "zod";
import type { Caller } from "../access/caller";
import { asJson, commitBatch, type Guard, inTexts, queryRows, type Statement } from "../db/client";
import { commits, refs, repos } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { commitId, type GitCommit, gitPerson } from "../formats/git/commit";
import { encodeLfsPointer } from "../formats/git/lfs-pointer";
import { blobId } from "../formats/git/objects";
import { type FilePath, type GitId, parseFilePath, parseGitId, parseSha256, type RefName, type Sha256 } from "../ids";
import type { Db, Platform } from "../platform/platform";
import { type Holding, STORED, storeBytes } from "../store/contents";
import { ingestTask, wakeUpkeep } from "../store/tasks";
import { DEFAULT_ATTRIBUTES } from "./attributes";
import { refuseBrokenCard } from "./card-check";
import { pushToPull } from "./discussions/events";
import { refreshIndex } from "./facts/store";
import { authorizePush } from "./push-rights";
import { MAIN, type Repository, repoExists, targetOf } from "./repositories";
import {
  type Change,
  editTree,
  type LoadedEntry,
  ModeColumn,
  type NewFile,
  type TreeRow,
  touchedDirectories,
} from "./tree-edit";

export type Author = { readonly name: string; readonly email: string };

export type CommitRequest = {
  readonly ref: RefName;
  readonly changes: readonly Change[];
  readonly summary: string;
  readonly description?: string;
  /** Head that the caller has seen, 5 to 40 digits of it. */
  readonly parent?: string;
  /** Where a branch that does not exist yet starts from. Without it only `main` may be made by a commit. */
  readonly startFrom?: RefName;
};

/** A commit ready to be published: nothing is visible until its statements run under its guards. */
export type PreparedCommit = {
  readonly id: GitId;
  readonly parent: GitId | null;
  readonly guards: readonly Guard[];
  readonly statements: readonly Statement[];
  /** False when the branch exists and the tree is its head's own: there is nothing to publish. */
  readonly changesTree: boolean;
};

/** Two writers may both be late; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;
/** D1 binds strings of at most 2 MB. */
const ROWS_PER_STATEMENT = 2000;

const hexId = z.string().transform((text) => parseGitId(text, "id"));

/**
 * Publishes a commit. With `parent`, a moved branch is refused (412); without, the changes are applied to whatever the head is then,
 * so that racing writers follow each other instead of failing.
 */
export async function commit(caller: Caller, repo: Repository, request: CommitRequest): Promise<GitId> {
  await authorizePush(caller, repo, request.ref);
  await refuseBrokenCard(caller.platform, repo.type, request.changes);
  const author = authorOf(caller);
  for (let round = 1; ; round++) {
    const prepared = await prepareCommit(caller, repo, request, author);
    if (!prepared.changesTree && prepared.parent !== null) return prepared.parent;
    try {
      // Commit point: the batch that moves the ref. Before it there are blobs and content rows that no tree names.
      await commitBatch(caller.platform.db, prepared.guards, prepared.statements);
      const bringsLfs = request.changes.some((change) => change.kind === "put" && change.file.lfs);
      await afterPush(caller.platform, repo, { refs: [request.ref], bringsLfs });
      return prepared.id;
    } catch (error) {
      const moved = error instanceof HubError && error.code === "ref_moved";
      if (!moved || request.parent !== undefined || round === MAX_ROUNDS) throw error;
    }
  }
}

/** What follows every batch that moved refs to new commits, whatever brought them. The clock repeats what a crash here leaves undone. */
export async function afterPush(
  platform: Platform,
  repo: Repository,
  { refs: moved, bringsLfs }: { readonly refs: readonly RefName[]; readonly bringsLfs: boolean },
): Promise<void> {
  if (bringsLfs) wakeUpkeep(platform);
  if (moved.includes(MAIN)) await refreshIndex(platform, repo);
}

/** Who signs a commit of the caller. */
export function authorOf(caller: Caller): Author {
  const name = caller.actor.kind === "user" ? caller.actor.name : "hub";
  return { name, email: `${name}@users.noreply.localhost` };
}

export async function prepareCommit(
  caller: Caller,
  repo: Repository,
  request: CommitRequest,
  author: Author,
): Promise<PreparedCommit> {
  const { platform } = caller;
  const { db } = platform;
  const head = await loadHead(db, repo.id, request);
  const { root, rows } = editTree(head.entries, request.changes);
  const now = platform.now();
  const message = request.description ? `${request.summary}\n\n${request.description}\n` : `${request.summary}\n`;
  const made = gitCommit({ tree: root, parents: head.commit === null ? [] : [head.commit], author, message, now });
  const id = commitId(made);
  const files = request.changes.flatMap((change) => (change.kind === "put" ? [change.file] : []));
  const push = pushToPull(caller, repo, request.ref, [{ oid: id, subject: request.summary }]);
  return {
    id,
    parent: head.commit,
    changesTree: root !== head.tree || head.target === null,
    guards: [
      repoExists(repo),
      refPointsTo(repo, request.ref, head.target),
      filesStored(files),
      ...(head.commit === null ? [] : [commitExists(repo, head.commit)]),
      ...push.guards,
    ],
    statements: [
      ...treeStatements(repo.id, rows),
      ...linkContents(repo.id, files, now),
      ...commitRows(db, repo, made, request.ref, now),
      refMovedEvent(caller, repo, { ref: request.ref, oldSha: head.target, newSha: id }),
      ...push.statements,
    ],
  };
}

/** For a batch that builds on a commit: files can be taken out of a history, which then has other commits. */
export const commitExists = (repo: Pick<Repository, "id">, id: GitId): Guard => ({
  holds: sql`exists (select 1 from commits where repo_id = ${repo.id} and id = ${id})`,
  otherwise: () => new HubError("revision_not_found", { revision: id }),
});

/** What a commit needs to know of a file's bytes. */
export type LinkedFile = Pick<NewFile, "sha256" | "lfs" | "holding">;

/** Beside `linkContents`: the bytes are still there. */
export const filesStored = (files: readonly LinkedFile[]): Guard => ({
  holds: sql`not exists (select 1 from json_each(${asJson(files.map(({ sha256, holding }) => [sha256, holding.fileId]))}) j
    where not case when j.value ->> 1 is null then exists (select 1 from contents where sha256 = j.value ->> 0)
      else exists (select 1 from xet_files where id = j.value ->> 1 and state = 'registered') end)`,
  otherwise: () => new HubError("content_damaged"),
});

/** For the batch that moves a ref, or relies on where it points; null is no ref. */
export const refPointsTo = (
  repo: Pick<Repository, "id">,
  name: RefName,
  target: GitId | null,
  otherwise: Guard["otherwise"] = () => new HubError("ref_moved"),
): Guard => ({
  holds: sql`(select target from refs where repo_id = ${repo.id} and name = ${name}) is ${target}`,
  otherwise,
});

/** In the batch that moves a ref; null is no commit. */
export const refMovedEvent = (
  { platform, actor }: Caller,
  repo: Repository,
  data: { readonly ref: RefName; readonly oldSha: GitId | null; readonly newSha: GitId | null },
): Statement =>
  eventStatement(
    platform.db,
    allowedEvent(platform, actor, { type: "ref.moved", ...targetOf(repo), action: "repo.write", data }),
  );

/** A commit of a tree that was merged: its rows, and the branch moved to it from its first parent. */
export function mergedCommit(
  caller: Caller,
  repo: Repository,
  ref: RefName,
  given: {
    readonly tree: GitId;
    readonly rows: readonly TreeRow[];
    readonly parents: readonly [GitId, GitId];
    readonly message: string;
  },
): { id: GitId; statements: Statement[] } {
  const { db } = caller.platform;
  const now = caller.platform.now();
  const made = gitCommit({ ...given, author: authorOf(caller), now });
  const id = commitId(made);
  return {
    id,
    statements: [
      ...treeStatements(repo.id, given.rows),
      ...commitRows(db, repo, made, ref, now),
      refMovedEvent(caller, repo, { ref, oldSha: given.parents[0], newSha: id }),
    ],
  };
}

const HeadRow = z.object({
  commit_id: hexId.nullable(),
  tree: hexId.nullable(),
  ref: z.string(),
  directory: z.string().nullable(),
  name: z.string().nullable(),
  kind: z.enum(["file", "directory"]).nullable(),
  id: hexId.nullable(),
  sha256: z
    .string()
    .transform((text) => parseSha256(text, "sha256"))
    .nullable(),
  size: z.number().nullable(),
  lfs: z.number().nullable(),
  mode: ModeColumn,
});

/** The head of a branch and the entries of every directory on the changed paths: one query whatever their depth. */
async function loadHead(db: Db, repoId: string, request: CommitRequest) {
  const touched = touchedDirectories(request.changes);
  const rows = await queryRows(
    db,
    HeadRow,
    sql`with recursive head as (
        select r.target as commit_id, c.tree, r.name as ref from refs r join commits c on c.repo_id = r.repo_id and c.id = r.target
          where r.repo_id = ${repoId} and r.name in (${request.ref}, ${request.startFrom ?? request.ref})
          order by r.name = ${request.ref} desc limit 1),
      walk (path, tree) as (
        select '', tree from head
        union all
        select case w.path when '' then e.name else w.path || '/' || e.name end, e.id
          from walk w join tree_entries e on e.repo_id = ${repoId} and e.tree = w.tree and e.kind = 'directory'
          where case w.path when '' then e.name else w.path || '/' || e.name end in (select value from json_each(${asJson(touched)})))
      select h.commit_id, h.tree, h.ref, w.path as directory, e.name, e.kind, e.id, e.sha256, e.size, e.lfs, e.mode
        from head h join walk w left join tree_entries e on e.repo_id = ${repoId} and e.tree = w.tree`,
  );
  const [first] = rows;
  const commit = first?.commit_id ?? null;
  if (commit === null && request.ref !== MAIN && request.startFrom === undefined)
    throw new HubError("revision_not_found", { revision: request.ref });
  if (request.parent !== undefined && !(commit ?? "").startsWith(request.parent)) throw new HubError("ref_moved");
  const entries: LoadedEntry[] = [];
  for (const row of rows) {
    if (row.directory === null || row.name === null || row.kind === null || row.id === null) continue;
    if (row.kind === "directory")
      entries.push({ directory: row.directory, name: row.name, node: { kind: "directory", id: row.id } });
    else if (row.sha256 !== null && row.size !== null)
      entries.push({
        directory: row.directory,
        name: row.name,
        node: {
          kind: "file",
          id: row.id,
          sha256: row.sha256,
          size: row.size,
          lfs: row.lfs === 1,
          mode: row.mode,
        },
      });
  }
  // `target` is what the ref itself points to: nothing yet where the branch starts from another.
  return { commit, target: first?.ref === request.ref ? commit : null, tree: first?.tree ?? null, entries };
}

export function treeStatements(repoId: string, rows: readonly TreeRow[]): Statement[] {
  return chunks(rows).map(
    (chunk) => sql`insert or ignore into tree_entries (repo_id, tree, name, kind, id, sha256, size, lfs, mode)
      select ${repoId}, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7 from json_each(${asJson(
        chunk.map(({ tree, name, node }) =>
          node.kind === "file"
            ? [tree, name, "file", node.id, node.sha256, node.size, node.lfs ? 1 : 0, node.mode]
            : [tree, name, "directory", node.id, null, 0, 0, null],
        ),
      )})`,
  );
}

/** Makes the repository a holder of the bytes: from here on its readers may use them. Large files are queued for ingestion. */
export function linkContents(repoId: string, files: readonly LinkedFile[], now: number): Statement[] {
  const segmented = files.filter((file) => file.lfs && file.holding.fileId === null).map((file) => file.sha256);
  return [
    ...chunks(files).flatMap((chunk) => {
      const rows = asJson(chunk.map(({ sha256, holding }) => [sha256, holding.fileId, holding.state]));
      return [
        sql`insert into repo_contents (repo_id, sha256, file_id, state, created_at)
          select ${repoId}, value ->> 0, value ->> 1, value ->> 2, ${now} from json_each(${rows}) where true
          on conflict do update set idle_since = null,
            file_id = iif(state = 'mismatched' and excluded.state = 'verified', excluded.file_id, file_id),
              state = iif(state = 'mismatched' and excluded.state = 'verified', 'verified', state)
            where idle_since is not null or state = 'mismatched'`,
        sql`update contents set idle_since = null
          where idle_since is not null and sha256 in (select value ->> 0 from json_each(${rows}) where value ->> 1 is null)`,
        sql`update xet_files set idle_since = null
          where idle_since is not null and id in (select value ->> 1 from json_each(${rows}))`,
      ];
    }),
    ...inTexts(segmented).map((part) => ingestTask(repoId, part, now)),
  ];
}

type NewCommit = {
  readonly tree: GitId;
  readonly parents: readonly GitId[];
  readonly author: Author;
  readonly message: string;
  readonly now: number;
};

export function gitCommit({ tree, parents, author, message, now }: NewCommit): GitCommit {
  const person = gitPerson(author.name, author.email, Math.floor(now / 1000));
  return { tree, parents, author: person, committer: person, headers: [], message };
}

export function commitRows(
  db: Db,
  repo: Pick<Repository, "id">,
  made: GitCommit,
  ref: RefName,
  now: number,
): Statement[] {
  const id = commitId(made);
  return [
    db
      .insert(commits)
      .values({
        repoId: repo.id,
        id,
        tree: made.tree,
        parents: [...made.parents],
        authorName: made.author.name,
        authorEmail: made.author.email,
        authoredAt: made.author.seconds,
        message: made.message,
      })
      .onConflictDoNothing(),
    db
      .insert(refs)
      .values({ repoId: repo.id, name: ref, target: id, updatedAt: now })
      .onConflictDoUpdate({ target: [refs.repoId, refs.name], set: { target: id, tagObject: null, updatedAt: now } }),
    db.update(repos).set({ updatedAt: now }).where(eq(repos.id, repo.id)),
  ];
}

function chunks<T>(rows: readonly T[]): T[][] {
  const result: T[][] = [];
  for (let i = 0; i < rows.length; i += ROWS_PER_STATEMENT) result.push(rows.slice(i, i + ROWS_PER_STATEMENT));
  return result;
}

export type FirstFile = { readonly path: FilePath; readonly bytes: Uint8Array; readonly field: string };

/** `.gitattributes`, and a model card where a licence was chosen, unless the repository's maker sends their own. */
function firstFiles(own: readonly FirstFile[], license: string | undefined): FirstFile[] {
  const texts: [string, string][] = [[".gitattributes", DEFAULT_ATTRIBUTES]];
  if (license !== undefined) texts.push(["README.md", `---\nlicense: ${JSON.stringify(license)}\n---\n`]);
  const made = texts.map(([path, text]) => ({
    path: parseFilePath(path, "path"),
    bytes: new TextEncoder().encode(text),
    field: "path",
  }));
  const sent = new Set<string>(own.map((file) => file.path));
  return [...made.filter((file) => !sent.has(file.path)), ...own];
}

/** A commit without a parent, and the rows that publish it on a branch that is new. */
export async function initialCommit(
  caller: Caller,
  repo: Repository,
  ref: RefName,
  given: { readonly license?: string; readonly files?: readonly FirstFile[] } = {},
): Promise<{ id: GitId; statements: Statement[] }> {
  const { platform } = caller;
  const first = firstFiles(given.files ?? [], given.license);
  const files = await storeFiles(
    platform,
    first.map((file) => file.bytes),
  );
  const changes = first.map(({ path, field }, i): Change => {
    const file = files[i];
    if (file === undefined) throw new HubError("internal");
    return { kind: "put", path, file, field };
  });
  await refuseBrokenCard(platform, repo.type, changes);
  const { root, rows } = editTree([], changes);
  const now = platform.now();
  const made = gitCommit({ tree: root, parents: [], author: authorOf(caller), message: "initial commit\n", now });
  const statements = [
    ...treeStatements(repo.id, rows),
    ...linkContents(repo.id, files, now),
    ...commitRows(platform.db, repo, made, ref, now),
  ];
  return { id: commitId(made), statements };
}

/** Stores regular files; their entries are ready for a tree. One D1 query for all. */
export async function storeFiles(platform: Platform, files: readonly Uint8Array[]): Promise<NewFile[]> {
  const stored = await storeBytes(platform, files);
  return stored.map(({ sha256, size }, i) => ({
    kind: "file",
    id: blobId(files[i] ?? new Uint8Array()),
    sha256,
    size,
    lfs: false,
    mode: null,
    holding: STORED,
  }));
}

export const lfsEntry = (sha256: Sha256, size: number, holding: Holding): NewFile => ({
  kind: "file",
  id: blobId(new TextEncoder().encode(encodeLfsPointer({ sha256, size }))),
  sha256,
  size,
  lfs: true,
  mode: null,
  holding,
});
