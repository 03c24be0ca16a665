// What the revisions of a repository take in storage: what each brought, and what it shares with whom, as far as the caller may know.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import { type GitId, parseSha256, type Sha256 } from "../ids";
import type { Db } from "../platform/platform";
import { IS_OPEN } from "../store/scopes";
import { type Extent, Extents } from "../store/xet/extents";
import { gitIdColumn, type Repository, type Snapshot } from "./repositories";

/** Rows of any of the queries: what a report may hold in memory. */
const MAX_ROWS = 100_000;

export type RevisionStorage = {
  readonly commit: GitId;
  /** Seconds since 1970. */
  readonly authoredAt: number;
  readonly summary: string;
  readonly files: number;
  /** Bytes of the files. */
  readonly logicalBytes: number;
  /** Bytes that they take, packed, whatever is in several of them once. The sum of the next four. */
  readonly storedBytes: number;
  readonly newBytes: number;
  readonly sharedWithRevisions: number;
  readonly sharedWithOwner: number;
  readonly sharedWithPublic: number;
  /** Files: to be brought into xorbs, to be hashed, found to be something else than was said. */
  readonly waitingForIngestion: number;
  readonly waitingForVerification: number;
  readonly quarantined: number;
};

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));

const FileRow = z.object({
  /** 0 for what older revisions have. */
  place: z.number(),
  commit_id: gitIdColumn.nullable(),
  authored_at: z.number().nullable(),
  message: z.string().nullable(),
  sha256: sha256.nullable(),
  paths: z.number(),
  size: z.number(),
});

async function bounded<T>(rows: Promise<T[]>): Promise<T[]> {
  const found = await rows;
  if (found.length > MAX_ROWS)
    throw new HubError("payload_too_large", {
      problem: `The repository has more than ${MAX_ROWS} files or pieces of files.`,
    });
  return found;
}

/** The files of a page of revisions, newest first, by digest, and the digests of all that are older. One query. */
const listFiles = (
  db: Db,
  { repo, commit }: Snapshot,
  { offset, limit }: { readonly offset: number; readonly limit: number },
) =>
  bounded(
    queryRows(
      db,
      FileRow,
      sql`with recursive history (id) as (
          select ${commit}
          union
          select p.value from history h join commits c on c.repo_id = ${repo.id} and c.id = h.id join json_each(c.parents) p),
        listed as (select c.id, c.tree, c.authored_at, c.message, row_number() over (order by c.authored_at desc, c.rowid desc) as place
          from history h join commits c on c.repo_id = ${repo.id} and c.id = h.id),
        page as (select * from listed where place > ${offset} and place <= ${offset + limit}),
        walk (place, tree) as (
          select place, tree from page
          union all
          select w.place, e.id from walk w join tree_entries e on e.repo_id = ${repo.id} and e.tree = w.tree and e.kind = 'directory'),
        older (tree) as (
          select tree from listed where place > ${offset + limit}
          union
          select e.id from older o join tree_entries e on e.repo_id = ${repo.id} and e.tree = o.tree and e.kind = 'directory')
        select p.place, p.id as commit_id, p.authored_at, p.message, f.sha256, coalesce(f.paths, 0) as paths, coalesce(f.size, 0) as size
          from page p left join (select w.place, e.sha256, count(*) as paths, sum(e.size) as size
            from walk w join tree_entries e on e.repo_id = ${repo.id} and e.tree = w.tree and e.kind = 'file'
            group by w.place, e.sha256) f on f.place = p.place
        union all
        select distinct 0, null, null, null, e.sha256, 0, 0
          from older o join tree_entries e on e.repo_id = ${repo.id} and e.tree = o.tree and e.kind = 'file'
        limit ${MAX_ROWS + 1}`,
    ),
  );

const HoldingRow = z.object({
  sha256,
  state: z.enum(["verified", "claimed", "mismatched"]),
  file_id: z.number().nullable(),
  /** Of the segments. */
  size: z.number().nullable(),
  waits: z.number(),
});

const listHoldings = (db: Db, { id }: Repository) =>
  bounded(
    queryRows(
      db,
      HoldingRow,
      sql`select h.sha256, h.state, h.file_id, k.size, h.file_id is null and exists (select 1 from storage_tasks
            where kind = 'ingest' and subject = h.repo_id || ' ' || h.sha256) as waits
          from repo_contents h left join contents k on h.file_id is null and k.sha256 = h.sha256
          where h.repo_id = ${id} limit ${MAX_ROWS + 1}`,
    ),
  );

const PieceRow = z.object({ file_id: z.number(), xorb_id: z.number(), byte_start: z.number(), byte_end: z.number() });

/** The packed ranges that the repository's files take. */
const listPieces = (db: Db, { id }: Repository) =>
  bounded(
    queryRows(
      db,
      PieceRow,
      sql`select t.file_id, t.xorb_id, t.byte_start, t.byte_end from xet_terms t
          where t.file_id in (select file_id from repo_contents where repo_id = ${id}) limit ${MAX_ROWS + 1}`,
    ),
  );

const SharedRow = z.object({
  own: z.number(),
  xorb_id: z.number().nullable(),
  sha256: sha256.nullable(),
  byte_start: z.number(),
  byte_end: z.number(),
});

/** What other repositories hold of the same objects: the owner's as far as the caller sees them, everybody else's public ones. */
const listShared = (db: Db, { id, ownerId }: Repository, seesPrivate: boolean) => {
  const others = sql`join repos r on r.id = h.repo_id and r.id <> ${id}
    and (${IS_OPEN} or (r.owner_id = ${ownerId} and ${seesPrivate ? 1 : 0}))`;
  return bounded(
    queryRows(
      db,
      SharedRow,
      sql`select distinct r.owner_id = ${ownerId} as own, t.xorb_id, null as sha256, t.byte_start, t.byte_end
          from (select distinct t.xorb_id from repo_contents h join xet_terms t on t.file_id = h.file_id where h.repo_id = ${id}) x
          join xet_terms t on t.xorb_id = x.xorb_id join repo_contents h on h.file_id = t.file_id ${others}
        union all
        select distinct r.owner_id = ${ownerId}, null, h.sha256, 0, k.size
          from repo_contents m join contents k on k.sha256 = m.sha256
          join repo_contents h on h.sha256 = m.sha256 and h.file_id is null ${others}
          where m.repo_id = ${id} and m.file_id is null
        limit ${MAX_ROWS + 1}`,
    ),
  );
};

const pieceOf = ({ xorb_id, byte_start, byte_end }: Omit<z.output<typeof PieceRow>, "file_id">): Extent => ({
  object: `xorb ${xorb_id}`,
  start: byte_start,
  end: byte_end,
});
const segmentsOf = (digest: Sha256, size: number): Extent => ({ object: `content ${digest}`, start: 0, end: size });

/**
 * Revisions reachable from a commit, newest first. What a byte is shared with is counted once: with older revisions before other
 * repositories of the owner, and those before public ones of others. Bytes in private storage of others show nowhere.
 * @throws payload_too_large
 */
export async function readStorage(
  caller: Caller,
  snapshot: Snapshot,
  page: { readonly offset: number; readonly limit: number },
): Promise<RevisionStorage[]> {
  const { db } = caller.platform;
  const { repo } = snapshot;
  const seesPrivate = may(caller, { action: "repo.read", repo: { ownerId: repo.ownerId, private: true } });
  const [files, holdings, pieces, shared] = await Promise.all([
    listFiles(db, snapshot, page),
    listHoldings(db, repo),
    listPieces(db, repo),
    listShared(db, repo, seesPrivate),
  ]);
  const held = new Map(holdings.map((holding) => [holding.sha256, holding]));
  const byFile = Map.groupBy(pieces, (piece) => piece.file_id);
  const extentsOf = (digests: readonly (Sha256 | null)[]): Extents =>
    Extents.of(
      digests.flatMap((digest) => {
        const holding = digest === null ? undefined : held.get(digest);
        if (holding === undefined) return [];
        if (holding.file_id !== null) return (byFile.get(holding.file_id) ?? []).map(pieceOf);
        return holding.size === null ? [] : [segmentsOf(holding.sha256, holding.size)];
      }),
    );
  const sharedExtents = (own: number): Extents =>
    Extents.of(
      shared
        .filter((row) => row.own === own)
        .flatMap(({ xorb_id, sha256: digest, ...range }) => {
          if (xorb_id !== null) return [pieceOf({ xorb_id, ...range })];
          return digest === null ? [] : [segmentsOf(digest, range.byte_end)];
        }),
    );
  const ofOwner = sharedExtents(1);
  const ofPublic = sharedExtents(0);
  const byPlace = Map.groupBy(files, (file) => file.place);
  let older = extentsOf((byPlace.get(0) ?? []).map((file) => file.sha256));
  const report: RevisionStorage[] = [];
  for (const place of [...byPlace.keys()].filter((one) => one > 0).sort((a, b) => b - a)) {
    const rows = byPlace.get(place) ?? [];
    const [{ commit_id: commit = null, authored_at: authoredAt = null, message = null } = {}] = rows;
    if (commit === null || authoredAt === null || message === null) throw new HubError("internal");
    const whole = extentsOf(rows.map((row) => row.sha256));
    const added = whole.minus(older);
    const notOwners = added.minus(ofOwner);
    const nobodys = notOwners.minus(ofPublic);
    const count = (is: (holding: z.output<typeof HoldingRow>) => boolean): number =>
      rows.reduce((sum, row) => {
        const holding = row.sha256 === null ? undefined : held.get(row.sha256);
        return holding !== undefined && is(holding) ? sum + row.paths : sum;
      }, 0);
    report.push({
      commit,
      authoredAt,
      summary: message.split("\n", 1)[0] ?? "",
      files: rows.reduce((sum, row) => sum + row.paths, 0),
      logicalBytes: rows.reduce((sum, row) => sum + row.size, 0),
      storedBytes: whole.size,
      newBytes: nobodys.size,
      sharedWithRevisions: whole.size - added.size,
      sharedWithOwner: added.size - notOwners.size,
      sharedWithPublic: notOwners.size - nobodys.size,
      waitingForIngestion: count((holding) => holding.waits === 1),
      waitingForVerification: count((holding) => holding.state === "claimed"),
      quarantined: count((holding) => holding.state === "mismatched"),
    });
    older = older.union(whole);
  }
  return report.reverse();
}
