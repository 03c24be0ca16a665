// The storage scopes of a repository, and those that a caller may see while writing to it.
import { type Actor, decide } from "../access/policy";
import type { StorageScope } from "../db/schema";
import { isOpen, PUBLIC, type Scopes } from "../store/scopes";
import type { Repository } from "./repositories";

type Facts = Pick<Repository, "private" | "gated" | "ownerId">;

export const scopeOf = (repo: Facts): StorageScope => (isOpen(repo) ? PUBLIC : repo.ownerId);

/**
 * The scope of an owner is seen by who may write there. Who may only propose a change to an open repository learns nothing of the
 * others, and a member who only reads nothing of the gated ones.
 */
export function scopesOf(actor: Actor, repo: Facts): Scopes {
  const own =
    actor.kind === "user"
      ? [actor.id, ...actor.memberships.filter(({ role }) => role !== "read").map((one) => one.orgId)]
      : [];
  const mayWrite = decide(actor, { action: "repo.write", repo }).allow;
  return {
    target: scopeOf(repo),
    visible: [...new Set([PUBLIC, ...(mayWrite ? [repo.ownerId] : []), ...own])],
    uploaderId: actor.kind === "user" ? actor.id : null,
  };
}
