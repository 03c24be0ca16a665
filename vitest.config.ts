// The test projects: `worker` runs inside workerd, the others in Node against real processes.
import path from "node:path";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const migrations = await readD1Migrations(path.join(import.meta.dirname, "drizzle"));

export default defineConfig({
  test: {
    // The Worker logs every request; only what is not an ordinary request is worth reading in a test run.
    onConsoleLog: (log) => !log.includes('"msg":"request"'),
    projects: [
      {
        plugins: [
          cloudflareTest({
            main: "./src/worker.ts",
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              bindings: {
                MIGRATIONS: migrations,
                OWM_SECRET: "test-secret-of-the-hub-0123456789abcdef",
                OWM_COMPUTE_SECRET: "test-secret-of-compute-0123456789abcdef",
                COMPUTE_URL: "http://compute.test",
                PUBLIC_URL: "http://hub.test",
                UPLOAD_PART_BYTES: "262144",
                RATE_LIMITS: "off",
                // A day: tests run background work themselves.
                UPKEEP_DELAY_MS: "86400000",
              },
            },
          }),
        ],
        test: { name: "worker", include: ["test/worker/**/*.test.ts"], setupFiles: ["test/kit/migrated.ts"] },
      },
      { test: { name: "node", include: ["test/node/**/*.test.ts"] } },
      {
        test: {
          name: "clients",
          include: ["test/clients/**/*.test.ts"],
          globalSetup: ["test/kit/running-hub.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts"],
          globalSetup: ["test/kit/running-hub.ts"],
          testTimeout: 120_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "faults",
          include: ["test/faults/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
