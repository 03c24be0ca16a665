// Facts of `main` as lists filter by them: the newest head's, whatever races or crashes, and nothing of what is private.
import { env } from "cloudflare:workers";
import { beforeEach, expect, it } from "vitest";
import * as z from "zod";
import { sweepIndex } from "../../../src/hub/facts/store";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

const REPO = "ada/it";
const Listed = z.array(z.looseObject({ id: z.string() }));
const KnownTags = z.record(z.string(), z.array(z.object({ id: z.string(), label: z.string(), type: z.string() })));

let ada: Client;
beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "it" });
});

const card = (yaml: string) => fileLine("README.md", `---\n${yaml}\n---\n`);
const found = async (tag: string, client = anonymous): Promise<string[]> =>
  Listed.parse((await client.get(`/api/models?filter=${encodeURIComponent(tag)}`)).body).map(({ id }) => id);

it("of commits that race, the newest head's tags are listed and no others", async () => {
  const licenses = ["mit", "isc", "zlib", "ncsa", "wtfpl", "gpl-3.0"];
  const answers = await Promise.all(licenses.map((license) => ada.commit(REPO, [card(`license: ${license}`)])));
  expect(answers.map(({ status }) => status)).toEqual(licenses.map(() => 200));
  const { cardData } = z
    .looseObject({ cardData: z.object({ license: z.string() }) })
    .parse((await anonymous.get(`/api/models/${REPO}`)).body);
  for (const license of licenses)
    expect(await found(`license:${license}`), license).toEqual(license === cardData.license ? [REPO] : []);
});

it("commits elsewhere than on main change nothing", async () => {
  await ada.commit(REPO, [card("license: mit")]);
  await ada.post(`/api/models/${REPO}/branch/other`, {});
  await ada.commit(REPO, [card("license: isc")], { branch: "other" });
  expect(await found("license:isc")).toEqual([]);
  expect(await found("license:mit")).toEqual([REPO]);
});

/** As a crash between a commit and its facts leaves it. */
async function loseIndex(): Promise<void> {
  await env.DB.exec("delete from repo_tags");
  await env.DB.exec("delete from repo_index");
  await env.DB.exec("delete from tree_facts");
}

it("what a crash left behind is brought up by who reads the repository", async () => {
  await ada.commit(REPO, [card("license: mit")]);
  await loseIndex();
  expect(await found("license:mit")).toEqual([]);
  expect((await anonymous.get(`/api/models/${REPO}?expand=tags`)).body).toMatchObject({
    tags: ["license:mit", "region:us"],
  });
  await expect.poll(() => found("license:mit")).toEqual([REPO]);
});

it("or by the sweep; as is what an older hub computed otherwise", async () => {
  const platform = cloudflarePlatform(env, "sweep", () => {});
  await ada.commit(REPO, [card("license: mit")]);
  await loseIndex();
  expect(await sweepIndex(platform)).toEqual({ more: false });
  expect(await found("license:mit")).toEqual([REPO]);
  await env.DB.exec("update repo_index set version = 0");
  await env.DB.exec("update tree_facts set version = 0, facts = '{}'");
  await env.DB.exec("delete from repo_tags");
  await env.DB.exec("update repos set updated_at = 0");
  await sweepIndex(platform);
  expect(await found("license:mit")).toEqual([REPO]);
  // Nothing is behind any more: nothing is written.
  await env.DB.exec("delete from repo_tags");
  await sweepIndex(platform);
  expect(await found("license:mit")).toEqual([]);
});

it("a repository that is deleted is gone from the index", async () => {
  await ada.commit(REPO, [card("license: mit")]);
  await ada.send("DELETE", "/api/repos/delete", { name: "it" });
  const left = await env.DB.prepare("select count(*) as n from repo_tags").first("n");
  expect([await found("license:mit"), left]).toEqual([[], 0]);
});

it("tags by type are the conventions' and those of public repositories", async () => {
  await ada.commit(REPO, [
    card("license: mit\nlanguage: eo\ntags: [poetry, 'arxiv:2401.00001']\ndatasets: [ada/talk]"),
  ]);
  await ada.post("/api/repos/create", { name: "hidden", private: true });
  await ada.commit("ada/hidden", [card("tags: [secret]")]);
  await ada.post("/api/repos/create", { name: "talk", type: "dataset" });
  await ada.commit("ada/talk", [card("task_ids: [chatting]")], { type: "datasets" });
  const models = KnownTags.parse((await anonymous.get("/api/models-tags-by-type")).body);
  const ids = (kind: string) => models[kind]?.map(({ id }) => id);
  expect(ids("license")).toContain("license:apache-2.0");
  expect(ids("pipeline_tag")).toContain("text-generation");
  expect(ids("library")).toContain("transformers");
  expect(ids("language")).toEqual(["eo"]);
  expect(ids("dataset")).toEqual(["dataset:ada/talk"]);
  expect(ids("other")).toEqual(["poetry"]);
  const datasets = KnownTags.parse((await anonymous.get("/api/datasets-tags-by-type")).body);
  expect(datasets["task_ids"]).toEqual([{ id: "task_ids:chatting", label: "chatting", type: "task_ids" }]);
  expect(datasets["task_categories"]?.length).toBeGreaterThan(40);
  expect(datasets["other"]).toBeUndefined();
});
