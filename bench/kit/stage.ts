// Everything a benchmark needs running: the hub, the bare Worker and, where it is installed, nginx, in one folder that goes away.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startHub } from "../../cli/hub.ts";
import { claimPort } from "../../cli/ports.ts";
import { ServiceProcess } from "../../cli/service-process.ts";
import { HubClient } from "./hub-client.ts";

const READY_MS = 60_000;
const STOP_GRACE_MS = 5000;

export type Server = { readonly endpoint: string; readonly pids: () => number[] };

export type Stage = {
  /** For files of the benchmarks. */
  readonly folder: string;
  readonly client: HubClient;
  readonly hub: Server;
  readonly bare: Server;
  /** Serves the folder's `served`; undefined where nginx is not installed. */
  readonly nginx: Server | undefined;
};

async function answers(url: string): Promise<void> {
  for (const limit = Date.now() + READY_MS; ; await pause(100)) {
    const ok = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    if (Date.now() > limit) throw new Error(`${url} did not answer within ${READY_MS / 1000} s`);
  }
}

/** A fresh Worker that does nothing, once it answers. */
export async function startBare(folder: string, port: number): Promise<ServiceProcess> {
  const bare = await ServiceProcess.start({
    name: "bare",
    program: process.execPath,
    args: ["--no-warnings", join(import.meta.dirname, "..", "bare-edge.ts"), String(port), join(folder, "bare")],
    cwd: folder,
    env: { ...process.env, TMPDIR: folder },
    log: join(folder, "bare.log"),
    channel: true,
  });
  await answers(`http://127.0.0.1:${port}/empty`);
  return bare;
}

const nginxConfig = (folder: string, port: number): string => `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log ${folder}/nginx.log;
events { worker_connections 64; }
http {
  access_log off;
  sendfile on;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  server { listen 127.0.0.1:${port}; root ${folder}/served; }
}
`;

async function startNginx(folder: string, port: number): Promise<ServiceProcess> {
  const config = join(folder, "nginx.conf");
  writeFileSync(config, nginxConfig(folder, port));
  writeFileSync(join(folder, "served", "ready"), "");
  const nginx = await ServiceProcess.start({
    name: "nginx",
    program: "nginx",
    args: ["-c", config, "-p", folder],
    cwd: folder,
    env: process.env,
    log: join(folder, "nginx.log"),
    channel: false,
  });
  await answers(`http://127.0.0.1:${port}/ready`);
  return nginx;
}

/** Runs `act` on a stage of its own, and takes the stage down however `act` ends, an interrupt included. */
export async function onStage(act: (stage: Stage) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "owm-bench-"));
  mkdirSync(join(folder, "served"));
  const stops: (() => Promise<void>)[] = [];
  const interrupted = new AbortController();
  const interruption = new Promise<never>((_, reject) => {
    interrupted.signal.addEventListener("abort", () => reject(new Error("interrupted")));
  });
  const interrupt = () => interrupted.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const serve = async (service: ServiceProcess, port: number): Promise<Server> => {
    stops.push(() => service.stop(STOP_GRACE_MS));
    // An interrupt that came meanwhile did not know of it yet.
    if (interrupted.signal.aborted) await service.stop(STOP_GRACE_MS);
    return { endpoint: `http://127.0.0.1:${port}`, pids: () => service.members().map(({ pid }) => pid) };
  };
  const run = async (): Promise<void> => {
    const hub = await startHub({ state: join(folder, "hub"), signal: interrupted.signal });
    stops.push(() => hub.stop());
    const barePort = await claimPort(0, "");
    const bare = await serve(await startBare(folder, barePort), barePort);
    const hasNginx = spawnSync("nginx", ["-v"]).status === 0;
    if (!hasNginx) console.log("nginx is not installed: measured without it");
    const nginxPort = await claimPort(0, "");
    const nginx = hasNginx ? await serve(await startNginx(folder, nginxPort), nginxPort) : undefined;
    const server: Server = { endpoint: hub.endpoint, pids: () => hub.workerPids() };
    await act({ folder, client: new HubClient(hub), hub: server, bare, nginx });
  };
  try {
    await Promise.race([run(), interruption]);
  } finally {
    for (const stop of stops.toReversed()) await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
