// The arrows of the house: each room imports only from rooms below it.
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

const SRC = path.join(import.meta.dirname, "../../src");

/** Rooms from top to bottom; a room may use its own level and all below. `platform` stands beside the middle: it names types of `db`. */
const LEVELS: readonly (readonly string[])[] = [
  ["worker", "app"],
  ["surfaces"],
  ["hub", "access", "trust", "compute", "events"],
  ["store"],
  ["db", "platform"],
  ["streams"],
  ["formats", "ids", "errors", "config"],
];
/** The classes that the runtime constructs: thin shells in `platform`, which call the rooms above. */
const SHELLS = new Set([
  "platform/clock.ts",
  "platform/job-workflow.ts",
  "platform/event-buffer.ts",
  "platform/cloudflare.ts",
  "platform/upkeep.ts",
  "platform/messenger.ts",
]);

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file));
const roomOf = (file: string): string => file.split(path.sep)[0]?.replace(/\.tsx?$/, "") ?? "";
const levelOf = (file: string): number => LEVELS.findIndex((rooms) => rooms.includes(roomOf(file)));

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(SRC, file), "utf8");
  const targets = [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map((match) => match[1] ?? "");
  // Tables are data, not a room.
  return targets.filter((target) => !target.endsWith(".json"));
}

const edges = files.flatMap((file) =>
  importsOf(file).map((target) => ({
    file,
    target,
    to: target.startsWith(".") ? path.relative(SRC, path.join(SRC, path.dirname(file), target)) : target,
  })),
);

describe("the arrows between rooms", () => {
  it("covers every file with a level", () => {
    expect(files.filter((file) => levelOf(file) < 0)).toEqual([]);
  });

  it("point down only", () => {
    const upward = edges.filter(
      ({ file, target, to }) => target.startsWith(".") && !SHELLS.has(file) && levelOf(to) < levelOf(file),
    );
    expect(upward.map(({ file, to }) => `${file} → ${to}`)).toEqual([]);
  });

  it("formats use nothing of ours but ids and errors", () => {
    const foreign = edges.filter(
      ({ file, target, to }) =>
        roomOf(file) === "formats" && target.startsWith(".") && !["formats", "ids", "errors"].includes(roomOf(to)),
    );
    expect(foreign.map(({ file, to }) => `${file} → ${to}`)).toEqual([]);
  });

  it("only platform and the entry see the runtime's own modules", () => {
    const seen = edges.filter(
      ({ target, file }) => target.startsWith("cloudflare:") && roomOf(file) !== "platform" && file !== "worker.ts",
    );
    expect(seen.map(({ file, target }) => `${file} → ${target}`)).toEqual([]);
  });

  it("surfaces never touch tables or the bucket themselves", () => {
    const reached = edges.filter(
      ({ file, to }) => roomOf(file) === "surfaces" && (to.startsWith("db/") || to.startsWith("drizzle-orm")),
    );
    expect(reached.map(({ file, to }) => `${file} → ${to}`)).toEqual([]);
  });
});
