// Public repositories answered from the cache near the reader: what is public is a fact of some seconds, what a commit holds never changes.
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import type { Purpose } from "../access/policy";
import { HubError } from "../errors";
import {
  type FilePath,
  isFullCommitId,
  parseAccountName,
  parseGitId,
  parseRepoName,
  parseSha256,
  parseXetHash,
  type RepoId,
  type Revision,
  type XetHash,
} from "../ids";
import type { ByteRange, Platform } from "../platform/platform";
import { readContent } from "../store/contents";
import { keep, readThrough, recall, SMALL_BYTES } from "../store/public-cache";
import { isOpen } from "../store/scopes";
import { type Reconstruction, reconstruct } from "../store/xet/reconstruction";
import { readAll } from "../streams/chunks";
import { type Entry, listTree, type TreePage } from "./files";
import {
  confirmedEntry,
  EntryNotFound,
  findFile,
  findSnapshot,
  type LocatedFile,
  type Repository,
} from "./repositories";

/** How long a repository is taken for public: so long a change made elsewhere may go unnoticed. */
const FACT_S = 30;
/** So long around a change nobody here takes a fact from a replica that may not know of it yet: longer than a batch takes. */
const CHANGED_S = 60;
/** Where a file's bytes are kept changes when it is ingested, and its former objects stay for longer than this. */
const PLACE_S = 600;

const repoIdOf = ({ type, owner, name }: RepoId): string => `${type}/${owner.toLowerCase()}/${name.toLowerCase()}`;
const factKey = (id: RepoId): string => `repos/${repoIdOf(id)}`;

const field = <T>(parse: (text: string, field: string) => T, name: string) =>
  z.string().transform((text) => parse(text, name));

/** `repo` is null where the repository is being changed or deleted, or was a moment ago. */
const Fact = z.object({
  until: z.number(),
  repo: z
    .object({
      id: z.string(),
      type: z.enum(["model", "dataset"]),
      ownerId: z.string(),
      owner: field(parseAccountName, "owner"),
      name: field(parseRepoName, "name"),
      private: z.literal(false),
      gated: z.null(),
      access: z.null(),
      createdAt: z.number(),
      updatedAt: z.number(),
    })
    .nullable(),
});
type Fact = z.output<typeof Fact>;

const OPEN = { private: false, gated: null };

async function factOf(platform: Platform, id: RepoId): Promise<Fact | null> {
  const fact = await recall(platform, OPEN, factKey(id), Fact);
  return fact !== null && fact.until > platform.now() ? fact : null;
}

/** `askedAt`: when the database was asked, from where on the fact is good. */
async function noteFact(platform: Platform, id: RepoId, repo: Repository, askedAt: number): Promise<void> {
  const known = await factOf(platform, id);
  if (known !== null) return;
  const fact = { until: askedAt + FACT_S * 1000, repo };
  await keep(platform, repo, factKey(id), JSON.stringify(fact), FACT_S);
}

/** Before who may use a repository changes, or it goes from its name: near here nobody takes it for public any more, nor soon again. */
export async function forgetRepository(platform: Platform, id: RepoId): Promise<void> {
  const fact: Fact = { until: platform.now() + CHANGED_S * 1000, repo: null };
  await keep(platform, OPEN, factKey(id), JSON.stringify(fact), CHANGED_S);
}

/**
 * The repository, if it is known to be public and the policy lets the caller use it so; null sends the caller to the database,
 * which also is the one to refuse.
 */
async function openRepository(caller: Caller, id: RepoId, purpose: Purpose) {
  const { platform } = caller;
  const fact = await factOf(platform, id);
  if (fact === null) return { repo: null, mayNote: true };
  if (fact.repo === null) {
    platform.session.toPrimary();
    return { repo: null, mayNote: false };
  }
  const { repo } = fact;
  return { repo: may(caller, { action: "repo.use", repo, purpose }) ? repo : null, mayNote: false };
}

const Sha256 = field(parseSha256, "sha256");
const GitId = field(parseGitId, "id");
const Hash = field(parseXetHash, "hash");
const Span = z.object({ start: z.number(), end: z.number() });
const Term = z.object({
  offset: z.number(),
  length: z.number(),
  xorb: z.object({ id: z.number(), hash: Hash, key: z.string() }),
  chunks: Span,
  bytes: Span,
});
const KeptFile = z.object({
  tree: GitId,
  committedAt: z.number(),
  /** Null where the commit has no such file. */
  file: z
    .object({
      id: GitId,
      sha256: Sha256,
      size: z.number(),
      lfs: z.boolean(),
      source: z.discriminatedUnion("kind", [
        z.object({
          kind: z.literal("segments"),
          segments: z.array(z.object({ key: z.string(), size: z.number(), sha256: Sha256 })).readonly(),
        }),
        z.object({ kind: z.literal("xet"), fileId: z.number(), hash: Hash, terms: z.array(Term).readonly() }),
      ]),
      holding: z.object({ fileId: z.number().nullable(), state: z.literal("verified") }),
    })
    .nullable(),
});
type KeptFile = z.input<typeof KeptFile>;

/** A file and, where it came from the cache, how to look it up afresh. */
export type NearbyFile = LocatedFile & { readonly lookUp?: () => Promise<LocatedFile> };

const EVERYTHING: ByteRange = { offset: 0, length: Number.MAX_SAFE_INTEGER };

/**
 * A file at a revision, for a purpose. At a full commit id of a public repository without a query, where one near here asked before.
 * @throws repo_not_found | revision_not_found | EntryNotFound | forbidden | content_quarantined
 */
export async function findFileNearby(
  caller: Caller,
  id: RepoId,
  revision: Revision,
  path: FilePath,
  purpose: Purpose,
  span?: ByteRange,
): Promise<NearbyFile> {
  const { platform } = caller;
  if (!isFullCommitId(revision) || !platform.config.edgeCache)
    return findFile(caller, id, revision, path, purpose, span);
  const { repo, mayNote } = await openRepository(caller, id, purpose);
  const keyIn = (repoId: string): string => `files/${repoId}/${revision}/${encodeURIComponent(path)}`;
  const lookUp = async (): Promise<LocatedFile> => {
    const askedAt = platform.now();
    const note = ({ snapshot }: Pick<LocatedFile, "snapshot">, file: KeptFile["file"]): void => {
      if (mayNote) platform.defer(noteFact(platform, id, snapshot.repo, askedAt));
      const kept: KeptFile = { tree: snapshot.tree, committedAt: snapshot.committedAt, file };
      platform.defer(keep(platform, snapshot.repo, keyIn(snapshot.repo.id), JSON.stringify(kept), PLACE_S));
    };
    try {
      const file = await findFile(caller, id, revision, path, purpose, EVERYTHING);
      // A digest that is only claimed may turn out wrong, and then its bytes must not be anywhere.
      if (file.holding.state === "verified") {
        const { sha256, size, lfs, source, holding } = file;
        note(file, { id: file.id, sha256, size, lfs, source, holding: { ...holding, state: "verified" } });
      }
      return file;
    } catch (error) {
      if (error instanceof EntryNotFound) note(error, null);
      throw error;
    }
  };
  const kept = repo && (await recall(platform, repo, keyIn(repo.id), KeptFile));
  if (repo === null || kept === null) return lookUp();
  const snapshot = { repo, commit: parseGitId(revision, "revision"), tree: kept.tree, committedAt: kept.committedAt };
  if (kept.file === null) throw new EntryNotFound(snapshot, path);
  return { snapshot, path, ...kept.file, lookUp };
}

/** The bytes of a range of a file (within its size); those of small public files from near here. @throws content_damaged */
export async function readFileNearby(
  platform: Platform,
  file: NearbyFile,
  range: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  try {
    return await readNearby(platform, file, range);
  } catch (error) {
    // The place that was remembered may be of long ago.
    if (file.lookUp === undefined || !(error instanceof HubError) || error.code !== "content_damaged") throw error;
    return readNearby(platform, await file.lookUp(), range);
  }
}

async function readNearby(
  platform: Platform,
  file: LocatedFile,
  range: ByteRange,
): Promise<ReadableStream<Uint8Array>> {
  const { sha256, size, holding, snapshot } = file;
  const isKept = size <= SMALL_BYTES && holding.state === "verified" && isOpen(snapshot.repo);
  if (!isKept || !platform.config.edgeCache) return readContent(platform, file, range);
  const piece = { key: `contents/${sha256}`, size };
  const whole = await readThrough(platform, snapshot.repo, piece, () => readContent(platform, file));
  if (range.offset === 0 && range.length === size) return whole;
  const bytes = await readAll(whole, SMALL_BYTES);
  return new Blob([bytes.subarray(range.offset, range.offset + range.length)]).stream();
}

const KeptEntries = z.array(
  z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("directory"), path: z.string(), id: GitId }),
    z.object({
      kind: z.literal("file"),
      path: z.string(),
      id: GitId,
      sha256: Sha256,
      size: z.number(),
      lfs: z.boolean(),
      xetHash: Hash.nullable(),
    }),
  ]),
);

/**
 * Entries below a directory at a revision, as `listTree` gives them; at a full commit id of a public repository without a query,
 * where one near here asked before. @throws repo_not_found | revision_not_found | EntryNotFound
 */
export async function listTreeNearby(
  caller: Caller,
  id: RepoId,
  revision: Revision,
  page: TreePage,
): Promise<readonly Entry[]> {
  const { platform } = caller;
  const read = async (askedAt: number) => {
    const snapshot = await findSnapshot(caller, id, revision);
    return { snapshot, askedAt, entries: await listTree(platform.db, snapshot, page) };
  };
  if (!isFullCommitId(revision)) return (await confirmedEntry(caller, revision, () => read(platform.now()))).entries;
  const { repo, mayNote } = await openRepository(caller, id, "download");
  const { path, recursive, after = "", limit } = page;
  const keyIn = (repoId: string): string =>
    `trees/${repoId}/${revision}/${limit}/${recursive}/${encodeURIComponent(JSON.stringify([path, after]))}`;
  const kept = repo && (await recall(platform, repo, keyIn(repo.id), KeptEntries));
  if (kept !== null) return kept;
  const { snapshot, askedAt, entries } = await read(platform.now());
  if (mayNote) platform.defer(noteFact(platform, id, snapshot.repo, askedAt));
  platform.defer(keep(platform, snapshot.repo, keyIn(snapshot.repo.id), JSON.stringify(entries), PLACE_S));
  return entries;
}

const KeptReconstruction = z.object({
  offsetIntoFirstRange: z.number(),
  terms: z.array(Term).readonly(),
  fetches: z.array(Term.pick({ xorb: true, chunks: true, bytes: true })).readonly(),
});
/** Longer ones take as long to read from the cache as to make. */
const MAX_KEPT_TERMS = 4000;

/**
 * How a file that the caller may download is rebuilt: for public repositories without a query or a read, where one near here asked for the
 * same range before. @throws range_not_satisfiable | invalid_request | content_damaged
 */
export async function reconstructNearby(
  platform: Platform,
  repo: Pick<Repository, "private" | "gated">,
  file: { readonly id: number; readonly hash: XetHash; readonly size: number },
  range: ByteRange | null,
): Promise<Reconstruction> {
  const key = `reconstructions/${file.hash}/${file.id}/${range === null ? "all" : `${range.offset}+${range.length}`}`;
  const kept = await recall(platform, repo, key, KeptReconstruction);
  if (kept !== null) return kept;
  const made = await reconstruct(platform, { fileId: file.id, size: file.size }, range);
  if (made.terms.length <= MAX_KEPT_TERMS) platform.defer(keep(platform, repo, key, JSON.stringify(made), PLACE_S));
  return made;
}
