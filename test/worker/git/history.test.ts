// Which commits a fetch sends, on random histories: beside a plain walk of the whole graph, whatever the dates say.
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect, it } from "vitest";
import { INFINITE_DEPTH } from "../../../src/formats/git/upload-pack-request";
import { CommitGraph } from "../../../src/hub/git/commit-graph";
import { selectCommits } from "../../../src/hub/git/commit-selection";
import { shallowing } from "../../../src/hub/git/shallow";
import { parseGitId } from "../../../src/ids";
import { databaseOf } from "../../../src/platform/cloudflare";

const id = (n: number) => parseGitId(n.toString(16).padStart(40, "0"), "id");
const NO_CUTS = { before: new Set<number>(), after: new Set<number>() };

/** Commit n has parents below n. `skewed`: dates say nothing about the order. */
type History = { readonly parents: readonly (readonly number[])[]; readonly dates: readonly number[] };

const histories = (skewed: boolean) =>
  fc.integer({ min: 1, max: 25 }).chain((size) =>
    fc.record({
      parents: fc.tuple(
        ...Array.from({ length: size }, (_, n) =>
          n === 0
            ? fc.constant([])
            : fc.uniqueArray(fc.integer({ min: Math.max(0, n - 6), max: n - 1 }), { maxLength: 3 }),
        ),
      ),
      dates: fc.tuple(
        ...Array.from({ length: size }, (_, n) => (skewed ? fc.integer({ min: 0, max: 50 }) : fc.constant(100 + n))),
      ),
      wants: fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), { minLength: 1, maxLength: 3 }),
      haves: fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), { maxLength: 3 }),
      depth: fc.integer({ min: 1, max: 6 }),
    }),
  );

let repos = 0;
async function stored({ parents, dates }: History): Promise<CommitGraph> {
  const repoId = `repo${++repos}`;
  const insert = env.DB.prepare(
    "insert into commits (repo_id, id, tree, parents, author_name, author_email, authored_at, message) values (?, ?, ?, ?, 'a', 'b', ?, 'm')",
  );
  await env.DB.batch(
    parents.map((of, n) => insert.bind(repoId, id(n), id(1000 + n), JSON.stringify(of.map(id)), dates[n] ?? 0)),
  );
  return new CommitGraph(databaseOf(env.DB), repoId);
}

function ancestors({ parents }: History, from: Iterable<number>, cut: ReadonlySet<number> = new Set()): Set<number> {
  const seen = new Set(from);
  for (const n of seen) if (!cut.has(n)) for (const parent of parents[n] ?? []) seen.add(parent);
  return seen;
}

const numbers = (graph: CommitGraph, commits: Iterable<number>): number[] =>
  [...commits].map((commit) => Number.parseInt(graph.idOf(commit), 16)).sort((a, b) => a - b);
const sorted = (set: Iterable<number>): number[] => [...set].sort((a, b) => a - b);

it("sends what the client lacks and, where dates can be trusted, nothing that it has", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.boolean().chain((skewed) => fc.tuple(fc.constant(skewed), histories(skewed))),
      async ([skewed, history]) => {
        const graph = await stored(history);
        const wants = await graph.find(history.wants.map(id));
        const haves = await graph.find(history.haves.map(id));
        const { commits, edges } = await selectCommits(graph, wants, haves, NO_CUTS);
        const wanted = ancestors(history, history.wants);
        const had = ancestors(history, history.haves);
        const sent = numbers(graph, commits);
        expect(new Set(sent).size).toBe(sent.length);
        const lacking = sorted([...wanted].filter((n) => !had.has(n)));
        if (skewed) {
          expect(sent).toEqual(expect.arrayContaining(lacking));
          expect(sorted(wanted)).toEqual(expect.arrayContaining(sent));
        } else expect(sent).toEqual(lacking);
        expect(sorted(had)).toEqual(expect.arrayContaining(numbers(graph, edges)));
      },
    ),
    { numRuns: 60 },
  );
});

it("a history of some depth holds what is that near; deepened, what a deeper one would", async () => {
  await fc.assert(
    fc.asyncProperty(histories(true), async (history) => {
      const { depth, parents } = history;
      const graph = await stored(history);
      const wants = await graph.find(history.wants.map(id));
      const kind = { kind: "depth", relative: false } as const;
      const first = await shallowing(graph, wants, [], { deepening: { ...kind, depth }, not: [] });
      // Level by level, as the option is defined.
      const near = new Set(history.wants);
      let level = [...near];
      for (let at = 1; at < depth; at++) {
        level = [...new Set(level.flatMap((n) => parents[n] ?? []))].filter((n) => !near.has(n));
        for (const n of level) near.add(n);
      }
      const selected = await selectCommits(graph, wants, [], first.cuts);
      expect(numbers(graph, selected.commits)).toEqual(sorted(near));
      expect(numbers(graph, first.shallow)).toEqual(sorted(level));
      // The client has this now, and wants all of it.
      const rest = await shallowing(graph, wants, first.shallow, {
        deepening: { ...kind, depth: INFINITE_DEPTH },
        not: [],
      });
      expect(numbers(graph, rest.unshallow)).toEqual(sorted(level));
      const more = await selectCommits(graph, [...wants, ...rest.wanted], wants, rest.cuts);
      const all = new Set([...near, ...numbers(graph, more.commits)]);
      expect(sorted(all)).toEqual(sorted(ancestors(history, history.wants)));
    }),
    { numRuns: 60 },
  );
});
