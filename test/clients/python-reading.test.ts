// What the stock Python client can ask: lists by every filter, one repository in full, owners and readers.
import { beforeAll, expect, it } from "vitest";
import * as z from "zod";
import { callHub, newPerson, newToken, type Person, sharedHub } from "./people.ts";
import { pythonStep, type Session } from "./python-client.ts";
import { sampleFiles, writeFiles } from "./sample-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const CARDS = {
  bert: "---\nlicense: mit\nlibrary_name: transformers\ntags: [sentiment]\nlanguage: de\ndatasets: [squad]\n---\n# A BERT\n",
  gated: "---\npipeline_tag: text-classification\ntags: [sentiment]\n---\n# Another\n",
};
let owner: Person;
let session: Session;
let repo: string;

const ask = (step: string, args: Record<string, unknown> = {}): Promise<unknown> =>
  pythonStep(session, "reading.py", step, { owner: owner.name, repo, ...args }, z.unknown());

beforeAll(async () => {
  owner = await newPerson("lister");
  repo = `${owner.name}/bert`;
  session = { version: "2.4.0", token: owner.token, home: scratch("home") };
  const { "model.safetensors": weights } = sampleFiles("reading");
  if (weights === undefined) throw new Error("the sample has no weights");
  const text = (content: string) => ({ bytes: Buffer.from(content), lfs: false });
  const folder = scratch("folder");
  writeFiles(folder, {
    "config.json": text('{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'),
    "model.safetensors": weights,
    "deep/notes.txt": text("notes"),
  });
  await ask("publish", { models: CARDS, folder });
});

it("lists by owner, name, tag, task, library, data, size and order", async () => {
  const { wrong, ...lists } = z.looseObject({ wrong: z.object({ message: z.string() }) }).parse(await ask("lists"));
  expect(lists).toEqual({
    all: ["bert", "gated", "secret"],
    "newest first": ["secret", "bert", "gated"],
    "oldest page": "bert",
    "first two": 2,
    search: ["bert"],
    tag: ["bert", "gated"],
    "two tags": ["bert"],
    task: ["bert", "gated"],
    library: ["bert"],
    "trained on": ["bert"],
    parameters: ["bert"],
    gated: [],
    expanded: [true, true, true, null],
    full: [true, "mit", expect.objectContaining({ model_type: "bert" })],
    datasets: [`${owner.name}/rows`],
    "tags by type": true,
  });
  expect(wrong.message).toContain('"expand" must be one of');
});

it("tells everything about one model", async () => {
  expect(await ask("one")).toEqual({
    info: {
      library: "transformers",
      task: "text-classification",
      tags: expect.arrayContaining([
        "transformers",
        "safetensors",
        "bert",
        "sentiment",
        "de",
        "license:mit",
        "dataset:squad",
      ]),
      card: "mit",
      model_type: "bert",
      architectures: ["BertForSequenceClassification"],
      parameters: { F32: 128 * 256 + 256 },
      auto_model: "AutoModelForSequenceClassification",
      storage: true,
      revision: true,
    },
    few: [0, 0, "text-classification", false, null, true],
    "last commits": {
      ".gitattributes": "initial commit",
      "README.md": "Upload README.md with huggingface_hub",
      "config.json": "weights",
      deep: "weights",
      "deep/notes.txt": "weights",
      "model.safetensors": "weights",
    },
    paths: [
      ["config.json", true],
      ["deep", true],
    ],
    commit: ["weights", "*new*", "weights", expect.stringContaining("new")],
    refs: [["main"], ["refs/tags/v1"], ["refs/pr/1"], []],
    safetensors: { "layer.weight": [128, 256], "layer.bias": [256] },
    exists: [true, false, true, false, true, false, false, false],
    allowed: ["nothing was raised", []],
  });
});

it("verifies a download by its checksums", async () => {
  expect(await ask("verify", { folder: scratch("verified") })).toEqual({
    checked: 5,
    whole: [0, 0],
    damaged: ["config.json", "model.safetensors"],
  });
});

it("knows owners, readers and what they like", async () => {
  expect(await ask("people")).toMatchObject({
    liked: [1, [repo], [owner.name], 1],
    "not any more": [0, 0],
    overview: [owner.name, owner.name, 3],
    me: [owner.name, "user", "write", `${owner.name}/x`],
    followers: [[], []],
    nobody: { kinds: expect.arrayContaining(["HfHubHTTPError"]) },
  });
  const org = `${owner.name}-org`;
  await callHub({ ...sharedHub(), token: await newToken(owner.name, "admin") }, "POST", "/organizations", {
    name: org,
    fullname: "An org",
  });
  expect(await ask("organization", { org })).toEqual(["An org", 1, [owner.name], []]);
});
