// Starts the whole hub on one machine (the Worker on workerd and the compute service) and hands back a handle to use, break and stop it.
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ensureAdministrator } from "./administrator.ts";
import { CliError } from "./cli-error.mjs";
import type { EdgeMessage } from "./edge.ts";
import { claimPort } from "./ports.ts";
import { type ServiceCommand, ServiceProcess, stopOrphans } from "./service-process.ts";
import {
  type Bootstrap,
  loadSecrets,
  lockState,
  readRun,
  removeRun,
  rotateLog,
  type Secrets,
  type StateFolder,
  stateFolder,
  writeRun,
} from "./state-folder.ts";
import { buildWorker } from "./worker-bundle.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const EDGE_READY_MS = 60_000;
/** Loading PyTorch from a cold disk takes a while. */
const COMPUTE_READY_MS = 240_000;
const STOP_GRACE_MS = 10_000;
const BACK_OFF_FIRST_MS = 500;
const BACK_OFF_LONGEST_MS = 30_000;
/** A service that ran this long had started well: its next restart is quick again. */
const HEALTHY_AFTER_MS = 60_000;

const READY_POLL_MS = 100;

function interrupted(): CliError {
  return new CliError("the start was interrupted.", "");
}

export interface HubOptions {
  /** The folder everything is kept in. */
  state: string;
  /** 0 picks a free port. */
  port?: number;
  computePort?: number;
  /** Start the compute service again when it ends by itself (`npm start` does; a test wants to see it stay down). */
  superviseCompute?: boolean;
  /** Settings of the Worker that differ from what a start gives it: a test puts a faulty network between the services. */
  bindings?: Readonly<Record<string, string>>;
  /** Another entry of the Worker than the hub's own, around it: a benchmark watches what it does. */
  entry?: string;
  /** Where a line about what happens goes; nowhere unless given. */
  report?: (line: string) => void;
  /** Aborting it stops a start that is under way. */
  signal?: AbortSignal;
}

export interface Hub {
  readonly endpoint: string;
  readonly computeUrl: string;
  readonly state: string;
  readonly user: string;
  readonly token: string;
  /** Resolves, with the reason, when the Worker ended without being told to. */
  readonly workerFailed: Promise<string>;
  /** node and workerd; empty while the Worker is down. */
  workerPids(): number[];
  computePid(): number | undefined;
  /** SIGKILL to every process of the Worker, as a crash would. It stays down until startWorker. */
  killWorker(): Promise<void>;
  startWorker(): Promise<void>;
  /** SIGKILL to every process of the compute service. It stays down until startCompute. */
  killCompute(): Promise<void>;
  startCompute(): Promise<void>;
  /** Stops everything and lets go of the state folder. */
  stop(): Promise<void>;
}

class LocalHub implements Hub {
  readonly endpoint: string;
  readonly computeUrl: string;
  readonly workerFailed: Promise<string>;
  bootstrap: Bootstrap = { endpoint: "", user: "", token: "" };
  readonly #folder: StateFolder;
  readonly #secrets: Secrets;
  readonly #ports: { edge: number; compute: number };
  readonly #options: HubOptions;
  readonly #logs: { edge: string; compute: string };
  readonly #release: () => void;
  #edge: ServiceProcess | undefined;
  #compute: ServiceProcess | undefined;
  #stopping: Promise<void> | undefined;
  #reportWorkerFailure: (reason: string) => void = () => {};
  readonly #stopped = new AbortController();

  constructor(
    folder: StateFolder,
    secrets: Secrets,
    ports: { edge: number; compute: number },
    options: HubOptions,
    release: () => void,
  ) {
    this.#folder = folder;
    this.#secrets = secrets;
    this.#ports = ports;
    this.#options = options;
    this.#release = release;
    this.#logs = { edge: rotateLog(folder, "edge"), compute: rotateLog(folder, "compute") };
    this.endpoint = `http://127.0.0.1:${ports.edge}`;
    this.computeUrl = `http://127.0.0.1:${ports.compute}`;
    this.workerFailed = new Promise((resolve) => {
      this.#reportWorkerFailure = resolve;
    });
  }

  get state() {
    return this.#folder.root;
  }
  get user() {
    return this.bootstrap.user;
  }
  get token() {
    return this.bootstrap.token;
  }

  async start(): Promise<void> {
    const worker = buildWorker(ROOT, this.#folder.worker, this.#options.entry).then(() => this.startWorker());
    await Promise.all([worker, this.startCompute()]);
    this.bootstrap = await ensureAdministrator(this.#folder, this.endpoint, this.#secrets);
  }

  workerPids(): number[] {
    return this.#edge?.members().map(({ pid }) => pid) ?? [];
  }

  computePid(): number | undefined {
    return this.#compute?.pid;
  }

  async startWorker(): Promise<void> {
    if (this.#edge !== undefined) throw new Error("the Worker runs already");
    // A killed Miniflare leaves its scratch files behind: in a folder of our own they can be cleared.
    rmSync(this.#folder.scratch, { recursive: true, force: true });
    mkdirSync(this.#folder.scratch, { recursive: true });
    const edge = await this.#spawn({
      name: "edge",
      program: process.execPath,
      args: ["--no-warnings", join(ROOT, "cli", "edge.ts")],
      cwd: ROOT,
      env: { ...process.env, TMPDIR: this.#folder.scratch },
      log: this.#logs.edge,
      channel: true,
    });
    this.#edge = edge;
    void edge.ended.then((how) => {
      if (this.#edge === edge) this.#edge = undefined;
      if (!edge.wasTold) this.#reportWorkerFailure(`the Worker's process ended (${how}). ${edge.logTail()}`);
    });
    this.#tellEdge({
      type: "serve",
      settings: {
        config: join(ROOT, "wrangler.toml"),
        bundle: this.#folder.worker,
        persist: this.#folder.edge,
        port: this.#ports.edge,
        bindings: {
          ...this.#secrets,
          PUBLIC_URL: this.endpoint,
          COMPUTE_URL: this.computeUrl,
          // Here the bucket and the database are as near as a cache could be.
          EDGE_CACHE: "off",
          // Who started it may ask as often as they like.
          RATE_LIMITS: "off",
          ...this.#options.bindings,
        },
      },
    });
    this.#introduceCompute();
    await this.#answers(edge, `${this.endpoint}/healthz`, EDGE_READY_MS);
    this.#record();
  }

  async killWorker(): Promise<void> {
    await this.#edge?.kill();
    this.#record();
  }

  async startCompute(): Promise<void> {
    if (this.#compute !== undefined) throw new Error("the compute service runs already");
    const compute = await this.#spawnCompute();
    await this.#answers(compute, `${this.computeUrl}/readyz`, COMPUTE_READY_MS);
    this.#record();
    if (this.#options.superviseCompute === true) {
      this.#superviseCompute(compute).catch((error) =>
        this.#options.report?.(`the compute service cannot be started any more: ${error}. Restart the hub.`),
      );
    }
  }

  async killCompute(): Promise<void> {
    await this.#compute?.kill();
    this.#record();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    this.#stopped.abort();
    await Promise.all([this.#edge?.stop(STOP_GRACE_MS), this.#compute?.stop(STOP_GRACE_MS)]);
    removeRun(this.#folder);
    this.#release();
  }

  async #spawn(command: ServiceCommand): Promise<ServiceProcess> {
    const service = await ServiceProcess.start(command);
    // A stop that came meanwhile did not know of it yet.
    if (this.#stopped.signal.aborted) {
      await service.kill();
      throw interrupted();
    }
    return service;
  }

  async #spawnCompute(): Promise<ServiceProcess> {
    const service = join(ROOT, "gpu-service");
    const address = ["--host", "127.0.0.1", "--port", String(this.#ports.compute)];
    const compute = await this.#spawn({
      name: "compute",
      program: join(service, ".venv", "bin", "python"),
      args: ["-m", "owm_compute", ...address, "--state", this.#folder.compute],
      cwd: service,
      env: { ...process.env, PYTHONUNBUFFERED: "1", OWM_COMPUTE_SECRET: this.#secrets.OWM_COMPUTE_SECRET },
      log: this.#logs.compute,
      channel: false,
    });
    this.#compute = compute;
    void compute.ended.then(() => {
      if (this.#compute === compute) this.#compute = undefined;
    });
    this.#introduceCompute();
    this.#record();
    return compute;
  }

  /** The hub survives the loss of its compute service: jobs wait, and the service is started again, ever more patiently. */
  async #superviseCompute(first: ServiceProcess): Promise<void> {
    let delay = BACK_OFF_FIRST_MS;
    for (let current = first; ; ) {
      const startedAt = Date.now();
      const how = await current.ended;
      if (current.wasTold) return;
      if (Date.now() - startedAt > HEALTHY_AFTER_MS) delay = BACK_OFF_FIRST_MS;
      this.#options.report?.(
        `the compute service ended (${how}); starting it again in ${delay / 1000} s. ${current.logTail()}`,
      );
      await pause(delay, undefined, { signal: this.#stopped.signal }).catch(() => {});
      if (this.#stopped.signal.aborted || this.#compute !== undefined) return;
      delay = Math.min(delay * 2, BACK_OFF_LONGEST_MS);
      current = await this.#spawnCompute();
    }
  }

  /** Waits until the service answers 200, and no longer than it lives. */
  async #answers(service: ServiceProcess, url: string, limitMs: number): Promise<void> {
    let problem = `did not answer ${url} within ${limitMs / 1000} s`;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), limitMs);
    void service.ended.then((how) => {
      problem = `ended (${how})`;
      limit.abort();
    });
    while (!limit.signal.aborted) {
      const status = await fetch(url, { signal: limit.signal }).then(
        async (response) => {
          await response.body?.cancel();
          return response.status;
        },
        () => 0,
      );
      if (status === 200) {
        clearTimeout(timer);
        return;
      }
      await pause(READY_POLL_MS, undefined, { signal: limit.signal }).catch(() => {});
    }
    clearTimeout(timer);
    if (service.wasTold) throw interrupted();
    throw new CliError(`the ${service.name} service ${problem}. ${service.logTail()}`, "See the log named above.");
  }

  #tellEdge(message: EdgeMessage): void {
    this.#edge?.send(message);
  }

  /** Should this process be killed, the edge stops the compute service in its stead. */
  #introduceCompute(): void {
    const compute = this.#compute?.record()[0];
    if (compute !== undefined) this.#tellEdge({ type: "companion", pid: compute.pid, started: compute.started });
  }

  #record(): void {
    if (this.#stopping !== undefined) return;
    const services = [this.#edge, this.#compute].flatMap((service) => service?.record() ?? []);
    writeRun(this.#folder, { pid: process.pid, endpoint: this.endpoint, services });
  }
}

/** Starts a hub and resolves when both services answer and the administrator exists. */
export async function startHub(options: HubOptions): Promise<Hub> {
  const folder = stateFolder(options.state);
  const lock = lockState(folder);
  let hub: LocalHub | undefined;
  const interrupt = () => void hub?.stop();
  try {
    const earlier = readRun(folder);
    if (earlier !== undefined) {
      const orphans = await stopOrphans(earlier);
      if (orphans.length > 0) options.report?.(`stopped what a killed hub had left running: ${orphans.join(", ")}`);
    }
    const ports = {
      edge: await claimPort(options.port ?? 0, "--port"),
      compute: await claimPort(options.computePort ?? 0, "--compute-port"),
    };
    hub = new LocalHub(folder, loadSecrets(folder), ports, options, () => lock.release());
    options.signal?.addEventListener("abort", interrupt);
    if (options.signal?.aborted === true) throw interrupted();
    await hub.start();
    return hub;
  } catch (error) {
    if (hub === undefined) lock.release();
    else await hub.stop();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", interrupt);
  }
}
