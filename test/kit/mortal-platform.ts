// A platform that dies: from the n-th call to D1 or to the bucket on nothing happens any more, as when a process is killed.

import { databaseOf } from "../../src/platform/cloudflare";
import type { BlobStore, Platform } from "../../src/platform/platform";

const DEATH = "the process died";

/** Whether that is why it failed. Streams hand on no more of an error than its text. */
export function isDeath(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause.message.includes(DEATH)) return true;
  return false;
}

/** `callsLeft`: how many calls still work; Infinity for a platform that lives on. */
export function mortal(real: Platform, callsLeft: number): Platform {
  let left = callsLeft;
  const tick = (): void => {
    if (left <= 0) throw new Error(DEATH);
    left -= 1;
  };
  const client = new Proxy(real.db.$client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      const call = value.bind(target);
      return name === "prepare" || name === "batch"
        ? (...args: unknown[]) => {
            tick();
            return call(...args);
          }
        : call;
    },
  });
  const blobs: BlobStore = {
    async put(key, body, sha256) {
      try {
        tick();
      } catch (error) {
        // Whoever writes into the other end would wait for ever.
        if (body instanceof ReadableStream) await body.cancel(error);
        throw error;
      }
      await real.blobs.put(key, body, sha256);
    },
    async get(key, range) {
      tick();
      return real.blobs.get(key, range);
    },
    async size(key) {
      tick();
      return real.blobs.size(key);
    },
    async delete(keys) {
      tick();
      await real.blobs.delete(keys);
    },
    async list(after) {
      tick();
      return real.blobs.list(after);
    },
  };
  return { ...real, db: databaseOf(client), blobs };
}
