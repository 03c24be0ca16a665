// The verifier itself: each kind of damage, done to a copy of a whole hub, is found.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Verifier } from "../kit/verifier";
import { databaseOf, readObjects } from "../kit/verifier-store";
import { FaultHub } from "./fault-hub";
import { evaluate, merge } from "./materials";

let hub: FaultHub;
const copies = mkdtempSync(join(tmpdir(), "owm-damaged-"));
const whole = join(copies, "whole");
beforeAll(async () => {
  hub = await FaultHub.start();
  for (const request of [merge(0.4, "faults/merged"), evaluate(1)])
    await hub.client.ended(await hub.client.startJob(request));
  await hub.expectWhole();
  // Its files stand still from here on; downloads are answered by a Worker on the undamaged state.
  await hub.kill("worker");
  cpSync(join(hub.hub.state, "edge"), join(whole, "edge"), { recursive: true });
  await hub.revive("worker");
});
afterAll(async () => {
  await hub?.stop();
  rmSync(copies, { recursive: true, force: true });
});

const merged = "(select id from repos where name = 'merged')";
const mergeJob = "(select id from jobs where kind = 'merge')";

const DAMAGE: readonly { readonly what: string; readonly sql: string; readonly found: RegExp }[] = [
  { what: "a ref to nothing", sql: "update refs set target = printf('%040d', 0)", found: /points to no commit/ },
  {
    what: "a commit that no ref reaches",
    sql: `delete from refs where repo_id = ${merged}`,
    found: /reached by no ref/,
  },
  {
    what: "a changed message",
    sql: "update commits set message = message || '!'",
    found: /another id than its content/,
  },
  {
    what: "a lost parent",
    sql: `delete from commits where repo_id = ${merged} and parents = '[]'`,
    found: /lacks its parent/,
  },
  { what: "a lost tree", sql: `delete from tree_entries where repo_id = ${merged}`, found: /lacks its tree/ },
  { what: "a lost entry", sql: "delete from tree_entries where name = 'recipe.json'", found: /by its entries/ },
  { what: "a lost content", sql: "delete from contents where size < 10000", found: /no content of its digest/ },
  { what: "an object without a row", sql: "delete from objects", found: /has no row/ },
  {
    what: "a condemned object that is named",
    sql: "update objects set state = 'condemned'",
    found: /is named and condemned/,
  },
  {
    what: "an object that nothing names",
    sql: "insert into objects values ('x', 'live', 0)",
    found: /x is live and named by nothing/,
  },
  {
    what: "a Xet file without terms",
    sql: "insert into xet_files (hash, scope, size, state, created_at) values ('x', 'public', 5, 'registered', 0)",
    found: /has 5 bytes, its terms 0/,
  },
  {
    what: "a xorb without objects",
    sql: "insert into xorbs (hash, scope, key, packed_size, size, chunks, created_at) values ('x', 'public', 'x', 5, 5, 1, 0)",
    found: /lacks its index/,
  },
  {
    what: "a term of no file",
    sql: "insert into xet_terms values (999999, 0, 5, 999999, 0, 1, 0, 5)",
    found: /which is not there/,
  },
  {
    what: "a file that its repository does not hold",
    sql: `delete from repo_contents where repo_id = ${merged}`,
    found: /not held by/,
  },
  {
    what: "a shortened content",
    sql: "update contents set segments = json_remove(segments, '$[0]')",
    found: /its segments/,
  },
  {
    what: "a segment without object",
    sql: "update contents set segments = replace(segments, 'blobs/', 'gone/')",
    found: /lacks its object/,
  },
  {
    what: "a job that ended twice",
    sql: `insert into job_events (job_id, attempt, at, type, data) values (${mergeJob}, 1, 0, 'state', '{"state":"failed"}')`,
    found: /its feed ends with/,
  },
  {
    what: "an end that is not audited",
    sql: "delete from events where type = 'job.ended'",
    found: /0 ends are audited/,
  },
  {
    what: "a failed job that published",
    sql: `update jobs set state = 'failed', result = null, error = '{}' where id = ${mergeJob}`,
    found: /has lineage and no job/,
  },
  { what: "a revision without lineage", sql: "delete from lineage", found: /0 rows of lineage/ },
  { what: "a lost evaluation", sql: "delete from evaluations", found: /0 evaluations/ },
  {
    what: "a part of no upload",
    sql: "insert into upload_parts values ('x', 1, 'x', 1, 'x')",
    found: /belongs to no open upload/,
  },
];

function damagedCopy(damage: (state: string) => void): string {
  const state = mkdtempSync(join(copies, "state-"));
  cpSync(whole, state, { recursive: true });
  damage(state);
  return state;
}

const problemsOf = async (state: string): Promise<string> => {
  const { endpoint, token } = hub.hub;
  return (await new Verifier({ state, endpoint, token }).problems()).join("\n");
};

it("finds nothing in a copy that nobody damaged", async () => {
  expect(await problemsOf(damagedCopy(() => {}))).toBe("");
});

it.each(DAMAGE)("finds $what", async ({ sql, found }) => {
  const state = damagedCopy((copy) => {
    const database = new DatabaseSync(databaseOf(copy));
    database.exec(sql);
    database.close();
  });
  expect(await problemsOf(state)).toMatch(found);
});

it("finds other bytes in an object", async () => {
  const state = damagedCopy(() => {});
  const [, object] = [...(await readObjects(state))].find(([key]) => key.startsWith("blobs/")) ?? [];
  if (object === undefined) throw new Error("the bucket is empty");
  const bytes = readFileSync(object.file);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  writeFileSync(object.file, bytes);
  expect(await problemsOf(state)).toMatch(/holds other bytes/);
});
