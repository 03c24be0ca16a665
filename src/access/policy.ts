// Who may do what, for which purpose: the only place that says yes or no, a pure function of what it is given.
import type { JobId } from "../ids";
import type { XetGrant } from "./xet-tokens";

export type Role = "read" | "write" | "admin";
export type Scope = "read" | "write" | "admin";
/** What weights or data are wanted for. */
export type Purpose = "download" | "merge" | "evaluate" | "train";

export type Actor =
  | { readonly kind: "anonymous" }
  | {
      readonly kind: "user";
      readonly id: string;
      readonly name: string;
      readonly isAdmin: boolean;
      /** What the token allows at most. */
      readonly scope: Scope;
      readonly tokenName: string;
      /** Null for who works without a token of the hub, as a job does in someone's name. */
      readonly tokenId: string | null;
      readonly memberships: readonly Membership[];
    }
  /** `holder`: who the token was given to, with the rights of this moment; null until they were asked. */
  | { readonly kind: "xet"; readonly grant: XetGrant; readonly holder: Holder | null }
  | { readonly kind: "job"; readonly id: JobId }
  | { readonly kind: "hub" };

/** Whoever can be given a Xet token. */
export type Holder = Extract<Actor, { readonly kind: "user" | "anonymous" }>;

export type Membership = {
  readonly orgId: string;
  readonly orgName: string;
  readonly orgFullname: string;
  readonly role: Role;
};

export type Request =
  | { readonly action: "repo.read"; readonly repo: RepoFacts }
  | { readonly action: "repo.use"; readonly repo: RepoFacts & Gate; readonly purpose: Purpose }
  | { readonly action: "pull.create" | "repo.like"; readonly repo: RepoFacts }
  | { readonly action: "repo.write" | "repo.manage" | "repo.delete"; readonly repo: RepoFacts }
  | { readonly action: "access.ask" | "access.manage"; readonly repo: RepoFacts }
  | { readonly action: "pull.push"; readonly repo: RepoFacts; readonly authorId: string }
  /** `find` asks what is stored already, as whoever uploads does. */
  | {
      readonly action: "xet.read" | "xet.find" | "xet.write";
      readonly repo: RepoFacts & Gate & { readonly id: string };
    }
  | { readonly action: "pull.merge"; readonly repo: RepoFacts }
  /** `write` opens discussions and comments in them. */
  | { readonly action: "discussion.write"; readonly repo: RepoFacts }
  /** `edit` changes what someone wrote; `steer` changes title and status, or hides a comment. `authorId`: whose it is. */
  | { readonly action: "discussion.edit" | "discussion.steer"; readonly repo: RepoFacts; readonly authorId: string }
  | { readonly action: "repo.create"; readonly ownerId: string }
  | { readonly action: "job.create" }
  | { readonly action: "job.read" | "job.cancel"; readonly job: JobFacts }
  | { readonly action: "job.work"; readonly job: JobFacts }
  | { readonly action: "audit.read"; readonly scope: { readonly ownerId: string } | "hub" }
  | { readonly action: "org.create" | "token.create" }
  | { readonly action: "collection.read" | "collection.write"; readonly collection: CollectionFacts }
  /** One's own settings: whom one follows, which webhooks one has. */
  | { readonly action: "follow" | "webhook.manage" }
  | { readonly action: "org.manage"; readonly orgId: string }
  | { readonly action: "account.create" | "account.token.create" | "storage.collect" };

export type Action = Request["action"];

export type RepoFacts = { readonly ownerId: string; readonly private: boolean };
/** `auto`: who asks is let in; `manual`: someone who writes to the repository decides. */
export type Gating = "auto" | "manual";
export type AccessStatus = "pending" | "accepted" | "rejected";
/** Whether the files are for those only who asked for them, and how far the one who wants them now has come with that. */
export type Gate = {
  readonly gated: Gating | null;
  readonly access: { readonly accountId: string; readonly status: AccessStatus } | null;
};
export const UNGATED: Gate = { gated: null, access: null };
export type CollectionFacts = { readonly ownerId: string; readonly private: boolean };
export type JobFacts = {
  readonly id: JobId;
  readonly actorId: string;
  readonly outputOwnerId: string | null;
  readonly ended: boolean;
};

/** `gate`: all that is missing is an accepted request for access. */
export type Decision =
  | { readonly allow: true }
  | { readonly allow: false; readonly reason: string; readonly gate?: true };

const ALLOW: Decision = { allow: true };
const deny = (reason: string): Decision => ({ allow: false, reason });
const shut = (reason: string): Decision => ({ allow: false, reason, gate: true });

const RANK: Record<Role, number> = { read: 1, write: 2, admin: 3 };

export function decide(actor: Actor, request: Request): Decision {
  switch (actor.kind) {
    case "hub":
      return ALLOW;
    case "job":
      return decideForJob(actor.id, request);
    case "anonymous":
      if (request.action === "collection.read" && !request.collection.private) return ALLOW;
      if ((request.action !== "repo.read" && request.action !== "repo.use") || request.repo.private)
        return deny("this needs a token");
      return request.action === "repo.use" && request.repo.gated !== null
        ? shut("its files need the token of someone who was given access")
        : ALLOW;
    case "user":
      return decideForUser(actor, request);
    case "xet":
      return decideForXet(actor, request);
  }
}

/** A job's token opens that one job, while it runs. */
function decideForJob(id: JobId, request: Request): Decision {
  if (request.action !== "job.work") return deny("a job token opens only its own job's inputs and outputs");
  if (request.job.id !== id) return deny("the token belongs to another job");
  return request.job.ended ? deny("the job has ended") : ALLOW;
}

/**
 * A Xet token opens the stored bytes of one repository, as far as its holder may use them now. Who may propose a change may upload
 * what it needs: only a commit makes the bytes part of the repository.
 */
function decideForXet({ grant, holder }: Extract<Actor, { kind: "xet" }>, request: Request): Decision {
  if (request.action !== "xet.read" && request.action !== "xet.find" && request.action !== "xet.write")
    return deny("a Xet token opens only the stored bytes of its repository");
  const { repo } = request;
  if (repo.id !== grant.repoId) return deny("the token belongs to another repository");
  if (holder === null) return deny("whose token it is has not been asked");
  // A job reads its inputs with its own token, and publishes only while who started it may write.
  if (grant.jobId !== null)
    return request.action === "xet.read"
      ? deny("a job's Xet token only uploads")
      : decide(holder, { action: "repo.write", repo });
  if (request.action !== "xet.write") return decide(holder, { action: "repo.use", repo, purpose: "download" });
  return grant.write
    ? decide(holder, { action: "pull.create", repo })
    : deny("the token reads only: ask for a write token");
}

function decideForUser(actor: Extract<Actor, { kind: "user" }>, request: Request): Decision {
  const needed = NEEDED_SCOPE[request.action];
  if (RANK[actor.scope] < RANK[needed]) return deny(`the token's scope is ${actor.scope}, this needs ${needed}`);
  switch (request.action) {
    case "repo.read":
      return canRead(actor, request.repo) ? ALLOW : deny("the repository is private");
    case "repo.use":
      return canRead(actor, request.repo) ? passGate(actor, request.repo) : deny("the repository is private");
    case "repo.write":
    case "access.manage":
      return holds(actor, request.repo.ownerId, "write")
        ? ALLOW
        : deny("writing needs the role write in the owning namespace");
    case "pull.create":
    case "discussion.write":
    case "repo.like":
    case "access.ask":
      return canRead(actor, request.repo) ? ALLOW : deny("the repository is private");
    case "pull.merge":
      return holds(actor, request.repo.ownerId, "write")
        ? ALLOW
        : deny("merging needs the role write in the owning namespace");
    case "discussion.edit":
      return actor.id === request.authorId && canRead(actor, request.repo)
        ? ALLOW
        : deny("only its author edits a comment");
    case "discussion.steer":
      return holds(actor, request.repo.ownerId, "write") ||
        (actor.id === request.authorId && canRead(actor, request.repo))
        ? ALLOW
        : deny("only its author and writers of the repository may");
    case "pull.push":
      return holds(actor, request.repo.ownerId, "write") ||
        (actor.id === request.authorId && canRead(actor, request.repo))
        ? ALLOW
        : deny("only the author of a pull request and writers of the repository add to it");
    case "xet.read":
    case "xet.find":
    case "xet.write":
      return deny("only a Xet token opens stored bytes by their hashes");
    case "repo.manage":
    case "repo.delete":
      return holds(actor, request.repo.ownerId, "admin")
        ? ALLOW
        : deny("this needs the role admin in the owning namespace");
    case "repo.create":
      return holds(actor, request.ownerId, "write") ? ALLOW : deny("creating needs the role write in that namespace");
    case "collection.read":
      return canRead(actor, request.collection) ? ALLOW : deny("the collection is private");
    case "collection.write":
      return holds(actor, request.collection.ownerId, "write")
        ? ALLOW
        : deny("collections are kept by those with the role write in the owning namespace");
    case "job.create":
    case "org.create":
    case "token.create":
    case "follow":
    case "webhook.manage":
      return ALLOW;
    case "job.read":
      return isParty(actor, request.job, "read")
        ? ALLOW
        : deny("only who started the job and members of its output's namespace see it");
    case "job.cancel":
      return isParty(actor, request.job, "admin")
        ? ALLOW
        : deny("only who started the job and admins of its output's namespace may cancel it");
    case "job.work":
      return deny("only the job's own token does its work");
    case "audit.read":
      if (request.scope === "hub")
        return actor.isAdmin ? ALLOW : deny("the hub's whole trail is for its administrators");
      return holds(actor, request.scope.ownerId, "admin") ? ALLOW : deny("the trail is for admins of the namespace");
    case "org.manage":
      return holds(actor, request.orgId, "admin") ? ALLOW : deny("this needs the role admin in the organization");
    case "account.create":
    case "account.token.create":
    case "storage.collect":
      return actor.isAdmin ? ALLOW : deny("only the hub's administrators may");
  }
}

const NEEDED_SCOPE: Record<Action, Scope> = {
  "repo.read": "read",
  "repo.use": "read",
  "repo.write": "write",
  "repo.manage": "write",
  "repo.delete": "write",
  "access.ask": "write",
  "access.manage": "write",
  "pull.create": "write",
  "repo.like": "write",
  "pull.push": "write",
  "pull.merge": "write",
  "discussion.write": "write",
  "discussion.edit": "write",
  "discussion.steer": "write",
  "xet.read": "read",
  "xet.find": "read",
  "xet.write": "write",
  "repo.create": "write",
  "collection.read": "read",
  "collection.write": "write",
  follow: "write",
  "webhook.manage": "write",
  "job.create": "write",
  "job.read": "read",
  "job.cancel": "write",
  "job.work": "write",
  "audit.read": "read",
  "org.create": "admin",
  "token.create": "admin",
  "org.manage": "admin",
  "account.create": "admin",
  "account.token.create": "admin",
  "storage.collect": "admin",
};

function holds(actor: Extract<Actor, { kind: "user" }>, ownerId: string, role: Role): boolean {
  if (actor.isAdmin || actor.id === ownerId) return true;
  const membership = actor.memberships.find((one) => one.orgId === ownerId);
  return membership !== undefined && RANK[membership.role] >= RANK[role];
}

function canRead(actor: Extract<Actor, { kind: "user" }>, repo: RepoFacts): boolean {
  return !repo.private || holds(actor, repo.ownerId, "read");
}

/** Reading a gated repository's metadata needs no access, using its files does, for whatever purpose. */
function passGate(actor: Extract<Actor, { kind: "user" }>, { gated, access, ownerId }: RepoFacts & Gate): Decision {
  if (gated === null || holds(actor, ownerId, "write")) return ALLOW;
  const status = access?.accountId === actor.id ? access.status : null;
  if (status === "accepted") return ALLOW;
  const reasons = {
    pending: "your request for access waits for an answer",
    rejected: "your request for access was rejected",
  };
  return shut(status === null ? "you have not asked for access" : reasons[status]);
}

function isParty(actor: Extract<Actor, { kind: "user" }>, job: JobFacts, role: Role): boolean {
  return actor.id === job.actorId || (job.outputOwnerId !== null && holds(actor, job.outputOwnerId, role));
}
