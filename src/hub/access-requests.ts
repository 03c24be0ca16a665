// Access to gated repositories: who asked for the files, with which answers, and what became of it.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, requireUser } from "../access/caller";
import type { AccessStatus, Gating } from "../access/policy";
import { asJson, commitBatch, type Guard, isUniqueViolation, queryRows, type Statement } from "../db/client";
import { accessRequests } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { type AccountName, parseAccountName } from "../ids";
import { type Account, findAccount } from "./accounts";
import { type Answers, checkAnswers, readGateForm } from "./gate-form";
import { type Repository, repoName, type Snapshot, targetOf } from "./repositories";

export type AccessRequest = {
  /** The asker's account: one request a person. */
  readonly id: string;
  readonly user: AccountName;
  readonly fullname: string;
  /** Null where access was given without being asked for: then nobody agreed to share it. */
  readonly email: string | null;
  readonly status: AccessStatus;
  readonly fields: Answers | null;
  readonly createdAt: number;
};

/** @throws not_gated */
function gatingOf(repo: Repository): Gating {
  if (repo.gated === null) throw new HubError("not_gated", { repo: repoName(repo) });
  return repo.gated;
}

const isGated = (repo: Repository, gating: Gating): Guard => ({
  holds: sql`exists (select 1 from repos where id = ${repo.id} and gated = ${gating})`,
  otherwise: () => new HubError("not_gated", { repo: repoName(repo) }),
});

function eventOf(caller: Caller, repo: Repository, type: string, data: Record<string, unknown>): Statement {
  const { platform, actor } = caller;
  const action = type === "access.requested" || type === "access.cancelled" ? "access.ask" : "access.manage";
  return eventStatement(platform.db, allowedEvent(platform, actor, { ...targetOf(repo), type, action, data }));
}

/**
 * Asks for the caller's access with answers to the card's questions; where access is given at once, it is there with the answer.
 * `country`: where the caller is, as far as known. @throws not_gated | access_requested | invalid_field naming the question
 */
export async function askForAccess(
  caller: Caller,
  main: Snapshot,
  given: { readonly answers: Answers; readonly country: string | null },
): Promise<AccessStatus> {
  const { platform } = caller;
  const { repo } = main;
  const user = requireUser(caller);
  authorize(caller, { action: "access.ask", repo }, targetOf(repo));
  const gating = gatingOf(repo);
  const form = await readGateForm(platform, main);
  const fields = checkAnswers(form, given.answers, given.country);
  const status = gating === "auto" ? "accepted" : "pending";
  const now = platform.now();
  try {
    await commitBatch(
      platform.db,
      [isGated(repo, gating)],
      [
        platform.db.insert(accessRequests).values({
          repoId: repo.id,
          accountId: user.id,
          status,
          fields,
          createdAt: now,
          decidedAt: status === "accepted" ? now : null,
        }),
        eventOf(caller, repo, "access.requested", { user: user.name, status }),
      ],
    );
  } catch (error) {
    if (!isUniqueViolation(error, "access_requests.repo_id")) throw error;
    throw new HubError("access_requested", { repo: repoName(repo), status: repo.access?.status ?? "pending" });
  }
  return status;
}

/** Takes the caller's request back, or gives up the access it got. A rejection stays. @throws access_request_not_found */
export async function cancelAccess(caller: Caller, repo: Repository): Promise<void> {
  const { platform } = caller;
  const user = requireUser(caller);
  authorize(caller, { action: "access.ask", repo }, targetOf(repo));
  const isThere: Guard = {
    holds: sql`exists (select 1 from access_requests where repo_id = ${repo.id} and account_id = ${user.id} and status <> 'rejected')`,
    otherwise: () => new HubError("access_request_not_found", { user: user.name }),
  };
  await commitBatch(
    platform.db,
    [isThere],
    [
      sql`delete from access_requests where repo_id = ${repo.id} and account_id = ${user.id}`,
      eventOf(caller, repo, "access.cancelled", { user: user.name }),
    ],
  );
}

const RequestRow = z.object({
  account_id: z.string(),
  name: z.string().transform((text) => parseAccountName(text, "user")),
  fullname: z.string(),
  email: z.string().nullable(),
  status: z.enum(["pending", "accepted", "rejected"]),
  fields: z
    .string()
    .transform((text) => z.record(z.string(), z.string()).parse(JSON.parse(text)))
    .nullable(),
  created_at: z.number(),
});

export type RequestPage = {
  readonly status: AccessStatus;
  readonly before?: { readonly createdAt: number; readonly id: string } | undefined;
  readonly limit: number;
};

/** Newest first. @throws not_gated | forbidden */
export async function listAccessRequests(
  caller: Caller,
  repo: Repository,
  { status, before, limit }: RequestPage,
): Promise<AccessRequest[]> {
  authorize(caller, { action: "access.manage", repo }, targetOf(repo));
  gatingOf(repo);
  const from =
    before === undefined ? sql`` : sql`and (q.created_at, q.account_id) < (${before.createdAt}, ${before.id})`;
  const rows = await queryRows(
    caller.platform.db,
    RequestRow,
    sql`select q.account_id, a.name, a.fullname, a.email, q.status, q.fields, q.created_at
      from access_requests q join accounts a on a.id = q.account_id
      where q.repo_id = ${repo.id} and q.status = ${status} ${from} order by q.created_at desc, q.account_id desc limit ${limit}`,
  );
  return rows.map(({ account_id: id, name: user, created_at: createdAt, email, fields, ...rest }) => ({
    ...rest,
    id,
    user,
    fields,
    email: fields === null ? null : email,
    createdAt,
  }));
}

export type Decision = { readonly status: AccessStatus; readonly reason?: string | undefined };

/**
 * Accepts, rejects or puts back a request; what was open to its asker is shut with the next request.
 * @throws not_gated | forbidden | account_not_found | access_request_not_found | access_request_unchanged
 */
export async function decideAccess(
  caller: Caller,
  repo: Repository,
  whose: { readonly user: AccountName } | { readonly requestId: string },
  { status, reason }: Decision,
): Promise<void> {
  const { platform } = caller;
  authorize(caller, { action: "access.manage", repo }, targetOf(repo));
  const gating = gatingOf(repo);
  const { id: decidedBy } = requireUser(caller);
  if ("user" in whose) await findUser(caller, whose.user);
  const [found] = await queryRows(
    platform.db,
    RequestRow.pick({ account_id: true, name: true, status: true }),
    sql`select q.account_id, a.name, q.status from access_requests q join accounts a on a.id = q.account_id
      where q.repo_id = ${repo.id} and ${"user" in whose ? sql`a.name_key = ${whose.user.toLowerCase()}` : sql`q.account_id = ${whose.requestId}`}`,
  );
  const name = "user" in whose ? whose.user : whose.requestId;
  if (found === undefined) throw new HubError("access_request_not_found", { user: name });
  if (found.status === status) throw new HubError("access_request_unchanged", { user: found.name, status });
  const now = platform.now();
  const unchanged: Guard = {
    holds: sql`exists (select 1 from access_requests where repo_id = ${repo.id} and account_id = ${found.account_id} and status = ${found.status})`,
    otherwise: () => new HubError("access_request_not_found", { user: found.name }),
  };
  await commitBatch(
    platform.db,
    [isGated(repo, gating), unchanged],
    [
      sql`update access_requests set status = ${status}, reason = ${reason ?? null}, decided_at = ${now}, decided_by = ${decidedBy}
        where repo_id = ${repo.id} and account_id = ${found.account_id}`,
      eventOf(caller, repo, `access.${status === "pending" ? "reopened" : status}`, { user: found.name }),
    ],
  );
}

/** Lets a user in who need not have asked. @throws not_gated | forbidden | account_not_found | access_granted */
export async function grantAccess(caller: Caller, repo: Repository, name: AccountName): Promise<void> {
  const { platform } = caller;
  authorize(caller, { action: "access.manage", repo }, targetOf(repo));
  const gating = gatingOf(repo);
  const { id: decidedBy } = requireUser(caller);
  const user = await findUser(caller, name);
  const now = platform.now();
  const isOutside: Guard = {
    holds: sql`not exists (select 1 from access_requests where repo_id = ${repo.id} and account_id = ${user.id} and status = 'accepted')`,
    otherwise: () => new HubError("access_granted", { user: user.name }),
  };
  await commitBatch(
    platform.db,
    [isGated(repo, gating), isOutside],
    [
      sql`insert into access_requests (repo_id, account_id, status, created_at, decided_at, decided_by)
        select ${repo.id}, value, 'accepted', ${now}, ${now}, ${decidedBy} from json_each(${asJson([user.id])}) where true
        on conflict do update set status = 'accepted', reason = null, decided_at = ${now}, decided_by = ${decidedBy}`,
      eventOf(caller, repo, "access.granted", { user: user.name }),
    ],
  );
}

async function findUser({ platform }: Caller, name: AccountName): Promise<Account> {
  const account = await findAccount(platform, name);
  if (account.kind !== "user") throw new HubError("account_not_found", { name });
  return account;
}
