// What a webhook says of an event of the trail: version 3 of the payload that receivers in the ecosystem read.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { type Caller, may } from "../access/caller";
import { asJson, queryRows } from "../db/client";
import type { Webhook } from "./webhooks";

/** An event of the trail, as far as a webhook tells of it. */
export const NewsRow = z.object({
  seq: z.number(),
  id: z.string(),
  type: z.string(),
  subject: z.string(),
  repo_id: z.string(),
  scope_id: z.string(),
  data: z
    .string()
    .nullable()
    .transform((text): unknown => (text === null ? null : JSON.parse(text))),
});
export type News = z.output<typeof NewsRow>;

type Action = "create" | "delete" | "move" | "update";
type Kind = readonly [action: Action, scope: string];

const KINDS = new Map<string, Kind>([
  ["repo.created", ["create", "repo"]],
  ["repo.deleted", ["delete", "repo"]],
  ["repo.moved", ["move", "repo"]],
  ["ref.moved", ["update", "repo.content"]],
  ["repo.visibility_changed", ["update", "repo.config"]],
  ["repo.gating_changed", ["update", "repo.config"]],
  ["discussion.created", ["create", "discussion"]],
  ["discussion.renamed", ["update", "discussion"]],
  ["discussion.status_changed", ["update", "discussion"]],
  ["pull.merged", ["update", "discussion"]],
  ["discussion.commented", ["create", "discussion.comment"]],
  ["discussion.comment_edited", ["update", "discussion.comment"]],
  ["discussion.comment_hidden", ["update", "discussion.comment"]],
]);

/** The types of events that are told at all. */
export const TOLD = [...KINDS.keys()];

const Moved = z.object({ ref: z.string(), oldSha: z.string().nullable(), newSha: z.string().nullable() });
const Config = z.object({ private: z.boolean().optional(), gated: z.string().nullable().optional() });
const Deleted = z.object({ private: z.boolean() });
/** Told once in the namespace that the repository left, and once in the one that it came to. */
const Renamed = z.union([z.object({ movedTo: z.string() }), z.object({ movedFrom: z.string() })]);
const Numbered = z.object({ number: z.number(), commentId: z.string().optional() });

const RepoFound = z.object({
  id: z.string(),
  type: z.enum(["model", "dataset"]),
  owner_id: z.string(),
  name: z.string(),
  private: z.number(),
  head: z.string().nullable(),
});
type RepoFound = z.output<typeof RepoFound>;

/** The repositories that events are about, by their ids: names change hands. */
async function reposOf(caller: Caller, news: readonly News[]): Promise<Map<string, RepoFound>> {
  const ids = [...new Set(news.map((one) => one.repo_id))];
  const rows = await queryRows(
    caller.platform.db,
    RepoFound,
    sql`select r.id, r.type, r.owner_id, o.name || '/' || r.name as name, r.private,
        (select target from refs where repo_id = r.id and name = 'refs/heads/main') as head
      from repos r join accounts o on o.id = r.owner_id where r.id in (select value from json_each(${asJson(ids)}))`,
  );
  return new Map(rows.map((row) => [row.id, row]));
}

const DiscussionFound = z.object({
  repo_id: z.string(),
  number: z.number(),
  comment_id: z.string().nullable(),
  title: z.string(),
  status: z.enum(["draft", "open", "closed", "merged"]),
  base: z.string().nullable(),
  merge_commit: z.string().nullable(),
  author_id: z.string(),
  comment_author: z.string().nullable(),
  comment_text: z.string().nullable(),
  comment_hidden: z.number().nullable(),
});
type DiscussionFound = z.output<typeof DiscussionFound>;
type Asked = { readonly repoId: string; readonly number: number; readonly commentId: string | null };
const keyOf = ({ repoId, number, commentId }: Asked): string => `${repoId} ${number} ${commentId}`;

async function discussionsOf(caller: Caller, asked: readonly Asked[]): Promise<Map<string, DiscussionFound>> {
  if (asked.length === 0) return new Map();
  const rows = await queryRows(
    caller.platform.db,
    DiscussionFound,
    sql`select d.repo_id, d.number, w.value ->> 'commentId' as comment_id, d.title, d.status, d.base, d.merge_commit, d.author_id,
        e.author_id as comment_author, e.data ->> 'text' as comment_text, e.data ->> 'hidden' as comment_hidden
      from json_each(${asJson(asked)}) w
      join discussions d on d.repo_id = w.value ->> 'repoId' and d.number = w.value ->> 'number'
      left join discussion_events e on e.id = w.value ->> 'commentId' and e.repo_id = d.repo_id and e.number = d.number`,
  );
  return new Map(
    rows.map((row) => [keyOf({ repoId: row.repo_id, number: row.number, commentId: row.comment_id }), row]),
  );
}

export type Payload = Record<string, unknown>;

/**
 * What to tell of each event, in their order; null for what the webhook does not want, for what is gone, and for what its owner,
 * whose rights of this moment are the caller's, may not read. Two queries.
 */
export async function payloadsOf(
  caller: Caller,
  webhook: Webhook,
  news: readonly News[],
): Promise<{ readonly news: News; readonly payload: Payload | null }[]> {
  const repos = await reposOf(caller, news);
  const asked = news.flatMap((one) => {
    const repo = repos.get(one.repo_id);
    const numbered = Numbered.safeParse(one.data);
    if (repo === undefined || !numbered.success) return [];
    return [{ repoId: repo.id, number: numbered.data.number, commentId: numbered.data.commentId ?? null }];
  });
  const discussions = await discussionsOf(caller, asked);
  return news.map((one) => ({ news: one, payload: payloadOf(caller, webhook, one, repos, discussions) }));
}

function payloadOf(
  caller: Caller,
  webhook: Webhook,
  news: News,
  repos: ReadonlyMap<string, RepoFound>,
  discussions: ReadonlyMap<string, DiscussionFound>,
): Payload | null {
  const kind = KINDS.get(news.type);
  if (kind === undefined) return null;
  const [action, scope] = kind;
  if (!webhook.domains.some((domain) => scope.startsWith(domain))) return null;
  const repo = action === "delete" ? deletedRepo(news) : repos.get(news.repo_id);
  if (repo === undefined) return null;
  const facts = { ownerId: repo.owner_id, private: repo.private === 1 };
  if (!may(caller, { action: "repo.read", repo: facts })) return null;
  const { publicUrl } = caller.platform.config;
  const details = detailsOf(publicUrl, news, repo, discussions);
  if (details === null) return null;
  return {
    event: { action, scope },
    repo: repoResource(publicUrl, repo),
    ...details,
    webhook: { id: webhook.id, version: 3 },
  };
}

/** Of a repository that is gone its last event keeps what is told. */
function deletedRepo(news: News): RepoFound | undefined {
  const { success, data } = Deleted.safeParse(news.data);
  if (!success) return undefined;
  const [type, name = ""] = news.subject.split(":");
  return {
    id: news.repo_id,
    type: type === "dataset" ? "dataset" : "model",
    owner_id: news.scope_id,
    name,
    private: data.private ? 1 : 0,
    head: null,
  };
}

const webUrl = (base: string, { type, name }: RepoFound): string =>
  `${base}/${type === "dataset" ? "datasets/" : ""}${name}`;
const apiUrl = (base: string, { type, name }: RepoFound): string => `${base}/api/${type}s/${name}`;

const repoResource = (base: string, repo: RepoFound) => ({
  type: repo.type,
  name: repo.name,
  id: repo.id,
  private: repo.private === 1,
  url: { web: webUrl(base, repo), api: apiUrl(base, repo) },
  owner: { id: repo.owner_id },
  ...(repo.head === null ? {} : { headSha: repo.head }),
});

/** What the payload says beside event and repository; null for what can't be told any more. */
function detailsOf(
  base: string,
  news: News,
  repo: RepoFound,
  discussions: ReadonlyMap<string, DiscussionFound>,
): Payload | null {
  switch (news.type) {
    case "ref.moved": {
      const moved = Moved.safeParse(news.data);
      return moved.success ? { updatedRefs: [moved.data] } : null;
    }
    case "repo.moved": {
      const renamed = Renamed.safeParse(news.data);
      if (!renamed.success) return null;
      const name = "movedTo" in renamed.data ? news.subject.slice(repo.type.length + 1) : renamed.data.movedFrom;
      const movedTo = { name: repo.name, owner: { id: repo.owner_id } };
      return { repo: repoResource(base, { ...repo, name }), movedTo };
    }
    case "repo.visibility_changed":
    case "repo.gating_changed":
      return { updatedConfig: Config.safeParse(news.data).data ?? {} };
    case "repo.created":
    case "repo.deleted":
      return {};
    default:
      return discussionDetails(base, news, repo, discussions);
  }
}

function discussionDetails(
  base: string,
  news: News,
  repo: RepoFound,
  discussions: ReadonlyMap<string, DiscussionFound>,
): Payload | null {
  const numbered = Numbered.safeParse(news.data);
  if (!numbered.success) return null;
  const { number, commentId = null } = numbered.data;
  const found = discussions.get(keyOf({ repoId: repo.id, number, commentId }));
  if (found === undefined) return null;
  const web = `${webUrl(base, repo)}/discussions/${number}`;
  const merged = found.merge_commit === null ? {} : { mergeCommitId: found.merge_commit };
  const discussion = {
    id: `${repo.id}-${number}`,
    num: number,
    title: found.title,
    url: { web, api: `${apiUrl(base, repo)}/discussions/${number}` },
    status: found.status,
    author: { id: found.author_id },
    isPullRequest: found.base !== null,
    ...(found.base === null ? {} : { changes: { base: found.base, ...merged } }),
  };
  if (commentId === null || found.comment_author === null) return { discussion };
  const hidden = found.comment_hidden === 1;
  const said = hidden || found.comment_text === null ? {} : { content: found.comment_text };
  const comment = { id: commentId, author: { id: found.comment_author }, hidden, url: { web: `${web}#${commentId}` } };
  return { discussion, comment: { ...comment, ...said } };
}
