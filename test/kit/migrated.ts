// Every test starts on an empty hub with the schema in place.
import { env, reset } from "cloudflare:test";
import { afterEach, beforeEach, type RunnerTestCase } from "vitest";

/** Formats and streams work on bytes alone: setting a hub up for them took longer than most of their tests. */
const needsHub = (test: Readonly<RunnerTestCase>): boolean =>
  !/\/test\/worker\/(formats|streams)\//.test(test.file.filepath);

beforeEach(async ({ task }) => {
  if (!needsHub(task)) return;
  // In one batch: a round trip for each migration, and its entry in a list of them, took twice as long.
  await env.DB.batch(env.MIGRATIONS.flatMap(({ queries }) => queries.map((query) => env.DB.prepare(query))));
});
afterEach(async ({ task }) => {
  if (needsHub(task)) await reset();
});
