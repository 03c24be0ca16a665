// Garbage collection against a model: random schedules of uploads, commits, deletions, crashes and weeks that pass. What can be
// reached is always there, byte for byte; and when all graces are over, nothing else is.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import * as z from "zod";
import type { Caller } from "../../../src/access/caller";
import { queryRows } from "../../../src/db/client";
import { HubError } from "../../../src/errors";
import { xetHashOf } from "../../../src/formats/xet/hash";
import { collectStep } from "../../../src/hub/collect";
import { commit, lfsEntry, storeFiles } from "../../../src/hub/commits";
import { changeSettings, createRepo, deleteRepo } from "../../../src/hub/lifecycle";
import { linkable } from "../../../src/hub/linking";
import { createRef, deleteRef } from "../../../src/hub/refs";
import { findFile, findSnapshot, type Repository } from "../../../src/hub/repositories";
import { scopesOf } from "../../../src/hub/scopes";
import type { Change } from "../../../src/hub/tree-edit";
import { runUpkeep } from "../../../src/hub/upkeep";
import {
  type GitId,
  newJobId,
  parseFilePath,
  parseRefName,
  parseRepoId,
  parseRevision,
  type Sha256,
} from "../../../src/ids";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { readContent, SegmentsColumn } from "../../../src/store/contents";
import { completeUpload, openUploads, receivePart, uploadLinks } from "../../../src/store/uploads";
import { findDedup } from "../../../src/store/xet/dedup";
import { registerShard } from "../../../src/store/xet/shards";
import { receiveXorb } from "../../../src/store/xet/xorbs";
import { readAll } from "../../../src/streams/chunks";
import { isDeath, mortal } from "../../kit/mortal-platform";
import { type BuiltFile, buildFile, encodeShard, fileOf, randomBytes, sha256Of } from "../../kit/xet";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = 150;
/** What the hub promises: an upload may be committed for as long as clients count on it. */
const UPLOAD_KEPT = 40 * HOUR;
/** A client remembers for three weeks which xorbs it has uploaded. */
const XORBS_KEPT = 21 * DAY;
const PEOPLE = ["ada", "bob"] as const;
const MAIN = parseRefName("refs/heads/main", "ref");
const SIDE = parseRefName("refs/heads/side", "ref");

type Person = (typeof PEOPLE)[number];
/** Paths and what they hold. */
type Files = ReadonlyMap<string, Sha256>;
type ModelRepo = {
  readonly repo: Repository;
  readonly owner: Person;
  private: boolean;
  readonly branches: Map<typeof MAIN, GitId>;
  readonly commits: Map<GitId, Files>;
};
type Pending = { readonly repo: ModelRepo; readonly sha256: Sha256; readonly at: number };
/** `scope`: of the repository it was sent to. */
type Cached = { readonly file: BuiltFile; readonly scope: string; readonly by: Person; readonly at: number };

class Model {
  readonly #seed: number;
  #state: number;
  #now = Date.now();
  readonly #real: Platform;
  readonly repos: ModelRepo[] = [];
  readonly #pending: Pending[] = [];
  readonly #cache: Cached[] = [];
  readonly #bytes = new Map<Sha256, Uint8Array>();
  /** Of evaluations that succeeded. */
  readonly #samples = new Set<Sha256>();
  #made = 0;
  readonly did: string[] = [];

  constructor(seed: number) {
    this.#seed = seed;
    this.#state = seed;
    this.#real = { ...cloudflarePlatform(env, "model", () => {}), now: () => this.#now, defer: () => {} };
  }

  /** Mulberry32. */
  #random(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#random(Math.max(from.length, 1))];
  }

  /** Some processes die on the way. */
  #platform(): Platform {
    return mortal(this.#real, this.#random(4) === 0 ? this.#random(25) : Number.POSITIVE_INFINITY);
  }

  #caller(person: Person, platform = this.#platform()): Caller {
    return {
      platform,
      actor: {
        kind: "user",
        id: person,
        name: person,
        isAdmin: false,
        scope: "admin",
        tokenName: "t",
        tokenId: null,
        memberships: [],
      },
    };
  }

  /** New bytes, or bytes that were there before. */
  #content(size: number): { bytes: Uint8Array; sha256: Sha256 } {
    const known = this.#pick([...this.#bytes]);
    if (known !== undefined && this.#random(3) === 0) return { sha256: known[0], bytes: known[1] };
    const bytes = randomBytes(this.#seed * 1000 + this.#made++, size);
    const sha256 = sha256Of(bytes);
    this.#bytes.set(sha256, bytes);
    return { bytes, sha256 };
  }

  async begin(): Promise<void> {
    for (const person of PEOPLE)
      await this.#real.db.run(
        sql`insert into accounts (id, kind, name, name_key, fullname, created_at) values (${person}, 'user', ${person}, ${person}, ${person}, 0)`,
      );
  }

  /** One thing happens. Null when it died; other failures are the model's to judge. */
  async #survived<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (isDeath(error)) return null;
      throw error;
    }
  }

  async step(): Promise<void> {
    const actions: readonly (readonly [number, string, () => Promise<void>])[] = [
      [2, "create", () => this.#create()],
      [4, "commit small files", () => this.#commitSmall()],
      [4, "upload", () => this.#upload()],
      [4, "upload by Xet", () => this.#uploadXet()],
      [2, "upload by Xet from the cache", () => this.#uploadCached()],
      [7, "commit an upload", () => this.#commitPending()],
      [4, "link", () => this.#link()],
      [2, "branch", () => this.#branch()],
      [1, "delete branch", () => this.#deleteBranch()],
      [1, "delete repository", () => this.#delete()],
      [1, "visibility", () => this.#visibility()],
      [2, "a slow client", () => this.#slowClient()],
      [2, "evaluate", () => this.#evaluate()],
      [2, "deduplicate", () => this.#deduplicate()],
      [6, "background work", () => this.#upkeep()],
      [10, "collect", () => this.#collect()],
      [5, "time", () => this.#wait()],
    ];
    let at = this.#random(actions.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, name, act] of actions) {
      at -= weight;
      if (at >= 0) continue;
      this.did.push(name);
      // Sometimes a collector is at work meanwhile.
      const meanwhile = this.#random(3) === 0 ? this.#platform() : null;
      await Promise.all([act(), meanwhile === null ? null : this.#survived(() => collectStep(meanwhile))]);
      return;
    }
  }

  async #create(): Promise<void> {
    if (this.repos.length >= 5) return;
    const owner = this.#pick(PEOPLE) ?? "ada";
    const id = parseRepoId("model", `${owner}/r${this.#made++}`);
    const isPrivate = this.#random(2) === 0;
    await this.#survived(() => createRepo(this.#caller(owner), { id, private: isPrivate }));
    await this.#adopt(owner, id);
  }

  /** What is there after a creation, whether or not its process lived to tell. */
  async #adopt(owner: Person, id: ReturnType<typeof parseRepoId>): Promise<void> {
    try {
      const { repo, commit: head } = await findSnapshot(this.#caller(owner, this.#real), id, parseRevision("main"));
      const entries = await queryRows(
        this.#real.db,
        z.object({ name: z.string(), sha256: z.string() }),
        sql`select name, sha256 from tree_entries where repo_id = ${repo.id}`,
      );
      const files = new Map<string, Sha256>();
      for (const { name, sha256 } of entries) {
        const file = await findFile(
          this.#caller(owner, this.#real),
          id,
          parseRevision("main"),
          parseFilePath(name, "path"),
          "download",
        );
        const bytes = await readAll(await readContent(this.#real, file), 1 << 20);
        expect(sha256Of(bytes)).toBe(sha256);
        this.#bytes.set(file.sha256, bytes);
        files.set(name, file.sha256);
      }
      this.repos.push({
        repo,
        owner,
        private: repo.private,
        branches: new Map([[MAIN, head]]),
        commits: new Map([[head, files]]),
      });
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "repo_not_found") throw error;
    }
  }

  /** Commits, and finds out what became of it. True when the files are in. */
  async #commit(
    model: ModelRepo,
    put: ReadonlyMap<string, Sha256>,
    prepare: (caller: Caller) => Promise<Change[] | null>,
  ) {
    const ref = this.#pick([...model.branches.keys()]) ?? MAIN;
    const parent = model.branches.get(ref);
    if (parent === undefined) return false;
    const caller = this.#caller(model.owner);
    await this.#survived(async () => {
      const changes = await prepare(caller);
      if (changes === null) return;
      // Git ids know seconds: equal commits in one second would be one commit.
      this.#now += 1000;
      await commit(caller, model.repo, { ref, changes, summary: `change ${this.#made++}`, parent });
    });
    const head = await this.#head(model, ref);
    if (head === undefined || head === parent) return head === parent;
    model.branches.set(ref, head);
    model.commits.set(head, new Map([...(model.commits.get(parent) ?? []), ...put]));
    return true;
  }

  async #head({ repo }: ModelRepo, ref: string): Promise<GitId | undefined> {
    const rows = await this.#real.db.all<{ target: GitId }>(
      sql`select target from refs where repo_id = ${repo.id} and name = ${ref}`,
    );
    return rows[0]?.target;
  }

  async #commitSmall(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined) return;
    const made = Array.from({ length: 1 + this.#random(3) }, () => ({
      path: `f${this.#random(4)}.txt`,
      ...this.#content(1 + this.#random(300)),
    }));
    const put = new Map(made.map(({ path, ...content }) => [path, content]));
    await this.#commit(model, new Map([...put].map(([path, { sha256 }]) => [path, sha256])), async ({ platform }) => {
      const stored = await storeFiles(
        platform,
        [...put.values()].map(({ bytes }) => bytes),
      );
      return [...put.keys()].flatMap((path, i) => {
        const file = stored[i];
        return file === undefined ? [] : [{ kind: "put", path: parseFilePath(path, "path"), file, field: "path" }];
      });
    });
  }

  /** Through an upload of one part or of several. */
  async #sent(platform: Platform, owner: Parameters<typeof openUploads>[1], bytes: Uint8Array, sha256: Sha256) {
    const [upload] = await openUploads(platform, owner, [{ sha256, size: bytes.length }]);
    if (upload === undefined) throw new Error("no upload was opened");
    const { parts, completeUrl } = await uploadLinks(platform, "http://hub.test", upload);
    const signed = (url: string | null): string => new URL(url ?? "").searchParams.get("signature") ?? "";
    const etags: { number: number; etag: string }[] = [];
    for (const [i, { url, offset, size }] of parts.entries()) {
      const body = new Blob([bytes.slice(offset, offset + size)]).stream();
      const request = { id: upload.id, number: i + 1, signature: signed(url), body, contentLength: size };
      etags.push({ number: i + 1, etag: await receivePart(platform, request) });
    }
    if (completeUrl !== null) await completeUpload(platform, { id: upload.id, signature: signed(completeUrl), etags });
  }

  async #upload(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined) return;
    const { bytes, sha256 } = this.#content(500 + this.#random(this.#random(3) === 0 ? 600_000 : 5000));
    const at = this.#now;
    const sent = await this.#survived(async () => {
      await this.#sent(this.#platform(), { repoId: model.repo.id }, bytes, sha256);
      return true;
    });
    if (sent) this.#pending.push({ repo: model, sha256, at });
  }

  async #uploadXet(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined) return;
    const { bytes, sha256 } = this.#content(20_000 + this.#random(300_000));
    const file = buildFile(bytes, 1 + this.#random(3));
    const at = this.#now;
    const caller = this.#caller(model.owner);
    const scopes = scopesOf(caller.actor, { ...model.repo, private: model.private });
    const sent = await this.#survived(async () => {
      for (const { hash, body } of file.xorbs)
        await receiveXorb(caller.platform, scopes, {
          hash,
          body: new Blob([body]).stream(),
          contentLength: body.length,
        });
      return true;
    });
    if (!sent) return;
    this.#cache.push({ file, scope: scopes.target, by: model.owner, at });
    // Some clients take their time.
    if (this.#random(3) === 0) return;
    await this.#shard(model, file.shard, sha256);
  }

  async #shard(model: ModelRepo, shard: Uint8Array, sha256: Sha256): Promise<void> {
    const caller = this.#caller(model.owner);
    const scopes = scopesOf(caller.actor, { ...model.repo, private: model.private });
    const at = this.#now;
    const done = await this.#survived(() =>
      registerShard(caller.platform, scopes, model.repo.id, new Blob([shard]).stream(), () => {}),
    );
    if (done !== null) this.#pending.push({ repo: model, sha256, at });
  }

  /** The shard alone: the client remembers that it has sent the xorbs. */
  async #uploadCached(): Promise<void> {
    const cached = this.#pick(this.#cache);
    if (cached === undefined) return;
    const model = this.#pick(this.repos.filter((one) => one.owner === cached.by));
    if (model === undefined) return;
    const mayBeGone = this.#now - cached.at > XORBS_KEPT;
    try {
      await this.#shard(model, cached.file.shard, sha256Of(joined(cached.file)));
    } catch (error) {
      if (!mayBeGone || !(error instanceof HubError) || error.code !== "xet_xorb_missing") throw error;
    }
  }

  /** What was uploaded not long ago can be committed. */
  async #commitPending(): Promise<void> {
    const pending = this.#pick(this.#pending);
    if (pending === undefined) return;
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    const { repo: model, sha256, at } = pending;
    if (!this.repos.includes(model)) return;
    const kept = this.#now - at < UPLOAD_KEPT;
    await this.#commitHeld(model, sha256, kept);
  }

  async #commitHeld(model: ModelRepo, sha256: Sha256, mustBeThere: boolean): Promise<void> {
    const path = `b${this.#random(4)}.bin`;
    let missing = false;
    await this.#commit(model, new Map([[path, sha256]]), async (caller) => {
      const found = (await linkable(caller, model.repo, [sha256])).get(sha256);
      missing = found === undefined;
      if (found === undefined) return null;
      const file = lfsEntry(sha256, found.size, found.holding);
      return [{ kind: "put", path: parseFilePath(path, "path"), file, field: "path" }];
    });
    if (mustBeThere && missing) throw new Error(`${sha256} was uploaded and is not there to be committed`);
  }

  /** Almost as slow as it may be, while the collector is awake. */
  async #slowClient(): Promise<void> {
    const sent = this.#pending.length;
    await (this.#random(2) === 0 ? this.#upload() : this.#uploadXet());
    const pending = this.#pending[sent];
    if (pending === undefined) return;
    for (let waited = 0; waited < 3; waited++) {
      await this.#collect();
      this.#now += 13 * HOUR;
    }
    await this.#collect();
    this.#pending.splice(sent, 1);
    await this.#commitHeld(pending.repo, pending.sha256, this.#now - pending.at < UPLOAD_KEPT);
  }

  /** Bytes of another repository, if one may. */
  async #link(): Promise<void> {
    const [from, to] = [this.#pick(this.repos), this.#pick(this.repos)];
    if (from === undefined || to === undefined) return;
    const sha256 = this.#pick([...(this.#pick([...from.commits.values()]) ?? new Map<string, Sha256>()).values()]);
    if (sha256 !== undefined) await this.#commitHeld(to, sha256, false);
  }

  async #branch(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined || model.branches.has(SIDE)) return;
    // Any commit that ever was, also one that no ref reaches.
    const target = this.#pick([...model.commits.keys()]);
    if (target === undefined) return;
    await this.#survived(() => createRef(this.#caller(model.owner), model.repo, SIDE, { target }));
    const head = await this.#head(model, SIDE);
    if (head !== undefined) model.branches.set(SIDE, head);
  }

  async #deleteBranch(): Promise<void> {
    const model = this.#pick(this.repos.filter((one) => one.branches.has(SIDE)));
    if (model === undefined) return;
    await this.#survived(() => deleteRef(this.#caller(model.owner), model.repo, SIDE));
    if ((await this.#head(model, SIDE)) === undefined) model.branches.delete(SIDE);
  }

  async #delete(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined) return;
    await this.#survived(() => deleteRepo(this.#caller(model.owner), model.repo));
    if ((await this.#head(model, MAIN)) === undefined) this.repos.splice(this.repos.indexOf(model), 1);
  }

  async #visibility(): Promise<void> {
    const model = this.#pick(this.repos);
    if (model === undefined) return;
    await changeSettings(this.#caller(model.owner, this.#real), model.repo, { private: !model.private });
    model.private = !model.private;
  }

  /** A job's samples, as its compute service uploads them; the job then ends one way or the other. */
  async #evaluate(): Promise<void> {
    const id = newJobId(this.#now);
    const { db } = this.#real;
    await db.run(sql`insert into jobs (id, kind, state, actor_id, request_sha256, request, spec, created_at, updated_at, due_at, deadline_at)
      values (${id}, 'evaluate', 'running', 'ada', '', '{}', '{}', ${this.#now}, ${this.#now}, ${this.#now}, ${this.#now})`);
    const { bytes, sha256 } = this.#content(1 + this.#random(2000));
    const sent = await this.#survived(async () => {
      await this.#sent(this.#platform(), { jobId: id }, bytes, sha256);
      return true;
    });
    const succeeded = sent === true && this.#random(2) === 0;
    if (this.#random(2) === 0) {
      this.#now += this.#random(5) * DAY;
      await this.#collect();
    }
    await db.run(sql`update jobs set state = ${succeeded ? "succeeded" : "failed"} where id = ${id}`);
    if (succeeded) this.#samples.add(sha256);
  }

  /** A second client is told of xorbs, waits, and refers to one of them. */
  async #deduplicate(): Promise<void> {
    const cached = this.#pick(this.#cache);
    const model = this.#pick(this.repos.filter((one) => one.owner === cached?.by));
    const chunk = cached?.file.xorbs[0]?.chunks[0];
    if (cached === undefined || model === undefined || chunk === undefined) return;
    const caller = this.#caller(model.owner, this.#real);
    const scopes = scopesOf(caller.actor, { ...model.repo, private: model.private });
    const told = await findDedup(this.#real, scopes, xetHashOf(chunk.hash));
    if (told === null) return;
    const xorb = cached.file.xorbs[0];
    if (xorb === undefined) return;
    await this.#collect();
    this.#now += this.#random(20) * HOUR;
    await this.#collect();
    const file = fileOf([[xorb, 0, 1]]);
    this.#bytes.set(sha256Of(file.bytes), file.bytes);
    await this.#shard(model, encodeShard({ files: [file], xorbs: [] }), sha256Of(file.bytes));
  }

  /** Claims are verified, segments become xorbs, in steps that are small enough for several. */
  async #upkeep(): Promise<void> {
    let steps = this.#random(6);
    const sizes = { hash: 100_000, read: 150_000, window: 1 << 18, xorb: 200_000 };
    await this.#survived(() => runUpkeep(this.#platform(), () => steps-- <= 0, sizes));
  }

  async #collect(): Promise<void> {
    for (let i = this.#random(3); i >= 0; i--) await this.#survived(() => collectStep(this.#platform()));
  }

  async #wait(): Promise<void> {
    this.#now += this.#pick([MINUTE, HOUR, 5 * HOUR, DAY, 2 * DAY, 3 * DAY, 10 * DAY, 23 * DAY]) ?? 0;
  }

  /** Some of what can be reached, or all of it. */
  async check(everything: boolean): Promise<void> {
    const all = this.repos.flatMap((model) =>
      [...model.commits].flatMap(([id, files]) => [...files].map(([path, sha256]) => ({ model, id, path, sha256 }))),
    );
    const sample = everything ? all : [this.#pick(all), this.#pick(all)].filter((one) => one !== undefined);
    for (const { model, id, path, sha256 } of sample) {
      const file = await findFile(
        this.#caller(model.owner, this.#real),
        model.repo,
        parseRevision(id),
        parseFilePath(path, "path"),
        "download",
      );
      expect(file.sha256).toBe(sha256);
      expect(sha256Of(await readAll(await readContent(this.#real, file), 1 << 21))).toBe(sha256);
    }
    for (const sha256 of everything ? this.#samples : [this.#pick([...this.#samples])]) {
      if (sha256 === undefined) continue;
      const [row] = await queryRows(
        this.#real.db,
        z.object({ size: z.number(), segments: SegmentsColumn }),
        sql`select size, segments from contents where sha256 = ${sha256}`,
      );
      if (row === undefined) throw new Error(`the samples ${sha256} are gone`);
      const { size, segments } = row;
      const bytes = await readAll(
        await readContent(this.#real, { size, source: { kind: "segments", segments } }),
        1 << 21,
      );
      expect(sha256Of(bytes)).toBe(sha256);
    }
  }

  /** Nobody does anything any more, and the clock goes on. */
  async rest(): Promise<void> {
    for (let days = 0; days < 40; days += 2.5) {
      this.#now += 2.5 * DAY;
      await runUpkeep(this.#real, () => false);
      for (let i = 0; i < 20; i++) if (!(await collectStep(this.#real)).more) break;
    }
  }

  /** Exactly what is reachable is left: each row, and each object. */
  async checkNothingElse(): Promise<void> {
    const { db } = this.#real;
    const texts = async (query: ReturnType<typeof sql>): Promise<string[]> =>
      (await queryRows(db, z.object({ t: z.string() }), query)).map(({ t }) => t).sort();
    const holdings = this.repos.flatMap(({ repo, commits }) =>
      [...new Set([...commits.values()].flatMap((files) => [...files.values()]))].map(
        (sha256) => `${repo.id} ${sha256}`,
      ),
    );
    expect(await texts(sql`select repo_id || ' ' || sha256 as t from repo_contents`)).toEqual(holdings.sort());
    const segmented = await texts(sql`select distinct sha256 as t from repo_contents where file_id is null`);
    expect(await texts(sql`select sha256 as t from contents`)).toEqual(
      [...new Set([...segmented, ...this.#samples])].sort(),
    );
    expect(await texts(sql`select cast(id as text) as t from xet_files`)).toEqual(
      await texts(sql`select distinct cast(file_id as text) as t from repo_contents where file_id is not null`),
    );
    expect(await texts(sql`select cast(id as text) as t from xorbs`)).toEqual(
      await texts(sql`select distinct cast(xorb_id as text) as t from xet_terms`),
    );
    expect(await texts(sql`select distinct cast(file_id as text) as t from xet_terms`)).toEqual(
      await texts(sql`select cast(id as text) as t from xet_files`),
    );
    const keys = await texts(sql`select s.value ->> 'key' as t from contents, json_each(segments) s
      union select key from xorbs union select key || '.index' from xorbs`);
    expect(await texts(sql`select key as t from objects where state = 'live'`)).toEqual(keys);
    expect(await texts(sql`select key as t from objects`)).toEqual(keys);
    expect((await env.BLOBS.list()).objects.map(({ key }) => key).sort()).toEqual(keys);
    expect(await texts(sql`select id as t from uploads`)).toEqual([]);
    expect(await texts(sql`select subject as t from storage_tasks`)).toEqual([]);
  }
}

const joined = ({ xorbs }: BuiltFile): Uint8Array =>
  new Uint8Array(xorbs.flatMap(({ chunks }) => chunks.flatMap(({ bytes }) => [...bytes])));

describe("after any schedule", () => {
  for (const seed of [1, 2, 3])
    it(`all that can be reached is there, and at last nothing else (seed ${seed})`, { timeout: 60_000 }, async () => {
      const model = new Model(seed);
      await model.begin();
      try {
        for (let i = 0; i < STEPS; i++) {
          await model.step();
          await model.check(false);
        }
        await model.check(true);
        await model.rest();
        await model.check(true);
        await model.checkNothingElse();
      } catch (error) {
        throw new Error(`seed ${seed}, after ${model.did.length} steps: ${model.did.slice(-12).join(", ")}`, {
          cause: error,
        });
      }
    });
});
