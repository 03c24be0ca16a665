// The tables of D1: the truth about everything but the bytes. Times are milliseconds since 1970 unless a name says otherwise.
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { AccountName, FilePath, GitId, JobId, RefName, RepoName, RepoType, Sha256, XetHash } from "../ids";

/** Users and organizations share one namespace; a name once given stays taken (`deletedAt` keeps the row). */
export const accounts = sqliteTable("accounts", {
  id: text().primaryKey(),
  kind: text({ enum: ["user", "org"] }).notNull(),
  name: text().$type<AccountName>().notNull(),
  nameKey: text("name_key").notNull().unique(),
  fullname: text().notNull(),
  email: text(),
  isAdmin: integer("is_admin", { mode: "boolean" }).notNull().default(false),
  createdAt: integer("created_at").notNull(),
  deletedAt: integer("deleted_at"),
});

export const memberships = sqliteTable(
  "memberships",
  {
    orgId: text("org_id").notNull(),
    userId: text("user_id").notNull(),
    role: text({ enum: ["read", "write", "admin"] }).notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.orgId, t.userId] }), index("memberships_user").on(t.userId)],
);

export const tokens = sqliteTable(
  "tokens",
  {
    id: text().primaryKey(),
    accountId: text("account_id").notNull(),
    name: text().notNull(),
    /** SHA-256 of the token in hex: a token is 240 random bits, so no slow hash is needed. */
    hash: text().notNull().unique(),
    scope: text({ enum: ["read", "write", "admin"] }).notNull(),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
    /** Days since 1970: a finer grain would cost a write on every request. */
    lastUsedDay: integer("last_used_day"),
    revokedAt: integer("revoked_at"),
  },
  (t) => [index("tokens_account").on(t.accountId)],
);

/** Programs that wait to be let in by someone (RFC 8628). Only hashes of their codes are kept. */
export const deviceCodes = sqliteTable(
  "device_codes",
  {
    /** Of the code that the program asks with. */
    hash: text().primaryKey(),
    /** Of the short code that a person types. */
    userHash: text("user_hash").notNull().unique(),
    state: text({ enum: ["waiting", "approved", "denied"] })
      .notNull()
      .default("waiting"),
    /** Who decided, with which token, and what the program's own token will be. */
    accountId: text("account_id"),
    tokenId: text("token_id"),
    name: text(),
    scope: text({ enum: ["read", "write", "admin"] }),
    intervalS: integer("interval_s").notNull(),
    polledAt: integer("polled_at"),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [index("device_codes_expiry").on(t.expiresAt)],
);

/** How many codes an account has tried lately. */
export const deviceAttempts = sqliteTable("device_attempts", {
  accountId: text("account_id").primaryKey(),
  attempts: integer().notNull(),
  startedAt: integer("started_at").notNull(),
});

export const repos = sqliteTable(
  "repos",
  {
    id: text().primaryKey(),
    type: text().$type<RepoType>().notNull(),
    ownerId: text("owner_id").notNull(),
    name: text().$type<RepoName>().notNull(),
    nameKey: text("name_key").notNull(),
    private: integer({ mode: "boolean" }).notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    /** Who wants the files must ask first: `auto` is answered at once, `manual` by a person. */
    gated: text({ enum: ["auto", "manual"] }),
    likes: integer().notNull().default(0),
    /** Of the last 30 days; like `downloads` and `trending` as of the last tally. */
    recentLikes: integer("recent_likes").notNull().default(0),
    /** Of the last 30 days, and of all time; summed up from `download_days`. */
    downloads: integer().notNull().default(0),
    downloadsAllTime: integer("downloads_all_time").notNull().default(0),
    trending: integer().notNull().default(0),
    /** When the counts above are to be summed up again; null where nothing of the last 30 days counts. */
    tallyAt: integer("tally_at"),
    /** Copies of what `repo_index` holds, made by its triggers, so that lists can be in their order; 0 where unknown. */
    parameters: integer().notNull().default(0),
    usedStorage: integer("used_storage").notNull().default(0),
  },
  (t) => [
    uniqueIndex("repos_name").on(t.ownerId, t.type, t.nameKey),
    // One for each order that lists come in.
    index("repos_updated").on(t.type, t.updatedAt, t.id),
    index("repos_created").on(t.type, t.createdAt, t.id),
    index("repos_likes").on(t.type, t.likes, t.id),
    index("repos_recent_likes").on(t.type, t.recentLikes, t.id),
    index("repos_downloads").on(t.type, t.downloads, t.id),
    index("repos_trending").on(t.type, t.trending, t.id),
    index("repos_parameters").on(t.type, t.parameters, t.id),
    index("repos_used_storage").on(t.type, t.usedStorage, t.id),
    index("repos_gated").on(t.type, t.gated).where(sql`gated is not null`),
    index("repos_tally").on(t.tallyAt).where(sql`tally_at is not null`),
  ],
);

/** Every three characters in a row of a repository's full name in lower case, kept by triggers: what a search begins with. */
export const repoGrams = sqliteTable(
  "repo_grams",
  { repoId: text("repo_id").notNull(), gram: text().notNull() },
  (t) => [primaryKey({ columns: [t.repoId, t.gram] }), index("repo_grams_gram").on(t.gram, t.repoId)],
);

/** Branches, tags and pull request refs: the only mutable part of a repository's content; moved by compare-and-swap. */
export const refs = sqliteTable(
  "refs",
  {
    repoId: text("repo_id").notNull(),
    name: text().$type<RefName>().notNull(),
    target: text().$type<GitId>().notNull(),
    /** Of an annotated tag, whose `target` is the commit that it leads to. */
    tagObject: text("tag_object").$type<GitId>(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.name] })],
);

/** Annotated tags, as git stores them. */
export const tagObjects = sqliteTable(
  "tag_objects",
  {
    repoId: text("repo_id").notNull(),
    id: text().$type<GitId>().notNull(),
    /** What the tag names: a commit, or another tag. */
    target: text().$type<GitId>().notNull(),
    /** The object's content, verbatim. */
    content: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.id] })],
);

/** Discussions and pull requests, numbered together in each repository from 1; what a pull request proposes is under `refs/pr/<number>`. */
export const discussions = sqliteTable(
  "discussions",
  {
    repoId: text("repo_id").notNull(),
    number: integer().notNull(),
    title: text().notNull(),
    status: text({ enum: ["draft", "open", "closed", "merged"] }).notNull(),
    /** The branch that a pull request is meant for; null for a discussion. */
    base: text().$type<RefName>(),
    /** What the base became when it was merged. */
    mergeCommit: text("merge_commit").$type<GitId>(),
    authorId: text("author_id").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.number] }), index("discussions_author").on(t.authorId, t.createdAt)],
);

/** What happened in a discussion, in order; its first comment is its description. */
export const discussionEvents = sqliteTable(
  "discussion_events",
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    /** Lower-case hex, as clients send it back. */
    id: text().notNull().unique(),
    repoId: text("repo_id").notNull(),
    number: integer().notNull(),
    type: text({ enum: ["comment", "status-change", "title-change", "commit"] }).notNull(),
    authorId: text("author_id").notNull(),
    createdAt: integer("created_at").notNull(),
    data: text({ mode: "json" }).$type<unknown>().notNull(),
  },
  (t) => [index("discussion_events_discussion").on(t.repoId, t.number, t.seq)],
);

export const commits = sqliteTable(
  "commits",
  {
    repoId: text("repo_id").notNull(),
    id: text().$type<GitId>().notNull(),
    tree: text().$type<GitId>().notNull(),
    parents: text({ mode: "json" }).$type<GitId[]>().notNull(),
    authorName: text("author_name").notNull(),
    authorEmail: text("author_email").notNull(),
    /** Seconds since 1970, as git stores it. */
    authoredAt: integer("authored_at").notNull(),
    message: text().notNull(),
    /** Seconds since 1970; null where it is the author's time, as in every commit that the hub makes. */
    committedAt: integer("committed_at"),
    /** The object's content, verbatim; null where the columns above make it: author and committer the same, in UTC. */
    content: text(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.id] })],
);

/**
 * One row an entry of a git tree, keyed by the tree's id, so that commits share unchanged trees. Kept per repository:
 * a SHA-1 collision made in one repository can't reach another.
 */
export const treeEntries = sqliteTable(
  "tree_entries",
  {
    repoId: text("repo_id").notNull(),
    tree: text().$type<GitId>().notNull(),
    name: text().notNull(),
    kind: text({ enum: ["file", "directory"] }).notNull(),
    /** Git id of the subtree or blob; of the pointer blob where `lfs`. */
    id: text().$type<GitId>().notNull(),
    /** Of the file's real bytes; null for a directory. */
    sha256: text().$type<Sha256>(),
    size: integer().notNull(),
    lfs: integer({ mode: "boolean" }).notNull(),
    /** Null for what git calls 100644 and 40000. */
    mode: text({ enum: ["100755", "120000"] }),
  },
  (t) => [
    primaryKey({ columns: [t.repoId, t.tree, t.name] }),
    index("tree_entries_id").on(t.repoId, t.id),
    index("tree_entries_sha256").on(t.repoId, t.sha256).where(sql`sha256 is not null`),
  ],
);

export type Segment = { readonly key: string; readonly size: number; readonly sha256: Sha256 };

/** One object of the bucket. Its row is there before its first byte, and no key is ever used twice. */
export const objects = sqliteTable(
  "objects",
  {
    key: text().primaryKey(),
    /** `staged`: no row names it yet. `live`: one does. `condemned`: none does any more, and none may again. */
    state: text({ enum: ["staged", "live", "condemned"] }).notNull(),
    changedAt: integer("changed_at").notNull(),
  },
  (t) => [index("objects_state").on(t.state, t.changedAt)],
);

/** Bytes by digest, kept as segments: verified before the row exists, never changed after. */
export const contents = sqliteTable(
  "contents",
  {
    sha256: text().$type<Sha256>().primaryKey(),
    size: integer().notNull(),
    segments: text({ mode: "json" }).$type<Segment[]>().notNull(),
    createdAt: integer("created_at").notNull(),
    idleSince: integer("idle_since"),
  },
  (t) => [index("contents_idle").on(t.idleSince)],
);

/** `public`, or the id of the owner whose private repositories share it. */
export type StorageScope = string;

/** A stored xorb: the packed chunks under `key`, what lies where under `key` + `.index`. */
export const xorbs = sqliteTable(
  "xorbs",
  {
    id: integer().primaryKey({ autoIncrement: true }),
    hash: text().$type<XetHash>().notNull(),
    scope: text().$type<StorageScope>().notNull(),
    /** Who sent it first; null for what the hub built. That client's cache may refer to it for weeks. */
    uploaderId: text("uploader_id"),
    key: text().notNull().unique(),
    /** Bytes of the object, chunk headers included. */
    packedSize: integer("packed_size").notNull(),
    /** Bytes of the chunks, unpacked. */
    size: integer().notNull(),
    chunks: integer().notNull(),
    createdAt: integer("created_at").notNull(),
    idleSince: integer("idle_since"),
  },
  (t) => [uniqueIndex("xorbs_hash").on(t.hash, t.scope), index("xorbs_idle").on(t.idleSince)],
);

/**
 * A file made of ranges of xorbs. `open` while its terms are being written, `removed` while they are being deleted: only a
 * `registered` one may be named.
 */
export const xetFiles = sqliteTable(
  "xet_files",
  {
    id: integer().primaryKey({ autoIncrement: true }),
    hash: text().$type<XetHash>().notNull(),
    scope: text().$type<StorageScope>().notNull(),
    size: integer().notNull(),
    state: text({ enum: ["open", "registered", "removed"] }).notNull(),
    /** Of the content, computed by the hub; null until it has. */
    sha256: text().$type<Sha256>(),
    createdAt: integer("created_at").notNull(),
    idleSince: integer("idle_since"),
  },
  (t) => [
    uniqueIndex("xet_files_hash").on(t.hash, t.scope).where(sql`state = 'registered'`),
    index("xet_files_idle").on(t.idleSince),
    index("xet_files_unregistered").on(t.state, t.createdAt).where(sql`state <> 'registered'`),
  ],
);

/** One range of chunks of a file, at `offset` in the file. Byte positions are those of the packed xorb, `end` exclusive. */
export const xetTerms = sqliteTable(
  "xet_terms",
  {
    fileId: integer("file_id").notNull(),
    offset: integer().notNull(),
    length: integer().notNull(),
    xorbId: integer("xorb_id").notNull(),
    chunkStart: integer("chunk_start").notNull(),
    chunkEnd: integer("chunk_end").notNull(),
    byteStart: integer("byte_start").notNull(),
    byteEnd: integer("byte_end").notNull(),
  },
  (t) => [primaryKey({ columns: [t.fileId, t.offset] }), index("xet_terms_xorb").on(t.xorbId)],
);

/** Chunks that clients ask for by hash, and the xorbs that hold them. */
export const dedupChunks = sqliteTable(
  "dedup_chunks",
  { chunk: text().$type<XetHash>().notNull(), xorbId: integer("xorb_id").notNull() },
  (t) => [primaryKey({ columns: [t.chunk, t.xorbId] }), index("dedup_chunks_xorb").on(t.xorbId)],
);

/**
 * Which repository holds which bytes: knowing a digest gives no right to link it, holding it does. With `fileId` as that Xet
 * file, without as the content of the digest.
 */
export const repoContents = sqliteTable(
  "repo_contents",
  {
    repoId: text("repo_id").notNull(),
    sha256: text().$type<Sha256>().notNull(),
    fileId: integer("file_id"),
    /** `claimed`: the digest is the uploader's word, good in this repository only. `mismatched`: it was wrong. */
    state: text({ enum: ["verified", "claimed", "mismatched"] })
      .notNull()
      .default("verified"),
    createdAt: integer("created_at").notNull(),
    idleSince: integer("idle_since"),
  },
  (t) => [
    primaryKey({ columns: [t.repoId, t.sha256] }),
    index("repo_contents_sha256").on(t.sha256),
    index("repo_contents_file").on(t.fileId),
    index("repo_contents_idle").on(t.idleSince),
  ],
);

/** Background work on stored bytes. Each step is bounded and ends by writing its progress. */
export const storageTasks = sqliteTable(
  "storage_tasks",
  {
    kind: text({ enum: ["verify", "ingest", "pack"] }).notNull(),
    /** `verify`: the id of a Xet file. `ingest`: repository id and digest, with a space between. `pack`: the id of a repository. */
    subject: text().notNull(),
    progress: text({ mode: "json" }).$type<unknown>(),
    attempts: integer().notNull().default(0),
    problem: text(),
    dueAt: integer("due_at").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.kind, t.subject] }), index("storage_tasks_due").on(t.dueAt)],
);

/** An open upload belongs to one repository or to one job. */
export const uploads = sqliteTable(
  "uploads",
  {
    id: text().primaryKey(),
    repoId: text("repo_id"),
    jobId: text("job_id").$type<JobId>(),
    sha256: text().$type<Sha256>().notNull(),
    size: integer().notNull(),
    partSize: integer("part_size").notNull(),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
    /** Kept until it expires, so that a client that repeats its last request is answered again. */
    completedAt: integer("completed_at"),
  },
  (t) => [index("uploads_expiry").on(t.expiresAt)],
);

export const uploadParts = sqliteTable(
  "upload_parts",
  {
    uploadId: text("upload_id").notNull(),
    number: integer().notNull(),
    key: text().notNull(),
    size: integer().notNull(),
    sha256: text().$type<Sha256>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.uploadId, t.number] })],
);

export const jobStates = ["queued", "running", "publishing", "succeeded", "failed", "cancelled"] as const;
export type JobState = (typeof jobStates)[number];
export type JobKind = "merge" | "verify" | "evaluate" | "train";

export const jobs = sqliteTable(
  "jobs",
  {
    id: text().$type<JobId>().primaryKey(),
    kind: text().$type<JobKind>().notNull(),
    state: text().$type<JobState>().notNull(),
    /** Fences the compute service's work: only the newest attempt may report. */
    attempt: integer().notNull().default(1),
    /** Which workflow instance drives the job: a dead one is replaced by the next, the compute service's work goes on. */
    driver: integer().notNull().default(1),
    actorId: text("actor_id").notNull(),
    /** `<actor>:<Idempotency-Key>`. */
    requestKey: text("request_key").unique(),
    requestSha256: text("request_sha256").$type<Sha256>().notNull(),
    /** What was asked, as asked. */
    request: text({ mode: "json" }).$type<unknown>().notNull(),
    /** The plan: what the compute service gets, with revisions resolved to digests, and what publishing needs. */
    spec: text({ mode: "json" }).$type<unknown>().notNull(),
    outputRepoId: text("output_repo_id"),
    outputRef: text("output_ref").$type<RefName>(),
    progress: text({ mode: "json" }).$type<unknown>(),
    /** What the compute service reported, kept until it is published. */
    reported: text({ mode: "json" }).$type<unknown>(),
    result: text({ mode: "json" }).$type<unknown>(),
    error: text({ mode: "json" }).$type<unknown>(),
    createdAt: integer("created_at").notNull(),
    startedAt: integer("started_at"),
    updatedAt: integer("updated_at").notNull(),
    endedAt: integer("ended_at"),
    deadlineAt: integer("deadline_at").notNull(),
    /** When the driver will have looked at the job at the latest: one that has not is replaced. */
    dueAt: integer("due_at").notNull(),
  },
  (t) => [
    index("jobs_actor").on(t.actorId, t.createdAt),
    index("jobs_due").on(t.state, t.dueAt),
    index("jobs_output").on(t.outputRepoId, t.createdAt),
  ],
);

export const jobInputs = sqliteTable(
  "job_inputs",
  {
    jobId: text("job_id").$type<JobId>().notNull(),
    name: text().notNull(),
    repoId: text("repo_id").notNull(),
    commitId: text("commit_id").$type<GitId>().notNull(),
    path: text().$type<FilePath>().notNull(),
    sha256: text().$type<Sha256>().notNull(),
    size: integer().notNull(),
    purpose: text({ enum: ["download", "merge", "evaluate", "train"] }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.name] }), index("job_inputs_repo").on(t.repoId)],
);

/** Bytes of a job's own: what the compute service uploaded, linked to a repository only when the job is published, and inputs that the hub made. */
export const jobContents = sqliteTable(
  "job_contents",
  {
    jobId: text("job_id").$type<JobId>().notNull(),
    sha256: text().$type<Sha256>().notNull(),
    /** The name of an input; null for what was uploaded. */
    name: text(),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.sha256] }), index("job_contents_sha256").on(t.sha256)],
);

export const jobEvents = sqliteTable(
  "job_events",
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    jobId: text("job_id").$type<JobId>().notNull(),
    attempt: integer().notNull(),
    /** The compute service's own number (a repeat is dropped); null for events of the edge. */
    sourceSeq: integer("source_seq"),
    at: integer().notNull(),
    type: text().notNull(),
    data: text({ mode: "json" }).$type<unknown>().notNull(),
  },
  (t) => [
    index("job_events_job").on(t.jobId, t.seq),
    uniqueIndex("job_events_source").on(t.jobId, t.attempt, t.sourceSeq),
  ],
);

/** What a revision was made from. */
export const lineage = sqliteTable(
  "lineage",
  {
    repoId: text("repo_id").notNull(),
    commitId: text("commit_id").$type<GitId>().notNull(),
    ordinal: integer().notNull(),
    relation: text({ enum: ["merge", "adapter", "finetune", "dataset"] }).notNull(),
    parentRepoId: text("parent_repo_id").notNull(),
    parentCommitId: text("parent_commit_id").$type<GitId>().notNull(),
    /** The parent's files that were used: path and SHA-256. */
    files: text({ mode: "json" }).$type<{ path: FilePath; sha256: Sha256 }[]>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.commitId, t.ordinal] }), index("lineage_parent").on(t.parentRepoId)],
);

export const evaluations = sqliteTable(
  "evaluations",
  {
    id: text().primaryKey(),
    jobId: text("job_id").$type<JobId>().notNull().unique(),
    actorId: text("actor_id").notNull(),
    modelRepoId: text("model_repo_id").notNull(),
    modelCommitId: text("model_commit_id").$type<GitId>().notNull(),
    datasetRepoId: text("dataset_repo_id").notNull(),
    datasetCommitId: text("dataset_commit_id").$type<GitId>().notNull(),
    split: text().notNull(),
    /** SHA-256 of the canonical JSON of what makes the result repeatable: equal identity, comparable result. */
    identity: text().$type<Sha256>().notNull(),
    record: text({ mode: "json" }).$type<unknown>().notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    index("evaluations_model").on(t.modelRepoId, t.createdAt),
    index("evaluations_dataset").on(t.datasetRepoId, t.createdAt),
  ],
);

/** The audit trail: CloudEvents fields, and who did what to which resource, for which purpose, with which decision. */
export const events = sqliteTable(
  "events",
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    type: text().notNull(),
    source: text().notNull(),
    subject: text().notNull(),
    time: integer().notNull(),
    actor: text().notNull(),
    action: text().notNull(),
    /** Id of the repository or account whose admins may see the event; null where only the hub's administrators may. */
    scopeId: text("scope_id"),
    /** Of the repository that a change is about. */
    repoId: text("repo_id"),
    purpose: text(),
    decision: text({ enum: ["allow", "deny"] }).notNull(),
    reason: text(),
    requestId: text("request_id").notNull(),
    data: text({ mode: "json" }).$type<unknown>(),
  },
  (t) => [
    index("events_scope").on(t.scopeId, t.seq),
    index("events_actor").on(t.actor, t.seq),
    /** What webhooks may be told, without the downloads, which are most of the trail. */
    index("events_news").on(t.scopeId, t.seq).where(sql`decision = 'allow' and type <> 'content.used'`),
  ],
);

/** Entries of packs, kept so that clones need not read object by object; made again at will. Each object of a repository is in one of them at most. */
export const gitPacks = sqliteTable(
  "git_packs",
  {
    key: text().primaryKey(),
    repoId: text("repo_id").notNull(),
    objects: integer().notNull(),
    /** Bytes of the entries; the index of them lies behind. */
    size: integer().notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [index("git_packs_repo").on(t.repoId, t.createdAt)],
);

/** What the files of a tree tell about a model or dataset: a pure function of the tree, computed when it is published or first asked for. */
export const treeFacts = sqliteTable(
  "tree_facts",
  {
    repoId: text("repo_id").notNull(),
    tree: text().$type<GitId>().notNull(),
    /** Of the code that computed them: older ones are computed again. */
    version: integer().notNull(),
    facts: text({ mode: "json" }).$type<unknown>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.tree] })],
);

/** The facts of `main` that lists filter and sort by. */
export const repoIndex = sqliteTable(
  "repo_index",
  {
    repoId: text("repo_id").primaryKey(),
    tree: text().$type<GitId>().notNull(),
    version: integer().notNull(),
    pipelineTag: text("pipeline_tag"),
    library: text(),
    license: text(),
    parameters: integer(),
    /** Bytes of the distinct files of all revisions. */
    usedStorage: integer("used_storage").notNull(),
  },
  (t) => [
    index("repo_index_pipeline").on(t.pipelineTag, t.repoId),
    index("repo_index_library").on(t.library, t.repoId),
  ],
);

export const repoTags = sqliteTable("repo_tags", { repoId: text("repo_id").notNull(), tag: text().notNull() }, (t) => [
  primaryKey({ columns: [t.repoId, t.tag] }),
  index("repo_tags_tag").on(t.tag, t.repoId),
]);

/** Former names of repositories: they lead to the repository until someone else takes the name. */
export const repoAliases = sqliteTable(
  "repo_aliases",
  {
    ownerId: text("owner_id").notNull(),
    type: text().$type<RepoType>().notNull(),
    nameKey: text("name_key").notNull(),
    repoId: text("repo_id").notNull(),
    movedAt: integer("moved_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.ownerId, t.type, t.nameKey] }), index("repo_aliases_repo").on(t.repoId)],
);

/** Who asked for the files of a gated repository, and what was answered. */
export const accessRequests = sqliteTable(
  "access_requests",
  {
    repoId: text("repo_id").notNull(),
    accountId: text("account_id").notNull(),
    status: text({ enum: ["pending", "accepted", "rejected"] }).notNull(),
    /** Answers to the card's own questions; null where access was given without being asked for. */
    fields: text({ mode: "json" }).$type<Record<string, string>>(),
    createdAt: integer("created_at").notNull(),
    decidedAt: integer("decided_at"),
    decidedBy: text("decided_by"),
    reason: text(),
  },
  (t) => [
    primaryKey({ columns: [t.repoId, t.accountId] }),
    index("access_requests_account").on(t.accountId),
    index("access_requests_status").on(t.repoId, t.status, t.createdAt, t.accountId),
  ],
);

export const likes = sqliteTable(
  "likes",
  {
    repoId: text("repo_id").notNull(),
    accountId: text("account_id").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.repoId, t.accountId] }),
    index("likes_repo").on(t.repoId, t.createdAt, t.accountId),
    index("likes_account").on(t.accountId, t.createdAt, t.repoId),
  ],
);

/** What a client of a day did: fetched bytes, only looked whether they changed, or did either as part of a CI run. */
export const useKinds = ["fetch", "look", "ci"] as const;
export type UseKind = (typeof useKinds)[number];

/** How many distinct clients used a repository on a day (days since 1970), by kind of use. */
export const downloadDays = sqliteTable(
  "download_days",
  {
    repoId: text("repo_id").notNull(),
    day: integer().notNull(),
    /** Fetched bytes: these are the downloads that are shown. */
    fetches: integer().notNull().default(0),
    looks: integer().notNull().default(0),
    ci: integer().notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.repoId, t.day] })],
);

/** Who used what on which day, as a hash that means nothing the day after, and is deleted then: so a client counts once. */
export const downloadClients = sqliteTable(
  "download_clients",
  {
    day: integer().notNull(),
    repoId: text("repo_id").notNull(),
    kind: text({ enum: useKinds }).notNull(),
    client: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.day, t.repoId, t.kind, t.client] }), index("download_clients_repo").on(t.repoId)],
);

export const follows = sqliteTable(
  "follows",
  {
    followerId: text("follower_id").notNull(),
    accountId: text("account_id").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.followerId, t.accountId] }), index("follows_account").on(t.accountId, t.followerId)],
);

export const collections = sqliteTable(
  "collections",
  {
    /** 24 hex digits: the end of the slug, which stays when the title changes. */
    id: text().primaryKey(),
    ownerId: text("owner_id").notNull(),
    title: text().notNull(),
    titleKey: text("title_key").notNull(),
    description: text(),
    theme: text().notNull(),
    private: integer({ mode: "boolean" }).notNull(),
    position: integer().notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [uniqueIndex("collections_title").on(t.ownerId, t.titleKey), index("collections_updated").on(t.updatedAt)],
);

export const collectionItems = sqliteTable(
  "collection_items",
  {
    id: text().primaryKey(),
    collectionId: text("collection_id").notNull(),
    type: text({ enum: ["model", "dataset", "collection"] }).notNull(),
    /** Id of a repository or of another collection. */
    subjectId: text("subject_id").notNull(),
    note: text(),
    position: integer().notNull(),
    addedAt: integer("added_at").notNull(),
  },
  (t) => [
    uniqueIndex("collection_items_subject").on(t.collectionId, t.type, t.subjectId),
    index("collection_items_what").on(t.type, t.subjectId),
  ],
);

/** Addresses that are told what happens in the repositories and namespaces they watch. */
export const webhooks = sqliteTable(
  "webhooks",
  {
    id: text().primaryKey(),
    ownerId: text("owner_id").notNull(),
    url: text().notNull(),
    secret: text(),
    watched: text({ mode: "json" }).$type<{ type: "model" | "dataset" | "user" | "org"; name: string }[]>().notNull(),
    domains: text({ mode: "json" }).$type<("repo" | "discussion")[]>().notNull(),
    disabled: integer({ mode: "boolean" }).notNull().default(false),
    createdAt: integer("created_at").notNull(),
    /** Events up to this one of the trail have been told, or were none of its business. */
    seenSeq: integer("seen_seq").notNull(),
    /** Attempts in a row that the receiver did not take. */
    failures: integer().notNull().default(0),
    /** Not to be looked at before: a failed attempt waits, and one at work is leased. */
    dueAt: integer("due_at").notNull(),
  },
  (t) => [index("webhooks_owner").on(t.ownerId), index("webhooks_due").on(t.disabled, t.dueAt)],
);

/** How far garbage collection has looked through each kind of row: where the next page starts, null between two rounds. */
export const collectionRounds = sqliteTable("collection_rounds", {
  kind: text().primaryKey(),
  position: text(),
  startedAt: integer("started_at").notNull(),
  /** When the last whole round ended; null until one has. */
  finishedAt: integer("finished_at"),
});

/** Never holds a row: a guard inserts NULL when its condition is false, which rolls its whole batch back. */
export const guards = sqliteTable("guards", { holds: integer().notNull() });
