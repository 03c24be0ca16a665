// Background work run by hand: small steps, a clock that can be set on, and a look at what is stored.
import { env } from "cloudflare:workers";
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../src/db/client";
import { runUpkeep } from "../../src/hub/upkeep";
import { cloudflarePlatform } from "../../src/platform/cloudflare";
import type { Platform } from "../../src/platform/platform";
import { type Client, fileLine, lfsLine, uploadLfs } from "./actors";
import { mortal } from "./mortal-platform";

const MIB = 1 << 20;
/** A file of some MiB takes several of each. */
const SMALL_STEPS = { hash: MIB, read: 2 * MIB, window: MIB + MIB / 4, xorb: MIB + MIB / 2 };
/** Longer than a lease lasts, and than any failed task waits. */
const LATER_MS = 12 * 3600_000;

const Task = z.object({
  kind: z.string(),
  subject: z.string(),
  progress: z.string().nullable(),
  attempts: z.number(),
  problem: z.string().nullable(),
});
const Holding = z.object({
  state: z.string(),
  fileId: z.number().nullable(),
  hash: z.string().nullable(),
  scope: z.string().nullable(),
  known: z.string().nullable(),
});
const Xorb = z.object({ id: z.number(), scope: z.string(), packed: z.number(), named: z.number() });

export class Backroom {
  /** Ahead of the hub's clock. */
  #ahead = 0;
  readonly platform: Platform = {
    ...cloudflarePlatform(env, "upkeep", () => {}),
    now: () => Date.now() + this.#ahead,
  };

  /** Runs until nothing is due. */
  run(platform: Platform = this.platform): Promise<boolean> {
    return runUpkeep(platform, () => false, SMALL_STEPS);
  }

  /** One step of one task. */
  step(platform: Platform = this.platform): Promise<boolean> {
    let steps = 0;
    return runUpkeep(platform, () => steps++ > 0, SMALL_STEPS);
  }

  /** The process dies at its n-th call to D1 or the bucket; whatever it throws is its own. */
  async runUntilDeath(calls: number): Promise<void> {
    await this.run(mortal(this.platform, calls)).catch(() => undefined);
  }

  /** Leases end, and what failed is due again. */
  later(): void {
    this.#ahead += LATER_MS;
  }

  tasks() {
    return queryRows(
      this.platform.db,
      Task,
      sql`select kind, subject, progress, attempts, problem from storage_tasks order by kind, subject`,
    );
  }

  /** How a repository, by its name without the owner's, holds a digest. */
  async holding(name: string, sha256: string) {
    const [row] = await queryRows(
      this.platform.db,
      Holding,
      sql`select h.state, h.file_id as "fileId", f.hash, f.scope, f.sha256 as known from repo_contents h join repos r on r.id = h.repo_id
        left join xet_files f on f.id = h.file_id where r.name = ${name} and h.sha256 = ${sha256}`,
    );
    return row;
  }

  /** `named`: by a term of a registered file. */
  xorbs() {
    return queryRows(
      this.platform.db,
      Xorb,
      sql`select id, scope, packed_size as packed, exists (select 1 from xet_terms t join xet_files f on f.id = t.file_id
          where t.xorb_id = x.id and f.state = 'registered') as named from xorbs x order by id`,
    );
  }

  async packedBytes(): Promise<number> {
    return (await this.xorbs()).reduce((sum, { packed }) => sum + packed, 0);
  }

  async count(what: string): Promise<number> {
    const row = await env.DB.prepare(`select count(*) as n from ${what}`).first();
    return Number(row?.n);
  }
}

export const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export async function createRepo(client: Client, repo: string, isPrivate = false): Promise<void> {
  const [organization, name] = repo.split("/");
  await client.post("/api/repos/create", { name, organization, private: isPrivate });
}

/** Uploads by LFS and commits; returns the digest. */
export async function publishFile(client: Client, repo: string, path: string, bytes: Uint8Array): Promise<string> {
  const oid = await uploadLfs(client, repo, bytes);
  await client.commit(repo, [lfsLine(path, oid, bytes.length), fileLine("note.txt", `${path} ${oid}`)]);
  return oid;
}

export async function download(client: Client, repo: string, path: string, range?: string): Promise<Uint8Array> {
  const headers = range === undefined ? {} : { range };
  const response = await client.raw("GET", `/${repo}/resolve/main/${path}`, { headers });
  return new Uint8Array(await response.arrayBuffer());
}
