// A hub of real processes with a network between them that tests can break, and a verifier of what it has stored.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect } from "vitest";
import * as z from "zod";
import { type Hub, startHub } from "../../cli/hub.ts";
import { Verifier } from "../kit/verifier";
import { bucketOf, databaseOf } from "../kit/verifier-store";
import { HubClient, Job, Published, within } from "./client";
import { PART_BYTES, publishMaterials } from "./materials";
import { FaultyNetwork, type Held, type Match, type Point } from "./proxy";

export type Victim = "compute" | "worker" | "both";

/** A step of a job, told by the request between the services that belongs to it. */
export type Step = {
  readonly on: "toCompute" | "toHub";
  readonly match: Match;
  readonly at: Point;
  readonly skip?: number;
};

export const SUBMIT: Match = { method: "POST", path: /^\/v1\/jobs$/ };
export const INPUT: Match = { method: "GET", path: /\/inputs\/models\/1\// };
export const PROGRESS: Match = { method: "POST", path: /\/progress$/ };
export const ANNOUNCE: Match = { method: "POST", path: /\/uploads$/ };
export const PART: Match = { method: "PUT", path: /^\/lfs\/uploads\// };
export const SHARD: Match = { method: "POST", path: /^\/cas\/v[12]\/shards$/ };
export const RESULT: Match = { method: "POST", path: /\/result$/ };

/** Something that the hub stores in fails; mending it twice changes nothing. */
export type Outage = { mend(): void };

/** How long a lock waits for a write that is under way. */
const LOCK_MS = 20_000;

const Jobs = z.object({ jobs: z.array(Job) });

export class FaultHub {
  readonly hub: Hub;
  readonly client: HubClient;
  /** Between the Worker and the compute service. */
  readonly toCompute: FaultyNetwork;
  /** Between the compute service and the Worker. */
  readonly toHub: FaultyNetwork;
  readonly #verifier: Verifier;

  private constructor(hub: Hub, toCompute: FaultyNetwork, toHub: FaultyNetwork) {
    this.hub = hub;
    this.client = new HubClient(hub.endpoint, hub.token);
    this.toCompute = toCompute;
    this.toHub = toHub;
    this.#verifier = new Verifier(hub);
  }

  static async start(): Promise<FaultHub> {
    const [toCompute, toHub] = await Promise.all([FaultyNetwork.start(), FaultyNetwork.start()]);
    const bindings = { COMPUTE_URL: toCompute.url, PUBLIC_URL: toHub.url, UPLOAD_PART_BYTES: String(PART_BYTES) };
    const hub = await startHub({ state: mkdtempSync(join(tmpdir(), "owm-faults-")), bindings });
    toCompute.target = hub.computeUrl;
    toHub.target = hub.endpoint;
    const faulty = new FaultHub(hub, toCompute, toHub);
    await publishMaterials(faulty.client);
    return faulty;
  }

  async stop(): Promise<void> {
    await this.hub.stop();
    await Promise.all([this.toCompute.close(), this.toHub.close()]);
    rmSync(this.hub.state, { recursive: true, force: true });
  }

  async kill(victim: Victim): Promise<void> {
    await Promise.all([
      victim === "worker" ? undefined : this.hub.killCompute(),
      victim === "compute" ? undefined : this.hub.killWorker(),
    ]);
  }

  async revive(victim: Victim): Promise<void> {
    await Promise.all([
      victim === "worker" ? undefined : this.hub.startCompute(),
      victim === "compute" ? undefined : this.hub.startWorker(),
    ]);
  }

  /** Starts the job, runs `scenario` when it is held at the point, and gives back how it ended. */
  async disturbed(
    request: unknown,
    { on, match, at, skip }: Step,
    scenario: (held: Held, id: string) => Promise<void>,
  ): Promise<Job> {
    const hold = this[on].hold(match, at, skip);
    const id = await this.client.startJob(request);
    await scenario(await within(hold, `${match.method} ${match.path} ${at}`), id);
    return this.client.ended(id);
  }

  /** The output repository of a job that published nothing. */
  async expectUnpublished(repo: string): Promise<void> {
    expect(await this.client.call("GET", `/api/models/${repo}/commits/main`)).toMatchObject([
      { title: "initial commit" },
    ]);
  }

  /** What the job's feed has told so far. */
  async feed(id: string): Promise<string> {
    const response = await this.client.raw("GET", `/api/v1/jobs/${id}/events`);
    const reader = response.body?.getReader();
    const text = new TextDecoder();
    let told = "";
    // The stream stays open while the job runs: its first frames hold all that there is.
    for (let frames = 0; reader !== undefined && frames < 2; frames++) {
      const { value, done } = await reader.read();
      if (done) break;
      told += text.decode(value, { stream: true });
    }
    await reader?.cancel();
    return told;
  }

  /** The digest of the weights of the same request, left alone. */
  async undisturbed(request: unknown, repo: string): Promise<string> {
    return this.expectPublished(await this.client.ended(await this.client.startJob(request)), repo);
  }

  /** Ends all faults; what is still to come of the jobs so far meets none. */
  async calm(): Promise<void> {
    this.toCompute.heal();
    this.toHub.heal();
    const { jobs } = Jobs.parse(await this.client.call("GET", "/api/v1/jobs?limit=50"));
    for (const { id } of jobs) this.toHub.leftAlone.add(id);
  }

  /** From now until it is mended the bucket takes no writes, or the database nothing at all: a lock of ours is on its file. */
  lock(what: "bucket" | "database"): Outage {
    const file = what === "bucket" ? bucketOf(this.hub.state) : databaseOf(this.hub.state);
    const database = new DatabaseSync(file, { timeout: LOCK_MS });
    database.exec("begin immediate");
    return {
      mend() {
        if (!database.isOpen) return;
        database.exec("rollback");
        database.close();
      },
    };
  }

  /** From now until it is mended every transaction that adds a row to the table fails, as a whole. */
  refuseRows(table: "lineage" | "refs" | "events" | "contents"): Outage {
    const change = (sql: string) => {
      const database = new DatabaseSync(databaseOf(this.hub.state), { timeout: LOCK_MS });
      database.exec(sql);
      database.close();
    };
    change(`create trigger refused before insert on ${table} begin select raise(abort, 'refused by the test'); end`);
    return { mend: () => change("drop trigger if exists refused") };
  }

  /** While the Worker is down: as if so much time had passed that nobody waits for what its dead work had leased. */
  endLeases(): void {
    const database = new DatabaseSync(databaseOf(this.hub.state), { timeout: LOCK_MS });
    database.exec("update storage_tasks set due_at = 0");
    database.close();
  }

  /** A killed compute service that comes back on an empty disk. */
  forgetJournal(): void {
    rmSync(join(this.hub.state, "compute"), { recursive: true, force: true });
  }

  /** While the Worker is down only the files can be looked at. */
  async expectWhole({ online = true } = {}): Promise<void> {
    expect(await this.#verifier.problems(online)).toEqual([]);
  }

  /** The digest of the weights that a job published; they are its branch's head, on one commit beside the repository's first. */
  async expectPublished(job: Job, repo: string): Promise<string> {
    expect(job).toMatchObject({ state: "succeeded", error: null });
    const { commit, files } = Published.parse(job.result);
    const history = await this.client.call("GET", `/api/models/${repo}/commits/main`);
    expect(history).toMatchObject([{ id: commit }, { title: "initial commit" }]);
    const weights = files.find((file) => file.path === "model.safetensors");
    if (weights === undefined) throw new Error("the job published no weights");
    return weights.sha256;
  }
}

/** Some hubs for many scenarios: each has one for itself while it runs, and one that is left broken is not used again. */
export class HubPool {
  readonly #all = new Set<FaultHub>();
  readonly #free: FaultHub[] = [];
  readonly #waiting: ((hub: FaultHub) => void)[] = [];
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  async start(): Promise<void> {
    this.#free.push(...(await Promise.all(Array.from({ length: this.#size }, () => this.#startHub()))));
  }

  /** Also those that a scenario which ran out of time still holds. */
  async stop(): Promise<void> {
    await Promise.all([...this.#all].map((hub) => hub.stop()));
  }

  async #startHub(): Promise<FaultHub> {
    const hub = await FaultHub.start();
    this.#all.add(hub);
    return hub;
  }

  /** Runs the scenario and verifies what the hub has stored then. */
  async use(scenario: (hub: FaultHub) => Promise<void>): Promise<void> {
    const hub = this.#free.pop() ?? (await new Promise<FaultHub>((resolve) => this.#waiting.push(resolve)));
    let next = hub;
    try {
      await scenario(hub);
      await hub.expectWhole();
      await hub.calm();
    } catch (error) {
      this.#all.delete(hub);
      await hub.stop();
      next = await this.#startHub();
      throw error;
    } finally {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#free.push(next);
      else waiting(next);
    }
  }
}
