// Scopes: whose bytes share storage with whose. Nothing of one tenant's private scope shows in what another is answered.
import { type SQL, sql } from "drizzle-orm";
import { asJson } from "../db/client";
import type { StorageScope } from "../db/schema";

export const PUBLIC: StorageScope = "public";

/** Whether everybody may have a repository's bytes: only then do they lie in the public scope, and in caches that ask nobody. */
export const isOpen = (repo: { readonly private: boolean; readonly gated: "auto" | "manual" | null }): boolean =>
  !repo.private && repo.gated === null;

/** The same in SQL, of the row `r` of `repos`. */
export const IS_OPEN = sql`(r.private = 0 and r.gated is null)`;
/** SQL: the scope of the row `r` of `repos`. */
export const SCOPE_OF_REPO = sql`iif(${IS_OPEN}, ${PUBLIC}, r.owner_id)`;

export type Scopes = {
  /** Where what is written goes. */
  readonly target: StorageScope;
  /** What may be seen and referred to, the target included. */
  readonly visible: readonly StorageScope[];
  /** Whose own uploads may be referred to wherever they went; null for the hub itself. */
  readonly uploaderId: string | null;
};

/** SQL condition on the row `x` of `xorbs`. */
export const isVisible = ({ visible, uploaderId }: Scopes): SQL =>
  sql`(x.scope in (select value from json_each(${asJson(visible)})) or (x.uploader_id is not null and x.uploader_id = ${uploaderId}))`;
