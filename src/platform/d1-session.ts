// Where a request's queries are answered: the nearest replica, one that is new enough, or the primary.
import type { DbSession } from "./platform";

/**
 * `nearest`: any replica, however late. A bookmark: whatever has what it stands for. `primary`: the primary first, then what is at
 * least as new. `write`: every query on the primary, since what is read decides what is written.
 */
export type ReadFrom = "nearest" | "primary" | "write" | { readonly bookmark: string };

/** D1 calls bookmarks opaque; nothing else than a short word is handed on. */
export const isBookmark = (text: string): boolean => /^[\w-]{1,200}$/.test(text) && !text.startsWith("first-");

const constraintOf = (from: ReadFrom): string => {
  if (typeof from !== "string") return from.bookmark;
  return from === "nearest" ? "first-unconstrained" : "first-primary";
};

/** A database client for one request, and the session behind it. */
export function d1Session(binding: D1Database, from: ReadFrom): { client: D1Database; session: DbSession } {
  let mode = from;
  let current: D1DatabaseSession | undefined;
  let newest: string | null = null;

  const note = (bookmark: string | null | undefined): void => {
    if (bookmark !== null && bookmark !== undefined && (newest === null || bookmark > newest)) newest = bookmark;
  };
  const next = (): D1DatabaseSession => {
    // Inside one session only the first query is sure to reach the primary: where each must, each has its own.
    if (current === undefined || mode === "write") {
      note(current?.getBookmark());
      current = binding.withSession(constraintOf(mode));
    }
    return current;
  };
  const client: D1Database = {
    prepare: (query) => next().prepare(query),
    batch: (statements) => next().batch(statements),
    exec: (query) => binding.exec(query),
    withSession: (start) => binding.withSession(start),
    dump: () => binding.dump(),
  };
  const session: DbSession = {
    bookmark() {
      note(current?.getBookmark());
      return newest;
    },
    mayLag: () => mode !== "primary" && mode !== "write",
    toPrimary() {
      if (mode === "primary" || mode === "write") return;
      mode = "primary";
      note(current?.getBookmark());
      current = undefined;
    },
  };
  return { client, session };
}
