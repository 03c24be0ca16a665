// Takes files out of every revision of a repository: new trees, new commits after them, and every ref moved in one batch.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import type { Caller } from "../access/caller";
import { asJson, commitBatch, type Guard, queryRows, type Statement } from "../db/client";
import { HubError } from "../errors";
import { commitId, decodeCommit, type GitCommit, gitPerson } from "../formats/git/commit";
import { objectId } from "../formats/git/objects";
import { treeId } from "../formats/git/tree";
import { encodeUtf8 } from "../formats/text";
import { type GitId, parseRefName, type RefName, type Sha256 } from "../ids";
import type { Db } from "../platform/platform";
import { condemnObjects } from "../store/objects";
import { refMovedEvent, treeStatements } from "./commits";
import { commitStatements, tagStatements } from "./git/publish";
import { gitIdColumn, type Repository } from "./repositories";
import type { TreeRow } from "./tree-edit";
import { NodeRow, nodeOf } from "./trees";

/** What a rewriting may hold in memory, and one batch may write. */
const MAX_TREE_ROWS = 60_000;
const MAX_COMMITS = 20_000;
const MAX_REFS = 1000;
/** Whoever pushes meanwhile makes it begin again; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 4;

type Ref = { readonly name: RefName; readonly target: GitId; readonly tagObject: GitId | null };
type Tag = { readonly target: GitId; readonly content: string };

/** All that a rewriting reads, as it was at one moment or another: the refs in its guard make sure that nothing came between. */
type History = {
  readonly refs: readonly Ref[];
  readonly tags: ReadonlyMap<GitId, Tag>;
  /** Of every commit, reached by a ref or not, parents and tree. */
  readonly commits: ReadonlyMap<GitId, { readonly tree: GitId; readonly parents: readonly GitId[] }>;
  /** The rows of every tree that holds one of the files, or a folder that does. */
  readonly trees: ReadonlyMap<GitId, readonly TreeRow[]>;
};

/**
 * Runs `also` in the same batch, before the old trees go. A repository in which no tree holds the files only sees `also`.
 * @throws history_too_large | ref_moved
 */
export async function rewriteWithout(
  caller: Caller,
  repo: Repository,
  digests: readonly Sha256[],
  also: { readonly guards: readonly Guard[]; readonly statements: readonly Statement[] },
): Promise<void> {
  const { db } = caller.platform;
  for (let round = 1; ; round++) {
    const history = await readHistory(db, repo, digests);
    const { guards, statements } = await rewriting(caller, repo, history, new Set(digests));
    try {
      // Commit point: the batch. Before it there is nothing.
      await commitBatch(db, [...also.guards, ...guards], [...also.statements, ...statements]);
      return;
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "ref_moved" || round === MAX_ROUNDS) throw error;
    }
  }
}

const RefRow = z.object({
  name: z.string().transform((text) => parseRefName(text, "ref")),
  target: gitIdColumn,
  tag_object: gitIdColumn.nullable(),
});
const TagRow = z.object({ id: gitIdColumn, target: gitIdColumn, content: z.string() });
const Parents = z.string().transform((text) => z.array(gitIdColumn).parse(JSON.parse(text)));
const CommitRow = z.object({ id: gitIdColumn, tree: gitIdColumn, parents: Parents });

async function bounded<T>(rows: Promise<T[]>, most: number, what: string): Promise<T[]> {
  const found = await rows;
  if (found.length > most) throw new HubError("history_too_large", { most, what });
  return found;
}

async function readHistory(db: Db, { id: repoId }: Repository, digests: readonly Sha256[]): Promise<History> {
  // The refs come first: what is read after them is at least as new.
  const refs = await bounded(
    queryRows(
      db,
      RefRow,
      sql`select name, target, tag_object from refs where repo_id = ${repoId} order by name limit ${MAX_REFS + 1}`,
    ),
    MAX_REFS,
    "branches, tags and pull requests",
  );
  const [tags, commits, rows] = await Promise.all([
    queryRows(db, TagRow, sql`select id, target, content from tag_objects where repo_id = ${repoId} limit ${MAX_REFS}`),
    bounded(
      queryRows(
        db,
        CommitRow,
        sql`select id, tree, parents from commits where repo_id = ${repoId} limit ${MAX_COMMITS + 1}`,
      ),
      MAX_COMMITS,
      "commits",
    ),
    bounded(
      queryRows(
        db,
        NodeRow,
        sql`with recursive hit (tree) as (
            select tree from tree_entries where repo_id = ${repoId} and lfs and sha256 in (select value from json_each(${asJson(digests)}))
            union
            select e.tree from hit h join tree_entries e on e.repo_id = ${repoId} and e.id = h.tree)
          select e.tree, e.name, e.kind, e.id, e.sha256, e.size, e.lfs, e.mode
            from hit h join tree_entries e on e.repo_id = ${repoId} and e.tree = h.tree limit ${MAX_TREE_ROWS + 1}`,
      ),
      MAX_TREE_ROWS,
      "entries of folders that hold these files",
    ),
  ]);
  return {
    refs: refs.map(({ name, target, tag_object: tagObject }) => ({ name, target, tagObject })),
    tags: new Map(tags.map(({ id, ...tag }) => [id, tag])),
    commits: new Map(commits.map(({ id, ...commit }) => [id, commit])),
    trees: Map.groupBy(
      rows.map((row): TreeRow => ({ tree: row.tree, name: row.name, node: nodeOf(row) })),
      ({ tree }) => tree,
    ),
  };
}

async function rewriting(
  caller: Caller,
  repo: Repository,
  history: History,
  without: ReadonlySet<Sha256>,
): Promise<{ guards: Guard[]; statements: Statement[] }> {
  const { platform } = caller;
  const { db } = platform;
  const now = platform.now();
  const unmoved: Guard = {
    holds: refsAre(repo, history.refs),
    otherwise: () => new HubError("ref_moved"),
  };
  const trees = newTrees(history.trees, without);
  const affected = affectedCommits(history);
  if (affected.size === 0 && history.trees.size === 0) return { guards: [unmoved], statements: [] };
  const reached = reachable(history);
  const order = parentsFirst(
    history,
    [...affected].filter((id) => reached.has(id)),
  );
  const texts = await readCommits(db, repo, order);
  const commits = new Map<GitId, GitId>();
  const written: [GitId, GitCommit][] = order.map((old) => {
    const commit = texts.get(old);
    if (commit === undefined) throw new HubError("ref_moved");
    const made = {
      ...commit,
      tree: trees.ids.get(commit.tree) ?? commit.tree,
      parents: commit.parents.map((parent) => commits.get(parent) ?? parent),
    };
    const id = commitId(made);
    commits.set(old, id);
    return [id, made];
  });
  const tags = newTags(history, commits);
  const moves = history.refs.flatMap((ref) => {
    const target = commits.get(ref.target);
    return target === undefined
      ? []
      : [{ ...ref, to: target, tagTo: ref.tagObject === null ? null : (tags.ids.get(ref.tagObject) ?? null) }];
  });
  const gone = (table: string, column: string, ids: Iterable<GitId>): Statement[] =>
    portions([...ids]).map(
      (portion) =>
        sql`delete from ${sql.identifier(table)} where repo_id = ${repo.id} and ${sql.identifier(column)} in (select value from json_each(${asJson(portion)}))`,
    );
  const renamed = asJson([...commits]);
  return {
    guards: [unmoved],
    statements: [
      ...treeStatements(repo.id, trees.rows),
      ...commitStatements(repo.id, written),
      ...tagStatements(repo.id, tags.written),
      sql`update refs set target = j.value ->> 1, tag_object = j.value ->> 2, updated_at = ${now}
        from json_each(${asJson(moves.map(({ name, to, tagTo }) => [name, to, tagTo]))}) j where repo_id = ${repo.id} and name = j.value ->> 0`,
      // Who cites a commit by its id finds what became of it.
      ...["commit_id", "parent_commit_id"].map(
        (column) => sql`update lineage set ${sql.identifier(column)} = j.value ->> 1 from json_each(${renamed}) j
          where ${sql.identifier(column === "commit_id" ? "repo_id" : "parent_repo_id")} = ${repo.id} and ${sql.identifier(column)} = j.value ->> 0`,
      ),
      sql`update discussions set merge_commit = j.value ->> 1 from json_each(${renamed}) j
        where repo_id = ${repo.id} and merge_commit = j.value ->> 0`,
      sql`update discussion_events set data = json_set(data, '$.oid', j.value ->> 1) from json_each(${renamed}) j
        where repo_id = ${repo.id} and discussion_events.type = 'commit' and data ->> 'oid' = j.value ->> 0`,
      ...gone("tree_entries", "tree", history.trees.keys()),
      ...gone("tree_facts", "tree", history.trees.keys()),
      ...gone("commits", "id", affected),
      ...gone("tag_objects", "id", tags.ids.keys()),
      condemnObjects(sql`select key from git_packs where repo_id = ${repo.id}`, now),
      sql`delete from git_packs where repo_id = ${repo.id}`,
      sql`update repos set updated_at = ${now} where id = ${repo.id}`,
      ...moves.map(({ name, target, to }) => refMovedEvent(caller, repo, { ref: name, oldSha: target, newSha: to })),
    ],
  };
}

const refsAre = (repo: Repository, refs: readonly Ref[]): SQL => sql`(
  (select count(*) from refs where repo_id = ${repo.id}) = ${refs.length}
  and not exists (select 1 from json_each(${asJson(refs.map(({ name, target, tagObject }) => [name, target, tagObject]))}) j
    where not exists (select 1 from refs where repo_id = ${repo.id} and name = j.value ->> 0 and target = j.value ->> 1 and tag_object is j.value ->> 2)))`;

/** Ids and rows of the trees without the files; a folder that became empty is gone, as git has none. */
function newTrees(trees: History["trees"], without: ReadonlySet<Sha256>) {
  const made = new Map<GitId, readonly TreeRow[]>();
  const entriesOf = (tree: GitId): readonly TreeRow[] => {
    const known = made.get(tree);
    if (known !== undefined) return known;
    const kept = (trees.get(tree) ?? []).flatMap((row): TreeRow[] => {
      if (row.node.kind === "file") return row.node.lfs && without.has(row.node.sha256) ? [] : [row];
      if (!trees.has(row.node.id)) return [row];
      const below = entriesOf(row.node.id);
      return below.length === 0 ? [] : [{ ...row, node: { kind: "directory", id: idOf(below) } }];
    });
    made.set(tree, kept);
    return kept;
  };
  const idOf = (rows: readonly TreeRow[]): GitId =>
    treeId(
      rows.map(({ name, node }) => ({
        name,
        id: node.id,
        mode: node.kind === "file" ? (node.mode ?? "100644") : "40000",
      })),
    );
  const ids = new Map<GitId, GitId>();
  const rows: TreeRow[] = [];
  for (const tree of trees.keys()) {
    const entries = entriesOf(tree);
    const id = idOf(entries);
    ids.set(tree, id);
    for (const entry of entries) rows.push({ ...entry, tree: id });
  }
  return { ids, rows };
}

/** Commits whose tree holds one of the files, and all that come after one. */
function affectedCommits({ commits, trees }: History): Set<GitId> {
  const children = new Map<GitId, GitId[]>();
  for (const [id, { parents }] of commits)
    for (const parent of parents) {
      const known = children.get(parent);
      if (known === undefined) children.set(parent, [id]);
      else known.push(id);
    }
  const affected = new Set<GitId>();
  const todo = [...commits].filter(([, { tree }]) => trees.has(tree)).map(([id]) => id);
  for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
    if (affected.has(id)) continue;
    affected.add(id);
    todo.push(...(children.get(id) ?? []));
  }
  return affected;
}

function reachable({ refs, commits }: History): Set<GitId> {
  const reached = new Set<GitId>();
  const todo = refs.map(({ target }) => target);
  for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
    if (reached.has(id)) continue;
    reached.add(id);
    todo.push(...(commits.get(id)?.parents ?? []));
  }
  return reached;
}

function parentsFirst({ commits }: History, wanted: readonly GitId[]): GitId[] {
  const among = new Set(wanted);
  const order = new Set<GitId>();
  const todo = [...wanted];
  for (let id = todo.at(-1); id !== undefined; id = todo.at(-1)) {
    const before = (commits.get(id)?.parents ?? []).filter((parent) => among.has(parent) && !order.has(parent));
    if (before.length > 0) todo.push(...before);
    else {
      order.add(id);
      todo.pop();
    }
  }
  return [...order];
}

const TextRow = CommitRow.extend({
  author_name: z.string(),
  author_email: z.string(),
  authored_at: z.number(),
  message: z.string(),
  content: z.string().nullable(),
});
/** Sign what they were made of, which is another thing now. */
const SIGNATURES = new Set(["gpgsig", "gpgsig-sha256", "mergetag"]);
/** Ids in one bound text. */
const PORTION = 2000;

function portions<T>(all: readonly T[]): T[][] {
  const result: T[][] = [];
  for (let i = 0; i < all.length; i += PORTION) result.push(all.slice(i, i + PORTION));
  return result;
}

async function readCommits(db: Db, repo: Repository, ids: readonly GitId[]): Promise<Map<GitId, GitCommit>> {
  const read = new Map<GitId, GitCommit>();
  for (const portion of portions(ids)) {
    const rows = await queryRows(
      db,
      TextRow,
      sql`select c.id, c.tree, c.parents, c.author_name, c.author_email, c.authored_at, c.message, c.content
        from json_each(${asJson(portion)}) j join commits c on c.repo_id = ${repo.id} and c.id = j.value`,
    );
    for (const { id, content, ...row } of rows) {
      if (content !== null) {
        const commit = decodeCommit(encodeUtf8(content));
        read.set(id, { ...commit, headers: commit.headers.filter(([name]) => !SIGNATURES.has(name)) });
        continue;
      }
      const person = gitPerson(row.author_name, row.author_email, row.authored_at);
      const { tree, parents, message } = row;
      read.set(id, { tree, parents, author: person, committer: person, headers: [], message });
    }
  }
  return read;
}

/** Annotated tags of rewritten commits, and tags of those, without their signatures. */
function newTags({ tags }: History, commits: ReadonlyMap<GitId, GitId>) {
  const ids = new Map<GitId, GitId>();
  const written: { id: GitId; target: GitId; content: string }[] = [];
  const rewrite = (old: GitId): GitId => {
    const known = ids.get(old);
    const tag = tags.get(old);
    if (known !== undefined || tag === undefined) return known ?? old;
    const target = tags.has(tag.target) ? rewrite(tag.target) : (commits.get(tag.target) ?? tag.target);
    if (target === tag.target) return old;
    const content = tag.content
      .replace(/^object [0-9a-f]{40}/, `object ${target}`)
      .replace(/-----BEGIN [A-Z ]*SIGNATURE-----[\s\S]*$/, "");
    const id = objectId("tag", encodeUtf8(content));
    ids.set(old, id);
    written.push({ id, target, content });
    return id;
  };
  for (const old of tags.keys()) rewrite(old);
  return { ids, written };
}
