// Who stands behind work that goes on after its request: an account with the rights it has now, not those it had then.
import { and, eq, isNull } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { accounts, memberships } from "../db/schema";
import type { Platform } from "../platform/platform";
import type { Actor } from "./policy";

/** The account as an actor whose token may write; null when the account is gone. One query. */
export async function standingActor(
  platform: Platform,
  accountId: string,
): Promise<Extract<Actor, { kind: "user" }> | null> {
  const orgs = alias(accounts, "orgs");
  const rows = await platform.db
    .select({
      id: accounts.id,
      name: accounts.name,
      isAdmin: accounts.isAdmin,
      role: memberships.role,
      orgId: orgs.id,
      orgName: orgs.name,
      orgFullname: orgs.fullname,
    })
    .from(accounts)
    .leftJoin(memberships, eq(memberships.userId, accounts.id))
    .leftJoin(orgs, and(eq(orgs.id, memberships.orgId), isNull(orgs.deletedAt)))
    .where(and(eq(accounts.id, accountId), isNull(accounts.deletedAt)));
  const [first] = rows;
  if (first === undefined) return null;
  return {
    kind: "user",
    id: first.id,
    name: first.name,
    isAdmin: first.isAdmin,
    scope: "write",
    tokenName: "job",
    tokenId: null,
    memberships: rows.flatMap(({ role, orgId, orgName, orgFullname }) =>
      role === null || orgId === null || orgName === null || orgFullname === null
        ? []
        : [{ orgId, orgName, orgFullname, role }],
    ),
  };
}
