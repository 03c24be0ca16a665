// Which commits a client lacks: what its wants lead to, without what its haves lead to, each history as far as the client knows it.
import type { CommitGraph } from "./commit-graph";
import { DateQueue } from "./date-queue";

/** Where histories end for the client, though they go on in the repository. */
export type Cuts = {
  /** Its own shallow commits, as it had them before this fetch. */
  readonly before: ReadonlySet<number>;
  /** Those it will have after. */
  readonly after: ReadonlySet<number>;
};

export type Selection = {
  /** Newest first, as far as dates can be trusted. */
  readonly commits: readonly number[];
  /** Commits that the client has, next to those: their trees need not be sent. */
  readonly edges: ReadonlySet<number>;
};

const WANTED = 1;
const HAD = 2;
const TAKEN = 4;
/** More haves than these say little that is new about trees. */
const MAX_EDGES = 64;

/** A walk from both ends at once, newest first, which ends when only commits that the client has are left. */
export async function selectCommits(
  graph: CommitGraph,
  wants: readonly number[],
  haves: readonly number[],
  cuts: Cuts,
): Promise<Selection> {
  const walk = new Walk(graph, cuts);
  await walk.run(wants, haves);
  const commits = walk.wanted.filter((commit) => !walk.isHad(commit));
  const edges = new Set(haves.toSorted((a, b) => graph.dateOf(b) - graph.dateOf(a)).slice(0, MAX_EDGES));
  for (const commit of commits) {
    if (edges.size >= 2 * MAX_EDGES) break;
    for (const parent of graph.parentsOf(commit)) if (walk.isHad(parent)) edges.add(parent);
  }
  return { commits, edges };
}

class Walk {
  readonly wanted: number[] = [];
  readonly #graph: CommitGraph;
  readonly #cuts: Cuts;
  readonly #flags: number[] = [];
  readonly #queue: DateQueue;
  /** Commits in the queue that are only wanted: without any the walk is over. */
  #open = 0;
  #oldest = Number.POSITIVE_INFINITY;

  constructor(graph: CommitGraph, cuts: Cuts) {
    this.#graph = graph;
    this.#cuts = cuts;
    this.#queue = new DateQueue((commit) => graph.dateOf(commit));
  }

  isHad(commit: number): boolean {
    return ((this.#flags[commit] ?? 0) & HAD) !== 0;
  }

  async run(wants: readonly number[], haves: readonly number[]): Promise<void> {
    for (const commit of haves) this.#mark(commit, HAD);
    for (const commit of wants) this.#mark(commit, WANTED);
    for (;;) {
      const next = this.#queue.peek();
      // Commits of the client's that are newer than the oldest one sent may still lead to it.
      if (next === undefined || (this.#open === 0 && this.#graph.dateOf(next) < this.#oldest)) return;
      const commit = this.#queue.pop() ?? next;
      const had = this.isHad(commit);
      this.#flags[commit] = (this.#flags[commit] ?? 0) | TAKEN;
      if (!had) {
        this.#open--;
        this.wanted.push(commit);
        this.#oldest = Math.min(this.#oldest, this.#graph.dateOf(commit));
      }
      const parents = (had ? this.#cuts.before : this.#cuts.after).has(commit) ? [] : this.#graph.parentsOf(commit);
      await this.#graph.ensure(parents);
      for (const parent of parents) this.#mark(parent, had ? HAD : WANTED);
    }
  }

  #mark(commit: number, flag: number): void {
    const flags = this.#flags[commit] ?? 0;
    if ((flags & flag) !== 0 || (flag === WANTED && (flags & HAD) !== 0)) return;
    this.#flags[commit] = flags | flag;
    if (flag === WANTED) this.#open++;
    // Queued as wanted and not taken yet: it leaves the queue as what it is now. Once taken it goes in again, for its parents.
    else if ((flags & (WANTED | TAKEN)) === WANTED) {
      this.#open--;
      return;
    }
    this.#queue.push(commit);
  }
}
