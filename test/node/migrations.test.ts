// The migrations are what the schema says: a change of the schema without its migration fails here.
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
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
