// The libraries that models and datasets are used through, stock, with nothing set but the hub's address and a token.
import { beforeAll, expect, it } from "vitest";
import * as z from "zod";
import { newPerson, type Person } from "./people.ts";
import { pythonStep, type Session } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });
let owner: Person;

beforeAll(async () => {
  owner = await newPerson("publisher");
});

const publisher = (): Session => ({ version: "2.4.0", ecosystem: true, home: scratch("home"), token: owner.token });

it("transformers publishes a model and a tokenizer, and uses them by name, branch and pull request", async () => {
  const repo = `${owner.name}/tiny`;
  const published = await pythonStep(
    publisher(),
    "ecosystem.py",
    "publish",
    { repo },
    z.object({
      private: z.boolean(),
      files: z.array(z.string()),
      titles: z.array(z.string()),
      pull_request: z.string(),
    }),
  );
  expect(published).toEqual({
    private: true,
    files: [
      ".gitattributes",
      "README.md",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ],
    titles: ["Upload tokenizer", "the weights", "initial commit"],
    pull_request: "refs/pr/1",
  });
  const used = await pythonStep(
    publisher(),
    "ecosystem.py",
    "use",
    { repo, pull_request: published.pull_request, visitors_cache: scratch("visitor") },
    z.looseObject({ no_such_branch: Failure, visitor: Failure }),
  );
  expect(used).toMatchObject({
    same_as_made_here: true,
    branch_differs: true,
    pull_request_is_branch: true,
    offline: true,
    ids: [[1, 2, 3, 4, 7]],
    config: "gpt2",
    generated: 1,
  });
  expect(used.no_such_branch.message).toContain("nowhere is not a valid git identifier");
  expect(used.visitor.kinds).toContain("OSError");
  expect(used.visitor.message).toContain("is not a local folder and is not a valid model identifier");
});

it("datasets loads files of a repository by configuration, split and revision, and publishes its own", async () => {
  const repos = { files: `${owner.name}/rows`, pushed: `${owner.name}/pushed` };
  const shared = await pythonStep(
    publisher(),
    "ecosystem.py",
    "share",
    { ...repos, folder: scratch("rows") },
    z.array(z.string()),
  );
  expect(shared).toEqual([
    ".gitattributes",
    "README.md",
    "data/test-00000-of-00001.parquet",
    "data/train-00000-of-00001.parquet",
    "small/train-00000-of-00001.parquet",
  ]);
  const loaded = await pythonStep(publisher(), "ecosystem.py", "load", repos, z.unknown());
  expect(loaded).toEqual({
    lines: true,
    now: 1,
    few: true,
    csv: true,
    streamed: ["row 0", "row 1", "row 2"],
    snapshot: 20,
    by_uri: 20,
    pushed: { train: 20, test: 3 },
    small: 7,
    features: ["label", "text"],
  });
});
