// Who may move which ref: writers any of them, the author of a pull request its own.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { queryRows } from "../db/client";
import type { RefName } from "../ids";
import { type Repository, targetOf } from "./repositories";

/** @throws authentication_required | forbidden */
export async function authorizePush(caller: Caller, repo: Repository, ref: RefName): Promise<void> {
  const [, number] = /^refs\/pr\/([0-9]{1,9})$/.exec(ref) ?? [];
  const [pull] =
    number === undefined
      ? []
      : await queryRows(
          caller.platform.db,
          z.object({ author_id: z.string() }),
          sql`select author_id from pull_requests where repo_id = ${repo.id} and number = ${Number(number)}`,
        );
  authorize(
    caller,
    pull === undefined ? { action: "repo.write", repo } : { action: "pull.push", repo, authorId: pull.author_id },
    targetOf(repo),
  );
}
