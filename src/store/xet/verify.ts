// Checks what clients claim of Xet files: their SHA-256, computed from the stored content step by step.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, type Guard, queryRows, type Statement } from "../../db/client";
import { HubError } from "../../errors";
import { parseSha256, parseXetHash, type Sha256, type XetHash } from "../../ids";
import type { Platform } from "../../platform/platform";
import { readChunks } from "../../streams/chunks";
import { ResumableSha256 } from "../../streams/resumable-sha256";
import { readContent } from "../contents";
import { SCOPE_OF_REPO } from "../scopes";
import { progressOf, Stale, type Step, type StepEnd } from "../tasks";

/** A repository that says of a file that it has another SHA-256 than it has. */
export type WrongClaim = { readonly repoId: string; readonly claimed: Sha256; readonly actual: Sha256 };

/** Tells of wrong claims: statements for the batch that quarantines them. */
export type Report = (platform: Platform, claims: readonly WrongClaim[]) => Promise<readonly Statement[]>;

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));
const Row = z.object({
  hash: z.string().transform((text) => parseXetHash(text, "hash")),
  scope: z.string(),
  size: z.number(),
  /** Computed before. */
  sha256: sha256.nullable(),
  claims: z
    .string()
    .transform((text) => z.array(z.object({ repoId: z.string(), claimed: sha256 })).parse(JSON.parse(text))),
});
type Claimed = z.output<typeof Row> & { readonly id: number };

async function findFile({ db }: Platform, id: number): Promise<Claimed | undefined> {
  const [row] = await queryRows(
    db,
    Row,
    sql`select hash, scope, size, sha256, (select json_group_array(json_object('repoId', repo_id, 'claimed', sha256))
        from repo_contents where file_id = ${id} and state = 'claimed') as claims
      from xet_files where id = ${id} and state = 'registered'`,
  );
  return row && { ...row, id };
}

/**
 * Goes on hashing a Xet file, read back through its terms, by at most `limit` bytes from where `saved` (null: nowhere yet) ended.
 * @throws content_damaged when the file's bytes end early
 */
export async function hashFurther(
  platform: Platform,
  file: { readonly id: number; readonly hash: XetHash; readonly size: number },
  saved: string | null,
  limit: number,
): Promise<ResumableSha256> {
  const hash = saved === null ? ResumableSha256.start() : ResumableSha256.resume(saved);
  const end = Math.min(hash.size + limit, file.size);
  if (hash.size === end) return hash;
  const source = { kind: "xet", fileId: file.id, hash: file.hash, terms: [] } as const;
  const range = { offset: hash.size, length: end - hash.size };
  const chunks = readChunks(await readContent(platform, { size: file.size, source }, range), { reuse: true });
  for (let chunk = await chunks.next(); chunk !== undefined; chunk = await chunks.next()) hash.update(chunk);
  if (hash.size !== end) throw new HubError("content_damaged");
  return hash;
}

const Progress = z.object({ sha256: z.string() });

/** A step reads `stepBytes`. The last one settles every claim on the file in one batch. */
export const verifyStep =
  (report: Report, stepBytes: number): Step =>
  async (platform, { subject, progress }) => {
    const file = await findFile(platform, Number(subject));
    if (file === undefined) return { kind: "done" };
    let actual = file.sha256;
    if (actual === null) {
      const saved = progress === null ? null : Progress.parse(progress).sha256;
      const hash = await hashFurther(platform, file, saved, stepBytes);
      if (hash.size < file.size) return { kind: "continue", progress: progressOf({ sha256: hash.save() }) };
      actual = hash.digest();
    }
    return settle(platform, file, actual, report);
  };

/** A claim that came while the file was hashed is settled by the next try. */
const knows = ({ id, claims }: Claimed): Guard => ({
  holds: sql`exists (select 1 from xet_files where id = ${id} and state = 'registered') and not exists (
    select 1 from repo_contents where file_id = ${id} and state = 'claimed' and not exists (
      select 1 from json_each(${asJson(claims)}) where value ->> 'repoId' = repo_id and value ->> 'claimed' = sha256))`,
  otherwise: () => new Stale(),
});

async function settle(platform: Platform, file: Claimed, actual: Sha256, report: Report): Promise<StepEnd> {
  const wrong = file.claims.filter(({ claimed }) => claimed !== actual).map((claim) => ({ ...claim, actual }));
  return {
    kind: "done",
    guards: [knows(file)],
    statements: [
      sql`update xet_files set sha256 = ${actual} where id = ${file.id}`,
      sql`update repo_contents set state = iif(sha256 = ${actual}, 'verified', 'mismatched')
        where file_id = ${file.id} and state = 'claimed'`,
      replaceSegments(file.id, actual, file.scope),
      ...(wrong.length === 0 ? [] : await report(platform, wrong)),
    ],
  };
}

/**
 * Repositories of the file's scope that hold the same bytes as segments hold them as the file from now on, and so does `repoId`.
 * Only for a file whose SHA-256 the hub has computed.
 */
export const replaceSegments = (fileId: number, sha256: Sha256, scope: string, repoId?: string): Statement =>
  sql`update repo_contents set file_id = ${fileId} where sha256 = ${sha256} and file_id is null and state = 'verified'
    and exists (select 1 from repos r where r.id = repo_id and (${SCOPE_OF_REPO} = ${scope} or r.id = ${repoId ?? null}))`;
