// Who may move which ref: writers any of them, the author of a pull request its own.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows } from "../db/client";
import { parseRefName, type RefName } from "../ids";
import { MAIN, type Repository, targetOf } from "./repositories";

/** The ref by which it is decided who may push to what a client names: only that of a pull request makes a difference. */
export const pushTarget = (name: string, field: string): RefName =>
  name.startsWith("refs/pr/") ? parseRefName(name, field) : MAIN;

/** Who may open a pull request, and upload what it needs. @throws authentication_required | forbidden */
export const authorizeProposal = (caller: Caller, repo: Repository): void =>
  authorize(caller, { action: "pull.create", repo }, targetOf(repo));

/** @throws authentication_required | forbidden */
export async function authorizePush(caller: Caller, repo: Repository, ref: RefName): Promise<void> {
  const [, number] = /^refs\/pr\/([0-9]{1,9})$/.exec(ref) ?? [];
  const [pull] =
    number === undefined
      ? []
      : await queryRows(
          caller.platform.db,
          z.object({ author_id: z.string() }),
          sql`select author_id from discussions where repo_id = ${repo.id} and number = ${Number(number)} and base is not null`,
        );
  authorize(
    caller,
    pull === undefined ? { action: "repo.write", repo } : { action: "pull.push", repo, authorId: pull.author_id },
    targetOf(repo),
  );
}
