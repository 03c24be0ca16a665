// The LFS files of a repository: what there is, under which names, letting another repository hold them, and taking them out for good.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { asJson, commitBatch, type Guard, queryRows, type Statement } from "../db/client";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { parseSha256, parseXetHash, type Sha256, type XetHash } from "../ids";
import { wakeUpkeep } from "../store/tasks";
import { refreshIndex } from "./facts/store";
import { forgetRepository } from "./nearby";
import { authorizeProposal } from "./push-rights";
import { MAIN, type Repository, repoExists, targetOf } from "./repositories";
import { rewriteWithout } from "./rewrite";

const sha256Column = z.string().transform((text) => parseSha256(text, "sha256"));

export type LfsFile = {
  readonly sha256: Sha256;
  readonly size: number;
  /** Where it lies on `main`, or where it was last. */
  readonly path: string;
  readonly onMain: boolean;
  readonly pushedAt: number;
};

const FileRow = z.object({
  sha256: sha256Column,
  size: z.number(),
  created_at: z.number(),
  main_path: z.string().nullable(),
  last_path: z.string().nullable(),
});

/** In the order of their digests. One query; it looks at the folders of `main`, and at the files of the page. */
export async function listLfsFiles(
  caller: Caller,
  repo: Repository,
  page: { readonly after: string; readonly limit: number },
): Promise<LfsFile[]> {
  const { id } = repo;
  const rows = await queryRows(
    caller.platform.db,
    FileRow,
    sql`with recursive page as (
        select h.sha256, h.created_at, coalesce(f.size, k.size) as size from repo_contents h
          left join xet_files f on f.id = h.file_id left join contents k on h.file_id is null and k.sha256 = h.sha256
          where h.repo_id = ${id} and h.sha256 > ${page.after} and coalesce(f.size, k.size) is not null
            and exists (select 1 from tree_entries e where e.repo_id = ${id} and e.sha256 = h.sha256 and e.lfs)
          order by h.sha256 limit ${page.limit}),
      folders (path, tree) as (
        select '', c.tree from refs m join commits c on c.repo_id = m.repo_id and c.id = m.target where m.repo_id = ${id} and m.name = ${MAIN}
        union all
        select d.path || e.name || '/', e.id from folders d join tree_entries e on e.repo_id = ${id} and e.tree = d.tree and e.kind = 'directory'),
      up (sha256, tree, path, depth) as (
        select p.sha256, e.tree, e.name, 0 from page p
          join tree_entries e on e.rowid = (select max(rowid) from tree_entries where repo_id = ${id} and sha256 = p.sha256)
        union all
        select u.sha256, e.tree, e.name || '/' || u.path, u.depth + 1 from up u
          join tree_entries e on e.rowid = (select max(rowid) from tree_entries where repo_id = ${id} and id = u.tree))
      select p.*,
          (select d.path || e.name from tree_entries e join folders d on d.tree = e.tree
            where e.repo_id = ${id} and e.sha256 = p.sha256 and e.lfs order by 1 limit 1) as main_path,
          (select path from up where sha256 = p.sha256 order by depth desc limit 1) as last_path
        from page p order by p.sha256`,
  );
  return rows.map(({ sha256, size, created_at: pushedAt, main_path: onMain, last_path: last }) => ({
    sha256,
    size,
    path: onMain ?? last ?? sha256,
    onMain: onMain !== null,
    pushedAt,
  }));
}

export type Copied = { readonly sha256: Sha256; readonly xetHash: XetHash };
export type NotCopied = { readonly sha256: Sha256; readonly error: string };

const SourceRow = z.object({
  sha256: sha256Column,
  state: z.enum(["verified", "claimed", "mismatched"]),
  hash: z
    .string()
    .transform((text) => parseXetHash(text, "hash"))
    .nullable(),
});

/**
 * Lets `target` hold files of `source`, so that a commit there can name them. A digest that is only claimed stays a claim, and replaces
 * none. @returns those that could not be copied
 */
export async function copyLfsFiles(
  caller: Caller,
  source: Repository,
  target: Repository,
  files: readonly Copied[],
): Promise<NotCopied[]> {
  authorize(caller, { action: "repo.use", repo: source, purpose: "download" }, targetOf(source));
  authorizeProposal(caller, target);
  const { platform } = caller;
  const { db } = platform;
  const wanted = asJson(files.map(({ sha256 }) => sha256));
  const found = new Map(
    (
      await queryRows(
        db,
        SourceRow,
        sql`select h.sha256, h.state, f.hash from json_each(${wanted}) j join repo_contents h on h.repo_id = ${source.id} and h.sha256 = j.value
          left join xet_files f on f.id = h.file_id`,
      )
    ).map((row) => [row.sha256, row]),
  );
  const failed = files.flatMap(({ sha256, xetHash }): NotCopied[] => {
    const row = found.get(sha256);
    if (row === undefined) return [{ sha256, error: "the source holds no such file" }];
    if (row.state === "mismatched") return [{ sha256, error: "the stored bytes do not have this SHA-256" }];
    return row.hash !== null && row.hash !== xetHash ? [{ sha256, error: "the file has another xetHash" }] : [];
  });
  const bad = new Set(failed.map(({ sha256 }) => sha256));
  const good = asJson(files.map(({ sha256 }) => sha256).filter((sha256) => !bad.has(sha256)));
  const now = platform.now();
  // Commit point: the batch. What the source holds at that moment exists, whatever was swept before.
  await commitBatch(
    db,
    [repoExists(target)],
    [
      ...holdAlso(
        source.id,
        target.id,
        sql`sha256 in (select value from json_each(${good})) and state <> 'mismatched'`,
        now,
      ),
      eventStatement(
        db,
        allowedEvent(platform, caller.actor, {
          ...targetOf(source),
          type: "content.used",
          action: "repo.use",
          purpose: "download",
          data: { copiedTo: targetOf(target).subject, files: files.length - failed.length },
        }),
      ),
    ],
  );
  wakeUpkeep(platform);
  return failed;
}

/** For a batch: one repository holds what another does, as far as `which` says; what it holds already stays as it is. */
export const holdAlso = (from: string, to: string, which: ReturnType<typeof sql>, now: number): Statement[] => [
  sql`insert into repo_contents (repo_id, sha256, file_id, state, created_at)
    select ${to}, sha256, file_id, state, ${now} from repo_contents where repo_id = ${from} and ${which}
    on conflict do update set idle_since = null,
      file_id = iif(state = 'mismatched' and excluded.state = 'verified', excluded.file_id, file_id),
      state = iif(state = 'mismatched' and excluded.state = 'verified', 'verified', state)
    where idle_since is not null or state = 'mismatched'`,
  sql`update contents set idle_since = null where idle_since is not null
    and sha256 in (select sha256 from repo_contents where repo_id = ${from} and file_id is null and ${which})`,
  sql`update xet_files set idle_since = null where idle_since is not null
    and id in (select file_id from repo_contents where repo_id = ${from} and ${which})`,
  sql`insert or ignore into storage_tasks (kind, subject, due_at, created_at)
    select 'ingest', ${to} || ' ' || h.sha256, ${now}, ${now} from repo_contents h where h.repo_id = ${from} and h.file_id is null and ${which}
      and exists (select 1 from tree_entries e where e.repo_id = ${from} and e.sha256 = h.sha256 and e.lfs)`,
];

/**
 * Takes files out of the repository: at once nobody reads them through it any more, and what no other repository holds goes with the
 * next garbage collection. With `rewriteHistory` they vanish from every revision, which gets other commit ids; without, their pointers
 * stay, and reading them says that they were deleted. What is no LFS file of the repository is left alone.
 * @throws forbidden | invalid_field where the bytes are a regular file's too | history_too_large
 */
export async function deleteLfsFiles(
  caller: Caller,
  repo: Repository,
  digests: readonly Sha256[],
  rewriteHistory: boolean,
): Promise<void> {
  const { platform } = caller;
  const { db } = platform;
  authorize(caller, { action: "repo.write", repo }, targetOf(repo));
  const wanted = asJson(digests);
  const isFree: Guard = {
    holds: sql`not exists (select 1 from json_each(${wanted}) j join tree_entries e on e.repo_id = ${repo.id} and e.sha256 = j.value
      where not e.lfs and exists (select 1 from tree_entries l where l.repo_id = ${repo.id} and l.sha256 = j.value and l.lfs))`,
    otherwise: () =>
      new HubError("invalid_field", {
        field: "deletions.sha",
        problem: "names bytes that are a regular file of the repository too: delete that file by a commit",
      }),
  };
  const removal = [
    sql`delete from repo_contents where repo_id = ${repo.id} and sha256 in (select value from json_each(${wanted}))
      and exists (select 1 from tree_entries e where e.repo_id = ${repo.id} and e.sha256 = repo_contents.sha256 and e.lfs)`,
    eventStatement(
      db,
      allowedEvent(platform, caller.actor, {
        ...targetOf(repo),
        type: "content.deleted",
        action: "repo.write",
        data: { files: digests, rewriteHistory },
      }),
    ),
  ];
  await forgetRepository(platform, repo);
  // Commit point: the batch, here or with the rewritten history.
  if (rewriteHistory) await rewriteWithout(caller, repo, digests, { guards: [isFree], statements: removal });
  else await commitBatch(db, [isFree], removal);
  await refreshIndex(platform, repo);
}
