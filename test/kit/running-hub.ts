// One running hub for all client tests: the real Worker on workerd with its D1 and R2, and the real compute service.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startHub } from "../../cli/hub.ts";

declare module "vitest" {
  export interface ProvidedContext {
    readonly endpoint: string;
    readonly token: string;
    readonly state: string;
  }
}

export default async function runHub(project: TestProject): Promise<() => Promise<void>> {
  const state = mkdtempSync(join(tmpdir(), "owm-clients-"));
  const hub = await startHub({
    state,
    port: 0,
    computePort: 0,
    // Receivers of webhooks are on this machine.
    bindings: { WEBHOOKS_TO_LOOPBACK: "on" },
  });
  project.provide("endpoint", hub.endpoint);
  project.provide("token", hub.token);
  project.provide("state", state);
  return async () => {
    await hub.stop();
    rmSync(state, { recursive: true, force: true });
  };
}
