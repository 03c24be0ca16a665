// Shards: true ones make files that a repository holds, and no lie in one links anything.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { queryRows } from "../../../../src/db/client";
import { xetHashOf } from "../../../../src/formats/xet/hash";
import type { XetHash } from "../../../../src/ids";
import { cloudflarePlatform } from "../../../../src/platform/cloudflare";
import type { Platform } from "../../../../src/platform/platform";
import type { Scopes } from "../../../../src/store/scopes";
import { registerShard, type ShardProgress } from "../../../../src/store/xet/shards";
import { loadTerms } from "../../../../src/store/xet/terms";
import { receiveXorb } from "../../../../src/store/xet/xorbs";
import {
  type BuiltXorb,
  buildFile,
  buildXorb,
  encodeShard,
  type FileSpec,
  fileOf,
  join,
  randomBytes,
  sha256Of,
  type TermSpec,
  xorbSpec,
} from "../../../kit/xet";

const alice: Scopes = { target: "alice", visible: ["public", "alice"], uploaderId: "alice" };
const bob: Scopes = { target: "bob", visible: ["public", "bob"], uploaderId: "bob" };
const everyone: Scopes = { target: "public", visible: ["public"], uploaderId: "carol" };
const REPO = "repo";

let platform: Platform;
let woken: number;
beforeEach(async () => {
  woken = 0;
  platform = {
    ...cloudflarePlatform(env, "test", () => {}),
    upkeep: {
      wake: async () => {
        woken++;
      },
    },
  };
  for (const id of [REPO, "other"])
    await env.DB.prepare(
      "insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at) values (?, 'model', 'alice', ?, ?, 1, 0, 0)",
    )
      .bind(id, id, id)
      .run();
});

async function upload(scopes: Scopes, ...xorbs: readonly BuiltXorb[]): Promise<void> {
  for (const { hash, body } of xorbs)
    await receiveXorb(platform, scopes, { hash, body: new Blob([body]).stream(), contentLength: body.length });
}

const register = (scopes: Scopes, shard: Uint8Array, repoId = REPO, report: (p: ShardProgress) => void = () => {}) =>
  registerShard(platform, scopes, repoId, new Blob([shard]).stream(), report);

const Held = z.object({
  repo_id: z.string(),
  sha256: z.string(),
  state: z.string(),
  file_id: z.number().nullable(),
  hash: z.string().nullable(),
  scope: z.string().nullable(),
  size: z.number().nullable(),
});
const held = () =>
  queryRows(
    platform.db,
    Held,
    sql`select h.repo_id, h.sha256, h.state, h.file_id, f.hash, f.scope, f.size from repo_contents h
      left join xet_files f on f.id = h.file_id and f.state = 'registered' order by f.id`,
  );
const count = async (what: string): Promise<number> => {
  const row = await env.DB.prepare(`select count(*) as n from ${what}`).first();
  return Number(row?.n);
};

/** Whatever was written before the lie was found, nothing of it can be reached. */
async function expectNothingLinked(): Promise<void> {
  expect(await held()).toEqual([]);
  expect(await count("xet_files where state <> 'open'")).toBe(0);
  expect(await count("storage_tasks")).toBe(0);
  expect(await count("dedup_chunks")).toBe(0);
  expect(woken).toBe(0);
}

const one = buildXorb([randomBytes(1, 3000), randomBytes(2, 9000), randomBytes(3, 5000)]);
const two = buildXorb([randomBytes(4, 4000), new Uint8Array(70_000).fill(9)]);
const whole = fileOf([[one], [two]]);

/** The file with some fields of one term changed. */
const withTerm = (file: FileSpec, at: number, change: Partial<TermSpec>): FileSpec => ({
  ...file,
  terms: file.terms.map((term, i) => (i === at ? { ...term, ...change } : term)),
});
const shardOf = (...files: readonly FileSpec[]): Uint8Array => encodeShard({ files, xorbs: [] });

describe("a shard that tells the truth", () => {
  it("makes its file, which the repository holds as claimed until it is hashed", async () => {
    await upload(alice, one, two);
    const shard = encodeShard({ files: [whole], xorbs: [xorbSpec(one), xorbSpec(two)] });
    const seen: ShardProgress[] = [];
    expect(await register(alice, shard, REPO, (progress) => void seen.push(progress))).toEqual({
      files: 1,
      existed: false,
    });
    const [row, ...others] = await held();
    expect(others).toEqual([]);
    expect(row).toMatchObject({
      repo_id: REPO,
      sha256: whole.sha256,
      state: "claimed",
      hash: whole.hash,
      scope: "alice",
      size: whole.bytes.length,
    });
    const terms = await loadTerms(platform.db, row?.file_id ?? 0, { offset: 0, length: whole.bytes.length });
    expect(terms).toMatchObject([
      { offset: 0, length: 17_000, chunks: { start: 0, end: 3 }, bytes: { start: 0, end: one.body.length } },
      { offset: 17_000, length: 74_000, chunks: { start: 0, end: 2 }, bytes: { start: 0, end: two.body.length } },
    ]);
    expect(await count(`storage_tasks where kind = 'verify' and subject = '${row?.file_id}'`)).toBe(1);
    expect(woken).toBe(1);
    expect(seen.at(-1)).toEqual({ verified: 4, total: 4 });
  });

  it("may have many files, terms inside a xorb, a xorb twice, files twice, a footer, or no file", async () => {
    await upload(alice, one, two);
    const files = [
      fileOf([[one, 1, 2]]),
      fileOf([
        [one, 0, 1],
        [two, 1, 2],
        [one, 0, 1],
      ]),
      whole,
    ];
    const shard = encodeShard({ files: [...files, whole], xorbs: [xorbSpec(two)], footer: true });
    expect(await register(alice, shard)).toEqual({ files: 3, existed: false });
    expect(new Set((await held()).map(({ sha256 }) => sha256))).toEqual(new Set(files.map(({ sha256 }) => sha256)));
    expect(await register(alice, encodeShard({ files: [], xorbs: [xorbSpec(one)] }))).toMatchObject({ files: 0 });
  });

  it("may have thousands of small files, in a time that grows no faster than they do", async () => {
    const chunks = Array.from({ length: 4000 }, (_, i) => randomBytes(100 + i, 40));
    const many = buildXorb(chunks, true);
    await upload(alice, many);
    const files = chunks.map((_, i) => fileOf([[many, i, i + 1]]));
    expect(await register(alice, shardOf(...files))).toEqual({ files: 4000, existed: false });
    expect(await count("repo_contents where state = 'claimed'")).toBe(4000);
    expect(await count("storage_tasks")).toBe(4000);
    expect(await register(alice, shardOf(...files))).toEqual({ files: 4000, existed: true });
  });

  it("sent again, also by two at once, changes nothing", async () => {
    await upload(alice, one, two);
    const answers = await Promise.all([register(alice, shardOf(whole)), register(alice, shardOf(whole))]);
    expect(answers).toMatchObject([{ files: 1 }, { files: 1 }]);
    const before = await held();
    expect(await register(alice, shardOf(whole))).toEqual({ files: 1, existed: true });
    expect(await held()).toEqual(before);
    expect(await count("xet_files")).toBe(1);
    expect(await count("xet_terms")).toBe(2);
    expect(await count("storage_tasks")).toBe(1);
  });

  it("lets another repository of the scope hold the same file, and another scope have its own", async () => {
    await upload(everyone, one, two);
    await register(alice, shardOf(whole));
    expect(await register(alice, shardOf(whole), "other")).toEqual({ files: 1, existed: true });
    expect(await register(bob, shardOf(whole), "bobs").catch((error: { code: string }) => error.code)).toBe(
      "repo_not_found",
    );
    expect((await held()).map(({ repo_id, scope }) => [repo_id, scope])).toEqual([
      [REPO, "alice"],
      ["other", "alice"],
    ]);
    expect(await register(everyone, shardOf(whole), "other")).toEqual({ files: 1, existed: false });
    expect(await count("xet_files where state = 'registered'")).toBe(2);
  });

  it("prefers the xorb of its own scope", async () => {
    await upload(alice, one);
    await upload(everyone, one);
    await register(alice, shardOf(fileOf([[one]])));
    expect(await count("xet_terms t join xorbs x on x.id = t.xorb_id where x.scope = 'alice'")).toBe(1);
  });

  it("makes what it names used again", async () => {
    await upload(alice, one, two);
    await register(alice, shardOf(whole));
    for (const table of ["xorbs", "xet_files", "repo_contents"])
      await env.DB.prepare(`update ${table} set idle_since = 7`).run();
    await register(alice, shardOf(whole));
    for (const table of ["xorbs", "xet_files", "repo_contents"])
      expect(await count(`${table} where idle_since is not null`)).toBe(0);
  });

  it("makes eligible chunks and the first of a file findable", async () => {
    await upload(alice, one, two);
    await register(alice, shardOf(fileOf([[one, 1, 3], [two]])));
    const first = one.chunks[1]?.hash ?? new Uint8Array();
    expect(await count(`dedup_chunks where chunk = '${xetHashOf(first)}'`)).toBe(1);
  });

  it("may hold the empty file, whose digest needs no reading", async () => {
    const empty = fileOf([]);
    expect(await register(alice, shardOf(empty))).toEqual({ files: 1, existed: false });
    expect(await held()).toMatchObject([{ sha256: empty.sha256, state: "verified", size: 0 }]);
    expect(await count("storage_tasks")).toBe(0);
  });
});

describe("a claim on a SHA-256", () => {
  const file = fileOf([[one]]);
  const other = fileOf([[two]]);
  beforeEach(() => upload(alice, one, two));

  it("is decided at once where the file was hashed before", async () => {
    await register(alice, shardOf(file));
    await env.DB.prepare("update xet_files set sha256 = ?").bind(file.sha256).run();
    await env.DB.prepare("delete from storage_tasks").run();
    await register(alice, shardOf(file), "other");
    const lie = sha256Of(randomBytes(9, 10));
    await register(alice, shardOf({ ...file, sha256: lie }), "other");
    const states = Object.fromEntries(
      (await held()).filter((row) => row.repo_id === "other").map((row) => [row.sha256, row.state]),
    );
    expect(states).toEqual({ [String(file.sha256)]: "verified", [lie]: "mismatched" });
    expect(await count("storage_tasks")).toBe(0);
  });

  it("never replaces what the repository holds as verified", async () => {
    await env.DB.prepare(
      "insert into repo_contents (repo_id, sha256, state, created_at, idle_since) values (?, ?, 'verified', 1, 5)",
    )
      .bind(REPO, other.sha256)
      .run();
    await register(alice, shardOf({ ...file, sha256: other.sha256 }));
    expect(await held()).toMatchObject([{ sha256: other.sha256, state: "verified", file_id: null }]);
    expect(await count("repo_contents where idle_since is not null")).toBe(0);
    expect(await count("storage_tasks")).toBe(0);
  });

  it("that was wrong is mended by a shard with the right file", async () => {
    await register(alice, shardOf({ ...file, sha256: other.sha256 }));
    await env.DB.prepare("update repo_contents set state = 'mismatched'").run();
    await register(alice, shardOf(other));
    expect(await held()).toMatchObject([{ sha256: other.sha256, state: "claimed", hash: other.hash }]);
  });

  it("that is known to be wrong does not put a claim aside", async () => {
    await register(alice, shardOf(other));
    await register(alice, shardOf(file), "other");
    await env.DB.prepare("update xet_files set sha256 = ? where hash = ?").bind(file.sha256, file.hash).run();
    await register(alice, shardOf({ ...file, sha256: other.sha256 }));
    expect((await held()).filter((row) => row.repo_id === REPO)).toMatchObject([
      { hash: other.hash, state: "claimed" },
    ]);
  });
});

describe("a shard that lies", () => {
  beforeEach(() => upload(alice, one, two));
  const unknown = buildXorb([randomBytes(8, 1000)]);
  const other = fileOf([[two], [one]]);
  const wrongHash = new Uint8Array(32).fill(3);
  const invalid = "xet_shard_invalid";

  it.each<[string, () => Uint8Array, string]>([
    ["names a xorb that does not exist", () => shardOf(fileOf([[one], [unknown]])), "xet_xorb_missing"],
    ["needs chunks that a xorb does not have", () => shardOf(withTerm(whole, 0, { end: 4, length: 17_001 })), invalid],
    ["gives a term another length", () => shardOf(withTerm(whole, 1, { length: 73_999 })), invalid],
    ["has a wrong verification", () => shardOf(withTerm(whole, 1, { rangeHash: wrongHash })), invalid],
    ["has no verification", () => shardOf(withTerm(whole, 0, { rangeHash: null })), invalid],
    ["gives a file the hash of another", () => shardOf({ ...whole, hash: other.hash }), invalid],
    ["puts terms in another order", () => shardOf({ ...whole, terms: [...whole.terms].reverse() }), invalid],
    ["names no SHA-256", () => shardOf({ ...whole, sha256: null }), invalid],
    ["claims one SHA-256 for two files", () => shardOf(whole, { ...other, sha256: whole.sha256 }), invalid],
    ["lies in its last file", () => shardOf(whole, withTerm(other, 0, { rangeHash: wrongHash })), invalid],
    [
      "lists other chunks for a xorb",
      () => encodeShard({ files: [whole], xorbs: [{ ...xorbSpec(one), hash: two.hash }] }),
      invalid,
    ],
    [
      "lists a xorb that does not exist",
      () => encodeShard({ files: [whole], xorbs: [xorbSpec(unknown)] }),
      "xet_xorb_missing",
    ],
    [
      "lists a chunk with another length",
      () =>
        encodeShard({
          files: [whole],
          xorbs: [
            {
              hash: two.hash,
              chunks: xorbSpec(two).chunks.map((chunk, i) => (i === 0 ? { ...chunk, length: 1 } : chunk)),
            },
          ],
        }),
      invalid,
    ],
    ["ends early", () => shardOf(whole).slice(0, -48), "xet.shard_truncated"],
    ["goes on behind its end", () => join([shardOf(whole), new Uint8Array(1)]), "xet.shard_trailing"],
    ["is none", () => randomBytes(1, 500), "xet.shard_tag"],
    ["is empty", () => new Uint8Array(), "xet.shard_truncated"],
  ])("because it %s links nothing", async (_, shard, code) => {
    await expect(register(alice, shard())).rejects.toMatchObject({ code });
    await expectNothingLinked();
  });

  it("about another tenant's xorb is answered as if there were none", async () => {
    const secret = buildXorb([randomBytes(30, 2000)]);
    const shard = shardOf(fileOf([[secret]]));
    const before: unknown = await register(bob, shard).catch((error: unknown) => error);
    await upload(alice, secret);
    const after: unknown = await register(bob, shard).catch((error: unknown) => error);
    expect(before).toMatchObject({ code: "xet_xorb_missing", fields: { hash: secret.hash } });
    expect(after).toEqual(before);
    await expectNothingLinked();
  });

  it("may be followed by one that does not", async () => {
    await expect(register(alice, shardOf(withTerm(whole, 1, { rangeHash: wrongHash })))).rejects.toThrow();
    expect(await register(alice, shardOf(whole))).toEqual({ files: 1, existed: false });
    expect(await held()).toMatchObject([{ hash: whole.hash }]);
  });

  it("by its size is refused", async () => {
    const start = encodeShard({ files: [whole], xorbs: [], footer: true }).slice(0, -200);
    let pieces = 0;
    // Lookup tables that never end.
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(pieces++ === 0 ? start : new Uint8Array(1 << 20)),
    });
    await expect(registerShard(platform, alice, REPO, body, () => {})).rejects.toMatchObject({ status: 413 });
    expect(pieces).toBeLessThan(70);
    await expectNothingLinked();
  });

  it("or breaks off links nothing", async () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(shardOf(whole).slice(0, 200)),
      pull: (controller) => controller.error(new Error("gone")),
    });
    await expect(registerShard(platform, alice, REPO, body, () => {})).rejects.toMatchObject({
      code: "body_interrupted",
    });
    await expectNothingLinked();
  });
});

describe("what is removed while a shard is checked", () => {
  const vanishing = async (statement: string): Promise<unknown> => {
    await upload(alice, one, two);
    return registerShard(platform, alice, REPO, new Blob([shardOf(whole)]).stream(), async ({ total }) => {
      if (total !== null) await env.DB.prepare(statement).run();
    }).catch((error: unknown) => error);
  };

  it("a xorb, a draft or the repository: nothing is linked", async () => {
    expect(await vanishing("delete from xorbs where chunks = 2")).toMatchObject({ code: "xet_retry", status: 503 });
    await expectNothingLinked();
    expect(await vanishing("delete from xet_files")).toMatchObject({ code: "xet_retry" });
    await expectNothingLinked();
    expect(await vanishing(`delete from repos where id = '${REPO}'`)).toMatchObject({ code: "repo_not_found" });
    await expectNothingLinked();
  });
});

describe("any file", () => {
  it("is covered by its terms from its first byte to its last", async () => {
    // Of all runs: the same file in other xorbs keeps the terms that it was registered with first.
    const byHash = new Map<XetHash, BuiltXorb>();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1 << 20 }),
        fc.integer({ min: 1, max: 600_000 }),
        fc.integer({ min: 1, max: 4 }),
        async (seed, length, perXorb) => {
          const bytes = randomBytes(seed, length);
          const { file, xorbs, shard } = buildFile(bytes, perXorb);
          await upload(alice, ...xorbs);
          await register(alice, shard);
          const row = (await held()).find(({ hash }) => hash === file.hash);
          expect(row).toMatchObject({ sha256: sha256Of(bytes), size: length });
          for (const xorb of xorbs) byHash.set(xorb.hash, xorb);
          const terms = await loadTerms(platform.db, row?.file_id ?? 0, { offset: 0, length });
          const parts: Uint8Array[] = [];
          let at = 0;
          for (const { offset, length: part, xorb, chunks } of terms) {
            expect(offset).toBe(at);
            at += part;
            for (const chunk of byHash.get(xorb.hash)?.chunks.slice(chunks.start, chunks.end) ?? [])
              parts.push(chunk.bytes);
          }
          expect(at).toBe(length);
          expect(Buffer.compare(join(parts), bytes)).toBe(0);
        },
      ),
      {
        numRuns: 12,
        examples: [
          [2, 599_999, 3],
          [2, 599_999, 2],
        ],
      },
    );
  });
});
