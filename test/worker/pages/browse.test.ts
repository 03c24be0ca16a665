// The pages that people look for models and datasets on: what the form asks for is what is listed, and nothing of it is taken for HTML.
import { beforeEach, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { open } from "./published";

let ada: Client;
beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  for (const name of ["small-lm", "large-lm"]) await ada.post("/api/repos/create", { name });
  await ada.post("/api/repos/create", { name: "hidden-lm", private: true });
  await ada.post("/api/repos/create", { name: "words", type: "dataset" });
  const card = "---\nlicense: mit\npipeline_tag: fill-mask\n---\n";
  await ada.commit("ada/small-lm", [fileLine("README.md", card)]);
});

const linked = (text: string): string[] =>
  [...text.matchAll(/<li><a href="\/([^"]*)"/g)].map(([, address]) => address ?? "");

it("models and datasets are found by name, task and licence, by who may see them", async () => {
  expect(linked((await open(anonymous, "/models")).text)).toEqual(["ada/small-lm", "ada/large-lm"]);
  expect(linked((await open(ada, "/models?search=LM&sort=createdAt")).text)).toEqual(
    ["hidden", "large", "small"].map((name) => `ada/${name}-lm`),
  );
  for (const query of ["search=small", "task=fill-mask", "license=mit", "task=fill-mask&license=mit&search=a/s"])
    expect([query, linked((await open(anonymous, `/models?${query}`)).text)]).toEqual([query, ["ada/small-lm"]]);
  expect(linked((await open(anonymous, "/datasets?search=word&sort=nonsense")).text)).toEqual(["datasets/ada/words"]);
  expect((await open(anonymous, "/models?license=apache-2.0")).text).toContain("Nothing here is like that.");
});

it("the form keeps what was asked, as text", async () => {
  const { text } = await open(anonymous, `/models?search=${encodeURIComponent('"><b>x')}&license=mit`);
  expect(text).toContain('value="&quot;&gt;&lt;b&gt;x"');
  expect(text).toMatch(/<option value="mit" selected/);
});

it("a long list goes on behind a link, and the first page leads there", async () => {
  for (let i = 0; i < 30; i++) await ada.post("/api/repos/create", { name: `more-${i}` });
  const first = await open(anonymous, "/models?sort=createdAt");
  const next = /<a rel="next" href="([^"]*)"/.exec(first.text)?.[1]?.replaceAll("&amp;", "&") ?? "";
  expect([linked(first.text).length, linked((await open(anonymous, next)).text)]).toEqual([
    30,
    ["ada/large-lm", "ada/small-lm"],
  ]);
  expect((await open(anonymous, "/models?cursor=forged")).status).toBe(404);
  expect((await open(anonymous, "/")).text).toContain('action="/models"');
});
