// Entries of packs that are kept: what is sent is the same with and without them, and each of them goes with its repository.
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { decodeKeptIndex, encodeKeptIndex } from "../../../src/formats/git/kept-entries";
import { runUpkeep } from "../../../src/hub/upkeep";
import { parseGitId } from "../../../src/ids";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { command, type Unpacked, unpack, uploadPack } from "../../kit/git-protocol";

// Hundreds of objects are stored and read one by one.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const REPO = "ada/many";
const Committed = z.object({ commitOid: z.string() });
const count = async (query: string): Promise<unknown> => (await env.DB.prepare(query).first())?.n;
const packs = () => count("select count(*) as n from git_packs");
const objects = () => count("select sum(objects) as n from git_packs");
const tasks = () => count("select count(*) as n from storage_tasks where kind = 'pack'");

const platform = () => cloudflarePlatform(env, "test", () => undefined);
const upkeep = async (): Promise<void> => {
  while (await runUpkeep(platform(), () => false));
};

let ada: Client;
let first: string;
let second: string;

const commit = async (lines: readonly unknown[]): Promise<string> =>
  Committed.parse((await ada.commit(REPO, lines)).body).commitOid;
const fetchPack = async (args: readonly string[]): Promise<Unpacked[]> => {
  const answer = await uploadPack(anonymous, REPO, command("fetch", [...args, "done"]));
  expect(answer.failure).toBe("");
  return unpack(answer.pack);
};
const told = (list: readonly Unpacked[]) => list.map(({ id, content }) => `${id} ${content.length}`).sort();

beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "many" });
  const files = Array.from({ length: 205 }, (_, i) =>
    fileLine(`d${i % 7}/file ${i}.txt`, `content of ${i}\n`.repeat(i % 50)),
  );
  first = await commit([...files, fileLine("large.txt", "a line\n".repeat(400_000))]);
  second = await commit([fileLine("d1/file 1.txt", "changed\n")]);
});

describe("a repository of many objects", () => {
  it("is read object by object once; then its entries are kept, and what is sent stays the same", async () => {
    const requests = [
      [`want ${second}`],
      [`want ${first}`],
      [`want ${second}`, "deepen 1"],
      [`want ${second}`, "filter blob:none"],
      [`want ${second}`, "filter blob:limit=1k"],
      [`want ${second}`, `have ${first}`],
    ];
    const before = [];
    for (const args of requests) before.push(told(await fetchPack(args)));
    expect(before.map(({ length }) => length > 0)).toEqual(requests.map(() => true));
    expect(await tasks()).toBe(1);
    await upkeep();
    expect(await tasks()).toBe(0);
    // All but the large blob.
    expect(await objects()).toBe((before[0]?.length ?? 0) - 1);
    for (const [i, args] of requests.entries()) expect(told(await fetchPack(args))).toEqual(before[i]);
    expect(await tasks()).toBe(0);
  });

  it("is kept part by part; a run that finds nothing new keeps nothing twice", async () => {
    await fetchPack([`want ${second}`]);
    await upkeep();
    const parts = await packs();
    const third = await commit(Array.from({ length: 205 }, (_, i) => fileLine(`more/${i}.txt`, `more ${i}`)));
    const all = told(await fetchPack([`want ${third}`]));
    await upkeep();
    expect(await packs()).toBeGreaterThan(Number(parts));
    expect(await objects()).toBe(all.length - 1);
    expect(told(await fetchPack([`want ${third}`]))).toEqual(all);
    await env.DB.prepare(
      "insert into storage_tasks (kind, subject, due_at, created_at) select 'pack', id, 0, 0 from repos",
    ).run();
    await upkeep();
    expect(await objects()).toBe(all.length - 1);
  });

  it("of very many parts makes few again, and who reads the old ones still can", async () => {
    await fetchPack([`want ${second}`]);
    await upkeep();
    const { key, repo_id } = z
      .object({ key: z.string(), repo_id: z.string() })
      .parse(await env.DB.prepare("select key, repo_id from git_packs").first());
    // Parts of one entry that nobody wants.
    for (let i = 0; i < 64; i++) {
      const entry = { id: parseGitId(i.toString(16).padStart(40, "0"), "id"), length: 1 };
      await env.BLOBS.put(`packs/test/${i}`, Buffer.concat([Buffer.from("x"), encodeKeptIndex([entry])]));
      await env.DB.batch([
        env.DB.prepare("insert into objects (key, state, changed_at) values (?, 'live', 0)").bind(`packs/test/${i}`),
        env.DB.prepare("insert into git_packs (key, repo_id, objects, size, created_at) values (?, ?, 1, 1, 0)").bind(
          `packs/test/${i}`,
          repo_id,
        ),
      ]);
    }
    await env.DB.prepare("insert into storage_tasks (kind, subject, due_at, created_at) values ('pack', ?, 0, 0)")
      .bind(repo_id)
      .run();
    await upkeep();
    expect(await packs()).toBe(1);
    expect(await count("select count(*) as n from objects where key like 'packs/%' and state = 'condemned'")).toBe(65);
    expect(await env.BLOBS.head(key)).not.toBeNull();
    expect((await fetchPack([`want ${second}`])).length).toBeGreaterThan(205);
  });

  it("goes with its packs", async () => {
    await fetchPack([`want ${second}`]);
    await upkeep();
    expect(await count("select count(*) as n from objects where key like 'packs/%' and state = 'live'")).toBe(
      await packs(),
    );
    await ada.send("DELETE", "/api/repos/delete", { name: "many" });
    expect(await packs()).toBe(0);
    expect(await count("select count(*) as n from objects where key like 'packs/%' and state <> 'condemned'")).toBe(0);
  });
});

it("the index of a part is read back, and must fit it", () => {
  const entry = fc.record({
    id: fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => parseGitId(bytes.toHex(), "id")),
    length: fc.integer({ min: 1, max: 2 ** 26 }),
  });
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const index = encodeKeptIndex(entries);
      const size = entries.reduce((sum, { length }) => sum + length, 0);
      const before = (i: number) => entries.slice(0, i).reduce((sum, { length }) => sum + length, 0);
      const expected = entries.map(({ id, length }, i) => ({ id, length, offset: before(i) }));
      expect([...decodeKeptIndex(index, size)]).toEqual(expected);
      expect(() => [...decodeKeptIndex(index, size + 1)]).toThrow(
        expect.objectContaining({ code: "git.kept_entries" }),
      );
    }),
    { numRuns: 30 },
  );
});
