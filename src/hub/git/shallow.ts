// Where a client's history is to end: what `--depth`, `--deepen`, `--shallow-since` and `--unshallow` ask for.

import { FormatError } from "../../formats/format-error";
import { type Deepening, INFINITE_DEPTH } from "../../formats/git/upload-pack-request";
import type { CommitGraph } from "./commit-graph";
import { type Cuts, selectCommits } from "./commit-selection";

export type Shallowing = {
  readonly cuts: Cuts;
  /** What the client is told: commits that lose their parents, and those that get them back. */
  readonly shallow: readonly number[];
  readonly unshallow: readonly number[];
  /** Parents that come back: wanted, though no want leads to them past what the client has. */
  readonly wanted: readonly number[];
};

/** `inner`: commits that keep their parents; `border`: those that lose them. */
type Extent = { readonly inner: ReadonlySet<number>; readonly border: ReadonlySet<number> };

const NOTHING: Extent = { inner: new Set(), border: new Set() };

/** `not`: commits whose histories are left out. @throws FormatError when nothing would be left */
export async function shallowing(
  graph: CommitGraph,
  wants: readonly number[],
  client: readonly number[],
  { deepening, not }: { readonly deepening: Deepening; readonly not: readonly number[] },
): Promise<Shallowing> {
  const before = new Set(client);
  const { inner, border } = await extentOf(graph, wants, before, deepening, not);
  const unshallow = client.filter((commit) => inner.has(commit));
  const after = new Set([...client.filter((commit) => !inner.has(commit)), ...border]);
  const wanted = unshallow.flatMap((commit) => graph.parentsOf(commit));
  await graph.ensure(wanted);
  return { cuts: { before, after }, shallow: [...border].filter((commit) => !before.has(commit)), unshallow, wanted };
}

async function extentOf(
  graph: CommitGraph,
  wants: readonly number[],
  client: ReadonlySet<number>,
  deepening: Deepening,
  not: readonly number[],
): Promise<Extent> {
  if (deepening.kind === "none") return NOTHING;
  if (deepening.kind === "since") return extentSince(graph, wants, not, deepening.since);
  if (deepening.depth === INFINITE_DEPTH) return { inner: client, border: new Set() };
  return deepening.relative
    ? extentTo(graph, [...client], deepening.depth + 1)
    : extentTo(graph, wants, deepening.depth);
}

/** Level by level, so that each commit counts by its shortest way. */
async function extentTo(graph: CommitGraph, heads: readonly number[], depth: number): Promise<Extent> {
  const seen = new Set(heads);
  const inner = new Set<number>();
  let level = [...seen];
  for (let at = 1; at < depth && level.length > 0; at++) {
    const next: number[] = [];
    for (const commit of level) {
      inner.add(commit);
      for (const parent of graph.parentsOf(commit)) {
        if (seen.has(parent)) continue;
        seen.add(parent);
        next.push(parent);
      }
    }
    await graph.ensure(next);
    level = next;
  }
  return { inner, border: new Set(level) };
}

async function extentSince(
  graph: CommitGraph,
  wants: readonly number[],
  not: readonly number[],
  since: number,
): Promise<Extent> {
  const allowed =
    not.length === 0
      ? null
      : new Set((await selectCommits(graph, wants, not, { before: new Set(), after: new Set() })).commits);
  const isIn = (commit: number): boolean => graph.dateOf(commit) >= since && (allowed === null || allowed.has(commit));
  const included = new Set(wants.filter(isIn));
  if (included.size === 0) throw new FormatError("git.request", "no commits selected for shallow requests");
  const border = new Set<number>();
  // A set gives what is added while it is walked, too.
  for (const commit of included) {
    const parents = graph.parentsOf(commit);
    await graph.ensure(parents);
    for (const parent of parents) {
      if (isIn(parent)) included.add(parent);
      else border.add(commit);
    }
  }
  const inner = new Set([...included].filter((commit) => !border.has(commit)));
  return { inner, border };
}
