// Pull requests: who may propose, where the proposal lies, and that the branch it is meant for stays as it was.
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

const REPO = "ada/digits";
const Proposed = z.object({ commitOid: z.string(), pullRequestUrl: z.string() });
const Opened = z.object({ num: z.number() });
const Info = z.object({ sha: z.string() });

let admin: Client;
let ada: Client;
let bob: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
});

/** A commit that opens a pull request on the way. */
async function propose(who: Client, base = "main") {
  const lines = [{ key: "header", value: { summary: "a proposal", description: "why" } }, fileLine("new.txt", "new\n")];
  return who.raw("POST", `/api/models/${REPO}/commit/${base}?create_pr=1`, {
    body: lines.map((line) => JSON.stringify(line)).join("\n"),
  });
}
const head = async (revision: string) =>
  Info.parse((await ada.get(`/api/models/${REPO}/revision/${encodeURIComponent(revision)}`)).body).sha;

describe("a commit with create_pr", () => {
  it("goes to a ref of its own, and main stays", async () => {
    const before = await head("main");
    const answer = await propose(bob);
    expect(answer.status).toBe(200);
    const { commitOid, pullRequestUrl } = Proposed.parse(await answer.json());
    expect(pullRequestUrl).toBe(`http://hub.test/${REPO}/discussions/1`);
    expect(await head("refs/pr/1")).toBe(commitOid);
    expect(await head("main")).toBe(before);
    expect((await anonymous.raw("GET", `/${REPO}/resolve/refs%2Fpr%2F1/new.txt`)).status).toBe(200);
  });

  it("numbers proposals from 1, also when they race", async () => {
    const answers = await Promise.all([propose(bob), propose(ada), propose(bob)]);
    const urls = await Promise.all(answers.map(async (answer) => Proposed.parse(await answer.json()).pullRequestUrl));
    expect(urls.map((url) => Number(url.split("/").at(-1))).sort()).toEqual([1, 2, 3]);
  });

  it("is refused to visitors, and for a base that is no branch", async () => {
    expect((await propose(anonymous)).status).toBe(401);
    expect((await propose(bob, "nowhere")).status).toBe(404);
    await ada.post(`/api/models/${REPO}/tag/main`, { tag: "v1" });
    const nowhere = await propose(bob, "nowhere");
    expect(nowhere.headers.get("x-error-code")).toBe("RevisionNotFound");
    for (const base of [await head("main"), "v1", "refs%2Ftags%2Fv1", "refs%2Fpr%2F1"])
      expect((await propose(bob, base)).status, base).toBe(404);
  });

  it("hides a private repository from who can't see it", async () => {
    await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
    expect((await propose(bob)).status).toBe(404);
  });
});

describe("a draft", () => {
  const open = async () =>
    Opened.parse(
      (await bob.post(`/api/models/${REPO}/discussions`, { title: "a draft", description: "why", pullRequest: true }))
        .body,
    ).num;

  it("starts where main is, says what it is, and takes its author's commits", async () => {
    const number = await open();
    expect(await head(`refs/pr/${number}`)).toBe(await head("main"));
    expect((await anonymous.get(`/api/models/${REPO}/discussions/${number}`)).body).toMatchObject({
      num: number,
      title: "a draft",
      status: "draft",
      author: { name: "bob" },
      isPullRequest: true,
      repo: { name: REPO, type: "model" },
      changes: { base: "refs/heads/main" },
    });
    const committed = await bob.commit(REPO, [fileLine("new.txt", "new\n")], { branch: `refs/pr/${number}` });
    expect(committed.status).toBe(200);
  });

  it("takes commits of the repository's writers, and of nobody else", async () => {
    const branch = `refs/pr/${await open()}`;
    const eve = await user(admin, "eve");
    expect((await eve.commit(REPO, [fileLine("new.txt", "eve\n")], { branch })).status).toBe(403);
    expect((await ada.commit(REPO, [fileLine("new.txt", "ada\n")], { branch })).status).toBe(200);
    expect((await bob.commit(REPO, [fileLine("new.txt", "bob\n")])).status).toBe(403);
  });
});
