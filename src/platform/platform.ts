// What the rooms may ask of the runtime: small interfaces, each with its consistency contract.
import type { DrizzleD1Database } from "drizzle-orm/d1";
import type { Config } from "../config";
import type { UseKind } from "../db/schema";
import type { JobId, Sha256 } from "../ids";

export type Db = DrizzleD1Database & { readonly $client: D1Database };

/** How new what a request reads of the database is. */
export type DbSession = {
  /** Stands for everything the request has seen or written; who sends it with the next request reads that, or newer. Null before a query. */
  bookmark(): string | null;
  /** Whether reads may miss what others have written just now: then "not found" is no answer yet. */
  mayLag(): boolean;
  /** The queries from here on see everything that was committed before. */
  toPrimary(): void;
};

/**
 * A cache that all callers near one data centre share. It may forget anything at any time, and what is put or deleted here is not put or
 * deleted elsewhere. Only `hub/public-cache.ts` writes to it: nothing private may ever get in.
 */
export type EdgeCache = {
  match(key: string): Promise<Response | null>;
  /** A full answer, kept for `maxAgeS` seconds at most. */
  put(key: string, body: ReadableStream<Uint8Array> | Uint8Array | string, maxAgeS: number): Promise<void>;
  delete(key: string): Promise<void>;
};

export type ByteRange = { readonly offset: number; readonly length: number };

/** Bytes by key. A write is durable and readable everywhere once `put` returns; nothing is ever overwritten with other bytes. */
export type BlobStore = {
  /** Stores exactly `size` bytes. With `sha256` the store itself refuses other bytes. A failed put leaves nothing. */
  put(key: string, body: ReadableStream<Uint8Array> | Uint8Array, sha256?: Sha256): Promise<void>;
  /** Null when there is no such object. */
  get(key: string, range?: ByteRange): Promise<ReadableStream<Uint8Array> | null>;
  /** Of the whole object in bytes; null when there is no such object. */
  size(key: string): Promise<number | null>;
  delete(keys: readonly string[]): Promise<void>;
  /** Up to 1000 objects in the order of their keys, from `after` on. Times are milliseconds since 1970. */
  list(after?: string): Promise<{ readonly key: string; readonly storedAt: number }[]>;
};

/** One audited fact, as `events/` writes it. */
export type AuditEvent = {
  readonly type: string;
  readonly subject: string;
  readonly actor: string;
  readonly action: string;
  readonly scopeId: string | null;
  readonly repoId?: string;
  readonly purpose?: string;
  readonly decision: "allow" | "deny";
  readonly reason?: string;
  readonly requestId: string;
  readonly time: number;
  readonly data?: unknown;
};

/** One client's use of a repository on a day; `client` is a hash that is another one on each day and for each repository. */
export type RepoUse = {
  readonly repoId: string;
  /** Since 1970. */
  readonly day: number;
  readonly kind: UseKind;
  readonly client: string;
};

/** Takes events and uses off the hot path: durable once the promise resolves, in D1 some seconds later, each once. */
export type EventSink = { record(events: readonly AuditEvent[], uses?: readonly RepoUse[]): Promise<void> };

/**
 * Adds up, for all places where the hub runs, what was counted under a key in a window; told the sum. Forgotten whenever nobody adds for
 * a while, and when a later window begins.
 */
export type SharedCounter = { add(key: string, window: number, count: number): Promise<number> };

/** Where a request comes from, as far as the network tells; empty texts where no request is behind. */
export type Peer = { readonly address: string; readonly agent: string };
export const NOBODY: Peer = { address: "", agent: "" };

/**
 * Drives jobs. Starting and waking are only hints: the row in D1 is the truth, and the clock repeats a lost hint.
 * `driver` numbers the instances that drive one job, one after another.
 */
export type JobDriver = {
  /** Repeating it changes nothing. */
  start(job: JobId, driver: number): Promise<void>;
  /** Wakes the driver of a job whose row has changed. */
  wake(job: JobId, driver: number): Promise<void>;
  /** `missing`: never started, or forgotten. `dead`: it ended, whatever became of the job. */
  state(job: JobId, driver: number): Promise<"alive" | "missing" | "dead">;
};

/** Background work on stored bytes. Waking it is only a hint: the tasks are rows in D1, and the clock looks for them too. */
export type Upkeep = { wake(): Promise<void> };

/** Sends to the addresses that users choose. Waking it is only a hint: what is new is in the trail, and the clock looks for it too. */
export type Messenger = {
  wake(): Promise<void>;
  /** Reaches the public internet only, whatever a name resolves to; this machine too where the settings allow it. */
  send(url: URL, init: RequestInit): Promise<Response>;
};

export type Platform = {
  readonly db: Db;
  readonly session: DbSession;
  readonly cache: EdgeCache;
  readonly blobs: BlobStore;
  readonly events: EventSink;
  readonly rates: SharedCounter;
  readonly jobs: JobDriver;
  readonly upkeep: Upkeep;
  readonly messenger: Messenger;
  readonly config: Config;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Work that goes on after the response. */
  readonly defer: (work: Promise<unknown>) => void;
  readonly requestId: string;
  readonly peer: Peer;
};
