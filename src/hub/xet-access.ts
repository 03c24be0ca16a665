// What a Xet token opens: its repository, with the rights of its holder asked again on each call.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller } from "../access/caller";
import { decide, type Holder } from "../access/policy";
import { standingActor } from "../access/standing";
import { IdentityColumn, identityWhere } from "../access/tokens";
import { queryRows } from "../db/client";
import { HubError } from "../errors";
import { parseSha256, type Sha256, type XetHash } from "../ids";
import type { Platform } from "../platform/platform";
import type { Scopes } from "../store/scopes";
import type { Claims } from "../store/xet/shards";
import { RepoRow, type Repository, repoOf, selectRepo, targetOf } from "./repositories";
import { scopesOf } from "./scopes";

export type XetAccess = {
  /** The caller with its holder known, for whatever is recorded of the call. */
  readonly caller: Caller;
  readonly repo: Repository;
  readonly scopes: Scopes;
  /** What its shards may do about claims that others made. */
  readonly claims: Claims;
};

/** A file that the repository holds as Xet file. */
export type XetFile = {
  readonly id: number;
  readonly hash: XetHash;
  readonly size: number;
  /** What the repository holds it as; perhaps only claimed. */
  readonly sha256: Sha256;
};

const FileColumn = z
  .string()
  .transform((text) =>
    z
      .object({ id: z.number(), size: z.number(), sha256: z.string().transform((hex) => parseSha256(hex, "sha256")) })
      .parse(JSON.parse(text)),
  );
const AccessRow = RepoRow.extend({
  holder: IdentityColumn.nullable(),
  /** Account that started the job which the token is for, while it runs. */
  starter: z.string().nullable(),
  file: FileColumn.nullable(),
});
const ANONYMOUS: Holder = { kind: "anonymous" };

/** The repository and the holder's rights in it. One query. @throws xet_token_required | repo_not_found | forbidden */
export async function openXet(caller: Caller, action: "xet.find" | "xet.write"): Promise<XetAccess> {
  return (await open(caller, action, sql`null`)).access;
}

/**
 * The same with the file of this hash, which anyone who may download from the repository may have; what was found to be another
 * file than it was published as is none. One query. @throws xet_token_required | repo_not_found | forbidden | entry_not_found
 */
export async function openXetFile(caller: Caller, hash: XetHash): Promise<XetAccess & { readonly file: XetFile }> {
  const { access, file } = await open(
    caller,
    "xet.read",
    sql`(select json_object('id', f.id, 'size', f.size, 'sha256', h.sha256)
      from xet_files f join repo_contents h on h.file_id = f.id
      where f.hash = ${hash} and f.state = 'registered' and h.repo_id = r.id and h.state <> 'mismatched' limit 1)`,
  );
  if (file === null) throw new HubError("entry_not_found", { path: hash });
  return { ...access, file: { ...file, hash } };
}

/** @throws xet_token_required when the job has ended or the account is gone */
async function starterOf(platform: Platform, accountId: string | null): Promise<Holder> {
  const actor = accountId === null ? null : await standingActor(platform, accountId);
  if (actor === null) throw new HubError("xet_token_required");
  return actor;
}

async function open(
  caller: Caller,
  action: "xet.read" | "xet.find" | "xet.write",
  file: SQL,
): Promise<{ access: XetAccess; file: z.output<typeof FileColumn> | null }> {
  const { platform, actor } = caller;
  if (actor.kind !== "xet") throw new HubError("xet_token_required");
  const { repoId, tokenId, jobId } = actor.grant;
  const identity = tokenId === null ? sql`null` : identityWhere(sql`t.id = ${tokenId}`, platform.now());
  const starter = sql`(select actor_id from jobs where id = ${jobId} and output_repo_id = ${repoId} and state in ('queued', 'running'))`;
  const asker = jobId === null ? sql`(select account_id from tokens where id = ${tokenId})` : starter;
  const [row] = await queryRows(
    platform.db,
    AccessRow,
    sql`select ${selectRepo(asker)}, ${identity} as holder, ${starter} as starter, ${file} as file
      from repos r join accounts o on o.id = r.owner_id where r.id = ${repoId}`,
  );
  // The hub's token behind it was revoked: the holder has to sign in again.
  if (row !== undefined && tokenId !== null && row.holder === null) throw new HubError("xet_token_required");
  if (row === undefined) throw new HubError("repo_not_found");
  const holder = jobId === null ? (row.holder?.actor ?? ANONYMOUS) : await starterOf(platform, row.starter);
  const repo = repoOf(row);
  const known: Caller = { platform, actor: { ...actor, holder } };
  authorize(known, { action, repo }, targetOf(repo));
  const claims = decide(holder, { action: "repo.write", repo }).allow ? "replace" : "add";
  return { access: { caller: known, repo, scopes: scopesOf(holder, repo), claims }, file: row.file };
}
