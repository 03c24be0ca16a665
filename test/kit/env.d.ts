// What the test runtime binds beyond the Worker's own bindings.
import type { D1Migration } from "cloudflare:test";
import type { Env as WorkerEnv } from "../../src/platform/cloudflare";

declare global {
  namespace Cloudflare {
    interface Env extends WorkerEnv {
      readonly MIGRATIONS: D1Migration[];
      readonly OWM_SECRET: string;
    }
    interface GlobalProps {
      mainModule: typeof import("../../src/worker");
    }
  }
}
