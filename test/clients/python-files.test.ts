// Publishing a folder with the stock Python client and getting it back byte for byte, in every way the client has.
import { mkdirSync } from "node:fs";
import { beforeAll, describe, expect, inject, it } from "vitest";
import * as z from "zod";
import { newPerson, type Person } from "./people.ts";
import { hf, pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { digestsOf, gitBlobId, lfsPointer, sampleFiles, TENSORS, writeFiles } from "./sample-files.ts";
import { folderDigests, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Digests = z.record(z.string(), z.string());
const Entries = z.record(z.string(), z.object({ size: z.number(), id: z.string(), lfs: z.string().nullable() }));

/** Directories that hold the files, however far above. */
function directoriesOf(paths: string[]): string[] {
  const found = new Set<string>();
  for (const path of paths)
    for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) found.add(path.slice(0, at));
  return [...found].sort();
}

const CLIENTS = [
  ...VERSIONS.map((version) => ({ version, withoutXet: false })),
  { version: "1.33.0", withoutXet: true },
] as const;

describe.each(CLIENTS)("huggingface_hub $version, without Xet: $withoutXet", ({ version, withoutXet }) => {
  describe.each(["model", "dataset"] as const)("a %s repository", (type) => {
    let owner: Person;
    let session: Session;
    let repo: string;
    let folder: string;
    const files = sampleFiles(`${version} ${withoutXet} ${type}`);
    const digests = digestsOf(files);
    let published: { commit: string; first: string };

    beforeAll(async () => {
      owner = await newPerson("publisher");
      session = { version, withoutXet, token: owner.token, home: scratch("home") };
      repo = `${owner.name}/Sample.${type}_1`;
      folder = scratch("folder");
      writeFiles(folder, files);
      const answer = await pythonStep(
        session,
        "files.py",
        "publish",
        { repo, type, folder },
        z.object({
          repo_id: z.string(),
          again: z.string(),
          taken: z.array(z.string()),
          first: z.string(),
          commit: z.string(),
          commit_url: z.string(),
          unchanged: z.string(),
          commits: z.number(),
        }),
      );
      const web = type === "model" ? repo : `datasets/${repo}`;
      expect(answer).toEqual({
        repo_id: repo,
        again: repo,
        taken: expect.arrayContaining(["HfHubHTTPError"]),
        first: expect.stringMatching(/^[0-9a-f]{40}$/),
        commit: expect.stringMatching(/^[0-9a-f]{40}$/),
        commit_url: `${inject("endpoint")}/${web}/commit/${answer.commit}`,
        // Uploading what is there already makes no commit.
        unchanged: answer.commit,
        commits: 2,
      });
      published = answer;
    });

    it("lists every file with its size, git id and digest", async () => {
      const answer = await pythonStep(
        session,
        "files.py",
        "look",
        { repo, type, author: owner.name, directory: "checkpoints", paths: Object.keys(files) },
        z.object({
          files: z.array(z.string()),
          tree: Entries,
          directories: z.array(z.string()),
          top: z.array(z.string()),
          below: z.array(z.string()),
          paths_info: z.array(z.string()),
          siblings: Entries,
          info: z.object({ id: z.string(), sha: z.string(), private: z.boolean(), author: z.string() }),
          listed: z.array(z.string()),
          repo_exists: z.array(z.boolean()),
          file_exists: z.array(z.boolean()),
          revision_exists: z.array(z.boolean()),
        }),
      );
      const paths = Object.keys(files);
      const entries = Object.entries(files).map(([path, { bytes, lfs }]) => [
        path,
        { size: bytes.length, id: gitBlobId(lfs ? lfsPointer(bytes) : bytes), lfs: lfs ? digests[path] : null },
      ]);
      const { ".gitattributes": attributes, ...tree } = answer.tree;
      expect(attributes?.lfs).toBeNull();
      expect(tree).toEqual(Object.fromEntries(entries));
      expect(answer.siblings).toEqual(answer.tree);
      expect(answer.files.sort()).toEqual([".gitattributes", ...paths].sort());
      expect(answer.directories.sort()).toEqual(directoriesOf(paths));
      expect(answer.top.sort()).toEqual(
        [...new Set([".gitattributes", ...paths.map((path) => path.split("/")[0] ?? "")])].sort(),
      );
      expect(answer.below.sort()).toEqual(["checkpoints/step 10", "checkpoints/step-9"]);
      expect(answer.paths_info.sort()).toEqual(paths.sort());
      expect(answer.info).toEqual({ id: repo, sha: published.commit, private: false, author: owner.name });
      expect(answer.listed).toEqual([repo]);
      expect(answer.repo_exists).toEqual([true, false]);
      expect(answer.file_exists).toEqual([true, false]);
      expect(answer.revision_exists).toEqual([true, false]);
    });

    it("downloads a snapshot of a branch, a tag and a commit with the bytes that were uploaded", async () => {
      const Answer = z.object({
        commit: z.string(),
        cached: Digests,
        placed: Digests,
        verified: z.number(),
        mismatches: z.array(z.unknown()),
      });
      const get = (revision: string) =>
        pythonStep(
          { ...session, home: scratch("fresh-home") },
          "files.py",
          "download",
          { repo, type, revision, into: scratch("into") },
          Answer,
        );
      const branch = await get("main");
      expect(branch.commit).toBe(published.commit);
      const { ".gitattributes": _, ...cached } = branch.cached;
      expect(cached).toEqual(digests);
      expect(branch.placed).toEqual(branch.cached);
      // The client's own comparison of what it has with what the hub lists.
      expect(branch).toMatchObject({ verified: Object.keys(files).length + 1, mismatches: [] });
      expect(await get("v1.0")).toEqual(branch);
      expect(await get(published.commit)).toEqual(branch);
      const before = await get(published.first);
      expect(before.commit).toBe(published.first);
      expect(Object.keys(before.cached)).toEqual([".gitattributes"]);
    });
  });

  describe("one model", () => {
    let session: Session;
    let repo: string;
    let commit: string;
    const files = sampleFiles(`${version} ${withoutXet} one`);
    const digests = digestsOf(files);

    beforeAll(async () => {
      const owner = await newPerson("owner");
      session = { version, withoutXet, token: owner.token, home: scratch("home") };
      repo = `${owner.name}/model`;
      const folder = scratch("folder");
      writeFiles(folder, files);
      await hf(session, "upload", repo, folder, ".", "--commit-message", "by the command line");
      const answer = await fetch(`${inject("endpoint")}/api/models/${repo}`);
      commit = z.object({ sha: z.string() }).parse(await answer.json()).sha;
    });

    it("goes up and down by the `hf` command line", async () => {
      const into = scratch("by-hf");
      mkdirSync(into);
      await hf(session, "download", repo, "--local-dir", into);
      expect(folderDigests(into)).toEqual(digests);
    });

    it.each(["pytorch_model.bin", "config.json", "empty.txt", "übung/größe 文件 ☃ 🤗.txt"])(
      "downloads %s once and then only asks whether it has changed",
      async (path) => {
        const answers = await pythonStep(
          { ...session, home: scratch("home") },
          "files.py",
          "cache",
          { repo, path, commit },
          z.array(z.object({ requests: z.array(z.string()), sha256: z.string() })),
        );
        // The client knows by itself what a file of no bytes holds.
        const first = path === "empty.txt" ? ["HEAD"] : ["HEAD", "GET"];
        expect(answers).toEqual([
          { requests: first, sha256: digests[path] },
          { requests: ["HEAD"], sha256: digests[path] },
          { requests: [], sha256: digests[path] },
        ]);
      },
    );

    it("reads ranges of a file as a file system", async () => {
      const path = "pytorch_model.bin";
      const content = files[path]?.bytes ?? Buffer.alloc(0);
      const ranges = [
        [0, 1],
        [65_535, 2],
        [123_456, 70_000],
        [content.length - 5, 5],
        [content.length - 5, 100],
        [content.length, 10],
      ] as const;
      const answer = await pythonStep(
        session,
        "files.py",
        "read_parts",
        { repo, path, ranges, block: 65_536 },
        z.object({
          parts: z.array(z.string()),
          tail: z.string(),
          size: z.number(),
          glob: z.array(z.string()),
          exists: z.array(z.boolean()),
        }),
      );
      expect(answer.parts).toEqual(
        ranges.map(([start, length]) => content.subarray(start, start + length).toString("hex")),
      );
      expect(answer.tail).toBe(content.subarray(-16).toString("hex"));
      expect(answer.size).toBe(content.length);
      const texts = Object.keys(files).filter((one) => one.endsWith(".txt"));
      expect(answer.glob).toEqual(texts.map((one) => `${repo}/${one}`).sort());
      expect(answer.exists).toEqual([true, false]);
    });

    it("reads the tensors' names and shapes without the weights", async () => {
      const answer = await pythonStep(
        session,
        "files.py",
        "tensors",
        { repo },
        z.object({
          tensors: z.record(z.string(), z.object({ dtype: z.string(), shape: z.array(z.number()) })),
          parameters: z.record(z.string(), z.number()),
        }),
      );
      expect(answer).toEqual({
        tensors: Object.fromEntries(
          Object.entries(TENSORS).map(([name, shape]) => [name, { dtype: "F32", shape: [...shape] }]),
        ),
        parameters: { F32: 128 * 256 + 256 },
      });
    });
  });

  it("keeps a model card, and leaves out what .gitignore names", async () => {
    const owner = await newPerson("card");
    const answer = await pythonStep(
      { version, withoutXet, token: owner.token, home: scratch("home") },
      "files.py",
      "card",
      { repo: `${owner.name}/card` },
      z.object({ data: z.record(z.string(), z.unknown()), files: z.array(z.string()) }),
    );
    expect(answer.data).toEqual({ license: "mit", tags: ["größe"] });
    expect(answer.files.sort()).toEqual([".gitattributes", ".gitignore", "README.md", "kept.txt"]);
  });

  it("lists a repository of more files than a page holds", async () => {
    const owner = await newPerson("many");
    const count = 1100;
    const answer = await pythonStep(
      { version, withoutXet, token: owner.token, home: scratch("home") },
      "files.py",
      "many",
      { repo: `${owner.name}/many`, count },
      z.object({
        missing: z.array(z.string()),
        listed: z.number(),
        distinct: z.number(),
        pages: z.number(),
        found: z.number(),
      }),
    );
    // With the seven directories and .gitattributes more than one page of 1000.
    expect(answer).toEqual({ missing: [], listed: count + 1, distinct: count + 1, pages: 2, found: 1000 });
  });
});
