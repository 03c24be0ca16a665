// The Cloudflare bindings behind the platform's interfaces.
import { drizzle } from "drizzle-orm/d1";
import { readConfig } from "../config";
import * as schema from "../db/schema";
import type { AuditEvent, BlobStore, ByteRange, Db, JobDriver, Platform } from "./platform";

export type Env = {
  readonly DB: D1Database;
  readonly BLOBS: R2Bucket;
  readonly JOBS: Workflow<{ job: string; driver: number }>;
  readonly CLOCK: DurableObjectNamespace<import("./clock").Clock>;
  readonly EVENT_BUFFER: DurableObjectNamespace<import("./event-buffer").EventBuffer>;
  readonly UPKEEP: DurableObjectNamespace<import("./upkeep").Upkeep>;
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
    async list(prefix, after) {
      const page = await bucket.list(after === undefined ? { prefix } : { prefix, startAfter: after });
      return page.objects.map((object) => object.key);
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

const clients = new WeakMap<D1Database, Db>();

/** Drizzle reads the whole schema when it is made: once a binding, not once a request. */
export function databaseOf(binding: D1Database): Db {
  let db = clients.get(binding);
  if (db === undefined) {
    db = drizzle(binding, { schema });
    clients.set(binding, db);
  }
  return db;
}

export function cloudflarePlatform(env: Env, requestId: string, defer: (work: Promise<unknown>) => void): Platform {
  return {
    db: databaseOf(env.DB),
    blobs: r2BlobStore(env.BLOBS),
    events: {
      record: (events: readonly AuditEvent[]) =>
        env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")).record([...events]),
    },
    jobs: workflowDriver(env),
    upkeep: { wake: () => env.UPKEEP.get(env.UPKEEP.idFromName("hub")).wake() },
    config: readConfig(env),
    now: () => Date.now(),
    defer,
    requestId,
  };
}
