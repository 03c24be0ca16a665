// Receives a push: commands and pack in, every object checked as an API commit is, then one batch that moves the refs.
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import type { ByteSource } from "../../formats/git/byte-source";
import { type PackEntry, readPack } from "../../formats/git/pack-reader";
import type { PushReport, ReceiveRequest, RefResult } from "../../formats/git/receive-pack-request";
import { decodeTree } from "../../formats/git/tree";
import { Unpacker } from "../../formats/git/unpack";
import type { GitId } from "../../ids";
import { Spool } from "../../store/spool";
import { MAX_REGULAR_BYTES } from "../attributes";
import { afterPush } from "../commits";
import { pushToPull } from "../discussions/events";
import type { Repository } from "../repositories";
import { NewHistory, refuse } from "./history";
import { BaseObjects, findKnown, type KnownObjects, measureTrees } from "./known-objects";
import { NewFiles } from "./new-files";
import { type CheckedPush, pushBatches, runBatches } from "./publish";
import {
  checkCommands,
  RefMoved,
  type RefUpdate,
  type ResolvedUpdate,
  updateGuards,
  updateStatements,
} from "./ref-updates";

/** What one push may bring; whoever has more pushes it in parts. */
const LIMITS = { objects: 100_000, objectBytes: MAX_REGULAR_BYTES, totalBytes: 2 ** 30 };
/** Of inflated and made bytes: some seconds of work. */
const WORK_BYTES = 3 * 2 ** 30;
const CACHE_BYTES = 16 << 20;
const MAX_TAG_CHAIN = 10;
/** Refs may move while the push is being written; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;

export type Received = PushReport & {
  /** The whole of what is wrong, for the person who pushed. */
  readonly messages: readonly string[];
};

/** Never throws for what is wrong with the push: that is in the report. The source may be left unread. */
export async function receivePush(
  caller: Caller,
  repo: Repository,
  request: ReceiveRequest,
  source: ByteSource,
): Promise<Received> {
  const { updates, refused } = await checkCommands(caller, repo, request.commands);
  const isAtomic = request.capabilities.has("atomic");
  const report = (
    problem: string | null,
    reasonOf: (ref: string) => string | null,
    messages: readonly string[] = [],
  ): Received => ({
    problem,
    messages,
    results: request.commands.map(({ ref }): RefResult => ({ ref, refused: refused.get(ref) ?? reasonOf(ref) })),
  });
  if (isAtomic && refused.size > 0) return report(null, () => ATOMIC);
  if (updates.length === 0) return report(null, () => null);
  try {
    const moved = await takePush(caller, repo, updates, isAtomic, source);
    return report(null, (ref) => (moved.has(ref) ? MOVED : isAtomic && moved.size > 0 ? ATOMIC : null));
  } catch (error) {
    if (error instanceof FormatError) {
      const problem = `the pack ${error.message}`;
      return report(problem, () => "the pack can't be read", [problem]);
    }
    if (!(error instanceof HubError) || error.status >= 500) throw error;
    const [first = "", ...more] = error.message.split("\n");
    return report(null, () => (more.length === 0 ? first : `${first} (and more)`), error.message.split("\n"));
  }
}

const ATOMIC = "the push is atomic, and another ref was refused";
const MOVED = "it was moved meanwhile: fetch first";

/** Does it all, for the refs that may be tried. @returns those that were moved by someone else meanwhile */
async function takePush(
  caller: Caller,
  repo: Repository,
  updates: readonly RefUpdate[],
  isAtomic: boolean,
  source: ByteSource,
): Promise<ReadonlySet<string>> {
  const spool = new Spool(caller.platform);
  try {
    // Who only deletes sends no pack.
    const sends = updates.some(({ to }) => to !== null);
    const entries = sends ? await readPack(source, LIMITS, (bytes) => spool.append(bytes)) : [];
    const { push, resolved } = await checkPush(caller, repo, updates, entries, spool);
    return await publish(caller, push, resolved, isAtomic);
  } finally {
    spool.discard();
  }
}

async function checkPush(
  caller: Caller,
  repo: Repository,
  updates: readonly RefUpdate[],
  entries: readonly PackEntry[],
  spool: Spool,
): Promise<{ push: CheckedPush; resolved: ResolvedUpdate[] }> {
  const { db } = caller.platform;
  const baseIds = [...new Set(entries.flatMap((entry) => (entry.kind === "idDelta" ? [entry.base] : [])))];
  const bases = new BaseObjects(caller.platform, repo.id, baseIds, await findKnown(db, repo.id, baseIds));
  await bases.prepare();
  const unpacker = new Unpacker(entries, {
    read: (offset, end) => spool.read(offset, end),
    knownType: (id) => bases.type(id),
    known: (id) => bases.load(id),
    objectBytes: LIMITS.objectBytes,
    cacheBytes: CACHE_BYTES,
    workBytes: WORK_BYTES,
  });
  const history = new NewHistory();
  for await (const object of unpacker.structure()) history.add(object);
  const { resolved, tags } = await resolveTargets(caller, repo, updates, history);
  history.walk(resolved.flatMap(({ commit }) => (commit === null ? [] : [commit])));
  const known = await connect(caller, repo, history);
  history.checkExtents(await measureTrees(db, repo.id, [...history.outsideTrees]));
  const files = new NewFiles(caller, repo, history, { cards: cardsOf(resolved, history), known });
  for await (const object of unpacker.blobs()) await files.add(object);
  return { push: { repo, history, newFiles: await files.finish(), knownFiles: known, tags }, resolved };
}

/** The commit that each ref will lead to. @throws push_refused */
async function resolveTargets(
  caller: Caller,
  repo: Repository,
  updates: readonly RefUpdate[],
  history: NewHistory,
): Promise<{ resolved: ResolvedUpdate[]; tags: GitId[] }> {
  const targets = updates.flatMap(({ to }) => (to === null ? [] : [to]));
  const tagged = [...history.tags.values()].map(({ target }) => target);
  const outside = [...new Set([...targets, ...tagged])].filter((id) => !history.commits.has(id));
  const known = await findKnown(caller.platform.db, repo.id, outside);
  const tags = new Set<GitId>();
  const commitOf = (id: GitId): GitId | undefined => {
    let at = id;
    for (let links = 0; links < MAX_TAG_CHAIN; links++) {
      if (history.commits.has(at) || known.commits.has(at)) return at;
      const tag = history.tags.get(at);
      if (tag === undefined) return known.tags.get(at);
      tags.add(at);
      at = tag.target;
    }
    return undefined;
  };
  const resolved = updates.map((update): ResolvedUpdate => {
    const { ref, to } = update;
    if (to === null) return { ...update, commit: null };
    const commit = commitOf(to);
    if (commit === undefined) throw refuse(`${ref}: ${to} leads to no commit that is in the push or in the repository`);
    if (commit !== to && !ref.startsWith("refs/tags/")) throw refuse(`${ref}: only tags can point to a tag object`);
    return { ...update, commit };
  });
  return { resolved, tags: [...tags] };
}

/** Whatever the new history names beyond itself must be here. @returns the files among it that are */
async function connect(caller: Caller, repo: Repository, history: NewHistory): Promise<KnownObjects["files"]> {
  const { outsideCommits, outsideTrees, files } = history;
  const known = await findKnown(caller.platform.db, repo.id, [...outsideCommits, ...outsideTrees, ...files.keys()]);
  for (const id of outsideCommits)
    if (!known.commits.has(id))
      throw refuse(
        `the history needs commit ${id}, which is neither in the push nor in the repository: \`git fetch --unshallow\` first`,
      );
  for (const id of outsideTrees)
    if (!known.trees.has(id))
      throw refuse(
        `${history.pathIn(id, "") || "the root folder"}: its tree ${id} is neither in the push nor in the repository`,
      );
  return known.files;
}

/** The model cards that the hub will show and index. */
function cardsOf(resolved: readonly ResolvedUpdate[], history: NewHistory): Set<GitId> {
  const cards = new Set<GitId>();
  for (const { ref, commit } of resolved) {
    const root = commit === null || ref.startsWith("refs/tags/") ? undefined : history.commits.get(commit)?.tree;
    const content = root === undefined ? undefined : history.trees.get(root);
    const card = content === undefined ? undefined : decodeTree(content).find(({ name }) => name === "README.md");
    if (card !== undefined) cards.add(card.id);
  }
  return cards;
}

/** Moves the refs, all of them or, where they need not move together, those that nobody else has moved meanwhile. */
async function publish(
  caller: Caller,
  push: CheckedPush,
  resolved: readonly ResolvedUpdate[],
  isAtomic: boolean,
): Promise<ReadonlySet<string>> {
  const { platform } = caller;
  const moved = new Set<string>();
  for (let round = 1; ; round++) {
    const updates = resolved.filter(({ ref }) => !moved.has(ref));
    if (updates.length === 0) return moved;
    const pulls = updates.flatMap(({ ref, commit }) =>
      commit === null ? [] : [pushToPull(caller, push.repo, ref, push.history.commitsOf(commit))],
    );
    try {
      await runBatches(platform.db, pushBatches(push, platform.now()), {
        guards: [...updateGuards(push.repo, updates), ...pulls.flatMap(({ guards }) => guards)],
        statements: [...updateStatements(caller, push.repo, updates), ...pulls.flatMap(({ statements }) => statements)],
      });
      const bringsLfs = [...push.newFiles.values()].some(({ lfs }) => lfs);
      await afterPush(platform, push.repo, { refs: updates.map(({ ref }) => ref), bringsLfs });
      return moved;
    } catch (error) {
      if (!(error instanceof RefMoved)) throw error;
      moved.add(error.ref);
      if (isAtomic) return moved;
      if (round === MAX_ROUNDS) return new Set(resolved.map(({ ref }) => ref));
    }
  }
}
