// What no push gets in: content that no API commit could make, packs that are broken or bombs; and what races and crashes leave.
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { ByteSource } from "../../../src/formats/git/byte-source";
import { encodeLfsPointer } from "../../../src/formats/git/lfs-pointer";
import { readReceiveRequest } from "../../../src/formats/git/receive-pack-request";
import { receivePush } from "../../../src/hub/git/receive";
import { findRepo } from "../../../src/hub/repositories";
import { parseRepoId, parseSha256 } from "../../../src/ids";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, uploadLfs, user } from "../../kit/actors";
import {
  blob,
  bytes,
  checksummed,
  commit,
  deltaOf,
  fileCommit,
  type Item,
  idOf,
  NO_ID,
  packOf,
  post,
  push,
  pushBody,
  rawTree,
  refsOf,
  reportOf,
  tree,
  type Whole,
} from "../../kit/git-push";
import { isDeath, mortal } from "../../kit/mortal-platform";

const REPO = "ada/digits";
const DEV = "refs/heads/dev";
const MAIN = "refs/heads/main";
const MIB = 1 << 20;

let admin: Client;
let ada: Client;
let head: string;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "digits" });
  head = (await refsOf(ada, REPO))[MAIN] ?? "";
});

const rows = () =>
  env.DB.prepare(
    "select (select count(*) from commits) as commits, (select count(*) from tree_entries) as entries, (select count(*) from refs) as refs",
  ).first();

/** Random text or bytes, which no compressor makes small. */
function noise(size: number): Uint8Array {
  const out = new Uint8Array(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(out.subarray(at, at + 65_536));
  return out;
}

describe("content that no API commit could make", () => {
  const file = blob("x");
  const x = idOf(file);
  const pointer = (sha256: string, size: number) =>
    blob(encodeLfsPointer({ sha256: parseSha256(sha256, "oid"), size }));
  const inRoot = (...entries: [string, string, string][]): Whole[] => {
    const root = rawTree(entries);
    return [commit(idOf(root)), root];
  };
  const withFile = (content: Whole, name = "a.bin", mode = "100644"): Whole[] => [
    ...inRoot([mode, name, idOf(content)]),
    content,
  ];
  const nested = (levels: number): Whole[] => {
    const trees = [rawTree([["100644", "f", x]])];
    for (let i = 1; i < levels; i++) trees.unshift(rawTree([["40000", "d", idOf(trees[0] ?? file)]]));
    return [commit(idOf(trees[0] ?? file)), ...trees];
  };
  /** Ten folders, each of which is the same ten folders, and so on: ten to the `levels` paths. */
  const bomb = (levels: number): Whole[] => {
    const trees = [rawTree([["100644", "f", x]])];
    for (let i = 0; i < levels; i++)
      trees.unshift(rawTree([..."0123456789"].map((name) => ["40000", name, idOf(trees[0] ?? file)])));
    return [commit(idOf(trees[0] ?? file)), ...trees];
  };

  it("says what is wrong in one line of git's table, and all of it above", async () => {
    const items = withFile(blob("---\nlicense: nonsense\n---\n"), "README.md");
    const report = await push(ada, REPO, [[NO_ID, idOf(items[0] ?? blob("")), DEV]], items);
    expect(report.refs[DEV]).toMatch(/^README\.md: its front matter is wrong: "license" must be one of .{9,260}…$/);
    expect(report.messages).toContain("(line 2)");
  });

  it("is refused with the path and the reason, and leaves nothing", { timeout: 60_000 }, async () => {
    const before = await rows();
    const sub = rawTree([["100644", ".git", x]]);
    const cases: [reason: RegExp, items: Item[]][] = [
      [/\.git\b.*git forbids/, inRoot(["100644", ".git", x])],
      [/docs has the entry ".git"/, [...inRoot(["40000", "docs", idOf(sub)]), sub]],
      [/GIT~1.*git keeps for itself/, inRoot(["100644", "GIT~1", x])],
      [/a name git forbids/, inRoot(["100644", "..", x])],
      [/aux\.txt.*device name/, inRoot(["100644", "aux.txt", x])],
      [/backslash/, inRoot(["100644", "a\\b", x])],
      [/normal form/, inRoot(["100644", "e\u0301", x])],
      [/where case does not count/, inRoot(["100644", "README", x], ["100644", "readme", x])],
      [/two entries named/, inRoot(["100644", "a", x], ["100644", "a", x])],
      [/out of order/, inRoot(["100644", "b", x], ["100644", "a", x])],
      [/submodule/, inRoot(["160000", "sub", head])],
      [/unknown mode/, inRoot(["100664", "a", x])],
      [/paths of 33 levels/, nested(33)],
      [/more than 100000 files/, bomb(8)],
      [/more than 100000 files/, bomb(30)],
      [/path of 1\d\d\d bytes/, longPaths()],
      [/a\.bin: has 11534336 bytes.*Git LFS/, withFile(blob(noise(11 * MIB)))],
      [/a\.bin: is a binary file of 2097152 bytes/, withFile(blob(noise(2 * MIB)))],
      [
        /a\.bin: its bytes \(SHA-256 1{64}\) were not uploaded: run `git lfs push/,
        withFile(pointer("1".repeat(64), 5)),
      ],
      [
        /a\.bin: looks like an LFS pointer, but/,
        withFile(blob("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")),
      ],
      [/link: is a symbolic link to what is no path/, withFile(blob("a\nb"), "link", "120000")],
      [/README\.md: its front matter is wrong/, withFile(blob("---\nlicense: [mit\n---\n"), "README.md")],
      [/missing: its blob 2{40} is neither/, inRoot(["100644", "missing", "2".repeat(40)])],
      [/docs: its tree 2{40} is neither/, inRoot(["40000", "docs", "2".repeat(40)])],
      [/needs commit 2{40}.*--unshallow/, [commit(idOf(tree([])), ["2".repeat(40)])]],
      [/commit [0-9a-f]{40} is not UTF-8/, [{ type: "commit", content: Uint8Array.of(0xff, 0xfe) }]],
      [/commit [0-9a-f]{40} .*/, [{ type: "commit", content: bytes(`tree ${x}\n\nno author\n`) }]],
      [/has 2\d\d\d\d\d bytes/, [commit(idOf(tree([])), [], "long\n".repeat(50_000))]],
      [/tag [0-9a-f]{40} is not in git's own form/, [{ type: "tag", content: bytes("object 1\n") }]],
    ];
    for (const [reason, items] of cases) {
      const [first] = items;
      const to = first !== undefined && "type" in first ? idOf(first) : NO_ID;
      const ref = first !== undefined && "type" in first && first.type === "tag" ? "refs/tags/t" : DEV;
      const report = await push(ada, REPO, [[NO_ID, to, ref]], [...items, file, tree([])]);
      expect([report.status, report.unpack]).toEqual([200, "ok"]);
      expect(report.messages).toMatch(reason);
      expect(report.refs[ref]).not.toBe("ok");
    }
    expect(await rows()).toEqual(before);

    function longPaths(): Whole[] {
      const trees = [rawTree([["100644", "f", x]])];
      for (let i = 0; i < 6; i++) trees.unshift(rawTree([["40000", "d".repeat(200), idOf(trees[0] ?? file)]]));
      return [commit(idOf(trees[0] ?? file)), ...trees];
    }
  });

  it("is refused when only moving what is here makes it so", async () => {
    const deep = nested(20);
    const id = idOf(deep[0] ?? file);
    expect((await push(ada, REPO, [[NO_ID, id, DEV]], [...deep, file])).refs).toEqual({ [DEV]: "ok" });
    let below = idOf(deep[1] ?? file);
    const above: Whole[] = [];
    for (let i = 0; i < 13; i++) {
      const up = rawTree([["40000", "up", below]]);
      above.unshift(up);
      below = idOf(up);
    }
    const moved = commit(below, [id]);
    const report = await push(ada, REPO, [[id, idOf(moved), DEV]], [moved, ...above]);
    expect(report.messages).toMatch(/paths of 33 levels/);
  });

  it("that another repository has is linked only by who may read it", async () => {
    const bob = await user(admin, "bob");
    await bob.post("/api/repos/create", { name: "secret", private: true });
    const oid = await uploadLfs(bob, "bob/secret", noise(1000));
    const items = withFile(pointer(oid, 1000));
    const to = idOf(items[0] ?? file);
    expect((await push(ada, REPO, [[NO_ID, to, DEV]], items)).messages).toMatch(/were not uploaded/);
    const wrong = withFile(pointer(oid, 999));
    await bob.post("/api/repos/create", { name: "other" });
    expect((await push(bob, "bob/other", [[NO_ID, idOf(wrong[0] ?? file), DEV]], wrong)).messages).toMatch(
      /claims 999 bytes, but they are 1000/,
    );
    expect((await push(bob, "bob/other", [[NO_ID, to, DEV]], items)).refs).toEqual({ [DEV]: "ok" });
    const got = await bob.raw("GET", "/bob/other/resolve/dev/a.bin");
    expect((await got.arrayBuffer()).byteLength).toBe(1000);
  });
});

describe("a broken pack", () => {
  it("is refused as git says it, whatever is wrong with it", { timeout: 60_000 }, async () => {
    const { items, id } = fileCommit("a.txt", "some text that is long enough");
    const good = packOf(items);
    const damaged = Uint8Array.from(good);
    damaged.set([(good.at(-1) ?? 0) ^ 1], good.length - 1);
    const self = "3".repeat(40);
    const huge = deltaOf(10, 2 ** 31, [{ from: 0, length: 10 }]);
    const chain = (length: number): Item[] => [
      blob("y"),
      ...Array.from({ length }, (_, i) => ({ base: i, delta: deltaOf(1, 1, [{ from: 0, length: 1 }]) })),
    ];
    const body = good.subarray(0, -20);
    const withType5 = Buffer.concat([body.subarray(0, 12), Buffer.from([0x50, 0x78]), body.subarray(13)]);
    const over = (delta: Uint8Array) => packOf([blob("y"), { base: 0, delta }, ...items]);
    const cases: [reason: RegExp, pack: Uint8Array][] = [
      [/checksum/, damaged],
      [/ends early|can't be inflated/, good.subarray(0, good.length - 30)],
      [/ends early/, good.subarray(0, 8)],
      [/ends early/, new Uint8Array()],
      [/is no pack/, checksummed(bytes("JUNK\0\0\0\x02\0\0\0\0"))],
      [/is no pack/, checksummed(bytes("PACK\0\0\0\x09\0\0\0\0"))],
      [/goes on after its end/, Buffer.concat([good, bytes("x")])],
      [/unknown type 5/, checksummed(withType5)],
      [/./, packOf(items, { count: 4 })],
      [/checksum/, packOf(items, { count: 2 })],
      [/more than 100000/, packOf(items, { count: 2 ** 31 })],
      [/inflated/, packOf(items, { size: 5 })],
      [/of the 5000 bytes it claims/, packOf(items, { size: 5000 })],
      [/holds a commit of 1099511627776 bytes/, packOf(items, { size: 2 ** 40 })],
      [/base 3{40} is neither/, packOf([...items, { baseId: self, delta: deltaOf(1, 1, ["a"]) }])],
      [/base is not before it/, packOf([{ base: 0, delta: deltaOf(1, 1, ["a"]) }])],
      [/is made for 7 bytes/, over(deltaOf(7, 1, ["a"]))],
      [/copies from beyond/, over(deltaOf(1, 9, [{ from: 0, length: 9 }]))],
      [/makes more than it claims/, over(deltaOf(1, 1, ["ab"]))],
      [/makes less than it claims/, over(deltaOf(1, 9, ["ab"]))],
      [/does not know/, over(Uint8Array.of(1, 1, 0))],
      [/ends within/, over(Uint8Array.of(1, 1, 0x91))],
      [/belong in Git LFS/, packOf([blob("0123456789"), { base: 0, delta: huge }, ...items])],
      [/chain of more than 4095/, packOf([...chain(4096), ...items])],
    ];
    for (const [reason, pack] of cases) {
      const report = await reportOf(await post(ada, REPO, pushBody([[NO_ID, id, DEV]], pack)));
      expect(report.status).toBe(200);
      expect(report.unpack).toMatch(reason);
      expect(report.refs[DEV]).toBe("the pack can't be read");
    }
    expect(await refsOf(ada, REPO)).toEqual({ [MAIN]: head });
  });

  it("of any length is read from the bucket, and leaves nothing there", { timeout: 60_000 }, async () => {
    const lines = (seed: number) =>
      blob(
        Buffer.from(noise(7 * MIB))
          .toString("base64")
          .slice(seed, 9 * MIB),
      );
    const files = [lines(1), lines(2), lines(3)];
    const root = tree(files.map((one, i) => ["100644", `f${i}`, idOf(one)] as const));
    const made = commit(idOf(root));
    expect((await push(ada, REPO, [[NO_ID, idOf(made), DEV]], [made, root, ...files])).refs).toEqual({ [DEV]: "ok" });
    for (const [i, { content }] of files.entries()) {
      const got = await (await anonymous.raw("GET", `/${REPO}/resolve/dev/f${i}`)).bytes();
      expect(Buffer.from(got).equals(content)).toBe(true);
    }
    const left = await env.DB.prepare("select distinct state from objects where key like 'spool/%'").all();
    expect(left.results).toEqual([{ state: "condemned" }]);
  });
});

it("whatever is wrong in whichever object, a push is answered in the protocol", { timeout: 60_000 }, async () => {
  const { items, id, root } = fileCommit(
    "a.txt",
    encodeLfsPointer({ sha256: parseSha256("1".repeat(64), "oid"), size: 5 }),
  );
  const tag: Whole = {
    type: "tag",
    content: bytes(`object ${id}\ntype commit\ntag t\ntagger A <a@example.org> 1 +0000\n\nt\n`),
  };
  const upper = commit(idOf(root), [id, head]);
  const whole = [upper, tag, ...items];
  const damage = fc.record({
    item: fc.nat(),
    at: fc.nat(),
    bytes: fc.uint8Array({ maxLength: 6 }),
    cut: fc.nat({ max: 6 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 3 }), async (damages) => {
      const changed = whole.map((one) => one);
      for (const { item, at, bytes: added, cut } of damages) {
        const one = changed[item % whole.length] ?? upper;
        const place = at % (one.content.length + 1);
        const content = Buffer.concat([one.content.subarray(0, place), added, one.content.subarray(place + cut)]);
        changed[item % whole.length] = { type: one.type, content };
      }
      const ids = changed.map(idOf);
      const commands = [
        [NO_ID, ids[0] ?? "", DEV],
        [NO_ID, ids[1] ?? "", "refs/tags/t"],
        [NO_ID, id, "refs/heads/old"],
      ] as const;
      const report = await push(ada, REPO, commands, changed);
      expect([report.status, report.refs]).toEqual([
        200,
        {
          [DEV]: expect.not.stringMatching(/^ok$/),
          "refs/tags/t": expect.not.stringMatching(/^ok$/),
          "refs/heads/old": expect.not.stringMatching(/^ok$/),
        },
      ]);
    }),
    { numRuns: 80 },
  );
  expect(await refsOf(ada, REPO)).toEqual({ [MAIN]: head });
});

describe("racing pushes", () => {
  it("are won by one, and the others are told to fetch", async () => {
    const pushes = [1, 2, 3].map((n) => fileCommit("a.txt", `${n}`, [head]));
    const racing = await Promise.all([
      ...pushes.map(({ items, id }) => push(ada, REPO, [[head, id, MAIN]], items)),
      ada.commit(REPO, [fileLine("b.txt", "b")], { parent: head }),
    ]);
    const outcomes = racing.map((one) => ("refs" in one ? one.refs[MAIN] : one.status === 200 ? "ok" : "late"));
    expect(outcomes.filter((one) => one === "ok")).toHaveLength(1);
    for (const one of outcomes) expect(one).toMatch(/^ok$|^late$|fetch first/);
  });

  it("of refs that can't be beside each other are not both taken", async () => {
    const { items, id } = fileCommit("a.txt", "a");
    const racing = await Promise.all(
      ["refs/heads/x", "refs/heads/x/y"].map((ref) => push(ada, REPO, [[NO_ID, id, ref]], items)),
    );
    const oks = racing.flatMap(({ refs }) => Object.values(refs)).filter((one) => one === "ok");
    expect(oks).toHaveLength(1);
  });
});

describe("a hub that dies while it takes a push", () => {
  it("has moved the ref with everything behind it, or not at all; the next push goes through", {
    timeout: 60_000,
  }, async () => {
    const oid = await uploadLfs(ada, REPO, noise(100));
    const file = blob(encodeLfsPointer({ sha256: parseSha256(oid, "oid"), size: 100 }));
    const note = blob("note");
    const root = tree([
      ["100644", "a.bin", idOf(file)],
      ["100644", "note.txt", idOf(note)],
    ]);
    const made = commit(idOf(root), [head]);
    const body = pushBody([[head, idOf(made), MAIN]], packOf([made, root, file, note]));
    const real = cloudflarePlatform(env, "test", () => {});
    const caller = { platform: real, actor: { kind: "hub" } } as const;
    const repo = await findRepo(caller, parseRepoId("model", REPO));
    const before = await rows();
    const attempt = async (calls: number) => {
      const pieces = [body];
      const source = new ByteSource(async () => pieces.pop());
      const request = await readReceiveRequest(source);
      return receivePush({ ...caller, platform: mortal(real, calls) }, repo, request, source);
    };
    let calls = 0;
    for (; calls < 60; calls++) {
      try {
        const { results } = await attempt(calls);
        expect(results).toEqual([{ ref: MAIN, refused: null }]);
        break;
      } catch (error) {
        if (!isDeath(error)) throw error;
        expect((await refsOf(ada, REPO))[MAIN]).toBe(head);
        expect(await rows()).toEqual(before);
      }
    }
    expect(calls).toBeGreaterThan(5);
    expect(calls).toBeLessThan(60);
    expect((await refsOf(ada, REPO))[MAIN]).toBe(idOf(made));
    expect(await (await anonymous.raw("GET", `/${REPO}/resolve/main/note.txt`)).text()).toBe("note");
  });

  it("in the middle of a long history has published whole commits only, and no ref", { timeout: 60_000 }, async () => {
    // 60 commits that each change one of 400 files: more entries of trees than one batch takes.
    const names = Array.from({ length: 400 }, (_, i) => `f${String(i).padStart(3, "0")}`);
    const [old, after] = [blob("0"), blob("1")];
    const ids = names.map(() => idOf(old));
    const items: Whole[] = [old, after];
    let parent: string | undefined;
    for (let i = 0; i < 60; i++) {
      ids[i] = idOf(after);
      const root = tree(names.map((name, n) => ["100644", name, ids[n] ?? ""] as const));
      const made = commit(idOf(root), parent === undefined ? [] : [parent], `${i}\n`, 1_600_000_000 + i);
      items.push(made, root);
      parent = idOf(made);
    }
    const body = pushBody([[NO_ID, parent ?? "", DEV]], packOf(items));
    const real = cloudflarePlatform(env, "test", () => {});
    const caller = { platform: real, actor: { kind: "hub" } } as const;
    const repo = await findRepo(caller, parseRepoId("model", REPO));
    const before = Number((await rows())?.commits);
    let partial = 0;
    for (let calls = 22; partial === 0; calls++) {
      const pieces = [body];
      const source = new ByteSource(async () => pieces.pop());
      const request = await readReceiveRequest(source);
      await receivePush({ ...caller, platform: mortal(real, calls) }, repo, request, source).catch((error: unknown) => {
        if (!isDeath(error)) throw error;
      });
      expect(await refsOf(ada, REPO)).toEqual({ [MAIN]: head });
      partial = Number((await rows())?.commits) - before;
    }
    expect(partial).toBeLessThan(60);
    const holes = await env.DB.prepare(
      "select count(*) as n from commits c where not exists (select 1 from tree_entries e where e.repo_id = c.repo_id and e.tree = c.tree)",
    ).first();
    expect(holes).toEqual({ n: 0 });
    expect((await reportOf(await post(ada, REPO, body))).refs).toEqual({ [DEV]: "ok" });
    expect((await ada.get(`/api/models/${REPO}/commits/dev`)).headers.get("x-total-count")).toBe("60");
  });
});
