// What the browser looks at: two tiny models, a data set, a sweep of merges and their evaluations, made by the real hub and compute service.
import { setTimeout as pause } from "node:timers/promises";
import * as hub from "@huggingface/hub";
import { inject } from "vitest";
import * as z from "zod";

const CONFIG = {
  architectures: ["OwmMLP"],
  model_type: "owm_mlp",
  input_size: 2,
  hidden_sizes: [],
  num_labels: 2,
  activation: "relu",
};

const CARD = `---
license: apache-2.0
tags: [toy, a-tag-that-is-rather-long-and-has-no-space-to-break-at-all, third]
---
# A toy

It tells which of two numbers is larger. A long word: ${"wide".repeat(40)}.

| column | ${"another column | ".repeat(12)}
|--|${"--|".repeat(12)}
| 1 | ${"some text in a cell | ".repeat(12)}

\`\`\`python
${"print('a line of code that is longer than any telephone is wide') ".repeat(3)}
\`\`\`

![far away](https://elsewhere.example/x.png)
`;

const ENDED = ["succeeded", "failed", "cancelled"];
const Job = z.object({ id: z.string(), state: z.string(), error: z.unknown() });

export async function api(path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(new URL(path, inject("endpoint")), {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${inject("token")}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

export const ask = async (request: unknown): Promise<string> => Job.parse(await api("/api/v1/jobs", request)).id;

export async function ended(ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    for (;;) {
      const job = Job.parse(await api(`/api/v1/jobs/${id}`));
      if (job.state === "succeeded") break;
      if (ENDED.includes(job.state)) throw new Error(`${id} ${job.state}: ${JSON.stringify(job.error)}`);
      await pause(100);
    }
  }
}

/** A layer of two inputs and two outputs. */
function weights(values: readonly [number, number, number, number]): Blob {
  const header = JSON.stringify({
    "layers.0.bias": { dtype: "F32", shape: [2], data_offsets: [0, 8] },
    "layers.0.weight": { dtype: "F32", shape: [2, 2], data_offsets: [8, 24] },
  });
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(header.length), true);
  return new Blob([length, header, new Float32Array([0, 0, ...values])]);
}

/** Points around the border between the classes, so that no weights are right about all. */
function rows(): string {
  const lines = Array.from({ length: 60 }, (_, i) => {
    const [x, y] = [Math.sin(i * 1.7), Math.cos(i * 2.3)];
    return `${i},${x.toFixed(4)},${y.toFixed(4)},${x + 0.3 * Math.sin(i * 5) > y ? 1 : 0}`;
  });
  return `id,x,y,label\n${lines.join("\n")}\n`;
}

export type Published = { readonly owner: string; readonly dataset: string };

export async function publish(): Promise<Published> {
  const access = { hubUrl: inject("endpoint"), accessToken: inject("token") };
  const owner = z.object({ name: z.string() }).parse(await api("/api/whoami-v2")).name;
  const upload = async (repo: hub.RepoDesignation, files: Record<string, Blob | string>) => {
    await hub.createRepo({ ...access, repo });
    await hub.uploadFiles({
      ...access,
      repo,
      files: Object.entries(files).map(([path, content]) => ({ path, content: new Blob([content]) })),
      commitTitle: "Publish <this>",
      useXet: false,
    });
  };
  const config = JSON.stringify(CONFIG);
  const readme = { "README.md": CARD, "config.json": config };
  await upload(`${owner}/one`, { ...readme, "model.safetensors": weights([0.4, 1, 1, 0.2]) });
  await upload(`${owner}/other`, { ...readme, "model.safetensors": weights([1, 0.1, 0.3, 1]) });
  const task = {
    task: "larger",
    version: "1.0",
    kind: "classification",
    modality: "tabular",
    target: "label",
    id: "id",
    features: ["x", "y"],
    classes: ["0", "1"],
    splits: { train: "data/test.csv", test: "data/test.csv" },
  };
  const dataset = `${owner}/larger`;
  await upload({ type: "dataset", name: dataset }, { "task.json": JSON.stringify(task), "data/test.csv": rows() });
  const merge = (lambda: number, branch: string) =>
    ask({
      kind: "merge",
      method: "linear",
      a: `${owner}/one`,
      b: `${owner}/other`,
      lambda,
      output: { repo: `${owner}/merged`, branch, private: false },
    });
  await ended([await merge(0.25, "main")]);
  const lambdas = [0, 0.25, 0.5, 0.75, 1];
  await ended(await Promise.all(lambdas.map((lambda) => merge(lambda, `try-${lambda}`))));
  const evaluate = (model: string) => ask({ kind: "evaluate", model, dataset, split: "test" });
  await ended(
    await Promise.all(
      ["main", ...lambdas.map((lambda) => `try-${lambda}`)].map((name) => evaluate(`${owner}/merged@${name}`)),
    ),
  );
  await discuss(`${owner}/one`, access);
  return { owner, dataset };
}

/** A discussion (1), a pull request that conflicts (2), and its branch in the way. */
async function discuss(repo: string, access: { readonly hubUrl: string; readonly accessToken: string }): Promise<void> {
  const at = `/api/models/${repo}/discussions`;
  await api(at, { title: `A question ${"long".repeat(30)}`, description: CARD });
  await api(`${at}/1/title`, { title: "A question" });
  const { num } = z
    .object({ num: z.number() })
    .parse(await api(at, { title: "A change", description: "why", pullRequest: true }));
  const commit = (branch: string, text: string) =>
    hub.commit({
      ...access,
      repo,
      branch,
      title: "Another card",
      operations: [{ operation: "addOrUpdate", path: "README.md", content: new Blob([text]) }],
      useXet: false,
    });
  await commit(`refs/pr/${num}`, `# Another\n\n${"a line that is wider than any telephone ".repeat(8)}\n`);
  await commit("main", `${CARD}\nOne more line.\n`);
}
