// The storage scopes of a repository, and those that a caller may see while writing to it.
import type { Actor } from "../access/policy";
import type { StorageScope } from "../db/schema";
import { PUBLIC, type Scopes } from "../store/scopes";
import type { Repository } from "./repositories";

export const scopeOf = (repo: Pick<Repository, "private" | "ownerId">): StorageScope =>
  repo.private ? repo.ownerId : PUBLIC;

export function scopesOf(actor: Actor, repo: Pick<Repository, "private" | "ownerId">): Scopes {
  const own = actor.kind === "user" ? [actor.id, ...actor.memberships.map((one) => one.orgId)] : [];
  return {
    target: scopeOf(repo),
    visible: [...new Set([PUBLIC, repo.ownerId, ...own])],
    uploaderId: actor.kind === "user" ? actor.id : null,
  };
}
