// Pull requests: proposals of whoever may read a repository, each on a ref of its own, `refs/pr/N`.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, requireUser } from "../access/caller";
import { commitBatch, isUniqueViolation, queryRows, type Statement } from "../db/client";
import { discussionEvents, discussions } from "../db/schema";
import { HubError } from "../errors";
import { type GitId, parseAccountName, parseRefName, type RefName } from "../ids";
import { authorOf, type CommitRequest, prepareCommit } from "./commits";
import { createRefStatements } from "./refs";
import { MAIN, type Repository, type Snapshot, targetOf } from "./repositories";

export type NewPullRequest = { readonly title: string; readonly description: string };
export type PullRequest = {
  readonly number: number;
  readonly title: string;
  readonly description: string;
  readonly status: "draft" | "open" | "closed" | "merged";
  readonly author: string;
  readonly base: RefName;
  readonly createdAt: number;
};

/** Two may open the next one at once; more rounds than this is a storm, which the client should feel. */
const MAX_ROUNDS = 8;

export const pullRef = (number: number): RefName => parseRefName(`refs/pr/${number}`, "revision");

/** Opens a draft whose ref points where its base does. @throws forbidden */
export async function openDraft(caller: Caller, base: Snapshot, wanted: NewPullRequest): Promise<number> {
  const { repo, commit } = base;
  authorizeProposal(caller, repo);
  return numbered(caller, repo, async (number) => {
    const { guards, statements } = createRefStatements(caller, repo, pullRef(number), commit);
    await commitBatch(caller.platform.db, guards, [
      ...statements,
      ...pullRows(caller, repo, { number, base: MAIN, status: "draft", ...wanted }),
    ]);
    return number;
  });
}

/** Commits to a new ref that starts from the base, in one batch with the pull request. @throws forbidden */
export async function proposeCommit(
  caller: Caller,
  repo: Repository,
  request: Omit<CommitRequest, "ref"> & { readonly startFrom: RefName },
): Promise<{ number: number; commit: GitId }> {
  authorizeProposal(caller, repo);
  const author = authorOf(caller);
  const wanted = { title: request.summary, description: request.description ?? "" };
  return numbered(caller, repo, async (number) => {
    const prepared = await prepareCommit(caller, repo, { ...request, ref: pullRef(number) }, author);
    if (prepared.parent === null) throw new HubError("revision_not_found", { revision: request.startFrom });
    await commitBatch(caller.platform.db, prepared.guards, [
      ...prepared.statements,
      ...pullRows(caller, repo, { number, base: request.startFrom, status: "open", ...wanted }),
    ]);
    return { number, commit: prepared.id };
  });
}

export const authorizeProposal = (caller: Caller, repo: Repository): void =>
  authorize(caller, { action: "pull.create", repo }, targetOf(repo));

/** Gives `open` the next number; whoever else took it meanwhile makes it run again. */
async function numbered<T>(caller: Caller, repo: Repository, open: (number: number) => Promise<T>): Promise<T> {
  for (let round = 1; ; round++) {
    const [last] = await queryRows(
      caller.platform.db,
      z.object({ number: z.number() }),
      sql`select coalesce(max(number), 0) as number from discussions where repo_id = ${repo.id}`,
    );
    try {
      return await open((last?.number ?? 0) + 1);
    } catch (error) {
      const taken =
        isUniqueViolation(error, "discussions.repo_id") ||
        (error instanceof HubError && (error.code === "ref_moved" || error.code === "ref_exists"));
      if (!taken || round === MAX_ROUNDS) throw error;
    }
  }
}

function pullRows(
  caller: Caller,
  repo: Repository,
  pull: Pick<PullRequest, "number" | "title" | "description" | "base" | "status">,
): Statement[] {
  const { platform } = caller;
  const { number, title, status, base, description } = pull;
  const at = { repoId: repo.id, number, authorId: requireUser(caller).id, createdAt: platform.now() };
  const comment = { text: description, edits: [], hidden: false };
  return [
    platform.db.insert(discussions).values({ ...at, title, status, base }),
    platform.db.insert(discussionEvents).values({ ...at, id: newEventId(), type: "comment", data: comment }),
  ];
}

/** 24 lower-case hex digits. */
const newEventId = (): string => crypto.randomUUID().replaceAll("-", "").slice(0, 24);

const PullRow = z.object({
  number: z.number(),
  title: z.string(),
  description: z.string(),
  status: z.enum(["draft", "open", "closed", "merged"]),
  author: z.string().transform((text) => parseAccountName(text, "author")),
  base: z.string().transform((text) => parseRefName(text, "base")),
  created_at: z.number(),
});

/** @throws not_found */
export async function findPullRequest(caller: Caller, repo: Repository, number: number): Promise<PullRequest> {
  const [found] = await queryRows(
    caller.platform.db,
    PullRow,
    sql`select p.number, p.title, p.status, a.name as author, p.base, p.created_at,
        (select e.data ->> 'text' from discussion_events e where e.repo_id = p.repo_id and e.number = p.number order by e.seq limit 1) as description
      from discussions p join accounts a on a.id = p.author_id
      where p.repo_id = ${repo.id} and p.number = ${number} and p.base is not null`,
  );
  if (found === undefined) throw new HubError("not_found");
  const { created_at: createdAt, ...rest } = found;
  return { ...rest, createdAt };
}
