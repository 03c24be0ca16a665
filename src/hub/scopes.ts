// The storage scopes of a repository, and those that a caller may see while writing to it.
import { type Actor, decide } from "../access/policy";
import type { StorageScope } from "../db/schema";
import { PUBLIC, type Scopes } from "../store/scopes";
import type { Repository } from "./repositories";

export const scopeOf = (repo: Pick<Repository, "private" | "ownerId">): StorageScope =>
  repo.private ? repo.ownerId : PUBLIC;

/** The owner's scope is seen by who may write there: who may only propose a change to a public repository learns nothing of the private ones. */
export function scopesOf(actor: Actor, repo: Pick<Repository, "private" | "ownerId">): Scopes {
  const own = actor.kind === "user" ? [actor.id, ...actor.memberships.map((one) => one.orgId)] : [];
  const mayWrite = decide(actor, { action: "repo.write", repo }).allow;
  return {
    target: scopeOf(repo),
    visible: [...new Set([PUBLIC, ...(mayWrite ? [repo.ownerId] : []), ...own])],
    uploaderId: actor.kind === "user" ? actor.id : null,
  };
}
