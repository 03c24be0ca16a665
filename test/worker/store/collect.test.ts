// What garbage collection takes and what it leaves, state by state: each grace, each guard, and objects from before rows.
import { env } from "cloudflare:workers";
import { type SQL, sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { readConfig } from "../../../src/config";
import { commitBatch, queryRows } from "../../../src/db/client";
import { xetHashOf } from "../../../src/formats/xet/hash";
import { collectStep } from "../../../src/hub/collect";
import { parseXetHash } from "../../../src/ids";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { storeBytes } from "../../../src/store/contents";
import { adoptObjects, objectsUsable, stageObjects } from "../../../src/store/objects";
import { PUBLIC, type Scopes } from "../../../src/store/scopes";
import { findDedup } from "../../../src/store/xet/dedup";
import { registerShard } from "../../../src/store/xet/shards";
import { receiveXorb } from "../../../src/store/xet/xorbs";
import { isDeath, mortal } from "../../kit/mortal-platform";
import { buildFile, randomBytes, sha256Of } from "../../kit/xet";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const SCOPES: Scopes = { target: PUBLIC, visible: [PUBLIC], uploaderId: "ada" };

let time: number;
let platform: Platform;
beforeEach(async () => {
  time = Date.now();
  platform = { ...cloudflarePlatform(env, "test", () => {}), now: () => time };
  await run(sql`insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at)
    values ('repo', 'model', 'ada', 'r', 'r', 0, 0, 0)`);
});

const run = (statement: SQL) => platform.db.run(statement);

async function count(what: SQL): Promise<number> {
  const [row] = await queryRows(platform.db, z.object({ n: z.number() }), sql`select count(*) as n from ${what}`);
  return row?.n ?? -1;
}

/** Until nothing more is due now. */
async function collect(): Promise<void> {
  for (let i = 0; i < 30; i++) if (!(await collectStep(platform)).more) return;
  throw new Error("the collector finds no end");
}

/** Marks at once, and comes back after `ms`. */
async function passes(ms: number): Promise<void> {
  await collect();
  time += ms;
  await collect();
}

const objects = async (): Promise<string[]> => (await env.BLOBS.list()).objects.map(({ key }) => key);
const bytes = randomBytes(1, 3000);
const name = (sha256: string) =>
  run(sql`insert into tree_entries (repo_id, tree, name, kind, id, sha256, size, lfs)
    values ('repo', 't', 'f', 'file', 'b', ${sha256}, 3000, 0)`);
const hold = (sha256: string, fileId: number | null = null) =>
  run(sql`insert into repo_contents (repo_id, sha256, file_id, created_at) values ('repo', ${sha256}, ${fileId}, 0)`);

describe("contents", () => {
  it("that nobody holds go after two days, their objects a day later", async () => {
    await storeBytes(platform, [bytes]);
    await passes(2 * DAY);
    expect(await count(sql`contents`)).toBe(1);
    await passes(1);
    expect(await count(sql`contents`)).toBe(0);
    expect(await count(sql`objects where state = 'condemned'`)).toBe(1);
    expect(await objects()).toHaveLength(1);
    await passes(DAY + 1);
    expect(await objects()).toEqual([]);
    expect(await count(sql`objects`)).toBe(0);
  });

  it("that are stored again are new: the grace begins once more", async () => {
    await storeBytes(platform, [bytes]);
    await passes(DAY + 23 * HOUR);
    await storeBytes(platform, [bytes]);
    expect(await count(sql`contents where idle_since is not null`)).toBe(0);
    await passes(DAY);
    expect(await count(sql`contents`)).toBe(1);
    expect(await count(sql`objects where state = 'live'`)).toBe(1);
  });

  it("stay while a tree names them, and go with their repository", async () => {
    const [stored] = await storeBytes(platform, [bytes]);
    await name(stored?.sha256 ?? "");
    await hold(stored?.sha256 ?? "");
    for (let week = 0; week < 5; week++) await passes(7 * DAY);
    expect(await count(sql`contents`)).toBe(1);
    await run(sql`delete from tree_entries`);
    // A round begins an hour after the last.
    time += 2 * HOUR;
    await passes(2 * DAY + 1);
    expect(await count(sql`repo_contents`)).toBe(0);
    // Only now is nobody a holder.
    await passes(2 * HOUR);
    await passes(2 * DAY + 1);
    expect(await count(sql`contents`)).toBe(0);
  });

  it.each([
    ["evaluate", "succeeded", 1],
    ["evaluate", "failed", 0],
    ["evaluate", "running", 1],
    ["merge", "publishing", 1],
    ["merge", "succeeded", 0],
    ["merge", "cancelled", 0],
  ])("of a %s job that is %s: %i are left", async (kind, state, left) => {
    const [stored] = await storeBytes(platform, [bytes]);
    await run(sql`insert into jobs (id, kind, state, actor_id, request_sha256, request, spec, created_at, updated_at, due_at, deadline_at)
      values ('job', ${kind}, ${state}, 'ada', '', '{}', '{}', 0, 0, 0, 0)`);
    await run(sql`insert into job_contents (job_id, sha256) values ('job', ${stored?.sha256})`);
    await passes(3 * DAY);
    expect([await count(sql`contents`), await count(sql`job_contents`)]).toEqual([left, left]);
  });

  it("are taken once by two collectors at a time, and by the next when one dies anywhere", async () => {
    await storeBytes(platform, [bytes, randomBytes(2, 10)]);
    await collect();
    time += 2 * DAY + 1;
    await Promise.all([collectStep(platform), collectStep(platform)]);
    time += DAY + 1;
    for (let calls = 0; calls < 30; calls++)
      await collectStep(mortal(platform, calls)).catch((error: unknown) => {
        if (!isDeath(error)) throw error;
      });
    await collect();
    expect([await count(sql`contents`), await count(sql`objects`), (await objects()).length]).toEqual([0, 0, 0]);
  });
});

describe("xorbs", () => {
  const built = buildFile(randomBytes(3, 100_000));
  const send = async () => {
    for (const { hash, body } of built.xorbs)
      await receiveXorb(platform, SCOPES, { hash, body: new Blob([body]).stream(), contentLength: body.length });
  };
  const register = () => registerShard(platform, SCOPES, "repo", new Blob([built.shard]).stream(), () => {});

  it("without a shard stay longer than a client remembers them", async () => {
    await send();
    await passes(22 * DAY);
    await register();
    expect(await count(sql`xet_files where state = 'registered'`)).toBe(1);
    expect(await count(sql`xorbs where idle_since is not null`)).toBe(0);
  });

  it("go after 22 days with their index and what deduplication knows of them", async () => {
    await send();
    await run(sql`insert into dedup_chunks (chunk, xorb_id) select 'c', id from xorbs`);
    await passes(22 * DAY + 1);
    expect([await count(sql`xorbs`), await count(sql`dedup_chunks`)]).toEqual([0, 0]);
    await passes(DAY + 1);
    expect(await objects()).toEqual([]);
    await expect(register()).rejects.toMatchObject({ code: "xet_xorb_missing" });
  });

  it("that are sent again are kept from then on, and not stored twice", async () => {
    await send();
    await passes(21 * DAY);
    const [xorb] = built.xorbs;
    if (xorb === undefined) throw new Error("there is no xorb");
    const body = new Blob([xorb.body]).stream();
    const again = await receiveXorb(platform, SCOPES, { hash: xorb.hash, body, contentLength: xorb.body.length });
    expect(again.inserted).toBe(false);
    await passes(21 * DAY);
    await register();
  });

  it("that a deduplication answer told of are kept from then on", async () => {
    await send();
    const [chunk] = built.xorbs[0]?.chunks ?? [];
    if (chunk === undefined) throw new Error("there is no chunk");
    const hash = xetHashOf(chunk.hash);
    await run(sql`insert into dedup_chunks (chunk, xorb_id) select ${hash}, id from xorbs`);
    await passes(21 * DAY);
    expect(await findDedup(platform, SCOPES, hash)).not.toBeNull();
    await passes(2 * DAY);
    await register();
  });

  it("of a file that nobody commits go after the file, page by page, and 22 days more", async () => {
    await send();
    await register();
    // Nobody commits it: first the repository no longer holds it, then the file goes, then the xorbs.
    await passes(2 * DAY + 1);
    expect(await count(sql`repo_contents`)).toBe(0);
    await passes(2 * HOUR);
    await passes(2 * DAY + 1);
    expect([await count(sql`xet_files`), await count(sql`xet_terms`)]).toEqual([0, 0]);
    expect(await count(sql`xorbs`)).toBe(built.xorbs.length);
    await passes(2 * HOUR);
    await passes(22 * DAY + 1);
    expect(await count(sql`xorbs`)).toBe(0);
  });

  it("that a crash left whole get their row back: their objects stay", async () => {
    for (let calls = 0; calls < 12; calls++) {
      const [xorb] = built.xorbs;
      if (xorb === undefined) throw new Error("there is no xorb");
      const body = new Blob([xorb.body]).stream();
      await receiveXorb(mortal(platform, calls), SCOPES, {
        hash: xorb.hash,
        body,
        contentLength: xorb.body.length,
      }).catch(() => undefined);
    }
    await passes(DAY + 1);
    expect(await count(sql`xorbs`)).toBe(1);
    expect(await count(sql`objects where state = 'staged'`)).toBe(0);
    await passes(DAY + 1);
    expect(await objects()).toHaveLength(2);
  });
});

describe("files that are being written", () => {
  const hash = parseXetHash("ab".repeat(32), "hash");
  it("go a day after they were begun, their terms in pieces", async () => {
    await run(
      sql`insert into xet_files (id, hash, scope, size, state, created_at) values (9, ${hash}, 'public', 9, 'open', ${time})`,
    );
    await run(sql`with recursive n(i) as (select 0 union all select i + 1 from n where i < 4999)
      insert into xet_terms select 9, i, 1, 1, 0, 1, 0, 1 from n`);
    await passes(DAY);
    expect(await count(sql`xet_terms`)).toBe(5000);
    time += 1;
    await collectStep(platform);
    expect(await count(sql`xet_terms`)).toBe(3000);
    expect(await count(sql`xet_files where state = 'removed'`)).toBe(1);
    await collect();
    expect([await count(sql`xet_files`), await count(sql`xet_terms`)]).toEqual([0, 0]);
  });
});

describe("objects", () => {
  it("that were staged for nothing are condemned after a day, and can't be named from then on", async () => {
    await run(stageObjects(["blobs/x"], time));
    await env.BLOBS.put("blobs/x", "x");
    await passes(DAY);
    expect(await count(sql`objects where state = 'staged'`)).toBe(1);
    await passes(1);
    const adopting = commitBatch(platform.db, [objectsUsable(["blobs/x"])], [adoptObjects(["blobs/x"], time)]);
    await expect(adopting).rejects.toMatchObject({ code: "content_damaged" });
    await passes(DAY + 1);
    expect(await objects()).toEqual([]);
  });

  it("from before objects had rows are taken over, or condemned where nothing names them", async () => {
    const sha256 = sha256Of(bytes);
    await env.BLOBS.put("blobs/old", bytes);
    await env.BLOBS.put("blobs/orphan", bytes);
    const segments = JSON.stringify([{ key: "blobs/old", size: 3000, sha256 }]);
    await run(sql`insert into contents (sha256, size, segments, created_at) values (${sha256}, 3000, ${segments}, 0)`);
    await hold(sha256);
    await name(sha256);
    // The bucket's own clock is not the test's.
    time += HOUR;
    await passes(DAY + 1);
    await passes(DAY + 1);
    expect(await objects()).toEqual(["blobs/old"]);
    expect(await count(sql`objects where key = 'blobs/old' and state = 'live'`)).toBe(1);
    await env.BLOBS.put("blobs/later", bytes);
    await passes(3 * DAY);
    expect(await objects()).toContain("blobs/old");
  });
});

it("refuses a grace for xorbs that clients' memory outlives", () => {
  expect(readConfig({ ...env }).graces).toEqual({ rows: 2 * DAY, xorbs: 22 * DAY, objects: DAY });
  expect(() => readConfig({ ...env, COLLECT_XORBS_AFTER_DAYS: "21" })).toThrow("COLLECT_XORBS_AFTER_DAYS");
  expect(() => readConfig({ ...env, COLLECT_AFTER_HOURS: "1" })).toThrow("COLLECT_AFTER_HOURS");
});
