// The Cloudflare bindings behind the platform's interfaces.
import { drizzle } from "drizzle-orm/d1";
import { readConfig } from "../config";
import { d1Session, type ReadFrom } from "./d1-session";
import { edgeCache, NO_CACHE } from "./edge-cache";
import {
  type AuditEvent,
  type BlobStore,
  type ByteRange,
  type Db,
  type JobDriver,
  NOBODY,
  type Platform,
  type RepoUse,
} from "./platform";

export type Env = {
  readonly DB: D1Database;
  readonly BLOBS: R2Bucket;
  readonly JOBS: Workflow<{ job: string; driver: number }>;
  readonly CLOCK: DurableObjectNamespace<import("./clock").Clock>;
  readonly EVENT_BUFFER: DurableObjectNamespace<import("./event-buffer").EventBuffer>;
  readonly RATE_WINDOWS: DurableObjectNamespace<import("./rate-window").RateWindow>;
  readonly UPKEEP: DurableObjectNamespace<import("./upkeep").Upkeep>;
  readonly MESSENGER: DurableObjectNamespace<import("./messenger").Messenger>;
  /** Where the hub runs on a machine of its own: a network that leads to public addresses only, as Cloudflare's does by itself. */
  readonly PUBLIC_NETWORK?: Fetcher;
};

/** R2 deletes at most this many keys in one call. */
const DELETE_BATCH = 1000;

export function r2BlobStore(bucket: R2Bucket): BlobStore {
  return {
    async put(key, body, sha256) {
      await bucket.put(key, body, sha256 === undefined ? {} : { sha256 });
    },
    async get(key: string, range?: ByteRange) {
      const object = await bucket.get(key, range === undefined ? {} : { range });
      return object === null ? null : object.body;
    },
    async size(key) {
      return (await bucket.head(key))?.size ?? null;
    },
    async delete(keys) {
      for (let i = 0; i < keys.length; i += DELETE_BATCH) await bucket.delete(keys.slice(i, i + DELETE_BATCH));
    },
    async list(after) {
      const page = await bucket.list(after === undefined ? {} : { startAfter: after });
      return page.objects.map(({ key, uploaded }) => ({ key, storedAt: uploaded.getTime() }));
    },
  };
}

/** The id of the workflow instance that drives a job. */
const workflowId = (job: string, driver: number): string => `${job}-${driver}`;

/** The event that tells a waiting workflow to look at its job again. */
export const WAKE_EVENT = "job-changed";

const OVER = new Set<InstanceStatus["status"]>(["complete", "errored", "terminated"]);

/** The runtime tells these apart only by the text of the error. */
const says = (error: unknown, what: string): boolean => error instanceof Error && error.message.includes(what);

function workflowDriver(env: Env): JobDriver {
  return {
    async start(job, driver) {
      // The clock first: if the instance can't be made now, the clock makes it later.
      await env.CLOCK.get(env.CLOCK.idFromName("hub")).start();
      try {
        await env.JOBS.create({ id: workflowId(job, driver), params: { job, driver } });
      } catch (error) {
        if (!says(error, "already_exists") && !says(error, "already exists")) throw error;
      }
    },
    async wake(job, driver) {
      const instance = await env.JOBS.get(workflowId(job, driver));
      await instance.sendEvent({ type: WAKE_EVENT, payload: {} });
    },
    async state(job, driver) {
      try {
        const instance = await env.JOBS.get(workflowId(job, driver));
        return OVER.has((await instance.status()).status) ? "dead" : "alive";
      } catch (error) {
        if (says(error, "not_found")) return "missing";
        throw error;
      }
    },
  };
}

/** Without the relations of its schema drizzle is made in microseconds, so each request can have its own session. */
export const databaseOf = (client: D1Database): Db => drizzle(client);

export function cloudflarePlatform(
  env: Env,
  requestId: string,
  defer: (work: Promise<unknown>) => void,
  from: ReadFrom = "write",
  peer = NOBODY,
): Platform {
  const { client, session } = d1Session(env.DB, from);
  const config = readConfig(env);
  return {
    db: databaseOf(client),
    session,
    cache: config.edgeCache ? edgeCache(config.publicUrl) : NO_CACHE,
    blobs: r2BlobStore(env.BLOBS),
    events: {
      record: (events: readonly AuditEvent[], uses: readonly RepoUse[] = []) =>
        env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")).record([...events], [...uses]),
    },
    rates: {
      add: async (key, window, count) => env.RATE_WINDOWS.get(env.RATE_WINDOWS.idFromName(key)).add(window, count),
    },
    jobs: workflowDriver(env),
    upkeep: { wake: () => env.UPKEEP.get(env.UPKEEP.idFromName("hub")).wake() },
    messenger: {
      wake: () => env.MESSENGER.get(env.MESSENGER.idFromName("hub")).wake(),
      send: (url, init) =>
        env.PUBLIC_NETWORK === undefined || url.protocol === "http:"
          ? fetch(url, init)
          : env.PUBLIC_NETWORK.fetch(url, init),
    },
    config,
    now: () => Date.now(),
    defer,
    requestId,
    peer,
  };
}
