// Checks from outside that a hub's stored state is whole: every reference leads to its bytes, every id is that of its content, every job
// ended once with all or nothing published. It shares the git encoders with the hub, and nothing else.
import { createHash } from "node:crypto";
import * as z from "zod";
import { commitId, gitPerson } from "../../src/formats/git/commit";
import { encodeLfsPointer } from "../../src/formats/git/lfs-pointer";
import { objectId } from "../../src/formats/git/objects";
import { treeId } from "../../src/formats/git/tree";
import { parseGitId, parseSha256 } from "../../src/ids";
import { hashFile, type Row, type Rows, readObjects, readRows, type StoredObject } from "./verifier-store";

const TERMINAL = new Set(["succeeded", "failed", "cancelled"]);

const PublishedResult = z.object({
  commit: z.string(),
  files: z.array(z.object({ path: z.string(), sha256: z.string(), size: z.number() })),
});
const EvaluationResult = z.object({ evaluation: z.string() });
const EvaluationRecord = z.object({ samples: z.object({ sha256: z.string() }) });

export type VerifiedHub = { readonly state: string; readonly endpoint: string; readonly token: string };

export class Verifier {
  readonly #hub: VerifiedHub;
  /** Objects that were hashed before, by key: their bytes are never overwritten. */
  readonly #hashed = new Set<string>();
  readonly #downloaded = new Set<string>();

  constructor(hub: VerifiedHub) {
    this.#hub = hub;
  }

  /** What is wrong, in words; nothing when all is well. Unless `online`, nothing is downloaded. */
  async problems(online = true): Promise<string[]> {
    // The bucket before and after the rows: whatever lies there has had its row before, and what rows name is there after.
    const before = await readObjects(this.#hub.state);
    const rows = await readRows(this.#hub.state);
    const objects = await readObjects(this.#hub.state);
    return [
      ...gitProblems(rows),
      ...linkProblems(rows),
      ...jobProblems(rows),
      ...uploadProblems(rows, objects),
      ...objectProblems(rows, before, objects),
      ...xetProblems(rows, objects),
      ...(await this.#contentProblems(rows, objects)),
      ...(online ? await this.#downloadProblems(rows) : []),
    ];
  }

  async #contentProblems(rows: Rows, objects: ReadonlyMap<string, StoredObject>): Promise<string[]> {
    const problems: string[] = [];
    for (const { sha256, size, segments } of rows.contents) {
      const total = segments.reduce((sum, segment) => sum + segment.size, 0);
      if (total !== size) problems.push(`content ${sha256} has ${size} bytes, its segments ${total}`);
      for (const segment of segments) {
        const object = objects.get(segment.key);
        if (object === undefined) problems.push(`content ${sha256} lacks its object ${segment.key}`);
        else if (object.size !== segment.size) problems.push(`object ${segment.key} has ${object.size} bytes`);
        else if (!this.#hashed.has(segment.key)) {
          if ((await hashFile(object.file)) !== segment.sha256)
            problems.push(`object ${segment.key} holds other bytes`);
          this.#hashed.add(segment.key);
        }
      }
    }
    return problems;
  }

  /** Each content that a commit names, as a client gets it. */
  async #downloadProblems(rows: Rows): Promise<string[]> {
    const problems: string[] = [];
    const repos = new Map(rows.repos.map((repo) => [repo.id, repo]));
    const trees = entriesByTree(rows);
    // What a client claims is not looked at before the hub has: it may be wrong, and nobody else can link it.
    const unsure = new Set(
      rows.repoContents.flatMap((one) => (one.state === "verified" ? [] : [treeKey(one.repo_id, one.sha256)])),
    );
    for (const commit of rows.commits) {
      const repo = repos.get(commit.repo_id);
      for (const { path, entry } of filesUnder(trees, commit.repo_id, commit.tree)) {
        if (repo === undefined || entry.sha256 === null || this.#downloaded.has(entry.sha256)) continue;
        if (unsure.has(treeKey(commit.repo_id, entry.sha256))) continue;
        const prefix = repo.type === "dataset" ? "datasets/" : "";
        const address = `${this.#hub.endpoint}/${prefix}${repo.name}/resolve/${commit.id}/${path}`;
        const response = await fetch(address, { headers: { authorization: `Bearer ${this.#hub.token}` } });
        const hash = createHash("sha256");
        for await (const chunk of response.body ?? []) hash.update(chunk);
        if (response.status !== 200 || hash.digest("hex") !== entry.sha256)
          problems.push(`${address} answers ${response.status} with other bytes`);
        this.#downloaded.add(entry.sha256);
      }
    }
    return problems;
  }
}

const treeKey = (repoId: string, tree: string): string => `${repoId} ${tree}`;

function entriesByTree(rows: Rows): Map<string, Row<"entries">[]> {
  const trees = new Map<string, Row<"entries">[]>();
  for (const entry of rows.entries) {
    const key = treeKey(entry.repo_id, entry.tree);
    const known = trees.get(key);
    if (known === undefined) trees.set(key, [entry]);
    else known.push(entry);
  }
  return trees;
}

type FoundFile = { readonly path: string; readonly entry: Row<"entries"> };

function filesUnder(trees: ReadonlyMap<string, Row<"entries">[]>, repoId: string, tree: string): FoundFile[] {
  return (trees.get(treeKey(repoId, tree)) ?? []).flatMap((entry) =>
    entry.kind === "file"
      ? [{ path: entry.name, entry }]
      : filesUnder(trees, repoId, entry.id).map((file) => ({ ...file, path: `${entry.name}/${file.path}` })),
  );
}

/** Refs lead to commits, commits to trees, trees to entries, and each id is the one git gives. */
function gitProblems(rows: Rows): string[] {
  const problems: string[] = [];
  const trees = entriesByTree(rows);
  const commits = new Map(rows.commits.map((commit) => [treeKey(commit.repo_id, commit.id), commit]));
  const repos = new Set(rows.repos.map((repo) => repo.id));
  const reachable = new Set<string>();
  for (const { repo_id, name, target } of rows.refs) {
    if (!repos.has(repo_id)) problems.push(`ref ${name} belongs to no repository`);
    if (!commits.has(treeKey(repo_id, target))) problems.push(`ref ${name} of ${repo_id} points to no commit`);
    const open = [target];
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      const key = treeKey(repo_id, id);
      if (reachable.has(key)) continue;
      reachable.add(key);
      open.push(...(commits.get(key)?.parents ?? []));
    }
  }
  for (const repo of rows.repos)
    if (!rows.refs.some((ref) => ref.repo_id === repo.id && ref.name === "refs/heads/main"))
      problems.push(`repository ${repo.name} has no main branch`);
  for (const commit of rows.commits) {
    const key = treeKey(commit.repo_id, commit.id);
    if (!reachable.has(key)) problems.push(`commit ${commit.id} is reached by no ref: half of it was published`);
    if (recomputedCommit(commit) !== commit.id) problems.push(`commit ${commit.id} has another id than its content`);
    for (const parent of commit.parents)
      if (!commits.has(treeKey(commit.repo_id, parent)))
        problems.push(`commit ${commit.id} lacks its parent ${parent}`);
    if (!trees.has(treeKey(commit.repo_id, commit.tree))) problems.push(`commit ${commit.id} lacks its tree`);
  }
  for (const [key, entries] of trees) {
    const id = treeId(
      entries.map((entry) => ({
        mode: entry.kind === "file" ? "100644" : "40000",
        name: entry.name,
        id: parseGitId(entry.id, "id"),
      })),
    );
    if (!key.endsWith(` ${id}`)) problems.push(`tree ${key} is ${id} by its entries`);
    for (const entry of entries) {
      if (entry.kind === "directory" && !trees.has(treeKey(entry.repo_id, entry.id)))
        problems.push(`tree ${key} lacks its directory ${entry.name}`);
      if (entry.lfs === 1 && entry.id !== pointerId(entry))
        problems.push(`tree ${key}: ${entry.name} is another pointer`);
    }
  }
  return problems;
}

function recomputedCommit(row: Row<"commits">): string {
  const person = gitPerson(row.author_name, row.author_email, row.authored_at);
  return commitId({
    tree: parseGitId(row.tree, "tree"),
    parents: row.parents.map((parent) => parseGitId(parent, "parent")),
    author: person,
    committer: person,
    headers: [],
    message: row.message,
  });
}

function pointerId({ sha256, size }: Row<"entries">): string {
  const pointer = encodeLfsPointer({ sha256: parseSha256(sha256 ?? "", "sha256"), size });
  return objectId("blob", new TextEncoder().encode(pointer));
}

/** Files have contents of their size, and the repository holds what its trees name. */
function linkProblems(rows: Rows): string[] {
  const problems: string[] = [];
  const contents = new Map(rows.contents.map((content) => [content.sha256, content.size]));
  const files = new Map(rows.files.filter((file) => file.state === "registered").map((file) => [file.id, file.size]));
  const sizes = new Map(
    rows.repoContents.map((one) => [
      treeKey(one.repo_id, one.sha256),
      one.file_id === null ? contents.get(one.sha256) : files.get(one.file_id),
    ]),
  );
  const repos = new Set(rows.repos.map((repo) => repo.id));
  for (const { repo_id, kind, name, sha256, size } of rows.entries) {
    if (kind === "directory") continue;
    const key = treeKey(repo_id, sha256 ?? "");
    if (!sizes.has(key)) problems.push(`file ${name} is not held by its repository`);
    else if (sizes.get(key) !== size) problems.push(`file ${name} has no content of its digest and size`);
  }
  for (const { repo_id, sha256 } of rows.repoContents) {
    if (!repos.has(repo_id)) problems.push(`content ${sha256} is held by no repository ${repo_id}`);
    if (sizes.get(treeKey(repo_id, sha256)) === undefined)
      problems.push(`repository ${repo_id} holds ${sha256}, which is not there`);
  }
  if (rows.guards.length > 0) problems.push(`the guards table holds ${rows.guards.length} rows`);
  return problems;
}

/** Every job that ended did so once; what it published is whole, and what it did not publish is not there. */
function jobProblems(rows: Rows): string[] {
  const problems: string[] = [];
  const published = new Map<string, string>();
  for (const job of rows.jobs) {
    const complain = (what: string) => problems.push(`${job.kind} ${job.id} (${job.state}): ${what}`);
    const ends = rows.stateEvents.filter((event) => event.job_id === job.id && TERMINAL.has(event.state));
    const audited = rows.jobEnds.filter((event) => event.subject === `job:${job.id}`);
    const expected = TERMINAL.has(job.state) ? job.state : "";
    if (ends.map((event) => event.state).join() !== expected)
      complain(`its feed ends with "${ends.map((e) => e.state)}"`);
    if (audited.map((event) => event.state).join() !== expected) complain(`${audited.length} ends are audited`);
    if ((job.ended_at !== null) !== TERMINAL.has(job.state)) complain("its end has no time");
    if (job.state === "failed" && job.error === null) complain("it gives no reason");
    const evaluations = rows.evaluations.filter((row) => row.job_id === job.id);
    if (job.state !== "succeeded") {
      if (job.result !== null) complain("it has a result");
      if (evaluations.length > 0) complain("it has an evaluation");
    } else if (job.kind === "evaluate") {
      const { data } = EvaluationResult.safeParse(job.result);
      if (evaluations.length !== 1 || evaluations[0]?.id !== data?.evaluation)
        complain(`${evaluations.length} evaluations`);
      const record = EvaluationRecord.safeParse(evaluations[0]?.record);
      if (!rows.contents.some((content) => content.sha256 === record.data?.samples.sha256))
        complain("it lacks its samples");
    } else if (job.kind === "verify") {
      if (job.output_repo_id !== null) complain("it writes somewhere");
    } else {
      const { data } = PublishedResult.safeParse(job.result);
      const key = treeKey(job.output_repo_id ?? "", data?.commit ?? "");
      if (data === undefined || published.has(key)) complain("it has no commit of its own");
      published.set(key, job.id);
      problems.push(...revisionProblems(rows, job, data));
    }
  }
  // Only jobs write lineage: a commit with it that no succeeded job claims was published by one that failed, or twice.
  for (const { repo_id, commit_id } of rows.lineage)
    if (!published.has(treeKey(repo_id, commit_id))) problems.push(`commit ${commit_id} has lineage and no job`);
  return problems;
}

function revisionProblems(
  rows: Rows,
  job: Row<"jobs">,
  result: z.output<typeof PublishedResult> | undefined,
): string[] {
  const problems: string[] = [];
  const commit = rows.commits.find((row) => row.repo_id === job.output_repo_id && row.id === result?.commit);
  if (commit === undefined) return [`job ${job.id}: its commit is not there`];
  const files = filesUnder(entriesByTree(rows), commit.repo_id, commit.tree);
  for (const { path, sha256, size } of result?.files ?? [])
    if (!files.some((file) => file.path === path && file.entry.sha256 === sha256 && file.entry.size === size))
      problems.push(`job ${job.id}: its commit lacks ${path}`);
  for (const path of job.kind === "merge"
    ? ["model.safetensors", "config.json", "recipe.json", "merge-program.json", "provenance.intoto.jsonl"]
    : ["model.safetensors", "config.json", "training.json"])
    if (!files.some((file) => file.path === path)) problems.push(`job ${job.id}: its commit lacks ${path}`);
  const lineage = rows.lineage.filter((row) => row.repo_id === commit.repo_id && row.commit_id === commit.id);
  if (lineage.length < (job.kind === "merge" ? 2 : 1))
    problems.push(`job ${job.id}: ${lineage.length} rows of lineage`);
  const moves = rows.refMoves.filter((event) => event.target === commit.id);
  if (moves.length !== 1) problems.push(`job ${job.id}: ${moves.length} moves of its branch are audited`);
  return problems;
}

/** What is left of uploads belongs to open ones, which expire. */
function uploadProblems(rows: Rows, objects: ReadonlyMap<string, StoredObject>): string[] {
  const problems: string[] = [];
  const uploads = new Map(rows.uploads.map((upload) => [upload.id, upload]));
  const digests = new Set(rows.contents.map((content) => content.sha256));
  for (const part of rows.uploadParts) {
    const upload = uploads.get(part.upload_id);
    if (upload === undefined || upload.completed_at !== null)
      problems.push(`part ${part.key} belongs to no open upload`);
    if (objects.get(part.key)?.size !== part.size) problems.push(`part ${part.key} has lost its object`);
  }
  for (const { job_id, sha256 } of rows.jobContents) {
    if (!digests.has(sha256)) problems.push(`job ${job_id} holds ${sha256}, which is not there`);
    if (!rows.jobs.some((job) => job.id === job_id)) problems.push(`job ${job_id} holds bytes and is not there`);
  }
  for (const upload of rows.uploads)
    if (upload.completed_at !== null && !digests.has(upload.sha256))
      problems.push(`upload ${upload.id} completed without its content`);
  return problems;
}

const indexOf = (xorb: Row<"xorbs">): string => `${xorb.key}.index`;

/** Every object has its row, every key that a row names is live, and everything live is there and named. */
function objectProblems(
  rows: Rows,
  before: ReadonlyMap<string, StoredObject>,
  after: ReadonlyMap<string, StoredObject>,
): string[] {
  const problems: string[] = [];
  const states = new Map(rows.objects.map(({ key, state }) => [key, state]));
  const named = new Set([
    ...rows.contents.flatMap(({ segments }) => segments.map(({ key }) => key)),
    ...rows.uploadParts.map(({ key }) => key),
    ...rows.xorbs.flatMap((xorb) => [xorb.key, indexOf(xorb)]),
  ]);
  for (const key of before.keys()) if (!states.has(key)) problems.push(`object ${key} has no row`);
  for (const key of named)
    if (states.get(key) !== "live") problems.push(`object ${key} is named and ${states.get(key) ?? "has no row"}`);
  for (const [key, state] of states) {
    if (state !== "live") continue;
    if (!after.has(key)) problems.push(`object ${key} is not there`);
    if (!named.has(key)) problems.push(`object ${key} is live and named by nothing`);
  }
  return problems;
}

/** Xorbs have both of their objects; the terms of a file follow each other from its first byte to its last, within their xorbs. */
function xetProblems(rows: Rows, objects: ReadonlyMap<string, StoredObject>): string[] {
  const problems: string[] = [];
  const xorbs = new Map(rows.xorbs.map((xorb) => [xorb.id, xorb]));
  for (const xorb of rows.xorbs) {
    // A footer may follow the chunks.
    if ((objects.get(xorb.key)?.size ?? -1) < xorb.packed_size) problems.push(`xorb ${xorb.hash} lacks bytes`);
    if ((objects.get(indexOf(xorb))?.size ?? 0) === 0) problems.push(`xorb ${xorb.hash} lacks its index`);
  }
  const files = new Map(rows.files.map((file) => [file.id, { file, end: 0 }]));
  for (const term of rows.terms) {
    const found = files.get(term.file_id);
    const xorb = xorbs.get(term.xorb_id);
    if (found === undefined) problems.push(`a term of file ${term.file_id} is left, which is not there`);
    if (xorb === undefined) problems.push(`file ${found?.file.hash} needs xorb ${term.xorb_id}, which is not there`);
    else if (
      term.chunk_start < 0 ||
      term.chunk_start >= term.chunk_end ||
      term.chunk_end > xorb.chunks ||
      term.byte_start >= term.byte_end ||
      term.byte_end > xorb.packed_size
    )
      problems.push(`a term of file ${found?.file.hash} lies outside of xorb ${xorb.hash}`);
    if (found?.file.state !== "registered") continue;
    if (term.offset !== found.end) problems.push(`file ${found.file.hash} has a gap at ${found.end}`);
    found.end = term.offset + term.length;
  }
  for (const { file, end } of files.values())
    if (file.state === "registered" && end !== file.size)
      problems.push(`file ${file.hash} has ${file.size} bytes, its terms ${end}`);
  return problems;
}
