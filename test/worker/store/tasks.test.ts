// The runner of background work: who runs what when, and what becomes of steps that fail, race or die.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { commitBatch } from "../../../src/db/client";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { progressOf, runTasks, type Step, verifyTasks } from "../../../src/store/tasks";

const HOUR_MS = 3600_000;
let time: number;
let platform: Platform;
/** Subject and progress of each step that ran. */
let ran: [string, unknown][];
afterEach(() => vi.restoreAllMocks());
beforeEach(() => {
  vi.spyOn(console, "error").mockImplementation(() => {});
  time = Date.UTC(2026, 10, 22);
  ran = [];
  platform = { ...cloudflarePlatform(env, "test", () => {}), now: () => time };
});

const queue = async (...ids: readonly number[]): Promise<void> => {
  for (const id of ids) await commitBatch(platform.db, [], [verifyTasks(sql`select ${String(id)}`, time)]);
};
const forever = () => false;
const steps = (verify: Step) => ({ verify, ingest: verify, pack: verify });
const tasks = async () =>
  (
    await env.DB.prepare(
      "select subject, attempts, due_at, problem, progress from storage_tasks order by subject",
    ).all()
  ).results;

/** Counts to three, noting each step in `seen`. */
const counting: Step = async (_, { subject, progress }) => {
  ran.push([subject, progress]);
  const next = typeof progress === "number" ? progress + 1 : 1;
  time += 1;
  return next < 3 ? { kind: "continue", progress: progressOf(next) } : { kind: "done" };
};

describe("tasks", () => {
  it("take turns, a step each, until all are done", async () => {
    await queue(1, 2);
    expect(await runTasks(platform, forever, steps(counting))).toBe(false);
    expect(ran).toEqual([
      ["1", null],
      ["2", null],
      ["1", 1],
      ["2", 1],
      ["1", 2],
      ["2", 2],
    ]);
    expect(await tasks()).toEqual([]);
  });

  it("stop when asked to, and say that there is more", async () => {
    await queue(1);
    expect(await runTasks(platform, () => ran.length === 2, steps(counting))).toBe(true);
    expect(ran).toHaveLength(2);
  });

  it("that fail wait longer each time and stop nothing else", async () => {
    await queue(1, 2);
    const failing: Step = async (p, task) => {
      if (task.subject === "1") throw new Error("no luck");
      return counting(p, task);
    };
    await runTasks(platform, forever, steps(failing));
    expect(ran).toHaveLength(3);
    const [failed] = await tasks();
    expect(failed).toMatchObject({ subject: "1", attempts: 1, problem: "no luck" });
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      const due = Number((await tasks())[0]?.due_at);
      waits.push(due - time);
      time = due;
      await runTasks(platform, forever, steps(failing));
    }
    expect(waits.every((wait, i) => i === 0 || wait >= (waits[i - 1] ?? 0))).toBe(true);
    expect(waits.at(-1)).toBe(6 * HOUR_MS);
  });

  it("of a runner that died are taken up by the next one when its lease is over, where they stood", async () => {
    await queue(1);
    await runTasks(platform, () => ran.length === 1, steps(counting));
    let hung = false;
    const hanging: Step = () => {
      hung = true;
      return new Promise(() => {});
    };
    void runTasks(platform, forever, steps(hanging));
    await vi.waitFor(() => expect(hung).toBe(true));
    expect(await runTasks(platform, forever, steps(counting))).toBe(false);
    expect(ran).toHaveLength(1);
    time += HOUR_MS;
    await runTasks(platform, forever, steps(counting));
    expect(ran).toEqual([
      ["1", null],
      ["1", 1],
      ["1", 2],
    ]);
  });

  it("that two runners work on go on by the faster one's step; the slower one's writes nothing", async () => {
    await queue(1);
    await platform.db.run(sql`create table marks (who text)`);
    const mark = (who: string) => [sql`insert into marks (who) values (${who})`];
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let started = false;
    const slow: Step = async () => {
      started = true;
      await held;
      return { kind: "done", statements: mark("slow") };
    };
    const slower = runTasks(platform, forever, steps(slow));
    await vi.waitFor(() => expect(started).toBe(true));
    time += HOUR_MS;
    let once = 0;
    const fast: Step = async () => ({ kind: "continue", progress: progressOf("fast"), statements: mark("fast") });
    await runTasks(platform, () => once++ > 0, steps(fast));
    // Not due again before the slower one has tried.
    await platform.db.run(sql`update storage_tasks set due_at = ${time + HOUR_MS}`);
    release();
    await slower;
    expect((await env.DB.prepare("select who from marks").all()).results).toEqual([{ who: "fast" }]);
    expect(await tasks()).toMatchObject([{ attempts: 0, progress: '"fast"' }]);
  });
});
