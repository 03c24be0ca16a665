// The migrations are what the schema says: a change of the schema without its migration fails here.
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, it } from "vitest";

const ROOT = path.join(import.meta.dirname, "../..");

it("generating migrations from the schema adds none", () => {
  // Inside the checkout, since drizzle-kit takes only relative folders.
  const scratch = mkdtempSync(path.join(ROOT, ".cache-migrations-"));
  try {
    cpSync(path.join(ROOT, "drizzle"), path.join(scratch, "drizzle"), { recursive: true });
    const config = path.join(scratch, "drizzle.config.json");
    const out = `./${path.relative(ROOT, scratch)}/drizzle`;
    writeFileSync(config, JSON.stringify({ dialect: "sqlite", schema: "./src/db/schema.ts", out }));
    const before = readdirSync(path.join(scratch, "drizzle"));
    const kit = path.join(ROOT, "node_modules/drizzle-kit/bin.cjs");
    execFileSync(process.execPath, [kit, "generate", "--config", config], { cwd: ROOT, stdio: "pipe" });
    expect(readdirSync(path.join(scratch, "drizzle"))).toEqual(before);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

it("a hub of the first version keeps its objects, and its large files go to the one store", () => {
  const folder = path.join(ROOT, "drizzle");
  const [first = "", ...later] = readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  const database = new DatabaseSync(":memory:");
  const migrate = (name: string) => database.exec(readFileSync(path.join(folder, name), "utf8"));
  migrate(first);
  database.exec(`insert into contents (sha256, size, segments, created_at) values ('d1', 5, '[{"key":"blobs/d1","size":5,"sha256":"d1"}]', 7);
    insert into repo_contents (repo_id, sha256, created_at) values ('r', 'd1', 7), ('r', 'd2', 7);
    insert into tree_entries (repo_id, tree, name, kind, id, sha256, size, lfs)
      values ('r', 't', 'a.bin', 'file', 'i', 'd1', 5, 1), ('r', 't', 'a.txt', 'file', 'j', 'd2', 5, 0);
    insert into upload_parts (upload_id, number, key, size, sha256) values ('u', 1, 'uploads/u/1', 5, 'd3')`);
  later.forEach(migrate);
  const rows = (query: string) =>
    database
      .prepare(query)
      .all()
      .map((row) => Object.values(row));
  expect(rows("select key, state from objects order by key")).toEqual([
    ["blobs/d1", "live"],
    ["uploads/u/1", "live"],
  ]);
  expect(rows("select kind, subject from storage_tasks")).toEqual([["ingest", "r d1"]]);
  expect(rows("select sha256, state, file_id from repo_contents order by sha256")).toEqual([
    ["d1", "verified", null],
    ["d2", "verified", null],
  ]);
});
