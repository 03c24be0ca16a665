// The storage report: each stored byte of a revision counted once, and nothing told of what the caller may not see.
import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { Extents } from "../../../src/store/xet/extents";
import { administrator, type Client, lfsLine, user } from "../../kit/actors";
import { Backroom, createRepo, publishFile } from "../../kit/upkeep";
import { buildFile, encodeShard, join, randomBytes, sha256Of, xorbSpec } from "../../kit/xet";
import { connect } from "../../kit/xet-client";

const Revision = z.object({
  commit: z.string(),
  files: z.number(),
  logical_bytes: z.number(),
  stored_bytes: z.number(),
  new_bytes: z.number(),
  shared_bytes: z.object({ revisions: z.number(), owner: z.number(), public: z.number() }),
  waiting: z.object({ ingestion: z.number(), verification: z.number() }),
  quarantined: z.number(),
});
const Report = z.object({ repo: z.string(), revisions: z.array(Revision), next: z.string().nullable() });
type Revision = z.output<typeof Revision>;

let back: Backroom;
let admin: Client;
let alice: Client;
let bob: Client;
// Megabytes are hashed and chunked: half a second alone, many when the machine has other work.
vi.setConfig({ testTimeout: 30_000 });
beforeEach(async () => {
  back = new Backroom();
  admin = await administrator();
  alice = await user(admin, "alice");
  bob = await user(admin, "bob");
});

async function report(client: Client, repo: string, query = ""): Promise<z.output<typeof Report>> {
  const answer = await client.get(`/api/v1/repos/model/${repo}/storage${query}`);
  expect(answer.status).toBe(200);
  const parsed = Report.parse(answer.body);
  for (const one of parsed.revisions) expect(sumOf(one)).toBe(one.stored_bytes);
  return parsed;
}
const sumOf = ({ new_bytes, shared_bytes: { revisions, owner, public: everybody } }: Revision): number =>
  new_bytes + revisions + owner + everybody;

async function newest(client: Client, repo: string): Promise<Revision> {
  const [first] = (await report(client, repo)).revisions;
  if (first === undefined) throw new Error("no revision");
  return first;
}

const bytes = randomBytes(1, 2_000_000);
/** Where a change costs its chunks. */
const SMALL = 400_000;

describe("the storage report", () => {
  it("tells what each revision brought", async () => {
    await createRepo(alice, "alice/model");
    await publishFile(alice, "alice/model", "model.bin", bytes);
    expect(await newest(alice, "alice/model")).toMatchObject({
      files: 3,
      waiting: { ingestion: 1, verification: 0 },
      quarantined: 0,
    });
    await back.run();
    const edited = join([bytes.slice(0, 1500), randomBytes(2, 50), bytes.slice(1500)]);
    await publishFile(alice, "alice/model", "model.bin", edited);
    await back.run();
    const { revisions, next, repo } = await report(alice, "alice/model");
    const [second, first, initial] = revisions;
    expect(repo).toBe("alice/model");
    expect(next).toBeNull();
    expect(revisions).toHaveLength(3);
    expect(second?.logical_bytes).toBeGreaterThan(edited.length);
    expect(second?.waiting).toEqual({ ingestion: 0, verification: 0 });
    expect(second?.new_bytes).toBeLessThan(SMALL);
    expect(second?.shared_bytes.revisions).toBeGreaterThan(bytes.length - SMALL);
    expect(first?.new_bytes).toBeGreaterThan(bytes.length);
    expect(first?.shared_bytes).toEqual({ revisions: initial?.stored_bytes, owner: 0, public: 0 });
    expect(initial?.new_bytes).toBeGreaterThan(0);
  });

  it("comes by pages that stay where they began", async () => {
    await createRepo(alice, "alice/model");
    for (let i = 0; i < 3; i++) await publishFile(alice, "alice/model", "model.bin", randomBytes(i, 100_000));
    await back.run();
    const whole = (await report(alice, "alice/model")).revisions;
    const first = await report(alice, "alice/model", "?limit=2");
    expect(first.revisions).toEqual(whole.slice(0, 2));
    await publishFile(alice, "alice/model", "model.bin", randomBytes(9, 1000));
    const second = await report(alice, "alice/model", `?limit=3&cursor=${first.next}`);
    expect(second.revisions).toEqual(whole.slice(2));
    expect(second.next).toBeNull();
  });

  it("tells of the owner's private repositories only those who may read them", async () => {
    await createRepo(alice, "alice/hidden", true);
    await publishFile(alice, "alice/hidden", "model.bin", bytes);
    await back.run();
    await createRepo(alice, "alice/shown");
    // The owner links bytes of their own private repository into a public one.
    await alice.commit("alice/shown", [lfsLine("model.bin", sha256Of(bytes), bytes.length)]);
    const own = await newest(alice, "alice/shown");
    const strangers = await newest(bob, "alice/shown");
    expect(own.shared_bytes.owner).toBeGreaterThan(bytes.length);
    expect(strangers.shared_bytes.owner).toBeLessThan(10_000);
    expect(strangers.new_bytes).toBeGreaterThan(bytes.length);
    expect((await bob.get("/api/v1/repos/model/alice/hidden/storage")).status).toBe(404);
  });

  it("tells of other owners' public content, never of their private content", async () => {
    await createRepo(alice, "alice/model");
    await publishFile(alice, "alice/model", "model.bin", bytes);
    await back.run();
    await createRepo(bob, "bob/copy", true);
    await bob.commit("bob/copy", [lfsLine("model.bin", sha256Of(bytes), bytes.length)]);
    expect((await newest(bob, "bob/copy")).shared_bytes.public).toBeGreaterThan(bytes.length);
    const before = await newest(alice, "alice/model");
    expect(before.shared_bytes.public).toBeLessThan(10_000);
    await bob.send("PUT", "/api/models/bob/copy/settings", { private: false });
    expect((await newest(alice, "alice/model")).shared_bytes.public).toBeGreaterThan(bytes.length);
  });

  it("counts files whose digest is still a claim, and those where it was wrong", async () => {
    await createRepo(alice, "alice/model");
    const { file, xorbs } = buildFile(bytes);
    const lie = sha256Of(randomBytes(3, 10));
    const shard = encodeShard({ files: [{ ...file, sha256: lie }], xorbs: xorbs.map(xorbSpec) });
    await (await connect(alice, "alice/model", "write")).upload({ file, xorbs, shard });
    await alice.commit("alice/model", [lfsLine("model.bin", lie, bytes.length)]);
    expect(await newest(alice, "alice/model")).toMatchObject({
      waiting: { ingestion: 0, verification: 1 },
      quarantined: 0,
    });
    await back.run();
    expect(await newest(alice, "alice/model")).toMatchObject({
      waiting: { ingestion: 0, verification: 0 },
      quarantined: 1,
    });
  });

  it("refuses what it can't read", async () => {
    await createRepo(alice, "alice/model");
    expect((await alice.get("/api/v1/repos/model/alice/model/storage?revision=nope")).status).toBe(404);
    expect((await alice.get("/api/v1/repos/model/alice/none/storage")).status).toBe(404);
    expect((await alice.get("/api/v1/repos/model/alice/model/storage?cursor=1")).status).toBe(422);
  });
});

describe("extents", () => {
  const extent = fc
    .tuple(fc.constantFrom("a", "b"), fc.nat(40), fc.nat(12))
    .map(([object, start, length]) => ({ object, start, end: start + length }));
  const extents = fc.array(extent, { maxLength: 12 });
  const bytesOf = (all: readonly { object: string; start: number; end: number }[]): Set<string> =>
    new Set(
      all.flatMap(({ object, start, end }) => Array.from({ length: end - start }, (_, i) => `${object}${start + i}`)),
    );

  const both = (a: Set<string>, b: Set<string>): Set<string> => new Set([...a, ...b]);
  const without = (a: Set<string>, b: Set<string>): Set<string> => new Set([...a].filter((one) => !b.has(one)));

  it("are sets of bytes", () => {
    fc.assert(
      fc.property(extents, extents, extents, (a, b, c) => {
        const [x, y, w] = [Extents.of(a), Extents.of(b), Extents.of(c)];
        const [p, q, r] = [bytesOf(a), bytesOf(b), bytesOf(c)];
        expect(x.size).toBe(p.size);
        expect(x.union(y).size).toBe(both(p, q).size);
        expect(x.minus(y).size).toBe(without(p, q).size);
        expect(x.union(y).minus(w).size).toBe(without(both(p, q), r).size);
        expect(x.minus(y).minus(w).union(y).size).toBe(both(without(without(p, q), r), q).size);
      }),
    );
  });
});
