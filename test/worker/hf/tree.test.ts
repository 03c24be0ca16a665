// Trees with what `expand` adds: the commit that last changed each entry, as git would name it, whatever way history took.
import { env } from "cloudflare:workers";
import { beforeEach, expect, it } from "vitest";
import * as z from "zod";
import { lastCommits } from "../../../src/hub/last-commits";
import { findSnapshot } from "../../../src/hub/repositories";
import { parseRepoId, parseRevision } from "../../../src/ids";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

const REPO = "ada/digits";
const Entries = z.array(
  z.looseObject({
    path: z.string(),
    type: z.string(),
    lastCommit: z.object({ id: z.string(), title: z.string(), date: z.string() }).optional(),
    securityFileStatus: z.looseObject({ status: z.string() }).optional(),
  }),
);
const Committed = z.object({ commitOid: z.string() });

let ada: Client;
beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "digits" });
});

const lineOf = (path: string, content: string | null) =>
  content === null ? { key: "deletedFile", value: { path } } : fileLine(path, content);

async function commit(summary: string, files: Record<string, string | null>): Promise<string> {
  const lines = Object.entries(files).map(([path, content]) => lineOf(path, content));
  return Committed.parse((await ada.commit(REPO, lines, { summary })).body).commitOid;
}

const tree = async (path: string) => Entries.parse((await anonymous.get(`/api/models/${REPO}/tree/${path}`)).body);
const titles = (entries: z.output<typeof Entries>) =>
  Object.fromEntries(entries.map(({ path, lastCommit }) => [path, lastCommit?.title]));

/** What each path, files and directories, was last changed by. */
const HISTORY: [string, Record<string, string | null>][] = [
  ["one", { "a.txt": "1", "b/c.txt": "1", "b/d/e.txt": "1" }],
  ["two", { "a.txt": "2", "gone.txt": "1" }],
  ["three", { "b/c.txt": "2" }],
  ["four", { "a.txt": "1", "gone.txt": null }],
  ["five", { "b/d/e.txt": "2", "new.txt": "1" }],
  ["six", { "gone.txt": "1" }],
  ["seven", { "b/d/e.txt": "1" }],
];
const LAST = {
  ".gitattributes": "initial commit",
  "a.txt": "four",
  b: "seven",
  "b/c.txt": "three",
  "b/d": "seven",
  "b/d/e.txt": "seven",
  "gone.txt": "six",
  "new.txt": "five",
};

it("names the commit that last changed each file and directory, at any revision", async () => {
  const ids: string[] = [];
  for (const [summary, files] of HISTORY) ids.push(await commit(summary, files));
  const all = await tree("main?recursive=true&expand=true");
  expect(titles(all)).toEqual(LAST);
  expect(titles(await tree("main/b?expand=true"))).toEqual({ "b/c.txt": "three", "b/d": "seven" });
  const file = all.find(({ path }) => path === "a.txt");
  expect(file?.lastCommit?.id).toBe(ids[3]);
  expect(file?.lastCommit?.date).toMatch(/Z$/);
  expect(file?.securityFileStatus).toMatchObject({ status: "unscanned", avScan: {}, pickleImportScan: {} });
  expect(all.find(({ path }) => path === "b")).not.toHaveProperty("securityFileStatus");
  expect(titles(await tree(`${ids[2]}?recursive=true&expand=true`))).toMatchObject({
    "a.txt": "two",
    b: "three",
    "gone.txt": "two",
  });
  const plain = await tree("main");
  expect(plain.every((entry) => !("lastCommit" in entry) && !("securityFileStatus" in entry))).toBe(true);

  const paths = ["a.txt", "b/d", "nothing"];
  const asJson = await anonymous.post(`/api/models/${REPO}/paths-info/main`, { paths, expand: true });
  expect(titles(Entries.parse(asJson.body))).toEqual({ "a.txt": "four", "b/d": "seven" });
  const form = new URLSearchParams([...paths.map((path) => ["paths", path]), ["expand", "true"]]);
  const asForm = await anonymous.raw("POST", `/api/models/${REPO}/paths-info/main`, { body: form });
  expect(await asForm.json()).toEqual(asJson.body);
  const nonsense = await anonymous.raw("POST", `/api/models/${REPO}/paths-info/main`, { body: "nonsense" });
  expect(nonsense.status).toBe(400);
});

it("looks back in windows, and leaves out what was not changed for longer", async () => {
  for (const [summary, files] of HISTORY) await commit(summary, files);
  for (let i = 0; i < 6; i++) await commit(`later ${i}`, { "a.txt": `later ${i}` });
  const platform = cloudflarePlatform(env, "test", () => {});
  const caller = { platform, actor: { kind: "anonymous" } } as const;
  const snapshot = await findSnapshot(caller, parseRepoId("model", REPO), parseRevision("main"));
  const found = async (windows: number[]) => {
    const last = await lastCommits(platform.db, snapshot, Object.keys(LAST), windows);
    return Object.fromEntries([...last].map(([path, { title }]) => [path, title]));
  };
  const expected = { ...LAST, "a.txt": "later 5" };
  // The least window is of eight commits: the first ends at "six", the second takes in the rest.
  expect(await found([1, 1])).toEqual(expected);
  expect(await found([1, 200])).toEqual(expected);
  expect(await found([1])).toEqual({
    "a.txt": "later 5",
    b: "seven",
    "b/d": "seven",
    "b/d/e.txt": "seven",
    "gone.txt": "six",
  });
});

it("pages by fifty when expanded", async () => {
  await commit(
    "many",
    Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`f${String(i).padStart(2, "0")}`, `${i}`])),
  );
  const first = await anonymous.get(`/api/models/${REPO}/tree/main?expand=true`);
  expect(Entries.parse(first.body)).toHaveLength(50);
  const next = /<([^>]+)>; rel="next"/.exec(first.headers.get("link") ?? "")?.[1] ?? "";
  const rest = Entries.parse((await anonymous.get(next)).body);
  expect(rest).toHaveLength(11);
  expect(rest.every(({ lastCommit }) => lastCommit?.title === "many")).toBe(true);
});
