// A fetch as the repository sees it: what the client and it have in common, where its history is to end, which objects it lacks.
import { FormatError } from "../../formats/format-error";
import type { IdSet } from "../../formats/git/id-set";
import type { FetchRequest } from "../../formats/git/upload-pack-request";
import type { GitId } from "../../ids";
import type { Db } from "../../platform/platform";
import { CommitGraph } from "./commit-graph";
import { selectCommits } from "./commit-selection";
import { advertisedRefs } from "./refs";
import { shallowing } from "./shallow";
import { walkTrees } from "./tree-walk";
import { loadTags, resolveWants, type TagObject, tagsOf, type WantedObjects } from "./wants";

/** Everything of a pack, told by ids: it is read when it is sent. */
export type PackContents = {
  readonly commits: readonly GitId[];
  readonly tags: readonly TagObject[];
  readonly trees: IdSet;
  readonly blobs: IdSet;
};

export const objectCount = ({ commits, tags, trees, blobs }: PackContents): number =>
  commits.length + tags.length + trees.size + blobs.size;

export type PackPlan = {
  readonly shallow: readonly GitId[];
  readonly unshallow: readonly GitId[];
  readonly contents: PackContents;
};

/** One request of a client, and what of the repository was loaded for it. */
export class Fetch {
  readonly #db: Db;
  readonly #repoId: string;
  readonly #request: FetchRequest;
  readonly #graph: CommitGraph;
  readonly #wanted: WantedObjects;
  readonly #tags: readonly TagObject[];
  readonly #wants: readonly number[];
  readonly #haves: readonly number[];

  private constructor(
    at: { readonly db: Db; readonly repoId: string; readonly graph: CommitGraph },
    request: FetchRequest,
    wanted: {
      readonly objects: WantedObjects;
      readonly tags: readonly TagObject[];
      readonly commits: readonly number[];
    },
    haves: readonly number[],
  ) {
    this.#db = at.db;
    this.#repoId = at.repoId;
    this.#graph = at.graph;
    this.#request = request;
    this.#wanted = wanted.objects;
    this.#tags = wanted.tags;
    this.#wants = wanted.commits;
    this.#haves = haves;
  }

  /** @throws FormatError when something is wanted that the repository does not have */
  static async open(db: Db, repoId: string, request: FetchRequest): Promise<Fetch> {
    const graph = new CommitGraph(db, repoId);
    const objects = await resolveWants(db, repoId, request.wants);
    const { tags, commits: tagged } = await loadTags(db, repoId, objects.tags);
    const commits = await graph.find([...new Set([...objects.commits, ...tagged])]);
    const haves = await graph.find(request.haves);
    return new Fetch({ db, repoId, graph }, request, { objects, tags, commits }, haves);
  }

  /** Of the client's commits those that the repository has. */
  common(): GitId[] {
    return this.#haves.map((commit) => this.#graph.idOf(commit));
  }

  /**
   * Whether enough is known to send what is missing: every wanted commit leads to one in common. Older than the oldest of those
   * nothing needs to be looked at.
   */
  async isReady(): Promise<boolean> {
    if (this.#haves.length === 0) return false;
    const graph = this.#graph;
    const leads = new Set(this.#haves);
    const oldest = this.#haves.reduce((date, commit) => Math.min(date, graph.dateOf(commit)), Number.POSITIVE_INFINITY);
    for (const want of this.#wants) {
      // Each commit with the one that the walk came from. A map gives what is added while it is walked, too.
      const walked = new Map([[want, want]]);
      let end: number | undefined;
      for (const [commit] of walked) {
        if (leads.has(commit)) {
          end = commit;
          break;
        }
        if (graph.dateOf(commit) < oldest) continue;
        const parents = graph.parentsOf(commit);
        await graph.ensure(parents);
        for (const parent of parents) if (!walked.has(parent)) walked.set(parent, commit);
      }
      if (end === undefined) return false;
      // The way back leads there as well: the next want's walk ends where it meets it.
      for (let commit: number | undefined = end; commit !== undefined && commit !== want; commit = walked.get(commit))
        leads.add(commit);
      leads.add(want);
    }
    return true;
  }

  async plan(): Promise<PackPlan> {
    const graph = this.#graph;
    const { deepening, filter, includeTag } = this.#request;
    const client = await graph.find(this.#request.shallow);
    const not = deepening.kind === "since" ? await this.#commitsOfRefs(deepening.not) : [];
    const { cuts, shallow, unshallow, wanted } = await shallowing(graph, this.#wants, client, { deepening, not });
    const { commits, edges } = await selectCommits(graph, [...this.#wants, ...wanted], this.#haves, cuts);
    const tags = includeTag ? await this.#followedTags(commits) : this.#tags;
    const roots = [...new Set(commits.map((commit) => graph.treeOf(commit)))];
    const known = [...new Set([...edges, ...unshallow].map((commit) => graph.treeOf(commit)))];
    const { trees, blobs } = await walkTrees(
      this.#db,
      this.#repoId,
      { roots, trees: this.#wanted.trees, blobs: this.#wanted.blobs },
      known,
      filter,
    );
    const ids = (numbers: readonly number[]): GitId[] => numbers.map((commit) => graph.idOf(commit));
    return {
      shallow: ids(shallow),
      unshallow: ids(unshallow),
      contents: { commits: ids(commits), tags, trees, blobs },
    };
  }

  /** `include-tag`: tags of what is sent come along, whether they were asked for or not. */
  async #followedTags(commits: readonly number[]): Promise<readonly TagObject[]> {
    const sent = new Set([...commits, ...this.#wants]);
    const ids = await tagsOf(this.#db, this.#repoId, (commit) => sent.has(this.#graph.indexOf(commit)));
    const { tags } = await loadTags(this.#db, this.#repoId, ids);
    return [...new Map([...this.#tags, ...tags].map((tag) => [tag.id, tag])).values()];
  }

  async #commitsOfRefs(names: readonly string[]): Promise<number[]> {
    if (names.length === 0) return [];
    const refs = await advertisedRefs(this.#db, this.#repoId);
    const targets = names.map((name) => {
      const ref = refs.find((one) =>
        [name, `refs/tags/${name}`, `refs/heads/${name}`, `refs/${name}`].includes(one.name),
      );
      if (ref === undefined)
        throw new FormatError("git.request", `the request names an unknown ref to stop at: ${name.slice(0, 100)}`);
      return ref.peeled ?? ref.id;
    });
    return this.#graph.find(targets);
  }
}
