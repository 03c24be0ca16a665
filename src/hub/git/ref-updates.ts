// Which refs a push may move, and to what: decided before anything of it is read, and once more in the batch that moves them.
import { sql } from "drizzle-orm";
import * as z from "zod";
import type { Caller } from "../../access/caller";
import { asJson, type Guard, queryRows, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import type { RefCommand } from "../../formats/git/receive-pack-request";
import { type GitId, parseRefName, type RefName } from "../../ids";
import type { Db } from "../../platform/platform";
import { refMovedEvent } from "../commits";
import { authorizePush, pushTarget } from "../push-rights";
import { refsAbove, standsAlone } from "../refs";
import { gitIdColumn, MAIN, type Repository } from "../repositories";

export type RefUpdate = RefCommand & {
  readonly ref: RefName;
  /** The commit it leads to now; null for a ref that is new. */
  readonly oldCommit: GitId | null;
};

/** A ref and what it becomes, known to be a commit of the repository or of the push. */
export type ResolvedUpdate = RefUpdate & { readonly commit: GitId | null };

/** Of pull requests in one push: each is asked for on its own. */
const MAX_PULL_REFS = 20;

const RefRow = z.object({ name: z.string(), id: gitIdColumn, target: gitIdColumn });
type Existing = ReadonlyMap<string, z.output<typeof RefRow>>;

async function loadRefs(db: Db, repoId: string): Promise<Existing> {
  const rows = await queryRows(
    db,
    RefRow,
    sql`select name, coalesce(tag_object, target) as id, target from refs where repo_id = ${repoId}`,
  );
  return new Map(rows.map((row) => [row.name, row]));
}

/** Sorts the commands into those that may be tried, and why the others may not. */
export async function checkCommands(
  caller: Caller,
  repo: Repository,
  commands: readonly RefCommand[],
): Promise<{ updates: RefUpdate[]; refused: Map<string, string> }> {
  const existing = await loadRefs(caller.platform.db, repo.id);
  const deleted = new Set(commands.flatMap(({ ref, to }) => (to === null ? [ref] : [])));
  const names = new Set([...existing.keys(), ...commands.map(({ ref }) => ref)].filter((name) => !deleted.has(name)));
  const counts = Map.groupBy(commands, ({ ref }) => ref);
  const rights = new Map<RefName, string | null>();
  const updates: RefUpdate[] = [];
  const refused = new Map<string, string>();
  for (const command of commands) {
    const problem =
      (counts.get(command.ref)?.length ?? 0) > 1
        ? "it is named more than once"
        : (problemOf(command, existing, names) ?? (await denial(caller, repo, command, rights)));
    if (problem !== null) refused.set(command.ref, problem);
    else {
      const ref = parseRefName(command.ref, "ref");
      updates.push({ ...command, ref, oldCommit: existing.get(ref)?.target ?? null });
    }
  }
  return { updates, refused };
}

function problemOf({ ref, from, to }: RefCommand, existing: Existing, names: ReadonlySet<string>): string | null {
  if (!isPushable(ref)) return "this hub keeps refs/heads/…, refs/tags/… and refs/pr/<number>, named by git's rules";
  const now = existing.get(ref)?.id ?? null;
  if (to === null && ref === MAIN) return "main can't be deleted";
  if (ref.startsWith("refs/pr/")) {
    if (to === null) return "the ref of a pull request can't be deleted: close the pull request";
    if (now === null) return "there is no such pull request: open one first";
  }
  if (now !== from)
    return now === null ? "it is gone: fetch first" : from === null ? "it exists already: fetch first" : "fetch first";
  if (now === null && to === null) return "there is no such ref";
  const clash = to !== null && now === null ? clashOf(ref, names) : undefined;
  return clash === undefined ? null : `${clash} stands in its way: a ref can't be a folder of others`;
}

function isPushable(ref: string): boolean {
  try {
    parseRefName(ref, "ref");
    return /^refs\/(heads|tags)\/|^refs\/pr\/[1-9][0-9]{0,8}$/.test(ref);
  } catch {
    return false;
  }
}

/** git keeps refs as files: `a` and `a/b` can't both be. */
function clashOf(ref: string, names: ReadonlySet<string>): string | undefined {
  return refsAbove(ref).find((above) => names.has(above)) ?? [...names].find((name) => name.startsWith(`${ref}/`));
}

/** Why the caller may not move the ref; asked once for all branches and tags, and for each pull request. */
async function denial(
  caller: Caller,
  repo: Repository,
  { ref }: RefCommand,
  rights: Map<RefName, string | null>,
): Promise<string | null> {
  const target = pushTarget(ref, "ref");
  const known = rights.get(target);
  if (known !== undefined) return known;
  if (rights.size > MAX_PULL_REFS) return `push to at most ${MAX_PULL_REFS} pull requests at a time`;
  let reason: string | null = null;
  try {
    await authorizePush(caller, repo, target);
  } catch (error) {
    if (!(error instanceof HubError) || error.status >= 500) throw error;
    reason = error.message;
  }
  rights.set(target, reason);
  return reason;
}

/** A ref that is not any more what it was when the push began. */
export class RefMoved extends HubError {
  readonly ref: RefName;

  constructor(ref: RefName) {
    super("ref_moved");
    this.ref = ref;
  }
}

/** For the one batch that moves all of them. */
export function updateGuards(repo: Repository, updates: readonly ResolvedUpdate[]): Guard[] {
  const gone = updates.flatMap(({ ref, to }) => (to === null ? [ref] : []));
  return updates.map(({ ref, from, to }) => {
    const unmoved = sql`(select coalesce(tag_object, target) from refs where repo_id = ${repo.id} and name = ${ref}) is ${from}`;
    return {
      holds: from === null && to !== null ? sql`${unmoved} and ${standsAlone(repo, ref, gone)}` : unmoved,
      otherwise: () => new RefMoved(ref),
    };
  });
}

export function updateStatements(caller: Caller, repo: Repository, updates: readonly ResolvedUpdate[]): Statement[] {
  const now = caller.platform.now();
  const gone = updates.filter(({ commit }) => commit === null).map(({ ref }) => ref);
  const moved = updates.flatMap(({ ref, to, commit }) =>
    commit === null ? [] : [[ref, commit, to === commit ? null : to]],
  );
  return [
    sql`delete from refs where repo_id = ${repo.id} and name in (select value from json_each(${asJson(gone)}))`,
    sql`insert into refs (repo_id, name, target, tag_object, updated_at)
      select ${repo.id}, value ->> 0, value ->> 1, value ->> 2, ${now} from json_each(${asJson(moved)}) where true
      on conflict do update set target = excluded.target, tag_object = excluded.tag_object, updated_at = excluded.updated_at`,
    sql`update repos set updated_at = ${now} where id = ${repo.id}`,
    ...updates.map(({ ref, oldCommit, commit }) =>
      refMovedEvent(caller, repo, { ref, oldSha: oldCommit, newSha: commit }),
    ),
  ];
}
