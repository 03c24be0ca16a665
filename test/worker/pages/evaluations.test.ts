// Evaluations and lineage as pages show them, and the page of a job.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { administrator, anonymous, type Client, user } from "../../kit/actors";
import { FakeCompute, publishDataset, publishModel, safetensors, TestPlatform } from "../../kit/jobs";
import { evaluate, merge, open } from "./published";

// A sweep is seven jobs, one after another.
vi.setConfig({ testTimeout: 30_000 });

let ada: Client;
let admin: Client;
let compute: FakeCompute;
let hub: TestPlatform;
beforeEach(async () => {
  compute = new FakeCompute();
  compute.install();
  hub = new TestPlatform();
  admin = await administrator();
  ada = await user(admin, "ada");
  await publishModel(ada, "ada/a");
  await publishModel(ada, "ada/b", safetensors({ w: [5, 6], b: [7] }));
  await publishDataset(ada, "ada/digits");
});
afterEach(() => vi.restoreAllMocks());

async function sweep(): Promise<void> {
  await merge(hub, compute, ada, 0.5, "main");
  for (const [lambda, accuracy] of [
    [0, 0.8],
    [0.5, 0.9],
    [1, 0.7],
  ] as const) {
    // The branches' names say nothing: λ comes from the record of the merge.
    await merge(hub, compute, ada, lambda, `try-${lambda * 2}`);
    await evaluate(hub, compute, ada, `ada/merged@try-${lambda * 2}`, accuracy);
  }
}

it("an evaluation is shown with intervals, confusion matrix, identity and the request that repeats it", async () => {
  await evaluate(hub, compute, ada, "ada/a", 0.9);
  const { text } = await open(anonymous, "/ada/a/evaluations");
  expect(text).toContain("Accuracy 0.9000, 95 % interval 0.8500 to 0.9400 (wilson)");
  expect(text).toContain("<title>Confusion matrix</title>");
  expect(text).toContain("90 of 100 samples are on the diagonal.");
  expect(text).toContain("&lt;one&gt;");
  expect(text).toMatch(/sha256:[0-9a-f]{64}/);
  expect(text).toMatch(/&quot;model&quot;: &quot;ada\/a@[0-9a-f]{40}&quot;/);
  const detail = /href="(\/ada\/a\/evaluations\/eval_[0-9a-z]+)"/.exec(text)?.[1] ?? "";
  const page = await open(anonymous, detail);
  expect(page.status).toBe(200);
  expect(page.text).toContain("ada/a on ada/digits, split test");
  expect((await open(anonymous, "/ada/a")).text).toContain("Evaluated on");
});

it("a dataset lists the models that were evaluated on it, best first", async () => {
  await evaluate(hub, compute, ada, "ada/a", 0.8);
  await evaluate(hub, compute, ada, "ada/b", 0.9);
  const { text } = await open(anonymous, "/datasets/ada/digits/evaluations");
  expect(text.indexOf('href="/ada/b"')).toBeLessThan(text.indexOf('href="/ada/a"'));
});

it("merges of two models make a curve over λ, which marks the λ of main", async () => {
  await sweep();
  const { text } = await open(anonymous, "/ada/merged/evaluations");
  expect(text).toContain("<title>Accuracy over λ</title>");
  expect(text).toContain("3 merges; the highest value, 0.9000, is at 0.5.");
  expect(text).toContain("λ 0.5: 0.9000");
  expect(text).toContain("The ring marks the λ of the revision shown.");
  const only = await open(anonymous, "/ada/merged/evaluations?revision=try-2");
  expect(only.text).not.toContain("Accuracy over λ");
  expect(only.text).toContain("λ = 1");
});

it("a merge tells its parents with their weights, and the parents what they were used for", async () => {
  await sweep();
  const card = await open(anonymous, "/ada/merged?revision=try-0");
  expect(card.text).toMatch(/href="\/ada\/a\/commit\/[0-9a-f]{40}"/);
  expect(card.text).toContain("weight <strong>0</strong>");
  expect(card.text).toContain("weight <strong>1</strong>");
  const sha = /title="([0-9a-f]{40})"/.exec(card.text)?.[1];
  const commit = await open(anonymous, `/ada/merged/commit/${sha}`);
  expect(commit.text).toContain("recipe.json");
  expect(commit.text).toContain("&quot;merge_method&quot;: &quot;linear&quot;");
  for (const page of [card, commit]) {
    expect(page.text).toContain("<dt>Method</dt><dd>linear</dd>");
    expect(page.text).toContain("<dt>Determinism</dt><dd>exact</dd>");
    expect(page.text).toContain("<dt>Verified</dt><dd>not yet</dd>");
  }
  const parent = await open(anonymous, "/ada/a");
  expect(parent.text).toContain("merged into");
  expect(parent.text).toContain("and 3 other revisions of it");
});

it("nothing tells of what one may not read: parents, data, and what was made of a model", async () => {
  await sweep();
  await ada.raw("PUT", "/api/models/ada/b/settings", { body: JSON.stringify({ private: true }) });
  const merged = await open(anonymous, "/ada/merged");
  expect(merged.text).toContain("a repository that is private or gone");
  // The card was written by who could read it, and is the publisher's own text.
  expect(merged.text).not.toContain('href="/ada/b/commit');
  expect((await open(anonymous, "/ada/merged/evaluations")).text).not.toContain('href="/ada/b');
  await ada.raw("PUT", "/api/datasets/ada/digits/settings", { body: JSON.stringify({ private: true }) });
  const hidden = await open(anonymous, "/ada/merged/evaluations");
  expect(hidden.text).toContain("Nothing was evaluated yet");
  expect(hidden.text).not.toContain("ada/digits");
  expect((await open(anonymous, "/ada/merged?revision=try-0")).text).not.toContain("Evaluated on");
});

it("a job has a page for those who may see it, and none for others", async () => {
  const id = await merge(hub, compute, ada, 0.5, "main");
  const page = await open(ada, `/jobs/${id}`);
  expect(page.status).toBe(200);
  expect(page.text).toContain("succeeded");
  expect(page.text).toContain('href="/ada/merged"');
  expect(page.text).not.toContain("<script");
  const eve = await user(admin, "eve");
  for (const [client, path] of [
    [anonymous, `/jobs/${id}`],
    [eve, `/jobs/${id}`],
    [ada, "/jobs/job_0"],
    [anonymous, "/jobs/job_0"],
  ] as const)
    expect((await open(client, path)).status).toBe(404);
});

it("a running job's page follows it live, and has a link to refresh without", async () => {
  const id = await hub.accept(ada, { kind: "evaluate", model: "ada/a", dataset: "ada/digits", split: "test" });
  const { text } = await open(ada, `/jobs/${id}`);
  expect(text).toMatch(/<script type="module" src="\/_a\/job-progress-[0-9a-f]{16}\.js"><\/script>/);
  expect(text).toContain(`data-job-events="/api/v1/jobs/${id}/events"`);
  expect(text).toContain(`<a href="/jobs/${id}" data-job-refresh="true">Refresh</a>`);
});
